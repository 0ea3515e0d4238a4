"""Base classes of this package's tasks: options from YAML with inheritance, checked by name; discrete actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, ClassVar, cast

from benchmarl.environments.common import Task, TaskClass
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDictBase
from torchrl.data import Composite
from torchrl.envs import EnvBase

from benchmarl_himpo.config import load_yaml
from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.metrics import find_metrics


class OwnTask(Task):
    """Tasks with YAML, possibly with inheritance, in this package's ``conf/`` or in a folder of a plug-in."""

    def get_from_yaml(self, path: str | None = None) -> TaskClass:
        """Load the task's options, from YAML of this package or of a plug-in unless a full path is given."""
        if path is None:
            return self.from_config(load_yaml("task", f"{self.env_name()}/{self.name.lower()}"))
        return self.from_config(cast("DictConfig", OmegaConf.load(path)))

    def from_config(self, cfg: DictConfig) -> TaskClass:
        """Build the task from its node of a composed config."""
        return self.get_task(cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)))


class OwnTaskClass(TaskClass):
    """Tasks with discrete actions by default, whose networks see only the entry ``observation``.

    Args:
        name: name of the task.
        config: all options of ``config_class``.

    Attributes:
        config_class: dataclass of the options, with ``max_steps``.
        options: the options, checked.

    Raises:
        ValueError: if an option is unknown, missing or out of range.
    """

    config_class: ClassVar[type]

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        check_option_names(self.config_class, self.env_name(), config)
        super().__init__(name, config)
        self.options = self.config_class(**config)

    def supports_continuous_actions(self) -> bool:
        """No."""
        return False

    def supports_discrete_actions(self) -> bool:
        """Yes."""
        return True

    def max_steps(self, env: EnvBase) -> int:
        """Length of an episode, in env steps."""
        return int(self.options.max_steps)

    def observation_spec(self, env: EnvBase) -> Composite:
        """The entry ``observation``, without the environment's other entries."""
        return select_entry(env, "observation", self.group_map(env))

    def action_spec(self, env: EnvBase) -> Composite:
        """The action spec."""
        return env.full_action_spec_unbatched

    def action_mask_spec(self, env: EnvBase) -> Composite | None:
        """None: every action is allowed."""
        return None

    def state_spec(self, env: EnvBase) -> None:
        """None: there is no global state."""

    def info_spec(self, env: EnvBase) -> None:
        """No info."""

    @staticmethod
    def log_info(batch: TensorDictBase) -> dict[str, float]:
        """Mean of each metric of each group over the episodes that ended in a batch; empty if none ended."""
        has_ended = batch.get(("next", "done")).squeeze(-1)
        if not has_ended.any():
            return {}
        groups = [name for name, entries in batch.get("next").items() if isinstance(entries, TensorDictBase)]
        return {
            f"collection/{group}/{name}": entry[has_ended].mean().item()
            for group in groups
            for name, entry in find_metrics(batch, group).items()
        }


def check_option_names(config_class: type, env_name: str, config: dict[str, Any]) -> None:
    """Check that a task's options are the fields of its dataclass.

    Raises:
        ValueError: if an option is unknown or missing.
    """
    names = [field.name for field in fields(config_class)]
    unknown, missing = set(config).difference(names), set(names).difference(config)
    if unknown:
        raise ValueError(f"task.{min(unknown)} is no option of {env_name}: choose from {', '.join(names)}.")
    if missing:
        raise ValueError(f"task.{min(missing)} is missing: every option of {env_name} needs a value.")


def select_entry(env: EnvBase, name: str, groups: Iterable[str] = (GROUP,)) -> Composite:
    """Select one entry from the observation spec of each group."""
    spec = env.full_observation_spec_unbatched
    seen = {group: Composite({name: spec[group][name].clone()}, shape=spec[group].shape) for group in groups}
    return Composite(seen, device=spec.device)
