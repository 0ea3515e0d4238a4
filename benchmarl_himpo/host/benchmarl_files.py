"""What BenchMARL has and leaves on disk: names and layout of files, and what is in them. Imports no BenchMARL.

None of it is documented. Needed to resume, evaluate, record and compare runs, BenchMARL's own among them. A documented
format of runs would replace this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.pkl"
"""What an experiment was made of, in the folder of its run."""
CONFIG_PARTS = ("task", "task.config", "algorithm", "model", "seed", "experiment", "critic_model", "callbacks")
"""What :data:`CONFIG_FILE` holds: so many pickles one after another, in this order."""

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

    Needed to tell files that everybody has from the user's own, and to read what inherits them. A documented path, or
    asking Hydra's search path, would replace this.
    """
    spec = find_spec("benchmarl")
    assert spec is not None and spec.origin is not None  # a dependency, and no namespace
    return Path(spec.origin).parent / "conf"


def checkpoint_folder(run: Path) -> Path:
    """Where a run has its checkpoints."""
    return run / "checkpoints"


def checkpoint_name(n_frames: int) -> str:
    """Name of the file of a checkpoint."""
    return f"checkpoint_{n_frames}.pt"


def checkpoint_frames(file: Path) -> int | None:
    """Frames that a checkpoint was trained for; None: the file is not called like one."""
    number = file.stem.removeprefix("checkpoint_")
    return int(number) if number.isdigit() and file.name == checkpoint_name(int(number)) else None


def run_of(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint."""
    return checkpoint.resolve().parents[1]


def json_file(run: Path) -> Path:
    """The file with a run's evaluations, in the format of marl-eval; begun with the first evaluation."""
    return run / f"{run.name}.json"


def scalars_folder(run: Path) -> Path:
    """Where the CSV logger of a run writes one file per metric, a line ``<iteration>,<value>`` at a time."""
    return run / run.name / "scalars"


def scalars_file(run: Path, metric: str) -> Path:
    """The file of one metric, whose name has ``/`` between its parts."""
    return scalars_folder(run) / f"{metric.replace('/', '_')}.csv"


def videos_folder(run: Path) -> Path:
    """Where the CSV logger of a run writes films."""
    return run / run.name / "videos"


def read_run_json(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the JSON file of one run, which nests its data under the names of environment, task, algorithm and seed.

    Returns:
        All of it, and the part of it that holds the evaluations ``step_<n>`` and ``absolute_metrics``.
    """
    content = json.loads(file.read_text())
    (tasks,) = content.values()
    (algorithms,) = tasks.values()
    (seeds,) = algorithms.values()
    (data,) = seeds.values()
    return content, data


def evaluations_in(data: Mapping[str, Any]) -> dict[int, list[float]]:
    """List the evaluations in the second part of what :func:`read_run_json` gave.

    Returns:
        The return of each episode, mean over agents and groups, by the frames collected at the evaluation, in order.
    """
    steps = [step for name, step in data.items() if name.startswith("step_")]
    return {step["step_count"]: step["return"] for step in sorted(steps, key=lambda step: step["step_count"])}


def data_until(data: Mapping[str, Any], n_frames: int) -> dict[str, Any]:
    """Leave out of the second part of what :func:`read_run_json` gave the evaluations after so many frames."""
    return {name: entry for name, entry in data.items() if entry.get("step_count", n_frames) <= n_frames}


def loss_key(group: str) -> str:
    """Entry of a checkpoint with the state of a group's loss."""
    return f"loss_{group}"


def buffer_key(group: str) -> str:
    """Entry of a checkpoint with the state of a group's replay buffer; None in it where the buffer is left out."""
    return f"buffer_{group}"


def is_checkpoint(state: object) -> bool:
    """Whether an experiment, of BenchMARL's own or a subclass, may have written what was loaded."""
    return isinstance(state, dict) and "state" in state


def total_frames_in(state: Mapping[str, Any]) -> int:
    """Frames that a checkpoint was trained for, as its content says."""
    return int(state["state"]["total_frames"])


def policy_state_in(state: Mapping[str, Any]) -> Any:
    """State of the policy as the collector has it; None: there is no collector, or it has none."""
    return (state.get("collector") or {}).get("policy_state_dict")
