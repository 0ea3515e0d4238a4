"""Level-Based Foraging, without and with survival, as tasks of BenchMARL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from benchmarl.environments.common import TaskClass
from benchmarl.utils import DEVICE_TYPING
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.own_task import OwnTask, OwnTaskClass, select_entry
from benchmarl_himpo.hierarchy.keys import HierarchyKeys


class LbfClass(OwnTaskClass):
    """Level-Based Foraging with the rules of lbforaging 2.0.0.

    Networks see only the observation; positions, deaths and lifetimes are additional entries.
    """

    config_class: ClassVar[type[LbfConfig]] = LbfConfig

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build one environment with ``num_envs`` boards."""
        options = self.config_class(**self.config)
        return lambda: LbfEnv(options, num_envs, seed, device)

    def has_render(self, env: EnvBase) -> bool:
        """True: boards are rendered without a display."""
        return True

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of all agents."""
        return {GROUP: [f"agent_{i}" for i in range(self.options.n_agents)]}

    def action_mask_spec(self, env: EnvBase) -> Composite:
        """Allowed actions of each agent."""
        return select_entry(env, "action_mask")

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "lbf"

    @staticmethod
    def render_callback(experiment: Any, env: EnvBase, data: TensorDictBase) -> Tensor:
        """Render the first board, with agents coloured by cluster for hierarchical policies."""
        parent_index = data.get(HierarchyKeys(GROUP).parent_index, None)
        return env.base_env.render(clusters=None if parent_index is None else parent_index[0])


class LbfwsClass(LbfClass):
    """Level-Based Foraging with Survival; rules and constants are our reconstruction."""

    config_class = LbfwsConfig

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "lbfws"


class LbfTask(OwnTask):
    """Layouts of Level-Based Foraging."""

    FORAGING_8X8_2P_1F = None
    FORAGING_8X8_2P_2F_COOP = None
    FORAGING_2S_8X8_2P_2F_COOP = None
    FORAGING_10X10_3P_3F = None
    FORAGING_2S_10X10_3P_3F = None
    FORAGING_15X15_4P_5F = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return LbfClass


class LbfwsTask(OwnTask):
    """Difficulties of Level-Based Foraging with Survival, our reconstruction."""

    EASY = None
    MEDIUM = None
    HARD = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return LbfwsClass
