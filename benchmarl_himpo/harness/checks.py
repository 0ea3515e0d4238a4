"""Checks of a run's configuration before anything is built; errors name the option and the fix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple

import torch
from benchmarl.environments import PettingZooTask, Smacv2Task, Task, task_config_registry
from benchmarl.experiment import ExperimentConfig
from omegaconf import DictConfig
from packaging.specifiers import SpecifierSet

from benchmarl_himpo.environments.pettingzoo.task import MpeTask, OwnParallelTask, SislTask
from benchmarl_himpo.environments.smacv2 import missing_game
from benchmarl_himpo.environments.smax.task import SmaxTask
from benchmarl_himpo.environments.traffic.environment import NEEDED as TRAFFIC_MODULES
from benchmarl_himpo.environments.traffic.task import TrafficTask

LOGGERS = {
    "csv": None,
    "wandb": "pip install 'benchmarl_himpo[wandb]'",
    "tensorboard": "pip install 'benchmarl_himpo[tensorboard]'",
    "mlflow": "pip install mlflow",
    "trackio": "pip install trackio",
}
"""Every logger with the command that installs it; the package has the logger's name. ``None``: nothing to install."""


class Need(NamedTuple):
    """A package that a task needs in addition to this package's dependencies."""

    module: str
    fits: str  # versions that work, as pip writes them; "" for all
    install: str  # what pip is told
    distribution: str = ""  # what pip calls it, where it is not the module's name
    unless: tuple[str, str] | None = None  # variable of the environment and its value with which any version works


_PYGAME = Need("pygame", "", "pygame")
_EXTRA = "benchmarl_himpo[pettingzoo]"
_PETTINGZOO = Need("pettingzoo", ">=1.25", _EXTRA)
TASK_NEEDS: dict[type[Task] | Task, tuple[Need, ...]] = {
    # TorchRL does not find the MPE tasks of 1.26, which has no waterworld, and cannot import 1.27, whatever the task;
    # waterworld fails with numpy 2 in 1.24, and with pymunk 7 in 1.25
    PettingZooTask: (Need("pettingzoo", "<1.26", "pettingzoo==1.25.0"), _PYGAME),
    PettingZooTask.MULTIWALKER: (
        Need("pettingzoo", "<1.27", "pettingzoo==1.25.0"),
        _PYGAME,
        Need("Box2D", "", "box2d==2.3.10"),
    ),
    PettingZooTask.WATERWORLD: (
        Need("pettingzoo", ">=1.25,<1.26", "pettingzoo==1.25.0"),
        _PYGAME,
        Need("pymunk", "<7", "pymunk<7"),
    ),
    # Beside the game, see environments/smacv2.py; its protocol is compiled for an older protobuf
    Smacv2Task: (
        Need("smacv2", "", "git+https://github.com/oxwhirl/smacv2"),
        Need(
            "google.protobuf",
            "<3.21",
            "protobuf<3.21",
            distribution="protobuf",
            unless=("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python"),
        ),
    ),
    MpeTask: (_PETTINGZOO, Need("mpe2", "", _EXTRA)),
    SislTask: (_PETTINGZOO, Need("pygame", "", _EXTRA), Need("Box2D", "", _EXTRA)),
    OwnParallelTask: (_PETTINGZOO,),
    SmaxTask: (Need("jaxmarl", ">=0.2,<0.3", "benchmarl_himpo[smax]"), Need("jax", "", "benchmarl_himpo[smax]")),
    TrafficTask: tuple(Need(module, "", "benchmarl_himpo[traffic]") for module in TRAFFIC_MODULES),
}
"""Requirements of tasks, by task or environment: of ours, and of BenchMARL's whose own errors are unclear."""
OURS_INSTEAD = {
    task: f"{ours.env_name()}/{ours.name.lower()}"
    for task in PettingZooTask
    for ours in (*MpeTask, *SislTask)
    if ours.name == task.name
}
"""Our tasks with the same simulation as a task of BenchMARL, by the latter's name."""


class RequestError(ValueError):
    """A configuration that is not supported; the message names the option and the fix."""


