"""Identity of a run in a comparison, and the names that follow from it.

The *variant* identifies a method: the algorithm, with the differences from its default configuration. The *task label*
identifies what all methods of a comparison share: the task, its values, the kind of actions, the number of frames, the
evaluations. Two configurations that differ in an option that affects results, other than the seed, differ in one of the
two, so results of different methods are never averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from benchmarl.environments import task_config_registry
from benchmarl.hydra_config import load_algorithm_config_from_hydra
from benchmarl.models import model_config_registry
from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.harness.checks import model_names_of
from benchmarl_himpo.harness.composition import compose, config_dir
from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.harness.records.labels import BETWEEN, differing_keys, flatten, join_label
from benchmarl_himpo.harness.runs.benchmarl_config import is_known
from benchmarl_himpo.harness.runs.experiment_options import (
    OF_COMPARISONS,
    WITHOUT_EFFECT_ON_RESULTS,
    options_not_read,
)
from benchmarl_himpo.harness.runs.origin import identify_past
from benchmarl_himpo.harness.runs.run_config import (
    CHANGES,
    COMPUTATION,
    INIT_FROM,
    MODEL_GROUPS,
    NODES,
    RESTORE_FILE,
    choices_of_nodes,
    describe_changes,
)
from benchmarl_himpo.harness.runs.training import n_frames_of

SPEC_FILE = "spec.yaml"


@dataclass(frozen=True)
class RunSpec:
    """One run, before its start.

    Args:
        id: name of the run and of its folder, see :func:`run_id`.
        variant: label of the method, such as ``himppo[goal_interval=10,2]``.
        task_label: label of the task, such as ``vmas/sampling[n_agents=7]``.
        config: the resolved configuration, without paths and options that do not affect results.
        config_hash: SHA-256 of the canonical JSON of ``config`` without its seed, hex.
        fingerprint: see :mod:`benchmarl_himpo.harness.records.fingerprint`; None: unknown.
        n_frames: length of the run.
        overrides: overrides that compose the configuration, in Hydra's syntax.
        sweep_folder: parent of the run's folder, an absolute path.
        config_dir: the user's folder of YAML files, an absolute path; None: none.
        imports: modules that register the user's task, algorithm and models.
    """

    id: str
    variant: str
    task_label: str
    config: dict[str, Any]
    config_hash: str
    fingerprint: str | None
    n_frames: int
    overrides: list[str]
    sweep_folder: str
    config_dir: str | None = None
    imports: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder of the run, with its record, its ledger and, in a subfolder, BenchMARL's output."""
        return Path(self.sweep_folder) / self.id

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    def with_seed(self, seed: int, overrides: Sequence[str]) -> RunSpec:
        """The same run with another seed and the overrides that compose it."""
        config = {**self.config, "seed": seed}
        return replace(self, id=run_id(config), config=config, overrides=list(overrides))

    def choice(self, group: str) -> str:
        """File chosen for a group of Hydra's, such as ``algorithm``."""
        return str(self.config["choices"][group])

    def save(self) -> Path:
        """Write the spec into the folder of the run, and return the path."""
        file = self.folder / SPEC_FILE
        write_whole(file, yaml.safe_dump(asdict(self), sort_keys=False))
        return file


def load_spec(file: Path) -> RunSpec:
    """Read what :meth:`RunSpec.save` wrote."""
    return RunSpec(**yaml.safe_load(file.read_text()))


def make_spec(
    cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], sweep_folder: Path, fingerprint: str | None
) -> RunSpec:
    """Build the spec of a run; equal configurations have equal ids, independent of the order of keys.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        overrides: the overrides that compose the config.
        sweep_folder: parent of the run's folder.
        fingerprint: the numerics fingerprint; None: unknown.
    """
    config = comparable_config(cfg, choices)
    config_hash = hash_config(config)
    variant, task_label = label(config)
    return RunSpec(
        id=run_id(config),
        variant=variant,
        task_label=task_label,
        config=config,
        config_hash=config_hash,
        fingerprint=fingerprint,
        n_frames=n_frames_of(cfg),
        overrides=list(overrides),
        sweep_folder=str(sweep_folder.resolve()),
        config_dir=None if config_dir() is None else str(config_dir()),
        imports=_own_modules(cfg, choices),
    )


