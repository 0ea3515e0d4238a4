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

    Networks see the observation alone; positions and edges are there for the hierarchy.

    Attributes:
        max_envs: environments that a run may have side by side, each in a process of its own: the hundreds that suit
            other tasks would take a machine's memory.
    """

    config_class = TrafficConfig
    max_envs = 64

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build ``num_envs`` simulations in one environment."""
        options = TrafficConfig(**self.config)
        return lambda: TrafficEnv(options, num_envs, seed, device)

    def has_render(self, env: EnvBase) -> bool:
        """SUMO draws with a display alone."""
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
