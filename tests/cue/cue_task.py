"""A two-agent task that only a message can solve: agent 0 sees what agent 1 has to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from benchmarl.environments.common import TaskClass
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

SPEAKER, LISTENER = 0, 1


class CueEnv(EnvBase):
    """Agent 0 sees a target as a one-hot, agent 1 sees zeros; the team earns 1 per step where agent 1's action is the
    target.

    What agent 0 does changes nothing. Targets are drawn anew every ``redraw_interval`` steps, so that a goal sent when
    a target is new can serve it to the end. Best return: ``max_steps``. Chance: ``max_steps / n_targets``.

    Args:
        n_envs: environments stepped together.
        n_targets: targets, and actions of each agent.
        redraw_interval: env steps for which a target stays.
        max_steps: length of an episode, in env steps.
        seed: seed of the targets.
        device: where everything lives.
    """

    batch_locked = True

    def __init__(
        self, n_envs: int, n_targets: int, redraw_interval: int, max_steps: int, seed: int | None, device: str
    ) -> None:
        super().__init__(device=device, batch_size=[n_envs])
        self.n_targets, self.redraw_interval, self.max_steps = n_targets, redraw_interval, max_steps
        self._set_seed(seed)
        agents, flag = (n_envs, 2), (n_envs, 1)
        self.observation_spec = Composite(
            agents=Composite(
                observation=Unbounded((*agents, n_targets)), position=Unbounded((*agents, 2)), shape=agents
            ),
            shape=(n_envs,),
        )
        self.action_spec = Composite(
            agents=Composite(action=Categorical(n_targets, shape=agents), shape=agents), shape=(n_envs,)
        )
        self.reward_spec = Composite(agents=Composite(reward=Unbounded((*agents, 1)), shape=agents), shape=(n_envs,))
        done = Binary(n=1, shape=flag, dtype=torch.bool)
        self.done_spec = Composite(done=done.clone(), terminated=done.clone(), shape=(n_envs,))
        self.to(device)
        self.target = torch.zeros(n_envs, dtype=torch.long, device=device)
        self.step_count = torch.zeros(n_envs, dtype=torch.long, device=device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        is_reset = torch.ones(self.batch_size, dtype=torch.bool, device=self.device)
        if tensordict is not None and "_reset" in tensordict.keys():
            is_reset = tensordict.get("_reset").reshape(self.batch_size)
        self.step_count = self.step_count.masked_fill(is_reset, 0)
        self._redraw(is_reset)
        return TensorDict({"agents": self._see(), **self._flags(torch.zeros_like(is_reset))}, self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get(("agents", "action"))
        reward = (action[:, LISTENER] == self.target).float()
        self.step_count = self.step_count + 1
        self._redraw(self.step_count % self.redraw_interval == 0)
        agents = self._see()
        agents.set("reward", reward[:, None, None].expand(-1, 2, 1).clone())
        return TensorDict({"agents": agents, **self._flags(self.step_count >= self.max_steps)}, self.batch_size)

    def _redraw(self, where: torch.Tensor) -> None:
        drawn = torch.randint(self.n_targets, self.target.shape, generator=self.generator, device=self.device)
        self.target = torch.where(where, drawn, self.target)

    def _see(self) -> TensorDictBase:
        observation = torch.zeros(*self.batch_size, 2, self.n_targets, device=self.device)
        observation[:, SPEAKER] = torch.nn.functional.one_hot(self.target, self.n_targets).float()
        position = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], device=self.device).expand(*self.batch_size, 2, 2).clone()
        return TensorDict({"observation": observation, "position": position}, [*self.batch_size, 2])

    def _flags(self, terminated: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"done": terminated[:, None].clone(), "terminated": terminated[:, None].clone()}

    def _set_seed(self, seed: int | None) -> None:
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(0 if seed is None else seed)


class CueTask(TaskClass):
    """:class:`CueEnv` for BenchMARL. The agents' networks see the one-hot alone: positions serve the hierarchy."""

    def __init__(self, n_targets: int = 4, redraw_interval: int = 10, max_steps: int = 10) -> None:
        super().__init__(
            name="CUE", config={"n_targets": n_targets, "redraw_interval": redraw_interval, "max_steps": max_steps}
        )

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: str
    ) -> Callable[[], EnvBase]:
        """Make ``num_envs`` environments in one."""
        config = dict(self.config)
        return lambda: CueEnv(num_envs, seed=seed, device=device, **config)

    def supports_continuous_actions(self) -> bool:
        """Targets are discrete."""
        return False

    def supports_discrete_actions(self) -> bool:
        """Targets are discrete."""
        return True

    def max_steps(self, env: EnvBase) -> int:
        """Length of an episode."""
        return self.config["max_steps"]

    def has_render(self, env: EnvBase) -> bool:
        """Nothing to draw."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of two."""
        return {"agents": ["speaker", "listener"]}

    def observation_spec(self, env: EnvBase) -> Composite:
        """The one-hot alone."""
        spec = env.full_observation_spec_unbatched.clone()
        del spec["agents", "position"]
        return spec

    def action_spec(self, env: EnvBase) -> Composite:
        """One of the targets."""
        return env.full_action_spec_unbatched

    def state_spec(self, env: EnvBase) -> None:
        """No state."""

    def info_spec(self, env: EnvBase) -> None:
        """No info."""

    def action_mask_spec(self, env: EnvBase) -> None:
        """Every action is allowed."""

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "cue"
