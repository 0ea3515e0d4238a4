"""Traffic signals as tasks of BenchMARL."""

from __future__ import annotations

from collections.abc import Callable

from benchmarl.environments.common import TaskClass
from benchmarl.utils import DEVICE_TYPING
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.own_task import OwnTask, OwnTaskClass
from benchmarl_himpo.environments.traffic.environment import TrafficEnv
from benchmarl_himpo.environments.traffic.options import TrafficConfig


class TrafficClass(OwnTaskClass):
    """Traffic signals of a network: each agent is a signal.

    Networks see only the observation; positions and edges are for the hierarchy.

    Attributes:
        max_envs: maximal number of environments of a run, each in a separate process; the hundreds that suit other
            tasks would exhaust the memory.
    """

    config_class = TrafficConfig
    max_envs = 64

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build one environment with ``num_envs`` simulations."""
        options = TrafficConfig(**self.config)
        return lambda: TrafficEnv(options, num_envs, seed, device)

    def has_render(self, env: EnvBase) -> bool:
        """False: SUMO renders only with a display."""
        return False

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of all signals, by their names in the network."""
        return {GROUP: list(env.layout["names"])}

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "traffic"


class TrafficTask(OwnTask):
    """Networks."""

    GRID4X4 = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return TrafficClass
