"""A parallel environment of PettingZoo whose agents stay in its dictionaries to the end. Imports pettingzoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

Positions = Callable[[ParallelEnv], Mapping[str, ArrayLike] | None]
"""Reads the positions of agents, by name, from a simulation; None: it cannot."""


class Team(BaseParallelWrapper):
    """Tells of agents that have left what it tells of the others, and truncates episodes.

    An agent that has left observes zeros, receives 0, keeps the flags and the position it left with, and what it does
    reaches nobody. Of ``infos`` the entries ``action_mask`` and ``position`` are read.

    Args:
        env: the environment.
        max_steps: length of an episode, in env steps, at which those who are left are truncated.
        positions: reads the positions of agents; where it cannot, the entry ``position`` of ``infos`` is read, if any.
        is_closed: whether the environment is closed with the team.

    Attributes:
        alive: agents that take part in the next step, by name; after a time-out those that would.
        position: two coordinates of each agent, by name; nothing where they are not told.

    Raises:
        TypeError: if it is no parallel environment.
        ValueError: if it has no agents, or tells wrongly of masks or positions.
    """

    def __init__(self, env: ParallelEnv, max_steps: int, positions: Positions, is_closed: bool) -> None:
        if not isinstance(env, ParallelEnv):
            raise TypeError(f"it gives a {type(env).__name__}, which is no ParallelEnv of PettingZoo")
        if not env.possible_agents:
            raise ValueError("it has no agents: possible_agents is empty")
        super().__init__(env)
        self.agents = list(env.possible_agents)
        self._max_steps, self._positions, self._is_closed, self._n_steps = max_steps, positions, is_closed, 0
        self.alive: dict[str, bool] = {}
        self.position: dict[str, np.ndarray] = {}
        self._ended: dict[str, tuple[bool, bool]] = {}
        observations, infos = env.reset()
        self._blank = {agent: _blank(observations[agent]) for agent in self.agents}
        self._masks = {
            agent: np.ones(len(info["action_mask"])) for agent, info in infos.items() if "action_mask" in info
        }
        self._read_positions(infos)
        self._check()

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Begin an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._n_steps = 0
        self.alive = dict.fromkeys(self.agents, True)
        self._ended = dict.fromkeys(self.agents, (False, False))
        self._read_positions(infos)
        return observations, self._tell_masks(infos)

    def step(self, actions: Mapping[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Let the agents act that are there, and tell of all."""
        acting = list(self.env.agents)
        observations, rewards, terminations, truncations, infos = self.env.step({a: actions[a] for a in acting})
        self._n_steps += 1
        self._ended.update({agent: (bool(terminations[agent]), bool(truncations[agent])) for agent in acting})
        is_over = self._n_steps >= self._max_steps or not self.env.agents
        for agent, (terminated, truncated) in self._ended.items():
            self.alive[agent] &= not terminated and (is_over or agent in self.env.agents)
            self._ended[agent] = terminated, truncated or (is_over and not terminated)
        self._read_positions(infos)
        return (
            {agent: observations.get(agent, self._blank[agent]) for agent in self.agents},
            {agent: rewards.get(agent, 0.0) for agent in self.agents},
            {agent: terminated for agent, (terminated, _) in self._ended.items()},
            {agent: truncated for agent, (_, truncated) in self._ended.items()},
            self._tell_masks(infos),
        )

    def close(self) -> None:
        """Close the environment, if it is to be."""
        if self._is_closed:
            self.env.close()

    def state(self) -> np.ndarray:
        """The state of the simulation, in one type of numbers."""
        return np.asarray(self.env.state(), dtype=np.float32)

    @property
    def has_state(self) -> bool:
        """Whether there is one."""
        try:
            self.env.state()
        except NotImplementedError:
            return False
        return True

    def _read_positions(self, infos: Mapping[str, Mapping[str, Any]]) -> None:
        found = self._positions(self.env)
        if found is None:
            found = {agent: info["position"] for agent, info in infos.items() if "position" in info}
        self.position.update({agent: np.asarray(value, dtype=np.float32) for agent, value in found.items()})

    def _tell_masks(self, infos: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The masks alone; every action is open to those who have left."""
        masks = {agent: infos.get(agent, {}).get("action_mask", mask) for agent, mask in self._masks.items()}
        return {agent: {"action_mask": masks[agent]} if agent in masks else {} for agent in self.agents}

    def _check(self) -> None:
        everybody = set(self.agents)
        for name, told in (("action_mask", self._masks), ("position", self.position)):
            if told and (missing := everybody - told.keys()):
                raise ValueError(f"infos of {min(missing)} lack {name}, which those of others have: give it to all")
        for agent, mask in self._masks.items():
            n_actions = getattr(self.env.action_space(agent), "n", None)
            if n_actions != len(mask):
                raise ValueError(
                    f"action_mask of {agent} has {len(mask)} entries and its action space is "
                    f"{self.env.action_space(agent)}: give a mask with one entry per action of a Discrete space"
                )
        for agent, position in self.position.items():
            if position.shape != (2,):
                raise ValueError(
                    f"position of {agent} has the shape {position.shape} and not (2,): give it two numbers"
                )


def _blank(observation: Any) -> Any:
    """Zeros in the shape of an observation; a mask in it leaves every action open."""
    if isinstance(observation, Mapping):
        return {
            key: np.ones_like(value) if key == "action_mask" else _blank(value) for key, value in observation.items()
        }
    return np.zeros_like(observation)
