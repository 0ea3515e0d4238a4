"""The tasks of this package, and how a task is built from a composed config."""

from __future__ import annotations

import sys
from inspect import signature
from typing import Any, cast

from benchmarl.environments import Task, TaskClass, task_config_registry
from benchmarl.hydra_config import load_task_config_from_hydra
from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.environments.cue import CueTask
from benchmarl_himpo.environments.lbf.task import LbfTask, LbfwsTask
from benchmarl_himpo.environments.own_task import OwnTask
from benchmarl_himpo.environments.pettingzoo.task import MpeTask, OwnParallelTask, SislTask
from benchmarl_himpo.environments.smax.task import SmaxTask
from benchmarl_himpo.environments.traffic.task import TrafficTask

TASKS: dict[str, Task] = {
    f"{task.env_name()}/{task.name.lower()}": task
    for task in (*LbfTask, *LbfwsTask, *CueTask, *MpeTask, *SislTask, *OwnParallelTask, *SmaxTask, *TrafficTask)
}
"""The tasks of this package by their names on the command line."""


def load_task(cfg: DictConfig, name: str) -> TaskClass:
    """Build a task of BenchMARL, of this package, of a plug-in or of the user.

    Args:
        cfg: the ``task`` node of a composed config.
        name: name of the task, such as ``vmas/sampling``; or ``<module>.<class>/<name>`` for a task that a program
            passed to an experiment without registering it.

    Returns:
        The task.

    Raises:
        ValueError: if the task is not registered in this process, or an option is invalid.
    """
    task = task_config_registry.get(name)
    if isinstance(task, OwnTask):
        # BenchMARL's loader would raise a TypeError of the dataclass for an unknown option
        return task.from_config(cfg)
    if task is not None:
        return load_task_config_from_hydra(cfg, name)
    class_name, _, inner_name = name.partition("/")
    task_class = _find_class(class_name)
    if task_class is not None:
        return _build(task_class, inner_name, cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)))
    if "." in class_name:
        raise ValueError(
            f"the run's task is of the class {class_name}, which this process has not imported: import its module and "
            f"call the command's main(), as in python -c 'import {class_name.rpartition('.')[0]}; "
            "from benchmarl_himpo.evaluate import main; main()' RUN_DIR"
        )
    raise ValueError(
        f"task={name} is not registered in this process: import the module that adds it to "
        "benchmarl.environments.task_config_registry and call the command's main(), as in python -c 'import my_tasks; "
        "from benchmarl_himpo.run import main; main()' ..., or install the plug-in that has it"
    )


def _build(task_class: type[TaskClass], name: str, config: dict[str, Any]) -> TaskClass:
    """Build a task as BenchMARL does, also if its class has another constructor."""
    try:
        signature(task_class).bind(name, config)
    except TypeError:
        task: TaskClass = object.__new__(task_class)
        TaskClass.__init__(task, name, config)
        return task
    return task_class(name, config)


def _find_class(name: str) -> type[TaskClass] | None:
    """Find a task class among the imported modules; names in files never trigger an import."""
    module, _, attribute = name.rpartition(".")
    found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, TaskClass) else None
