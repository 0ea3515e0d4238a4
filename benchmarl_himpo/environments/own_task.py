"""What tasks of this package have in common: options from YAML that may inherit, checked by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from benchmarl.environments.common import Task, TaskClass
from omegaconf import DictConfig, OmegaConf
from torchrl.data import Composite

from benchmarl_himpo.config import compose


class OwnTask(Task):
    """Tasks whose YAML is in this package's ``conf/`` and may inherit."""

    def get_from_yaml(self, path: str | None = None) -> TaskClass:
        """Load the task's options, from YAML of this package unless a full path is given."""
        if path is None:
            return self.from_config(compose([f"task={self.env_name()}/{self.name.lower()}"]).task)
        return self.from_config(cast("DictConfig", OmegaConf.load(path)))

    def from_config(self, cfg: DictConfig) -> TaskClass:
        """Build the task from its node of a composed config."""
        return self.get_task(cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)))


def check_option_names(config_class: type, env_name: str, config: dict[str, Any]) -> None:
    """Check that a task's options are those of its class.

    Args:
        config_class: dataclass of the options.
        env_name: name of the environment, for the message.
        config: the options.

    Raises:
        ValueError: if an option is unknown or missing.
    """
    names = [field.name for field in fields(config_class)]
    unknown, missing = set(config).difference(names), set(names).difference(config)
    if unknown:
        raise ValueError(f"task.{min(unknown)} is no option of {env_name}: choose from {', '.join(names)}.")
    if missing:
        raise ValueError(f"task.{min(missing)} is missing: every option of {env_name} needs a value.")


def select_entry(spec: Composite, group: str, name: str) -> Composite:
    """One entry of the agents of a group, as a spec of its own."""
    agents = spec[group]
    return Composite({group: Composite({name: agents[name].clone()}, shape=agents.shape)}, device=spec.device)
