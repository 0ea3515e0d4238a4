"""Undocumented parts of BenchMARL's objects; its files are in ``benchmarl_files.py``."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from benchmarl.algorithms.common import Algorithm
from benchmarl.experiment import Experiment
from torchrl.envs import EnvBase
from torchrl.record.loggers import Logger

from benchmarl_himpo.host.hook import Hook

_WRITTEN_FOR = "nothing: BenchMARL documents that one overrides it"
HOOKS = (
    Hook(Experiment, "_setup_name", (), "locks the folder of the run", "a hook before the folder is written to"),
    Hook(Experiment, "_setup_task", (), "seeds the test environment", "a seed of evaluations' own"),
    Hook(
        Experiment, "_setup_algorithm", (), "wraps `env_func`", "a hook that takes the training environment's builder"
    ),
    Hook(Experiment, "_setup_collector", (), "remembers the simulations as they were built", "on_setup before a step"),
    Hook(Experiment, "_collection_loop", (), "sets random numbers after `run` seeded anew", "on_collection_start"),
    Hook(Experiment, "_optimizer_loop", ("group",), "replays updates", "an update that can be replaced"),
    Hook(Experiment, "_evaluation_loop", (), "gives evaluations random numbers of their own", "a seed of evaluations"),
    Hook(Experiment, "_save_experiment", (), "writes checkpoints whole, with a checksum", "on_checkpoint(path)"),
    Hook(Experiment, "_load_experiment", (), "checks a checkpoint before it is loaded", "on_checkpoint_load(path)"),
    Hook(Algorithm, "_get_loss", ("group", "policy_for_loss", "continuous"), "the loss", _WRITTEN_FOR),
    Hook(Algorithm, "_get_parameters", ("group", "loss"), "what each optimiser trains", _WRITTEN_FOR),
    Hook(Algorithm, "_get_policy_for_loss", ("group", "model_config", "continuous"), "the policy", _WRITTEN_FOR),
    Hook(
        Algorithm,
        "_get_policy_for_collection",
        ("policy_for_loss", "group", "continuous"),
        "the policy that collects",
        _WRITTEN_FOR,
    ),
)
"""Methods of BenchMARL with private names that classes of this package override."""

EXPERIMENT_ATTRIBUTES = tuple(
    """
    action_spec algorithm algorithm_config algorithm_name callbacks collector config critic_model_config env_func
    environment_name folder_name group_map group_policies logger losses max_steps mean_return model_config
    n_iters_performed observation_spec optimizers policy replay_buffers seed state_spec task task_name test_env
    total_frames total_time train_group_map
    """.split()
)
"""Attributes of ``Experiment`` that this package reads.

BenchMARL does not document them, but passes the experiment to callbacks and algorithms for this purpose. Documentation
would replace this list.
"""


def experiment_loggers(experiment: Experiment) -> list[Logger]:
    """TorchRL's loggers of an experiment, one for each of ``config.loggers``.

    Needed to find the CSV logger. ``Logger.loggers`` is not documented. Callbacks that receive the loggers would
    replace this.
    """
    loggers: list[Logger] = experiment.logger.loggers
    return loggers


def evaluations_to_write(experiment: Experiment) -> dict[str, Any] | None:
    """Content of an experiment's JSON file at the next evaluation, to be changed in place; None without a file.

    Needed because a resumed experiment starts a new file. ``JsonWriter.run_data`` is not documented. A writer that
    continues an existing file would replace this. The content is the second part of the result of
    :func:`~benchmarl_himpo.host.benchmarl_files.read_run_json`.
    """
    writer = experiment.logger.json_writer
    return None if writer is None else writer.run_data


def training_env(experiment: Experiment) -> EnvBase:
    """The environment in which a set-up experiment collects.

    Needed for its random numbers and its simulation. ``rollout_env`` and ``collector.env`` are not documented. An
    attribute ``train_env`` like ``test_env`` would replace this.
    """
    env: EnvBase = experiment.rollout_env if experiment.config.collect_with_grad else experiment.collector.env
    return env


def offer_type_check(task_name: str, options: type) -> None:
    """Register the dataclass of a task's options for BenchMARL's loader, which warns without one.

    Needed because the loader looks for a module inside BenchMARL's own package, named like the task. A ``TaskClass``
    that names its dataclass would replace this.
    """
    name = f"benchmarl.environments.{task_name.replace('/', '.')}"
    module = ModuleType(name, "Options of a task of benchmarl_himpo.")
    vars(module)["TaskConfig"] = options
    sys.modules.setdefault(name, module)
