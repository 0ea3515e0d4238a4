"""Wrapper of a PettingZoo environment that keeps agents in its dictionaries to the end. Imports pettingzoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

Positions = Callable[[ParallelEnv], Mapping[str, ArrayLike] | None]
"""Reads the positions of agents, by name, from a simulation; returns None if positions are unavailable."""


class Team(BaseParallelWrapper):
    """Wrapper that keeps agents that have left in all outputs, and truncates episodes.

    An agent that has left observes zeros, receives reward 0, keeps its last flags and position, and its actions are
    ignored. Only the entries ``action_mask`` and ``position`` of ``infos`` are read.

    Args:
        env: the PettingZoo environment.
        max_steps: length of an episode, in env steps, after which the remaining agents are truncated.
        positions: reads the positions of agents; if it returns None, ``position`` of ``infos`` is used, if any.
        is_closed: whether to close the environment with the wrapper.

    Attributes:
        alive: agents that take part in the next step, by name; after a time-out those that would.
        position: two-dimensional position of each agent, by name; empty if unavailable.

    Raises:
        TypeError: if ``env`` is not a parallel environment.
        ValueError: if ``env`` has no agents, or gives malformed masks or positions.
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
        """Step the environment with the actions of the present agents; outputs cover all agents."""
        acting = list(self.env.agents)
        observations, rewards, terminations, truncations, infos = self.env.step({a: actions[a] for a in acting})
        self._n_steps += 1
        self._ended.update({agent: (bool(terminations[agent]), bool(truncations[agent])) for agent in acting})
        is_over = self._n_steps >= self._max_steps or not self.env.agents
        for agent, (terminated, truncated) in self._ended.items():
            self.alive[agent] &= not terminated and (is_over or agent in self.env.agents)
            self._ended[agent] = terminated, truncated or (is_over and not terminated)
        self._check_told(infos)
        self._read_positions(infos)
        return (
            {agent: observations.get(agent, self._blank[agent]) for agent in self.agents},
            {agent: rewards.get(agent, 0.0) for agent in self.agents},
            {agent: terminated for agent, (terminated, _) in self._ended.items()},
            {agent: truncated for agent, (_, truncated) in self._ended.items()},
            self._tell_masks(infos),
        )

    def close(self) -> None:
        """Close the environment if ``is_closed``."""
        if self._is_closed:
            self.env.close()

    def state(self) -> np.ndarray:
        """The state of the simulation, as one array."""
        return np.asarray(self.env.state(), dtype=np.float32)

    @property
    def has_state(self) -> bool:
        """Whether the simulation has a state."""
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
        """Action masks only; all actions are allowed for agents that have left."""
        masks = {agent: infos.get(agent, {}).get("action_mask", mask) for agent, mask in self._masks.items()}
        return {agent: {"action_mask": masks[agent]} if agent in masks else {} for agent in self.agents}

    def _check_told(self, infos: Mapping[str, Mapping[str, Any]]) -> None:
        for name, known in (("action_mask", self._masks), ("position", self.position)):
            late = [agent for agent, info in infos.items() if name in info and not known]
            if late:
                raise ValueError(f"infos of {late[0]} have {name} after a step and not after reset: give it there too")

    def _check(self) -> None:
        everybody = set(self.agents)
        for name, told in (("action_mask", self._masks), ("position", self.position)):
            if told and (missing := everybody - told.keys()):
                raise ValueError(f"infos of {min(missing)} lack {name}, unlike those of others: give it to all")
        for agent, mask in self._masks.items():
            n_actions = getattr(self.env.action_space(agent), "n", None)
            if n_actions != len(mask):
                raise ValueError(
                    f"action_mask of {agent} has {len(mask)} entries, but its action space is "
                    f"{self.env.action_space(agent)}: give a mask with one entry per action of a Discrete space"
                )
        for agent, position in self.position.items():
            if position.shape != (2,):
                raise ValueError(
                    f"position of {agent} has the shape {position.shape} instead of (2,): give two numbers"
                )


def _blank(observation: Any) -> Any:
    """Zeros in the shape of an observation; a mask inside it allows every action."""
    if isinstance(observation, Mapping):
        return {
            key: np.ones_like(value) if key == "action_mask" else _blank(value) for key, value in observation.items()
        }
    return np.zeros_like(observation)
