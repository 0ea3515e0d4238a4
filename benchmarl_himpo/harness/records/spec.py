"""What a run of a comparison is, and the names that follow from it and from nothing else.

The *variant* is what differs between the methods of a comparison: the algorithm, with whatever its configuration has
that the algorithm's plain one has not. The *task label* is what all methods of a comparison share: the task, its
values, the kind of actions, the number of frames, the evaluations. Two configurations that differ in anything that
shows in results but the seed differ in one of the two, so that nothing is averaged that should be compared.
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
from benchmarl_himpo.harness.records.labels import flatten, join_label
from benchmarl_himpo.harness.runs.benchmarl_config import is_known
from benchmarl_himpo.harness.runs.experiment_options import (
    OF_COMPARISONS,
    WITHOUT_EFFECT_ON_RESULTS,
    options_not_read,
)
from benchmarl_himpo.harness.runs.origin import identify_origin
from benchmarl_himpo.harness.runs.run_config import (
    COMPUTATION,
    INIT_FROM,
    MODEL_GROUPS,
    NODES,
    RESTORE_FILE,
    choices_of_nodes,
)
from benchmarl_himpo.harness.runs.training import n_frames_of

SPEC_FILE = "spec.yaml"


@dataclass(frozen=True)
class RunSpec:
    """One run, before it begins.

    Args:
        id: name of the run and of its folder, see :func:`run_id`.
        variant: label of the method, such as ``himppo[goal_interval=10,2]``.
        task_label: label of the task, such as ``vmas/sampling[n_agents=7]``.
        config: the resolved configuration, without what has no effect on results and without machine paths.
        config_hash: SHA-256 of the canonical JSON of ``config`` without its seed, hex.
        fingerprint: see :mod:`benchmarl_himpo.harness.records.fingerprint`; None: not taken.
        n_frames: length of the run.
        overrides: what the configuration is composed of again, in Hydra's syntax.
        sweep_folder: where the run's folder is, an absolute path.
        config_dir: folder of YAML files of the user's own, an absolute path; None: none.
        imports: modules of the user's own task, algorithm and models, which register them.
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
        """The folder of the run: its record, its ledger and, in a folder of its own, what BenchMARL writes."""
        return Path(self.sweep_folder) / self.id

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    def with_seed(self, seed: int, overrides: Sequence[str]) -> RunSpec:
        """The same run with another seed, which is composed of other overrides."""
        config = {**self.config, "seed": seed}
        return replace(self, id=run_id(config), config=config, overrides=list(overrides))

    def choice(self, group: str) -> str:
        """File chosen for a group of Hydra's, such as ``algorithm``."""
        return str(self.config["choices"][group])

    def save(self) -> Path:
        """Write the spec into the folder of the run, and give the path."""
        file = self.folder / SPEC_FILE
        write_whole(file, yaml.safe_dump(asdict(self), sort_keys=False))
        return file


def load_spec(file: Path) -> RunSpec:
    """Read what :meth:`RunSpec.save` wrote."""
    return RunSpec(**yaml.safe_load(file.read_text()))


def make_spec(
    cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], sweep_folder: Path, fingerprint: str | None
) -> RunSpec:
    """Name a run: the same id for the same configuration, whatever the order of its keys.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        overrides: what it was composed of.
        sweep_folder: where the run's folder is to be.
        fingerprint: the numerics fingerprint; None: not taken.
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
    """Resolve a config and keep what results depend on.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.

    Returns:
        Nested dicts of plain values, with the file chosen for each group under ``choices``; of a run that began from a
        checkpoint of another, the digest of that under the option that said so.

    Raises:
        CheckpointError: if ``init_from`` names no good checkpoint.
    """
    kept = OmegaConf.masked_copy(cfg, list(NODES))
    config = cast("dict[str, Any]", OmegaConf.to_container(kept, resolve=True))
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    left_out = WITHOUT_EFFECT_ON_RESULTS | options_not_read(on_policy)
    config["experiment"] = {key: value for key, value in config["experiment"].items() if key not in left_out}
    config.update(identify_origin(cfg))
    # What an experiment's file says is among its values
    config["choices"] = {g: name for g, name in choices_of_nodes(cfg, choices).items() if g != "experiment"}
    return config


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256, hex, of the canonical JSON of a :func:`comparable_config` without its seed."""
    content = {key: value for key, value in config.items() if key != "seed"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def label(config: Mapping[str, Any]) -> tuple[str, str]:
    """Say how a :func:`comparable_config` differs from the plain one of its algorithm on its task.

    Returns:
        The label of the variant, and the label of the task.
    """
    choices = _known_choices(config["choices"])
    plain = _plain(**{group: name for group, name in choices.items() if _is_own_choice(group, choices)})
    plain_task = plain["task"] if "task" in choices else {}
    variant = [f"{node}={name}" for node, name in _model_names(choices)]
    variant += [f"{key}={value}" for key, value in _differences(config["algorithm"], plain["algorithm"])]
    variant += [f"{option}={config[option]}" for option in COMPUTATION if config[option] != plain[option]]
    for node in ("model", "critic_model"):
        variant += [f"{node}.{key}={value}" for key, value in _differences(config[node], plain[node])]
    variant += [f"{option}={config[option][:8]}" for option in (INIT_FROM, RESTORE_FILE) if option in config]
    task = [f"{key}={value}" for key, value in _differences(config["task"], plain_task)]
    for key, value in _differences(config["experiment"], plain["experiment"]):
        if key in OF_COMPARISONS:
            task.append(f"{key}={value}")
        else:
            variant.append(f"experiment.{key}={value}")
    task += [f"accelerated={_text(config['accelerated'])}"] if config["accelerated"] != plain["accelerated"] else []
    return join_label(choices["algorithm"], variant), join_label(config["choices"]["task"], task)


def _known_choices(choices: Mapping[str, str]) -> dict[str, str]:
    """The choices whose files everybody has: of a task of the user's own, a label names every value."""
    return {group: name for group, name in choices.items() if group != "task" or is_known("task", name)}


@cache
def _plain(**choices: str) -> dict[str, Any]:
    """The configuration that only names files."""
    cfg = compose([f"{group}={name}" for group, name in choices.items()], return_hydra_config=True)
    return comparable_config(cfg, cfg.hydra.runtime.choices)


def _is_own_choice(group: str, choices: Mapping[str, str]) -> bool:
    """Whether somebody has to choose: the layers of a model are its file's, but those of ``sequence`` are open."""
    _, _, node = group.partition("/layers@")
    return not node or choices[MODEL_GROUPS[node.partition(".")[0]]] == "sequence"


def _model_names(choices: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name the models where they are not the usual ones, once where policy and critic have the same."""
    usual = _plain(**{group: name for group, name in choices.items() if group in ("algorithm", "task")})["choices"]
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
    own, other = dict(flatten(config)), dict(flatten(plain))
    for key in sorted(own.keys() | other.keys()):
        if own.get(key, ...) != other.get(key, ...):
            yield key, _text(own.get(key))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(f"[{_text(entry)}]" if isinstance(entry, list) else _text(entry) for entry in value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
