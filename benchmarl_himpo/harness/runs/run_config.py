"""The configuration of a run, saved as YAML in its folder and composed from it again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml
from benchmarl.algorithms import algorithm_config_registry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from benchmarl_himpo.harness.composition import check_changes, compose, config_dir
from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.harness.runs.benchmarl_config import is_known, read_benchmarl_config
from benchmarl_himpo.harness.runs.checkpoint import CONFIG_FILE, CheckpointError, is_of_benchmarl
from benchmarl_himpo.harness.runs.experiment_options import WITHOUT_EFFECT_ON_ITERATIONS
from benchmarl_himpo.harness.runs.older_configs import update_config
from benchmarl_himpo.host import benchmarl_files as host_files

TRUSTED_CLASSES = ("torch.nn.", "torch_geometric.nn.")
"""Prefixes of class names that a configuration may import without confirmation."""
COMPUTATION = ("matmul_precision", "update_step")
"""Nodes of a configuration that define the execution of a run, not its content."""
NODES = (
    "experiment",
    "algorithm",
    "task",
    "model",
    "critic_model",
    "seed",
    "accelerated",
    "absolute_metric_episodes",
    *COMPUTATION,
)
"""What a configuration consists of."""
MODEL_GROUPS = {"model": "model", "critic_model": "model@critic_model"}
"""Hydra's config groups of the model nodes."""
ORIGIN = "origin"
"""Node of runs that started from another run's checkpoint, see :class:`Origin`."""
CHANGES = "changes"
"""Node of runs that were resumed with other options, see :func:`changed_options`."""
INIT_FROM = "init_from"
"""Option of a run that loads only the weights."""
RESTORE_FILE = "restore_file"
"""Option of the experiment with which a new run continues from another run's checkpoint."""


@dataclass(frozen=True)
class Origin:
    """Checkpoint of another run from which a run started, without paths.

    Args:
        option: :data:`INIT_FROM` or :data:`RESTORE_FILE`.
        run: name of the other run's folder; of the file, if it is in no run's folder.
        frames: frames that the checkpoint was trained for.
        sha256: digest of the checkpoint's content, hex.
    """

    option: str
    run: str
    frames: int
    sha256: str

    def __str__(self) -> str:
        what = "weights alone" if self.option == INIT_FROM else "everything"
        return f"{self.run} at {self.frames:,} frames ({what})"


def save_run_config(
    cfg: DictConfig,
    choices: dict[str, str],
    folder: Path,
    origin: Origin | None = None,
    changes: Mapping[str, dict[int, Any]] = MappingProxyType({}),
) -> None:
    """Write the configuration of a run into its folder, with its origin and its :func:`changed_options`."""
    saved = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(NODES)), resolve=True))
    saved["experiment"]["restore_file"] = None  # a continued run has its own checkpoints
    saved["choices"] = choices_of_nodes(cfg, choices)
    if origin is not None:
        saved[ORIGIN] = asdict(origin)
    if changes:
        saved[CHANGES] = dict(changes)
    write_whole(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(saved)))


def changed_options(run: Path, cfg: DictConfig, n_frames: int) -> dict[str, dict[int, Any]]:
    """Find the options of a run that continues whose present value is not that of the whole run.

    Args:
        run: the folder of the run, with the configuration so far.
        cfg: the config with which it continues.
        n_frames: frames at which it continues, less than it was trained for if it goes back.

    Returns:
        The former values of every such option that affects training, by the frames up to which they were in effect.
    """
    file = run / CONFIG_FILE
    if not file.is_file():
        return {}
    old = update_config(cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file))))
    new = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, list(NODES)), resolve=True))
    before, now = _options_of_training(old), _options_of_training(new)
    changes = {}
    for option in sorted(before.keys() & now.keys()):
        former = old.get(CHANGES, {}).get(option, {})
        kept = {frames: value for frames, value in former.items() if frames < n_frames}
        value = next((former[frames] for frames in sorted(former) if frames >= n_frames), before[option])
        former = kept if value == now[option] else {**kept, n_frames: value}
        if former:
            changes[option] = former
    return changes


