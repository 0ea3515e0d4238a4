"""SMAX as tasks of BenchMARL."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from benchmarl.environments.common import TaskClass
from benchmarl.utils import DEVICE_TYPING
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.own_task import OwnTask, OwnTaskClass, select_entry
from benchmarl_himpo.environments.smax.environment import SmaxEnv
from benchmarl_himpo.environments.smax.options import SmaxConfig


class SmaxClass(OwnTaskClass):
    """A scenario of SMAX, named like the task.

    Networks see only the observation, centralised critics and mixers the state; positions, deaths and victories are
    additional entries.
    """

    config_class = SmaxConfig

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build one environment with ``num_envs`` battles; ValueError if JAX does not support the device."""
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX reserves most GPU memory
        from benchmarl_himpo.environments.smax.simulator import check_device, load_simulator  # imports JAX

        check_device(torch.device(device))
        simulator = load_simulator(self.name.lower(), **self.config)
        return lambda: SmaxEnv(simulator, num_envs, seed, device)

    def max_steps(self, env: EnvBase) -> int:
        """Length of a battle, in env steps: JaxMARL plays one more than its ``max_steps``."""
        return self.options.max_steps + 1

    def has_render(self, env: EnvBase) -> bool:
        """False: rendering is not supported."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of all agents."""
        n_agents = env.full_action_spec_unbatched[GROUP].shape[0]
        return {GROUP: [f"agent_{i}" for i in range(n_agents)]}

    def action_mask_spec(self, env: EnvBase) -> Composite:
        """Allowed actions of each agent."""
        return select_entry(env, "action_mask")

    def state_spec(self, env: EnvBase) -> Composite:
        """JaxMARL's world state: type, position and health of all units."""
        spec = env.full_observation_spec_unbatched
        return Composite({"state": spec["state"].clone()}, device=spec.device)

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "smax"


class SmaxTask(OwnTask):
    """Scenarios of SMAX with units and positions drawn anew for each battle, as in SMACv2."""

    SMACV2_5_UNITS = None
    SMACV2_10_UNITS = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return SmaxClass
