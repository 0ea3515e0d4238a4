"""A ``ParallelEnv`` of a user's own with what is read of one: masks, positions, deaths. It may be wrong and break."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from pettingzoo import AECEnv, ParallelEnv

LENGTH = 5


class Corridor(ParallelEnv):
    """Walkers in corridors of their own receive the number of their cell; nobody ends an episode but the dead.

    Args:
        n: walkers.
        lives: steps after which each of them dies; None: never.
        breaks_after: steps of this environment, over all episodes, after which it raises an error.
        exits: take the process along then.
        mistake: what is told wrongly.
        dtype: of observations.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "corridor"}

    def __init__(
        self,
        n: int = 3,
        lives: list[int] | None = None,
        breaks_after: int | None = None,
        exits: bool = False,
        mistake: str | None = None,
        dtype: str = "float32",
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.possible_agents = [f"walker_{i}" for i in range(n)]
        self.lives = lives or [10_000] * n
        self.breaks_after, self.exits, self.mistake, self.n_steps = breaks_after, exits, mistake, 0

    def observation_space(self, agent: str) -> Box:
        size = LENGTH + (self.mistake == "spaces" and agent == "walker_0")
        return Box(0, 1, (size,), self.dtype.type)

    def action_space(self, agent: str) -> Any:
        if self.mistake == "actions":
            return MultiDiscrete([2, 2])
        if self.mistake == "kinds" and agent == "walker_0":
            return Box(-1.0, 1.0, (1,), np.float32)
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        self.time, self.agents = 0, list(self.possible_agents)
        if seed is not None or not hasattr(self, "random"):
            self.random = np.random.default_rng(seed)
        self.cell = {agent: int(self.random.integers(LENGTH)) for agent in self.agents}
        return self._see(self.agents)

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        if self.n_steps == self.breaks_after:
            if self.exits:
                os._exit(3)
            raise RuntimeError("the licence of the simulator has ended")
        assert set(actions) == set(self.agents), "the dead act"
        self.time, self.n_steps = self.time + 1, self.n_steps + 1
        acting = list(self.agents)
        for agent, action in actions.items():
            assert self._mask(agent)[action], "an action is taken that the mask forbids"
            self.cell[agent] += (0, -1, 1)[int(action)]
        dead = {agent: self.time >= life for agent, life in zip(self.possible_agents, self.lives, strict=True)}
        self.agents = [agent for agent in acting if not dead[agent]]
        observations, infos = self._see(acting)
        rewards = {agent: float(self.cell[agent]) for agent in acting}
        return observations, rewards, {a: dead[a] for a in acting}, dict.fromkeys(acting, False), infos

    def _see(self, agents: list[str]) -> tuple[dict, dict]:
        observations, infos = {}, {}
        for agent in agents:
            observations[agent] = np.eye(self.observation_space(agent).shape[0], dtype=self.dtype)[self.cell[agent]]
            infos[agent] = {"action_mask": self._mask(agent), "position": self._position(agent)}
        for entry in ("action_mask", "position"):
            if self.mistake == f"no {entry}":
                del infos[agents[-1]][entry]
            if self.mistake == "late" and self.time == 0:
                for told in infos.values():
                    del told[entry]
        return observations, infos

    def _mask(self, agent: str) -> np.ndarray:
        mask = [True, self.cell[agent] > 0, self.cell[agent] < LENGTH - 1]
        return np.array(mask[: 2 if self.mistake == "mask" else 3], dtype=np.int8)

    def _position(self, agent: str) -> list[float]:
        position = [float(self.cell[agent]), float(self.possible_agents.index(agent))]
        return [*position, 0.0] if self.mistake == "position" else position


class Puller(Corridor):
    """Walkers that never move, whatever their actions, of the kind that the caller wants; nothing is told of them."""

    def __init__(self, continuous_actions: bool = False) -> None:
        super().__init__()
        self.continuous_actions = continuous_actions

    def action_space(self, agent: str) -> Any:
        return Box(-1.0, 1.0, (1,), np.float32) if self.continuous_actions else Discrete(3)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        return super().step(dict.fromkeys(actions, 0))

    def _see(self, agents: list[str]) -> tuple[dict, dict]:
        observations, _ = super()._see(agents)
        return observations, {agent: {} for agent in agents}


def make_turns() -> AECEnv:
    """An environment in which agents take turns."""
    return AECEnv()