def check_request(config: ExperimentConfig, on_policy: bool, task_name: str, model_names: set[str]) -> None:
    """Check that a run's options are consistent, and that devices and packages are available.

    Args:
        config: the experiment's configuration, resolved.
        on_policy: whether the algorithm is on-policy, which determines the options in use.
        task_name: name of the task as on the command line, such as ``vmas/sampling``.
        model_names: names of all models in use, such as ``{"mlp"}``; see :func:`model_names_of`.

    Raises:
        RequestError: if options disagree, or a device or a package is missing.
    """
    check_task(task_name)
    _check_batches(config, on_policy)
    for option in ("sampling_device", "train_device", "buffer_device"):
        _check_device(option, getattr(config, option))
    for logger in config.loggers:
        _check_logger(logger)
    # wandb and TensorBoard encode films with moviepy; TensorBoard drops them where it lacks a module that 2.0 removed
    if config.render and {"wandb", "tensorboard"} & set(config.loggers) and not is_installed("moviepy.editor"):
        raise RequestError(
            "experiment.render=true needs moviepy below 2 for the loggers wandb and tensorboard: pip install "
            "'benchmarl_himpo[render]', or choose experiment.render=false."
        )
    if "gnn" in model_names and not is_installed("torch_geometric"):
        raise RequestError(
            "a gnn in model or critic_model needs torch_geometric, which is not installed: pip install "
            "'benchmarl_himpo[gnn]', or choose model=layers/mlp."
        )


def check_processes(task_name: str, n_envs: Mapping[str, int]) -> None:
    """Check the number of environments of a task that runs each in a process, limited by ``max_envs`` of its class.

    Args:
        task_name: name of the task as on the command line.
        n_envs: requested number of environments, by option.

    Raises:
        RequestError: if an option exceeds the limit.
    """
    task = task_config_registry.get(task_name)
    most = None if task is None else getattr(task.associated_class(), "max_envs", None)
    for option, n in n_envs.items():
        if most is not None and n > most:
            raise RequestError(
                f"{option}={n} is too many environments, because each is a process in task={task_name}: choose "
                f"{most} at most, or a preset such as experiment=traffic (a command's episodes=... count too)."
            )


def check_absolute_metric(config: ExperimentConfig, n_episodes: int) -> None:
    """Check that a run keeps its best policy, if the absolute metric is requested.

    Raises:
        RequestError: if the number of episodes is invalid, or no option selects or keeps the best policy.
    """
    if isinstance(n_episodes, bool) or not isinstance(n_episodes, int) or n_episodes < 0:
        raise RequestError(
            f"absolute_metric_episodes={_as_written(n_episodes)} must be a whole number: 0 (off) or more."
        )
    if n_episodes and not (config.evaluation and (config.loggers or config.create_json)):
        raise RequestError(
            "absolute_metric_episodes plays the policy of the best evaluation, and none takes place: choose "
            "experiment.evaluation=true and experiment.create_json=true, or absolute_metric_episodes=0."
        )
    if n_episodes and not config.checkpoint_at_end:
        raise RequestError(
            "absolute_metric_episodes takes the best policy from the last checkpoint: choose "
            "experiment.checkpoint_at_end=true, or absolute_metric_episodes=0."
        )


def check_sweep(config: DictConfig) -> None:
    """Check that a run of a sweep, given by its ``experiment`` node, writes all data of its record and can be resumed.

    Raises:
        RequestError: if an option prevents this.
    """
    needed = {"create_json": True, "checkpoint_at_end": True, "restore_file": None, "save_folder": None}
    for option, value in needed.items():
        if config[option] != value:
            given, good = (_as_written(entry) for entry in (config[option], value))
            raise RequestError(f"experiment.{option}={given} does not go with a sweep: leave it at {good}.")
    if "csv" not in config.loggers:
        raise RequestError(f"experiment.loggers={list(config.loggers)} lacks csv, which a sweep reads: add it.")


def _as_written(value: object) -> str:
    """A value in the notation of the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def describe_lack_of_record(config: DictConfig) -> str | None:
    """Option of an ``experiment`` node that prevents a record of the run; None if there is none."""
    if "csv" not in config.loggers:
        return f"experiment.loggers={list(config.loggers)} lacks csv, which it is read from"
    if config.evaluation and not config.create_json:
        return "experiment.create_json=false keeps no returns of evaluations, which it is read from"
    return None


def model_names_of(model: DictConfig) -> Iterator[str]:
    """Yield the name, as in BenchMARL's registry, of a model of a composed config, or of each layer of a sequence."""
    for layer in model.get("layers", {"": model}).values():
        yield layer["name"]


