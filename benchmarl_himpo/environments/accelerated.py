"""Faster simulations of tasks of BenchMARL, with identical results."""

from __future__ import annotations

import copy
from collections.abc import Callable

from benchmarl.environments import TaskClass
from benchmarl.environments.vmas.common import VmasClass
from benchmarl.utils import DEVICE_TYPING
from torchrl.envs import EnvBase
from torchrl.envs.libs.vmas import VmasEnv


class AcceleratedSampling(VmasClass):
    """``vmas/sampling`` on :class:`~benchmarl_himpo.environments.sampling_scenario.SamplingScenario`.

    Name, options and specs are the same as in BenchMARL's task.
    """

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build the environment as BenchMARL does, on our scenario instead of VMAS's."""
        from benchmarl_himpo.environments.sampling_scenario import SamplingScenario  # imports VMAS

        config = copy.deepcopy(self.config)
        return lambda: VmasEnv(
            scenario=SamplingScenario(),
            num_envs=num_envs,
            continuous_actions=continuous_actions,
            seed=seed,
            device=device,
            categorical_actions=True,
            clamp_actions=True,
            **config,
        )


_ACCELERATED: dict[str, type[TaskClass]] = {"vmas/sampling": AcceleratedSampling}


def accelerate(task: TaskClass) -> TaskClass:
    """Return the faster version of a task, with the same name and options, or the task itself if there is none."""
    accelerated = _ACCELERATED.get(f"{task.env_name()}/{task.name.lower()}")
    return task if accelerated is None else accelerated(task.name, task.config)


def is_accelerated(task: TaskClass) -> bool:
    """Whether a task runs on a simulation of this package."""
    return isinstance(task, tuple(_ACCELERATED.values()))