def _own_modules(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
    """Modules of the registered task, algorithm and models that are neither BenchMARL's nor this package's."""
    models = [model_config_registry.get(name) for node in MODEL_GROUPS for name in model_names_of(cfg[node])]
    used = [type(task_config_registry.get(choices["task"])), OmegaConf.get_type(cfg.algorithm), *models]
    modules = {class_.__module__ for class_ in used if class_ is not None}
    known = ("benchmarl", "benchmarl_himpo", "builtins")
    return sorted(name for name in modules if name.partition(".")[0] not in known)


def run_id(config: Mapping[str, Any]) -> str:
    """Name a run by its :func:`comparable_config`: ``<algorithm>-<task>-s<seed>-<hash>``, with ``_`` for ``/``."""
    choices = config["choices"]
    return f"{choices['algorithm']}-{choices['task']}-s{config['seed']}-{hash_config(config)[:8]}".replace("/", "_")


def comparable_config(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Resolve a config and keep only the options that affect results.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.

    Returns:
        Nested dicts of plain values, with the file chosen for each group under ``choices``; for a run that starts from
        another run's checkpoint, the checkpoint's digest under the option that names it; for a run that was resumed
        with other options, how it was trained before under ``changes``.

    Raises:
        CheckpointError: if ``init_from`` names no intact checkpoint.
    """
    kept = OmegaConf.masked_copy(cfg, list(NODES))
    config = cast("dict[str, Any]", OmegaConf.to_container(kept, resolve=True))
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    left_out = WITHOUT_EFFECT_ON_RESULTS | options_not_read(on_policy)
    config["experiment"] = {key: value for key, value in config["experiment"].items() if key not in left_out}
    config.update(identify_past(cfg))
    # What an experiment's file says is among its values
    config["choices"] = {g: name for g, name in choices_of_nodes(cfg, choices).items() if g != "experiment"}
    return config


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256, hex, of the canonical JSON of a :func:`comparable_config` without its seed."""
    content = {key: value for key, value in config.items() if key != "seed"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def label(config: Mapping[str, Any]) -> tuple[str, str]:
    """Labels of the differences between a :func:`comparable_config` and the default one of its algorithm and task.

    Returns:
        The label of the variant, and the label of the task.
    """
    choices = _known_choices(config["choices"])
    own = {group: name for group, name in choices.items() if _is_own_choice(group, choices)}
    usual = _plain(**{group: name for group, name in own.items() if group in ("algorithm", "task")})
    plain = usual if own.items() <= usual["choices"].items() else _plain(**own)  # composing takes half a second
    plain_task = plain["task"] if "task" in choices else {}
    variant = [f"{node}={name}" for node, name in _model_names(choices, usual["choices"])]
    variant += [f"{key}={value}" for key, value in _differences(config["algorithm"], plain["algorithm"])]
    variant += [f"{option}={config[option]}" for option in COMPUTATION if config[option] != plain[option]]
    for node in ("model", "critic_model"):
        variant += [f"{node}.{key}={value}" for key, value in _differences(config[node], plain[node])]
    variant += [f"{option}={config[option][:8]}" for option in (INIT_FROM, RESTORE_FILE) if option in config]
    variant += [text.replace(BETWEEN, ", ") for text in describe_changes(config.get(CHANGES, {}))]
    task = [f"{key}={value}" for key, value in _differences(config["task"], plain_task)]
    for key, value in _differences(config["experiment"], plain["experiment"]):
        if key in OF_COMPARISONS:
            task.append(f"{key}={value}")
        else:
            variant.append(f"experiment.{key}={value}")
    task += [f"accelerated={_text(config['accelerated'])}"] if config["accelerated"] != plain["accelerated"] else []
    return join_label(choices["algorithm"], variant), join_label(config["choices"]["task"], task)


def _known_choices(choices: Mapping[str, str]) -> dict[str, str]:
    """The choices of publicly available files; for a user's task, a label names every value."""
    return {group: name for group, name in choices.items() if group != "task" or is_known("task", name)}


@cache
def _plain(**choices: str) -> dict[str, Any]:
    """The configuration composed of files without overrides."""
    cfg = compose([f"{group}={name}" for group, name in choices.items()], return_hydra_config=True)
    return comparable_config(cfg, cfg.hydra.runtime.choices)


def _is_own_choice(group: str, choices: Mapping[str, str]) -> bool:
    """Whether a group's file is a choice of the user: layers are fixed by a model's file, except for ``sequence``."""
    _, _, node = group.partition("/layers@")
    return not node or choices[MODEL_GROUPS[node.partition(".")[0]]] == "sequence"


def _model_names(choices: Mapping[str, str], usual: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names of the models unless they are the usual ones; a single name if policy and critic have the same."""
    names, usual_names = (
        [_model_name(node, group, chosen) for node, group in MODEL_GROUPS.items()] for chosen in (choices, usual)
    )
    if names == usual_names:
        return []
    return list(zip(MODEL_GROUPS, names, strict=True))[: len(set(names))]


def _model_name(node: str, group: str, choices: Mapping[str, str]) -> str:
    layers = [name for inner, name in sorted(choices.items()) if inner.startswith(f"model/layers@{node}.")]
    return "+".join(layers) if choices[group] == "sequence" else choices[group].rpartition("/")[2]


def _differences(config: Mapping[str, Any], plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted keys whose values differ, and the values."""
    own = dict(flatten(config))
    for key in differing_keys(config, plain):
        yield key, _text(own.get(key))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(f"[{_text(entry)}]" if isinstance(entry, list) else _text(entry) for entry in value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
