"""Level-Based Foraging, without and with survival, as tasks of BenchMARL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

from benchmarl.environments.common import Task, TaskClass
from benchmarl.utils import DEVICE_TYPING
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.config import compose
from benchmarl_himpo.environments.entries import LIFE_KEY
from benchmarl_himpo.environments.lbf.environment import GROUP, LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
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
        self._check_names(config)
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
        return _select(env.full_observation_spec_unbatched, "observation")

    def action_mask_spec(self, env: EnvBase) -> Composite:
        """What each agent may do."""
        return _select(env.full_observation_spec_unbatched, "action_mask")

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

    @classmethod
    def _check_names(cls, config: dict[str, Any]) -> None:
        names = [field.name for field in fields(cls.config_class)]
        unknown, missing = set(config).difference(names), set(names).difference(config)
        if unknown:
            raise ValueError(f"task.{min(unknown)} is no option of {cls.env_name()}: choose from {', '.join(names)}.")
        if missing:
            raise ValueError(f"task.{min(missing)} is missing: every option of {cls.env_name()} needs a value.")


class LbfwsClass(LbfClass):
    """Level-Based Foraging with Survival: a reconstruction, its rules and constants are ours."""

    config_class = LbfwsConfig

    @staticmethod
    def env_name() -> str:
        """Name of the environment."""
        return "lbfws"


class _OwnTask(Task):
    """Tasks whose YAML is in this package's ``conf/`` and may inherit."""

    def get_from_yaml(self, path: str | None = None) -> TaskClass:
        """Load the task's options, from YAML of this package unless a full path is given."""
        if path is None:
            return self.from_config(compose([f"task={self.env_name()}/{self.name.lower()}"]).task)
        return self.from_config(cast("DictConfig", OmegaConf.load(path)))

    def from_config(self, cfg: DictConfig) -> TaskClass:
        """Build the task from its node of a composed config."""
        return self.get_task(cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)))


class LbfTask(_OwnTask):
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


class LbfwsTask(_OwnTask):
    """Difficulties of Level-Based Foraging with Survival, our reconstruction."""

    EASY = None
    MEDIUM = None
    HARD = None

    @staticmethod
    def associated_class() -> type[TaskClass]:
        """The class of the tasks."""
        return LbfwsClass


def _select(spec: Composite, name: str) -> Composite:
    """One entry of the agents."""
    agents = spec[GROUP]
    return Composite({GROUP: Composite({name: agents[name].clone()}, shape=agents.shape)}, device=spec.device)