def _options_of_training(saved: dict[str, Any]) -> dict[str, Any]:
    """Options that affect training, by their dotted names."""
    options: dict[str, Any] = {}
    for node in (node for node in NODES if node in saved):
        value = saved[node]
        options |= (
            {f"{node}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {node: value}
        )
    without = {f"experiment.{name}" for name in WITHOUT_EFFECT_ON_ITERATIONS} | {"absolute_metric_episodes"}
    return {name: value for name, value in options.items() if name not in without}


def read_changes(run: Path) -> dict[str, dict[int, Any]]:
    """Read the :func:`changed_options` of the run in a folder; empty if there are none."""
    file = run / CONFIG_FILE
    saved = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file))) if file.is_file() else {}
    return cast("dict[str, dict[int, Any]]", saved.get(CHANGES, {}))


def describe_changes(changes: Mapping[str, Mapping[Any, Any]]) -> list[str]:
    """Describe :func:`changed_options`, an entry for every former value."""
    return [
        f"{option} was {value} up to {int(frames):,} frames"
        for option, former in changes.items()
        for frames, value in former.items()
    ]


def choices_of_nodes(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, str]:
    """Files from which a config can be composed again, with its own values on top.

    Hydra's own groups and protocols, whose values are in the nodes, are left out. A file of the user, which may be
    missing later, is replaced by a compatible file of this package, a plug-in or BenchMARL.
    """
    chosen = {group: name for group, name in choices.items() if not group.startswith(("hydra/", "protocol"))}
    own = [node for node, group in MODEL_GROUPS.items() if not is_known(group, chosen.get(group, ""))]
    layers_of_own = tuple(f"model/layers@{node}." for node in own)
    return {
        group: name if is_known(group, name) else _known_instead(group, name, cfg)
        for group, name in chosen.items()
        if not group.startswith(layers_of_own)
    }


def _known_instead(group: str, name: str, cfg: DictConfig) -> str:
    if group == "experiment":
        return "default"
    if group == "algorithm":
        config_class = OmegaConf.get_type(cfg.algorithm)
        return next((known for known, own in algorithm_config_registry.items() if own is config_class), name)
    if group.startswith("model/layers@"):
        return str(OmegaConf.select(cfg, group.partition("@")[2]).name)
    if group in MODEL_GROUPS.values():
        return "layers/mlp"  # values replace those of a model's file, whatever it is
    return name


def load_run_config(folder: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, dict[str, str]]:
    """Compose the configuration of a run from its folder, which may have been moved.

    Args:
        folder: the folder of the run.
        overrides: values to change, such as ``["experiment.max_n_frames=960000"]``.

    Returns:
        The composed config, and the file chosen for each group. The config of a run that started from another run's
        checkpoint also has its ``origin``.

    Raises:
        CheckpointError: if the file is missing or is not the configuration of a run, or an override is invalid.
        ValueError: if an override has no value, or chooses a file.
    """
    check_changes(overrides)
    of_benchmarl = is_of_benchmarl(folder)
    file = folder / (host_files.CONFIG_FILE if of_benchmarl else CONFIG_FILE)
    try:
        found = read_benchmarl_config(file) if of_benchmarl else OmegaConf.to_container(OmegaConf.load(file))
        saved = OmegaConf.create(update_config(cast("dict[str, Any]", found)))
        choices = {str(group): str(name) for group, name in saved.choices.items()}
        missing = [node for node in NODES if node not in saved]
        if missing:
            raise KeyError(missing[0])
        _check_trusted(file, saved, choices, [override.partition("=")[0] for override in overrides])
        # A task from Python keeps the types of its values, by which its checkpoints know it
        cfg = compose_saved(saved, (*MODEL_GROUPS, "task") if of_benchmarl else tuple(MODEL_GROUPS))
    except CheckpointError:
        raise
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, HydraException, AttributeError, KeyError) as error:
        raise CheckpointError(f"{file} is not the configuration of a run of this package ({error})") from error
    for override in overrides:
        cfg = _change(cfg, override)
    return cfg, choices


