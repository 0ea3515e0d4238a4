"""A toy task for two agents that requires communication: agent 0 observes the action that agent 1 must take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from benchmarl.environments.common import TaskClass
from benchmarl.utils import DEVICE_TYPING
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.own_task import OwnTask, OwnTaskClass
from benchmarl_himpo.environments.simulation import seed_generator

SPEAKER, LISTENER = 0, 1


@dataclass
class CueConfig:
    """Options of the task, documented key by key in ``conf/task/toy/cue.yaml``.

    Raises:
        ValueError: if an option is out of range.
    """

    n_targets: int
    redraw_interval: int
    visible_steps: int | None
    max_steps: int

    def __post_init__(self) -> None:
        for option, least in {"n_targets": 2, "redraw_interval": 1, "visible_steps": 1, "max_steps": 1}.items():
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"task.{option}={value} must be {least} or more")


class CueEnv(EnvBase):
    """Both agents receive 1 per step if agent 1's action is the target, a one-hot that only agent 0 observes.

    Agent 0's action has no effect. A new target is drawn every ``redraw_interval`` steps, so one goal can communicate
    each target. Maximal return: ``max_steps``; of a random policy: ``max_steps / n_targets``. With ``visible_steps``
    agent 0 observes a target only in its first steps, so the target has to be remembered.

    Args:
        config: options of the task.
        n_envs: number of vectorised environments.
        seed: seed of the targets, which are drawn from ``generator``; None for a seed of the operating system.
        device: device of all tensors.

    Attributes:
        generator: random number generator of this environment alone.
        simulation: names of the attributes that hold the state of the simulation, for checkpoints.
    """

    batch_locked = True
    simulation: ClassVar[tuple[str, ...]] = ("target", "step_count")

    def __init__(self, config: CueConfig, n_envs: int, seed: int | None = None, device: DEVICE_TYPING = "cpu") -> None:
        super().__init__(device=device, batch_size=[n_envs])
        self.config = config
        self.generator = torch.Generator(device=self.device)
        self._set_seed(seed)
        n_targets = config.n_targets
        agents, flag = (n_envs, 2), (n_envs, 1)
        entries = {"observation": Unbounded((*agents, n_targets)), "position": Unbounded((*agents, 2))}
        self.observation_spec = _of_agents(entries, agents)
        self.action_spec = _of_agents({"action": Categorical(n_targets, shape=agents)}, agents)
        self.reward_spec = _of_agents({"reward": Unbounded((*agents, 1))}, agents)
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
        return TensorDict({GROUP: self._see(), **self._flags(torch.zeros_like(is_reset))}, self.batch_size)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get((GROUP, "action"))
        reward = (action[:, LISTENER] == self.target).float()
        self.step_count = self.step_count + 1
        self._redraw(self.step_count % self.config.redraw_interval == 0)
        agents = self._see()
        agents.set("reward", reward[:, None, None].expand(-1, 2, 1).clone())
        return TensorDict({GROUP: agents, **self._flags(self.step_count >= self.config.max_steps)}, self.batch_size)

    def _redraw(self, where: torch.Tensor) -> None:
        drawn = torch.randint(self.config.n_targets, self.target.shape, generator=self.generator, device=self.device)
        self.target = torch.where(where, drawn, self.target)

    def _see(self) -> TensorDictBase:
        observation = torch.zeros(*self.batch_size, 2, self.config.n_targets, device=self.device)
        cue = torch.nn.functional.one_hot(self.target, self.config.n_targets).float()
        if self.config.visible_steps is not None:
            cue = cue * (self.step_count % self.config.redraw_interval < self.config.visible_steps)[:, None]
        observation[:, SPEAKER] = cue
        position = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], device=self.device).expand(*self.batch_size, 2, 2).clone()
        return TensorDict({"observation": observation, "position": position}, [*self.batch_size, 2])

    def _flags(self, terminated: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"done": terminated[:, None].clone(), "terminated": terminated[:, None].clone()}

    def _set_seed(self, seed: int | None) -> None:
        seed_generator(self.generator, seed)


class CueClass(OwnTaskClass):
    """:class:`CueEnv` for BenchMARL. Networks see only the one-hot; positions are for the hierarchy."""

    config_class = CueConfig

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build one environment with ``num_envs`` vectorised copies."""
        options = CueConfig(**self.config)
        return lambda: CueEnv(options, num_envs, seed, device)

    def has_render(self, env: EnvBase) -> bool:
        """False: rendering is not supported."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of two agents."""
        return {GROUP: ["speaker", "listener"]}

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "toy"


class CueTask(OwnTask):
    """The toy task."""

    CUE = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the task."""
        return CueClass


def _of_agents(entries: dict[str, TensorSpec], shape: tuple[int, int]) -> Composite:
    """Entries of all agents, as a spec of the environment."""
    return Composite({GROUP: Composite(entries, shape=shape)}, shape=shape[:1])
