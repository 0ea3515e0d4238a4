"""Describe an experiment of BenchMARL as data, from its arguments or from the ``config.pkl`` of a run.

Loading a pickle may execute code. Here classes are only names: nothing in the file is imported or called, and the
result consists of strings, numbers and lists, checked like those of a ``run.yaml``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from benchmarl.algorithms import algorithm_config_registry
from benchmarl.environments import TaskClass, task_config_registry
from benchmarl.experiment import ExperimentConfig
from benchmarl.models import model_config_registry
from benchmarl.models.common import SequenceModelConfig

from benchmarl_himpo.config import yaml_folders
from benchmarl_himpo.environments import is_accelerated
from benchmarl_himpo.harness.runs.checkpoint import CheckpointError
from benchmarl_himpo.host.benchmarl_files import CONFIG_PARTS

PLACES = ("save_folder", "restore_file", "restore_map_location")
"""Options of the experiment that depend on the machine or folder; a continued run has its own."""

ERRORS = (OSError, EOFError, pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""Errors that a damaged or different file may cause."""


def read_benchmarl_config(file: Path) -> dict[str, Any]:
    """Convert the ``config.pkl`` of a run of BenchMARL's own experiment to the content of a ``run.yaml``.

    A task that is not registered is called ``<module>.<class>/<name>``.

    Raises:
        CheckpointError: if the file is damaged, or has a value that a command does not support.
    """
    try:
        described = describe_experiment(_read(file, len(CONFIG_PARTS) - 1))
    except CheckpointError as error:
        raise CheckpointError(f"{file} {error}") from error
    except ERRORS as error:
        raise CheckpointError(f"{file} is not the configuration of an experiment of BenchMARL ({error})") from error
    described["experiment"] = {key: v for key, v in described["experiment"].items() if key not in PLACES}
    return {**described, "accelerated": False}


def describe_experiment(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an experiment in the format of ``run.yaml``, without options that BenchMARL does not have.

    Args:
        parts: arguments of the experiment by the names in
            :data:`~benchmarl_himpo.host.benchmarl_files.CONFIG_PARTS`: objects, or their representations.

    Raises:
        CheckpointError: if the experiment has a value that a command does not support.
    """
    if _name(type(parts["experiment"])) != _name(ExperimentConfig):
        raise CheckpointError(f"has {_name(type(parts['experiment']))} where BenchMARL puts its ExperimentConfig")
    known = {field.name for field in fields(ExperimentConfig)}
    experiment = {key: value for key, value in vars(parts["experiment"]).items() if key in known}
    models = {node: _model(parts[node], node) for node in ("model", "critic_model")}
    return {
        "experiment": {key: _plain(value, f"experiment.{key}") for key, value in experiment.items()},
        "algorithm": _plain_attributes(parts["algorithm"], "algorithm"),
        "task": _plain(parts["task.config"], "task"),
        **models,
        "seed": _plain(parts["seed"], "seed"),
        "choices": {
            "experiment": "default",
            "algorithm": _registered(parts["algorithm"], "algorithm", algorithm_config_registry),
            "task": _task_name(parts["task"]),
            **_model_choices("model", "model", models["model"]),
            **_model_choices("model@critic_model", "critic_model", models["critic_model"]),
        },
    }


def is_known(group: str, name: str, *more: Path) -> bool:
    """Whether a file is in this package, a plug-in, BenchMARL or ``more``, and so available in later processes."""
    folder = group.partition("@")[0]
    return any((root / folder / f"{name}.yaml").is_file() for root in (*yaml_folders(), *more))


def own_callbacks(file: Path) -> list[str]:
    """Class names of the callbacks of BenchMARL's own experiment, without those of this package.

    Raises:
        CheckpointError: if the file, the ``config.pkl`` of the run, is damaged.
    """
    try:
        names = [_name(type(callback)) for callback in _read(file, len(CONFIG_PARTS))["callbacks"]]
    except ERRORS as error:
        raise CheckpointError(f"{file} cannot be read as far as the callbacks ({error})") from error
    return [name for name in names if not name.startswith("benchmarl_himpo.")]


class _Inert:
    """Placeholder for an object in the pickle: its class name and contents."""

    _arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any, **_: Any) -> _Inert:
        inert = super().__new__(cls)
        inert._arguments = arguments
        return inert

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


class _Reader(pickle.Unpickler):
    """Opens a pickle without loading any class or function that it names."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        return type(name, (_Inert,), {"__module__": module, "__qualname__": name})


def _read(file: Path, n_parts: int) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {part: _Reader(stream).load() for part in CONFIG_PARTS[:n_parts]}


def _name(class_: type) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def _plain(value: Any, place: str) -> Any:
    """Convert a value to types of YAML."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {_plain(key, place): _plain(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, f"{place}.{i}") for i, inner in enumerate(value)]
    if isinstance(value, type):
        return re.sub(r"^torch\.nn\.modules\.(\w+\.)+", "torch.nn.", _name(value))  # as YAML files name it
    if isinstance(value, (torch.device, Path)):
        return str(value)
    if _name(type(value)) == "torch.device":
        return ":".join(map(str, value._arguments))
    raise CheckpointError(
        f"has {place} of the class {_name(type(value))}, which commands do not support: load the run in Python, "
        "with benchmarl.experiment.Experiment.reload_from_file"
    )


def _plain_attributes(value: Any, place: str) -> dict[str, Any]:
    """The options of a configuration; BenchMARL keeps others in it, such as ``_is_critic``."""
    return {key: _plain(v, f"{place}.{key}") for key, v in vars(value).items() if not key.startswith("_")}


def _model(model: Any, place: str) -> dict[str, Any]:
    """The config node of a model, with the nodes of its layers if it is a sequence."""
    if _name(type(model)) != _name(SequenceModelConfig):
        return {"name": _registered(model, place, model_config_registry), **_plain_attributes(model, place)}
    layers = {f"l{i}": _model(layer, f"{place}.layers.l{i}") for i, layer in enumerate(model.model_configs, 1)}
    return {"layers": layers, "intermediate_sizes": _plain(model.intermediate_sizes, f"{place}.intermediate_sizes")}


def _model_choices(group: str, node: str, model: dict[str, Any]) -> dict[str, str]:
    """The config files of a model; the run's values replace the values of these files."""
    if "layers" not in model:
        file = f"layers/{model['name']}"
        return {group: file if is_known(group, file) else "layers/mlp"}
    layers = {f"model/layers@{node}.layers.{name}": layer["name"] for name, layer in model["layers"].items()}
    return {group: "sequence", **layers}


def _registered(config: Any, place: str, registry: dict[str, type]) -> str:
    """Name in the registry of the class of a configuration."""
    name = _name(type(config))
    for known, class_ in registry.items():
        if _name(class_) == name:
            return known
    raise CheckpointError(
        f"has {place} of the class {name}, which is not registered in this process: choose one of BenchMARL or this "
        f"package, or register it in BenchMARL's {place.removeprefix('critic_').partition('.')[0]}_config_registry, "
        "as a plug-in does"
    )


def _task_name(task: Any) -> str:
    """Name of a task on the command line, or else of its class."""
    if isinstance(task, TaskClass) and is_accelerated(task):  # the configuration says so by an option of its own
        return f"{task.env_name()}/{task.name.lower()}"
    name = _name(type(task))
    for known, entry in task_config_registry.items():
        if _name(entry.associated_class()) == name and known.partition("/")[2] == task.name.lower():
            return known
    return f"{name}/{task.name}"