def compose_saved(saved: DictConfig, replaced: Sequence[str] = tuple(MODEL_GROUPS)) -> DictConfig:
    """Compose the saved configuration of a run.

    Args:
        saved: nodes of a run, and the file chosen for each group; missing values take the default.
        replaced: nodes that consist only of the saved values.

    Raises:
        CheckpointError: if the algorithm has no file.
    """
    cfg = compose([_choose(str(group), str(name)) for group, name in saved.choices.items()])
    for node in (node for node in (*NODES, ORIGIN) if node in saved):
        is_filled = OmegaConf.is_dict(saved[node]) and node not in replaced
        values = {f"{node}.{key}": value for key, value in saved[node].items()} if is_filled else {node: saved[node]}
        for key, value in values.items():  # a mapping replaces that of the file, which may be of another part
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    return cfg


def _choose(group: str, name: str) -> str:
    """Choose a file, or none for a task of the user, whose values are all in the configuration."""
    is_there = is_known(group, name, *filter(None, [config_dir()]))
    if group == "algorithm" and not is_there:
        raise CheckpointError(
            f"algorithm={name} has no YAML file here: install the plug-in that has it, or add the "
            "folder of its file with benchmarl_himpo.add_yaml_folder"
        )
    return "~task" if group == "task" and not is_there else f"{group}={name}"


def _change(cfg: DictConfig, override: str) -> DictConfig:
    """Set one value; a plus before the key adds it, as for Hydra."""
    key, _, value = override.partition("=")
    name = key.lstrip("+")
    try:
        if name.partition(".")[0] not in NODES:
            raise ConfigKeyError(name)
        (parsed,) = OverridesParser.create().parse_overrides([f"{name}={value}"])
        changed = cfg.copy()
        OmegaConf.update(changed, name, parsed.value(), merge=True, force_add=name != key)
        return changed
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise CheckpointError(_describe_unknown(cfg, name)) from error
    except (OmegaConfBaseException, HydraException) as error:
        raise CheckpointError(f"{override} is not understood: {str(error).splitlines()[0]}") from error


def _describe_unknown(cfg: DictConfig, key: str) -> str:
    """Error message for an unknown key: its unknown part and the existing, or similar, options."""
    node, known = OmegaConf.masked_copy(cfg, list(NODES)), "a run"
    for i, part in enumerate(key.split(".")):
        if part not in node:
            names = [str(name) for name in node]
            near = get_close_matches(part, names) or names
            return f"{key} is no option of this run: {known} has {', '.join(near) or 'none'}"
        node, known = node[part], ".".join(key.split(".")[: i + 1])
    return f"{key} is no option of this run"


def _check_trusted(file: Path, saved: DictConfig, choices: dict[str, str], overridden: list[str]) -> None:
    """Reject a configuration that imports anything but network modules, since classes named in YAML are called."""
    for group in choices:
        if not re.fullmatch(r"[\w/@.]+", group) or group.startswith("hydra"):
            raise CheckpointError(f"{file} chooses a file for {group}, which no run of this package does")
    nodes: list[tuple[str, Any]] = [("", OmegaConf.to_container(saved))]
    while nodes:
        path, node = nodes.pop()
        if isinstance(node, dict):
            nodes += [(f"{path}.{key}".lstrip("."), value) for key, value in node.items()]
        elif path.endswith("class") and isinstance(node, str) and path not in overridden:
            if "." in node and not node.startswith(TRUSTED_CLASSES):
                raise CheckpointError(
                    f"{file} names {path}={node}, which is not a part of torch or torch_geometric and was not "
                    f"imported: if you trust it, add {path}={node} to the command"
                )


def find_run(folder: Path) -> Path:
    """Find the folder of a run, with its configuration and checkpoints: the given one, or the one inside of it.

    Raises:
        CheckpointError: if there is none, or more than one.
    """
    folder = folder if folder.name not in ("", "..") else folder.resolve()  # a run is known by its folder's name
    found = [path for path in (folder, *folder.glob("*")) if _is_run(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        what = "holds no run" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {what}: give the folder that has {CONFIG_FILE} and checkpoints/ in it")
    raise CheckpointError(f"{folder} holds several runs: give one of {', '.join(map(str, sorted(found)))}")


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() or (
        is_of_benchmarl(folder) and host_files.checkpoint_folder(folder).is_dir()
    )
