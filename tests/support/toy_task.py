"""A tiny vectorised task with everything that real ones have: masks, positions, deaths, random ends, and broken
numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from benchmarl.environments.common import TaskClass
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

N_FEATURES, N_ACTIONS = 3, 3


@dataclass
class ToyOptions:
    """What the task does.

    Args:
        n_agents: number of agents.
        min_steps: shortest episode, in env steps.
        max_steps: longest episode; each environment draws the length of each of its episodes.
        truncated_share: probability that an episode is cut instead of terminated.
        has_mask: give action masks (discrete actions only).
        has_alive: give an ``alive`` entry; agent i dies after 3 + 2 i steps, the last one never.
        has_position: give a ``position`` entry, which moves.
        n_edges: give an entry ``edges`` with so many columns: each agent receives messages from the next in a ring.
        is_grid: positions are whole numbers, tenths of a world unit.
        is_vectorised: False makes an environment without batch dimension.
        nan_key: ``"observation"`` or ``"reward"`` turns into NaN ...
        nan_after: ... after this many steps of the environment; None never.
    """

    n_agents: int = 3
    min_steps: int = 5
    max_steps: int = 12
    truncated_share: float = 0.0
    has_mask: bool = False
    has_alive: bool = False
    has_position: bool = True
    n_edges: int | None = None
    is_grid: bool = False
    is_vectorised: bool = True
    nan_key: str = "observation"
    nan_after: int | None = None


class ToyEnv(EnvBase):
    """Agents random-walk; each receives a reward for an action that fits its first feature, and all of them the mean.

    Args:
        options: what the task does.
        n_envs: environments stepped together; None for an environment without batch dimension.
        is_continuous: one number in [-1, 1] per agent instead of one of three actions.
        seed: seed of everything random.
        device: where everything lives.
    """

    batch_locked = True

    def __init__(
        self, options: ToyOptions, n_envs: int | None, is_continuous: bool, seed: int | None, device: str
    ) -> None:
        batch = torch.Size([] if n_envs is None else [n_envs])
        super().__init__(device=device, batch_size=batch)
        self.options, self.is_continuous, self.n_steps_done = options, is_continuous, 0
        self._set_seed(seed)
        agents = torch.Size([*batch, options.n_agents])
        observation = {"observation": Unbounded((*agents, N_FEATURES), dtype=torch.get_default_dtype())}
        if options.has_position:
            dtype = torch.long if options.is_grid else torch.get_default_dtype()
            observation["position"] = Unbounded((*agents, 2), dtype=dtype)
        if options.n_edges is not None:
            observation["edges"] = Binary(shape=(*agents, options.n_edges), dtype=torch.bool)
        if options.has_alive:
            observation["alive"] = Categorical(2, shape=agents, dtype=torch.bool)
        if options.has_mask:
            observation["action_mask"] = Binary(n=N_ACTIONS, shape=(*agents, N_ACTIONS), dtype=torch.bool)
        action = (
            Bounded(-1.0, 1.0, (*agents, 1), dtype=torch.get_default_dtype())
            if is_continuous
            else Categorical(N_ACTIONS, shape=agents)
        )
        self.observation_spec = Composite(agents=Composite(**observation, shape=agents), shape=batch)
        self.action_spec = Composite(agents=Composite(action=action, shape=agents), shape=batch)
        reward = Unbounded((*agents, 1), dtype=torch.get_default_dtype())
        self.reward_spec = Composite(agents=Composite(reward=reward, shape=agents), shape=batch)
        flag = Binary(n=1, shape=(*batch, 1), dtype=torch.bool)
        names = ("done", "terminated", "truncated")
        self.done_spec = Composite(**{name: flag.clone() for name in names}, shape=batch)
        self.to(device)
        self.agents_shape = agents
        self.step_count = torch.zeros(batch, dtype=torch.long, device=device)
        self.length = torch.zeros(batch, dtype=torch.long, device=device)
        self.ends_by_truncation = torch.zeros(batch, dtype=torch.bool, device=device)
        self.position = torch.zeros(*agents, 2, device=device)
        self.feature = torch.zeros(*agents, N_FEATURES, device=device)

    @property
    def alive(self) -> Tensor:
        """Who takes part. Shape ``[*B, n_agents]``, bool."""
        last_step = 3 + 2 * torch.arange(self.options.n_agents, device=self.device)
        last_step[-1] = self.options.max_steps + 1
        if not self.options.has_alive:
            last_step[:] = self.options.max_steps + 1
        return self.step_count.unsqueeze(-1) <= last_step

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        where = torch.ones(self.batch_size, dtype=torch.bool, device=self.device)
        if tensordict is not None and "_reset" in tensordict.keys():
            where = tensordict.get("_reset").reshape(self.batch_size)
        length = torch.randint(
            self.options.min_steps, self.options.max_steps + 1, self.batch_size, generator=self.generator
        )
        by_truncation = torch.rand(self.batch_size, generator=self.generator) < self.options.truncated_share
        self.step_count = self.step_count.masked_fill(where, 0)
        self.length = torch.where(where, length.to(self.device), self.length)
        self.ends_by_truncation = torch.where(where, by_truncation.to(self.device), self.ends_by_truncation)
        self.position = torch.where(where[..., None, None], 2 * self._uniform(2) - 1, self.position)
        self.feature = torch.where(where[..., None, None], self._uniform(N_FEATURES), self.feature)
        return TensorDict({"agents": self._see(), **self._flags(torch.zeros_like(where))}, self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(("agents", "action"))
        if self.options.has_mask:
            allowed = self._mask().gather(-1, action.unsqueeze(-1))
            if not allowed.all():
                raise AssertionError("an action was taken that the mask forbids")
        choice = action.squeeze(-1) if self.is_continuous else action - 1.0
        own = (choice * (2 * self.feature[..., 0] - 1)) * self.alive
        self.step_count = self.step_count + 1
        self.n_steps_done += 1
        self.position = self.position + 0.2 * (self._uniform(2) - 0.5)
        self.feature = self._uniform(N_FEATURES)
        agents = self._see()
        agents.set("reward", (own + own.mean(-1, keepdim=True)).unsqueeze(-1))
        if self.options.nan_after is not None and self.n_steps_done > self.options.nan_after:
            agents.get(self.options.nan_key)[..., 0, :] = torch.nan
        return TensorDict({"agents": agents, **self._flags(self.step_count >= self.length)}, self.batch_size)

    def _see(self) -> TensorDictBase:
        alive = self.alive
        out = {"observation": self.feature * alive.unsqueeze(-1)}
        if self.options.has_position:
            out["position"] = (10 * self.position).long() if self.options.is_grid else self.position.clone()
        if self.options.n_edges is not None:
            ring = torch.eye(self.options.n_agents, dtype=torch.bool, device=self.device).roll(1, dims=-1)
            out["edges"] = ring[:, : self.options.n_edges].expand(*self.agents_shape, -1).clone()
        if self.options.has_alive:
            out["alive"] = alive
        if self.options.has_mask:
            out["action_mask"] = self._mask()
        return TensorDict(out, self.agents_shape)

    def _mask(self) -> Tensor:
        """The last action is forbidden where the second feature is small, the first where the agent is dead."""
        mask = torch.ones(*self.agents_shape, N_ACTIONS, dtype=torch.bool, device=self.device)
        mask[..., -1] = self.feature[..., 1] > 0.5
        mask[..., 0] = self.alive
        return mask

    def _flags(self, ends: Tensor) -> dict[str, Tensor]:
        ends = ends.unsqueeze(-1)
        cut = self.ends_by_truncation.unsqueeze(-1)
        return {"done": ends.clone(), "terminated": ends & ~cut, "truncated": ends & cut}

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(*self.agents_shape, n, generator=self.generator).to(self.device)

    def _set_seed(self, seed: int | None) -> None:
        self.generator = torch.Generator().manual_seed(0 if seed is None else seed)


class ToyTask(TaskClass):
    """:class:`ToyEnv` for BenchMARL. The agents' networks see ``observation`` alone.

    Args:
        **options: see :class:`ToyOptions`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(name="TOY", config=asdict(ToyOptions(**options)))

    @property
    def options(self) -> ToyOptions:
        """What the task does."""
        return ToyOptions(**self.config)

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: str
    ) -> Callable[[], EnvBase]:
        """Make ``num_envs`` environments in one, or one of several without batch dimension."""
        options = self.options
        n_envs = num_envs if options.is_vectorised else None
        return lambda: ToyEnv(options, n_envs, continuous_actions, seed, device)

    def supports_continuous_actions(self) -> bool:
        """Masks are for discrete actions."""
        return not self.options.has_mask

    def supports_discrete_actions(self) -> bool:
        """Always."""
        return True

    def max_steps(self, env: EnvBase) -> int:
        """Longest episode."""
        return self.options.max_steps

    def has_render(self, env: EnvBase) -> bool:
        """Nothing to draw."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group."""
        return {"agents": [f"agent_{i}" for i in range(self.options.n_agents)]}

    def observation_spec(self, env: EnvBase) -> Composite:
        """The features alone."""
        agents = env.full_observation_spec_unbatched["agents"]
        return Composite(
            agents=Composite(observation=agents["observation"].clone(), shape=agents.shape), device=env.device
        )

    def action_spec(self, env: EnvBase) -> Composite:
        """One action per agent."""
        return env.full_action_spec_unbatched

    def action_mask_spec(self, env: EnvBase) -> Composite | None:
        """The masks, if any."""
        agents = env.full_observation_spec_unbatched["agents"]
        if not self.options.has_mask:
            return None
        return Composite(agents=Composite(action_mask=agents["action_mask"].clone(), shape=agents.shape))

    def state_spec(self, env: EnvBase) -> None:
        """No state."""

    def info_spec(self, env: EnvBase) -> None:
        """No info."""

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "toy"
