"""Identity of a checkpoint: what an experiment must share with the one that wrote it to continue from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarl_himpo import __version__
from benchmarl_himpo.harness.runs.checkpoint import CheckpointError
from benchmarl_himpo.harness.runs.experiment_options import WITHOUT_EFFECT_ON_ITERATIONS
from benchmarl_himpo.host.benchmarl_files import loss_key

if TYPE_CHECKING:
    from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment

IDENTITY = "identity"
"""Key of the identity in a checkpoint; BenchMARL's own checkpoints lack it."""
COMPARED = ("version of benchmarl_himpo", "task", "algorithm", "architecture")
"""Entries of the identity that must equal the experiment's."""
TASK_OPTIONS = "task options"
"""Entry of the identity with the task's options by name, which older checkpoints lack."""
Shapes = Mapping[tuple[str, str], tuple[int, ...]]
"""Shapes of the tensors in the states of losses, by group and name."""


def identify(experiment: ResumableExperiment) -> dict[str, Any]:
    """Identity of an experiment's checkpoints: the entries :data:`COMPARED`, and the options of its task."""
    task = experiment.task
    return {
        "version of benchmarl_himpo": __version__,
        "task": f"{experiment.environment_name}/{experiment.task_name} with {_digest(task.config)}",
        "algorithm": experiment.algorithm_name,
        "architecture": _digest([(*key, shape) for key, shape in _own_shapes(experiment).items()]),
        TASK_OPTIONS: {key: repr(value) for key, value in (task.config or {}).items()},
    }


def check_identity(path: Path, state: Any, experiment: ResumableExperiment) -> None:
    """Check that an experiment can continue from the content of a checkpoint.

    Raises:
        CheckpointError: if the version, task, algorithm or architecture is another, with the first difference.
    """
    found = state.get(IDENTITY, {}) if isinstance(state, dict) else {}
    own = identify(experiment)
    for name in COMPARED:
        if found.get(name) == own[name]:
            continue
        shapes = _shapes({group: state.get(loss_key(group), {}) for group in experiment.losses})
        difference = _first_difference(shapes, _own_shapes(experiment)) if name == "architecture" else ""
        raise CheckpointError(
            f"{path} was written with another {name} ({difference or _describe_mismatch(name, found, own)}) and was "
            "not loaded: resume it with the original one"
        )


def digest_settings(experiment: ResumableExperiment) -> str:
    """Digest of all options that affect an iteration, without length of the run, output and evaluation."""
    config, algorithm = experiment.config, experiment.algorithm
    options = {k: v for k, v in _options(config).items() if k not in WITHOUT_EFFECT_ON_ITERATIONS}
    options["annealed"] = None if experiment.on_policy else config.get_exploration_anneal_frames(experiment.on_policy)
    if getattr(algorithm, "annealed_options", ()):
        options["annealed"] = config.get_max_n_frames(experiment.on_policy)
    configs = (experiment.algorithm_config, experiment.model_config, experiment.critic_model_config)
    # Nothing at the defaults, so that checkpoints from before there were these options agree
    execution = (experiment.matmul_precision, experiment.update_step)
    changed = [option for option in execution if option not in ("highest", "eager")]
    return _digest([options, [_options(config) for config in configs], experiment.seed, *changed])


def _describe_mismatch(name: str, found: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Name what differs between two identities, the checkpoint's value first."""
    other, value = (str(identity.get(name)).partition(" with ")[0] for identity in (found, own))
    if name != "task" or other != value:
        return f"{other} instead of {value}"
    if TASK_OPTIONS not in found:
        return f"{value} with other options, which this checkpoint, of an older version, does not name"
    options = [f"task.{key}={o} instead of {v}" for key, o, v in _differences(found[TASK_OPTIONS], own[TASK_OPTIONS])]
    return ", ".join(options) or f"the options of {value} in another order"


def _first_difference(found: Shapes, own: Shapes) -> str:
    """Name the first parameter with another shape; empty if there is none."""
    for parameter, other, value in _differences(found, own):
        return f"{' '.join(parameter)} has shape {other} instead of {value}"
    return ""


def _own_shapes(experiment: ResumableExperiment) -> Shapes:
    return _shapes({group: loss.state_dict() for group, loss in experiment.losses.items()})


def _shapes(losses: Mapping[str, Mapping[str, Any]]) -> Shapes:
    return {
        (group, key): tuple(value.shape)
        for group, loss in losses.items()
        for key, value in sorted(loss.items())
        if isinstance(value, torch.Tensor)
    }


def _differences(found: Mapping[Any, Any], own: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the keys whose values differ, with both values; a missing value is ``missing``."""
    for key in [*own, *(key for key in found if key not in own)]:
        if found.get(key) != own.get(key):
            yield key, found.get(key, "missing"), own.get(key, "missing")


def _options(config: Any) -> dict[str, Any]:
    """Options of a configuration, with integers converted to floats as in YAML."""
    floats = {field.name for field in fields(config) if "float" in str(field.type)}
    return {k: float(v) if k in floats and type(v) is int else v for k, v in vars(config).items()}


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
