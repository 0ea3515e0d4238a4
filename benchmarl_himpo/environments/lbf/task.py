"""Level-Based Foraging, without and with survival, as tasks of BenchMARL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarl.environments.common import TaskClass
from benchmarl.utils import DEVICE_TYPING
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import LIFE_KEY
from benchmarl_himpo.environments.lbf.environment import GROUP, LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.own_task import OwnTask, check_option_names, select_entry
from benchmarl_himpo.keys import HierarchyKeys


class LbfClass(TaskClass):
    """Level-Based Foraging with the rules of lbforaging 2.0.0.

    Networks see the observation alone; positions, deaths and lives are there for whoever asks for them by name.

    Args:
        name: name of the task.
        config: all options of :class:`~benchmarl_himpo.environments.lbf.options.LbfConfig`.

    Raises:
        ValueError: if an option is unknown, missing or out of range.
    """

    config_class: type[LbfConfig] = LbfConfig

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        check_option_names(self.config_class, self.env_name(), config)
        super().__init__(name, config)
        self.options = self.config_class(**config)

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: DEVICE_TYPING
    ) -> Callable[[], EnvBase]:
        """Build ``num_envs`` boards in one environment."""
        options = self.config_class(**self.config)
        return lambda: LbfEnv(options, num_envs, seed, device)

    def supports_continuous_actions(self) -> bool:
        """Never."""
        return False

    def supports_discrete_actions(self) -> bool:
        """Always."""
        return True

    def max_steps(self, env: EnvBase) -> int:
        """Length of an episode, in env steps."""
        return self.options.max_steps

    def has_render(self, env: EnvBase) -> bool:
        """Boards are painted without a display."""
        return True

    def group_map(self, env: EnvBase) -> dict[str, list[str]]:
        """One group of all agents."""
        return {GROUP: [f"agent_{i}" for i in range(self.options.n_agents)]}

    def observation_spec(self, env: EnvBase) -> Composite:
        """The observation vector, without what the environment emits beside it."""
        return select_entry(env.full_observation_spec_unbatched, GROUP, "observation")

    def action_mask_spec(self, env: EnvBase) -> Composite:
        """What each agent may do."""
        return select_entry(env.full_observation_spec_unbatched, GROUP, "action_mask")

    def action_spec(self, env: EnvBase) -> Composite:
        """One of six actions per agent."""
        return env.full_action_spec_unbatched

    def state_spec(self, env: EnvBase) -> None:
        """No state beside the observations."""

    def info_spec(self, env: EnvBase) -> None:
        """No info."""

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "lbf"

    @staticmethod
    def log_info(batch: TensorDictBase) -> dict[str, float]:
        """Mean life of an agent, in env steps, over the episodes that ended in a batch; nothing where none did."""
        life = batch.get(("next", GROUP, LIFE_KEY), None)
        if life is None:
            return {}
        life = life[batch.get(("next", "done")).squeeze(-1)]
        return {f"collection/{GROUP}/life_mean": life.double().mean().item()} if len(life) else {}

    @staticmethod
    def render_callback(experiment: Any, env: EnvBase, data: TensorDictBase) -> Tensor:
        """Draw the first board, agents coloured by cluster where a hierarchy plays."""
        parent_index = data.get(HierarchyKeys(GROUP).parent_index, None)
        return env.base_env.render(clusters=None if parent_index is None else parent_index[0])


class LbfwsClass(LbfClass):
    """Level-Based Foraging with Survival: a reconstruction, its rules and constants are ours."""

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
