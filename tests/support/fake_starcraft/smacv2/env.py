"""A FAKE of SMACv2's API, for tests of the wiring alone: there is no game behind it and nothing to learn.

Sizes and order of features, who may do what, what is told in which entry and when a battle ends are those of SMACv2
1.0.0. How units move, fight and die is made up, so that within few steps some die, and battles are won, lost and not
decided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
N_MOVES, N_TYPES = 4, 3
REWARD_KILL, REWARD_WIN, REWARD_SCALE = 10, 200, 20
DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]]) / 16


class StarCraft2Env:
    """A battle of two teams of units whose types, positions and luck are drawn anew for every episode.

    Args:
        map_name: ``10gen_`` and a race; Protoss have shields.
        capability_config: sizes of the teams; as the real one, it writes into what it is given.
        seed: seed of everything random.
        obs_own_pos: whether agents observe their positions.
        obs_timestep_number: whether agents observe the time.
        conic_fov: whether agents look in directions, and choose these too.
        num_fov_actions: directions to choose from.
        continuing_episode: whether the end of the time is told in ``info``.
        **options: other options, which change nothing here.
    """

    episode_limit = 15  # 200 in SMACv2

    def __init__(
        self,
        map_name: str,
        capability_config: dict[str, Any],
        seed: int | None = None,
        obs_own_pos: bool = False,
        obs_timestep_number: bool = False,
        conic_fov: bool = False,
        num_fov_actions: int = 12,
        continuing_episode: bool = False,
        **options: Any,
    ) -> None:
        self.n_agents, self.n_enemies = capability_config["n_units"], capability_config["n_enemies"]
        for key in ("team_gen", "start_positions"):
            capability_config[key]["env_key"] = key
        self.n_fov_actions = num_fov_actions if conic_fov else 0
        self.n_actions = 2 + N_MOVES + self.n_fov_actions + self.n_enemies
        self.n_shields = int("protoss" in map_name)
        self.obs_own_pos, self.obs_timestep_number = obs_own_pos, obs_timestep_number
        self.continuing_episode = continuing_episode
        self.rng = np.random.default_rng(seed)
        self.is_closed = False

    def reset(self) -> tuple[list[Floats], Floats]:
        """Begin an episode."""
        n_units = self.n_agents + self.n_enemies
        self.n_steps = 0
        self.health = np.ones(n_units)  # allies first
        self.position = self.rng.uniform(0.1, 0.9, (n_units, 2))
        self.types = np.eye(N_TYPES)[self.rng.integers(N_TYPES, size=n_units)]
        self.view = np.tile([1.0, 0.0], (self.n_agents, 1))
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self.strength = self.rng.uniform(0, 0.5)  # of the enemies
        return self.get_obs(), self.get_state()

    def step(self, actions: Any) -> tuple[float, bool, dict[str, Any]]:
        """Play one step, and give the team's reward, whether the episode ends, and what else is told."""
        allowed, health_before = self.get_avail_actions(), self.health.copy()
        for agent, action in enumerate(map(int, actions)):
            assert allowed[agent][action] == 1, f"Agent {agent} cannot perform action {action}"
            if 2 <= action < 2 + N_MOVES:
                self.position[agent] = np.clip(self.position[agent] + DIRECTIONS[action - 2], 0, 1)
            elif (enemy := action - (self.n_actions - self.n_enemies)) >= 0:
                self.health[self.n_agents + enemy] -= 0.2
        self.last_action = np.eye(self.n_actions)[np.array(actions)]
        hits = self.rng.random(self.n_enemies) < self.is_alive[self.n_agents :]
        for _ in range(hits.sum()):
            self.health[self.rng.integers(self.n_agents)] -= self.strength
        self.health = np.where(self.health > 1e-6, self.health, 0.0)
        self.n_steps += 1

        dead_allies, dead_enemies = (int((~alive).sum()) for alive in np.split(self.is_alive, [self.n_agents]))
        is_won, is_lost = dead_enemies == self.n_enemies, dead_allies == self.n_agents
        is_over = self.n_steps >= self.episode_limit
        reward = (health_before - self.health)[self.n_agents :].sum() + REWARD_WIN * (is_won and not is_lost)
        scale = (self.n_enemies * REWARD_KILL + REWARD_WIN) / REWARD_SCALE
        info: dict[str, Any] = {"battle_won": is_won and not is_lost}
        info |= {"dead_allies": dead_allies, "dead_enemies": dead_enemies}
        if is_over and not (is_won or is_lost) and self.continuing_episode:
            info["episode_limit"] = True
        return reward / scale, bool(is_won or is_lost or is_over), info

    @property
    def is_alive(self) -> NDArray[np.bool_]:
        """Which units live, allies first. Shape ``[n_agents + n_enemies]``."""
        return self.health > 0

    def get_avail_actions(self) -> list[list[int]]:
        """What each agent may do: nothing, if it is dead, else everything else but to attack the dead."""
        enemies = self.is_alive[self.n_agents :].astype(int).tolist()
        living = [0, 1, *[1] * (N_MOVES + self.n_fov_actions), *enemies]
        dead = [1] + [0] * (self.n_actions - 1)
        return [living if alive else dead for alive in self.is_alive[: self.n_agents]]

    def get_obs(self) -> list[Floats]:
        """What each agent sees, zeros if it is dead, of ``get_obs_size()`` features each."""
        return [self._observe(agent) for agent in range(self.n_agents)]

    def _observe(self, agent: int) -> Floats:
        time = [self.n_steps / self.episode_limit] if self.obs_timestep_number else []
        if not self.is_alive[agent]:
            return np.array([*[0.0] * (self.get_obs_size() - len(time)), *time], dtype=np.float32)
        apart = self.position - self.position[agent]
        distance = np.linalg.norm(apart, axis=-1, keepdims=True).clip(max=1)
        shields = np.ones((len(self.health), self.n_shields))
        seen = np.concatenate([np.ones_like(distance), distance, apart, self.health[:, None], shields, self.types], -1)
        seen = seen * self.is_alive[:, None]
        own = [self.health[agent], *shields[agent]]
        own += [*self.position[agent]] if self.obs_own_pos else []
        own += [*self.view[agent]] if self.n_fov_actions else []
        others = np.delete(seen[: self.n_agents], agent, axis=0)
        parts = [np.ones(N_MOVES), seen[self.n_agents :].ravel(), others.ravel(), own, self.types[agent], time]
        return np.concatenate(parts).astype(np.float32)

    def get_state(self) -> Floats:
        """What there is to know, ``get_state_size()`` features."""
        shields = np.ones((len(self.health), self.n_shields))
        units = np.concatenate([self.health[:, None], self.position - 0.5, shields, self.types], -1)
        units = units * self.is_alive[:, None]
        cooldown = np.zeros((self.n_agents, 1 + 2 * (self.n_fov_actions > 0)))
        allies = np.concatenate([units[: self.n_agents], cooldown], -1)
        parts = [allies.ravel(), units[self.n_agents :].ravel(), self.last_action.ravel()]
        return np.concatenate(parts).astype(np.float32)

    def get_obs_size(self) -> int:
        """Features that each agent sees."""
        n_others = self.n_enemies + self.n_agents - 1
        own = 1 + self.n_shields + 2 * self.obs_own_pos + 2 * (self.n_fov_actions > 0) + N_TYPES
        return N_MOVES + n_others * (5 + self.n_shields + N_TYPES) + own + self.obs_timestep_number

    def get_state_size(self) -> int:
        """Features of the state."""
        ally = 4 + self.n_shields + N_TYPES + 2 * (self.n_fov_actions > 0) + self.n_actions
        return self.n_agents * ally + self.n_enemies * (3 + self.n_shields + N_TYPES)

    def close(self) -> None:
        """End the game."""
        self.is_closed = True


class StarCraftCapabilityEnvWrapper(StarCraft2Env):
    """The same: the real one wraps the other, and draws its teams and positions."""
