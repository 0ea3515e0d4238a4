"""The tasks of this package, and how a task is built from a composed config."""

from __future__ import annotations

from benchmarl.environments import Task, TaskClass, task_config_registry
from benchmarl.hydra_config import load_task_config_from_hydra
from omegaconf import DictConfig

from benchmarl_himpo.environments.cue import CueConfig, CueTask
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.task import LbfTask, LbfwsTask

TASKS: dict[str, Task] = {f"{task.env_name()}/{task.name.lower()}": task for task in (*LbfTask, *LbfwsTask, *CueTask)}
"""The tasks of this package by their names on the command line."""
SCHEMAS = {"cue_config": CueConfig, "lbf_config": LbfConfig, "lbfws_config": LbfwsConfig}
"""What their YAML files are checked by, by name in Hydra's store."""


def load_task(cfg: DictConfig, name: str) -> TaskClass:
    """Build a task, BenchMARL's or ours.

    Args:
        cfg: the ``task`` node of a composed config.
        name: name of the task, such as ``vmas/sampling``.

    Returns:
        The task.

    Raises:
        ValueError: if an option of a task of ours is unknown or out of range.
    """
    # BenchMARL's loader would answer an unknown option of ours with a TypeError of its dataclass
    return task_config_registry[name].from_config(cfg) if name in TASKS else load_task_config_from_hydra(cfg, name)
