"""BenchMARL's files on disk: names, layout and content. Does not import BenchMARL.

The format is not documented. Needed to resume, evaluate, record and compare runs, including BenchMARL's own. A
documented format of runs would replace this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.pkl"
"""Arguments of an experiment, in the folder of its run."""
CONFIG_PARTS = ("task", "task.config", "algorithm", "model", "seed", "experiment", "critic_model", "callbacks")
"""Content of :data:`CONFIG_FILE`: consecutive pickles in this order."""

FRAMES = "counters/total_frames"
"""Metric of every iteration: frames collected so far."""
COLLECTION_RETURN = "collection/reward/episode_reward_mean"
"""Metric of iterations in which an episode ended: mean return of these episodes."""
COLLECTION_TIME, TRAINING_TIME = "timers/collection_time", "timers/training_time"
"""Metrics of every iteration, in seconds."""
EVALUATION_TIME = "timers/evaluation_time"
"""Metric of every evaluation, in seconds."""


def conf_dir() -> Path:
    """Folder of BenchMARL's YAML files, found without importing BenchMARL.

    Needed to distinguish BenchMARL's files from the user's, and to read files that inherit them. A documented path, or
    Hydra's search path, would replace this.
    """
    spec = find_spec("benchmarl")
    assert spec is not None and spec.origin is not None  # a dependency, not a namespace package
    return Path(spec.origin).parent / "conf"


def checkpoint_folder(run: Path) -> Path:
    """Folder of a run's checkpoints."""
    return run / "checkpoints"


def checkpoint_name(n_frames: int) -> str:
    """Name of the file of a checkpoint."""
    return f"checkpoint_{n_frames}.pt"


def checkpoint_frames(file: Path) -> int | None:
    """Training frames of a checkpoint, from its name; None for other files."""
    number = file.stem.removeprefix("checkpoint_")
    return int(number) if number.isdigit() and file.name == checkpoint_name(int(number)) else None


def run_of(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint."""
    return checkpoint.resolve().parents[1]


def json_file(run: Path) -> Path:
    """The file with a run's evaluations, in the format of marl-eval; created at the first evaluation."""
    return run / f"{run.name}.json"


def scalars_folder(run: Path) -> Path:
    """Folder of a run's CSV logger, with one file per metric and lines ``<iteration>,<value>``."""
    return run / run.name / "scalars"


def scalars_file(run: Path, metric: str) -> Path:
    """The file of one metric; parts of the metric's name are separated by ``/``."""
    return scalars_folder(run) / f"{metric.replace('/', '_')}.csv"


def take_name(run: Path) -> None:
    """Give a run's logs and its JSON file, which are named after its folder, the name that the folder has now."""
    named = [folder.parent for folder in run.glob("*/scalars")]
    if len(named) != 1 or named[0].name == run.name:
        return
    old = json_file(run).with_stem(named[0].name)
    named[0].rename(run / run.name)
    if old.is_file() and not json_file(run).exists():
        old.rename(json_file(run))


def videos_folder(run: Path) -> Path:
    """Folder of the films of a run's CSV logger."""
    return run / run.name / "videos"


def read_run_json(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the JSON file of one run, whose data are nested by environment, task, algorithm and seed.

    Returns:
        The whole content, and the part with the evaluations ``step_<n>`` and ``absolute_metrics``.
    """
    content = json.loads(file.read_text())
    (tasks,) = content.values()
    (algorithms,) = tasks.values()
    (seeds,) = algorithms.values()
    (data,) = seeds.values()
    return content, data


def evaluations_in(data: Mapping[str, Any]) -> dict[int, list[float]]:
    """List the evaluations in the second result of :func:`read_run_json`.

    Returns:
        The return of each episode, mean over agents and groups, by the frames collected at the evaluation, in order.
    """
    steps = [step for name, step in data.items() if name.startswith("step_")]
    return {step["step_count"]: step["return"] for step in sorted(steps, key=lambda step: step["step_count"])}


def data_until(data: Mapping[str, Any], n_frames: int) -> dict[str, Any]:
    """Remove the evaluations after a number of frames from the second result of :func:`read_run_json`."""
    return {name: entry for name, entry in data.items() if entry.get("step_count", n_frames) <= n_frames}


def loss_key(group: str) -> str:
    """Entry of a checkpoint with the state of a group's loss."""
    return f"loss_{group}"


def buffer_key(group: str) -> str:
    """Entry of a checkpoint with the state of a group's replay buffer; its value is None if the buffer is left out."""
    return f"buffer_{group}"


def is_checkpoint(state: object) -> bool:
    """Whether the loaded state is a checkpoint of BenchMARL's experiment or a subclass."""
    return isinstance(state, dict) and "state" in state


def total_frames_in(state: Mapping[str, Any]) -> int:
    """Training frames of a checkpoint, from its content."""
    return int(state["state"]["total_frames"])


def policy_state_in(state: Mapping[str, Any]) -> Any:
    """State of the collector's policy; None if the checkpoint has none."""
    return (state.get("collector") or {}).get("policy_state_dict")