def needs_of_task(name: str) -> tuple[Need, ...]:
    """Packages that a task needs in addition to this package's dependencies; none for unknown tasks."""
    task = task_config_registry.get(name)
    return TASK_NEEDS.get(task, TASK_NEEDS.get(type(task), ()))


def check_task(name: str) -> None:
    """Check that a task's packages, in supported versions, and its game are installed.

    Args:
        name: name of the task, such as ``"pettingzoo/multiwalker"``.

    Raises:
        RequestError: if one is missing; the message names what to install.
    """
    task = task_config_registry.get(name)
    unmet = {need: found for need in needs_of_task(name) if (found := _unmet(need))}
    lacks = [f"{need.distribution or need.module}{need.fits} ({found})" for need, found in unmet.items()]
    install = " ".join(dict.fromkeys(f"'{need.install}'" for need in unmet))
    instead = "".join(f" (or set {'='.join(need.unless)} instead of {need.install})" for need in unmet if need.unless)
    ours = OURS_INSTEAD.get(task) if "pettingzoo" in {need.module for need in unmet} else None
    if ours is not None:
        instead += f", or choose task={ours}, which runs with the newest: pip install '{_EXTRA}'"
    game = missing_game() if isinstance(task, Smacv2Task) else {}
    if lacks or game:
        remedies = [f"pip install {install}{instead}"] if unmet else []
        raise RequestError(f"task={name} needs {', '.join([*lacks, *game])}: {'; '.join([*remedies, *game.values()])}.")


def _unmet(need: Need) -> str:
    """Problem with a required package; empty if it is installed in a supported version."""
    if need.unless is not None and os.environ.get(need.unless[0]) == need.unless[1]:
        return ""
    if not is_installed(need.module):
        return "not installed"
    try:
        found = version(need.distribution or need.module)
    except PackageNotFoundError:
        return ""  # installed under another name, so of no version that is known
    return "" if SpecifierSet(need.fits).contains(found, prereleases=True) else f"{found} is installed"


def is_installed(module: str) -> bool:
    """Whether a module can be imported; a folder of its name, such as the ``wandb`` that wandb leaves, is none."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # nor is the package that it is in
        return False
    return spec is not None and spec.origin is not None


def _check_batches(config: ExperimentConfig, on_policy: bool) -> None:
    """Check that evaluations and checkpoints fall on the end of an iteration."""
    policy = "on_policy" if on_policy else "off_policy"
    frames = f"{policy}_collected_frames_per_batch"
    batch = f"{policy}_minibatch_size" if on_policy else f"{policy}_train_batch_size"
    for option in (frames, f"{policy}_n_envs_per_worker", batch, "evaluation_episodes"):
        if getattr(config, option) < 1:
            raise RequestError(f"experiment.{option}={getattr(config, option)} must be 1 or more.")
    if config.evaluation and config.evaluation_interval < 1:
        raise RequestError(
            f"experiment.evaluation_interval={config.evaluation_interval} must be positive: choose "
            "experiment.evaluation=false for no evaluations."
        )
    multiples = [(frames, f"{policy}_n_envs_per_worker"), ("checkpoint_interval", frames)]
    if config.evaluation:
        multiples.append(("evaluation_interval", frames))
    for option, unit_option in multiples:
        count, unit = getattr(config, option), getattr(config, unit_option)
        if count % unit != 0:
            raise RequestError(
                f"experiment.{option}={count} is not a multiple of experiment.{unit_option}={unit}:"
                f" choose {-(-count // unit) * unit}, or change the other."
            )


def _check_device(option: str, name: str) -> None:
    """Check that a tensor can be made on the device that an option of the experiment names."""
    if option == "buffer_device" and name == "disk":
        return
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RequestError(
            f"experiment.{option}={name} cannot be used on this machine: choose cpu, a CUDA device "
            f"that exists ({torch.cuda.device_count()} found), or leave the option out."
        ) from error


def _check_logger(name: str) -> None:
    """Check that a logger exists and that its package is installed."""
    if name not in LOGGERS:
        raise RequestError(f"experiment.loggers has the unknown logger {name!r}: choose from {', '.join(LOGGERS)}.")
    install = LOGGERS[name]
    if install is not None and not is_installed(name):
        raise RequestError(
            f"experiment.loggers asks for {name}, which is not installed: {install}, "
            f"or leave it out with experiment.loggers=[csv]."
        )
