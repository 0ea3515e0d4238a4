"""A baseline: what runs of many seeds reached on one kind of machine, in a JSON file that is committed.

A baseline changes only by a reviewed commit that says why; the file keeps all reasons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarl_himpo.benchmark.labels import flatten
from benchmarl_himpo.benchmark.provenance import PACKAGES, provenance
from benchmarl_himpo.benchmark.record import RunRecord
from benchmarl_himpo.benchmark.regression.verdict import InconclusiveError, UnknownMachineError
from benchmarl_himpo.benchmark.spec import RunSpec

FORMAT = 1
"""Version of the files: raised when a key changes its meaning."""

MACHINE = ("cpu", "cpu_capability", "preloaded", *PACKAGES)
"""What of a baseline's provenance its numbers depend on, besides the code."""


@dataclass(frozen=True)
class TaskBaseline:
    """What runs reached on one task.

    Args:
        config: configuration of the runs, without the seed.
        config_hash: its hash, see :func:`benchmarl_himpo.benchmark.spec.hash_config`.
        random: what actions at random earn, per agent.
        values: for each seed the mean return per agent of the last evaluation.
    """

    config: dict[str, Any]
    config_hash: str
    random: float
    values: dict[str, float]

    @property
    def scores(self) -> np.ndarray:
        """The values. Shape ``[n_seeds]``."""
        return np.array(list(self.values.values()))


@dataclass(frozen=True)
class Baseline:
    """What runs reached on all tasks of the gate.

    Args:
        host: digest of what the machine computes, see :data:`benchmarl_himpo.benchmark.fingerprint.GOLDEN_RUNS`.
        provenance: versions, commit and processor.
        random: ``episodes`` and ``seed`` of the actions at random.
        reasons: date, commit and reason of this baseline and of those it replaced, oldest first.
        tasks: by the task's name.
    """

    host: str
    provenance: dict[str, Any]
    random: dict[str, int]
    reasons: list[dict[str, Any]]
    tasks: dict[str, TaskBaseline]

    def save(self, folder: Path) -> Path:
        """Write the file, and give its path."""
        folder.mkdir(parents=True, exist_ok=True)
        file = baseline_file(folder, self.host)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n")
        temporary.replace(file)
        return file

    def check_configs(self, specs: Sequence[RunSpec]) -> None:
        """Check that runs are configured as those of the baseline.

        Args:
            specs: the runs.

        Raises:
            InconclusiveError: if they are not, naming what differs.
        """
        new = "a change that is meant takes a new baseline: mode=baseline with a reason, in a reviewed commit"
        tasks = {spec.choice("task"): spec for spec in specs}
        if set(tasks) != set(self.tasks):
            raise InconclusiveError(
                f"the gate has {', '.join(sorted(tasks))}, the baseline {', '.join(sorted(self.tasks))}: {new}"
            )
        for task, spec in tasks.items():
            if spec.config_hash != self.tasks[task].config_hash:
                raise InconclusiveError(
                    f"runs on {task} are configured otherwise than those of the baseline "
                    f"({_describe_difference(spec.config, self.tasks[task].config)}): {new}"
                )


def baseline_file(folder: Path, host: str) -> Path:
    """Where the baseline of a kind of machine is kept."""
    return folder / f"{host}.json"


def find_baseline(folder: Path, host: str) -> Baseline:
    """Read the baseline of a kind of machine.

    Args:
        folder: the folder of the baselines.
        host: digest of what this machine computes.

    Returns:
        The baseline.

    Raises:
        UnknownMachineError: if there is none for it.
        InconclusiveError: if there are none at all, the file is none, or there is one of a machine like this one, so
            that the code must have changed.
    """
    file = baseline_file(folder, host)
    if not folder.is_dir():
        raise InconclusiveError(
            f"{folder} does not exist: baselines are in the repository and not in the installed package, so run the "
            "gate in a checkout, or name their folder with baselines=..."
        )
    if not file.is_file():
        others = [_describe_host(other) for other in sorted(folder.glob("*.json"))]
        numbers = (
            f"this machine computes other numbers ({host}) than those of the baselines in {folder} "
            f"({'; '.join(others) or 'none'})"
        )
        here = provenance({"cpu"})
        if any(_is_alike(other, here) for other in folder.glob("*.json")):
            raise InconclusiveError(
                f"{numbers}, though one of these has its processor and versions: a change of what all algorithms have "
                "in common altered what BenchMARL's own IPPO computes, and nothing can be compared. If that is meant, "
                "take a new baseline with mode=baseline"
            )
        raise UnknownMachineError(
            f"{numbers}: run the gate on such a machine with the versions of constraints.txt, or take a baseline of "
            "this one with mode=baseline"
        )
    return load_baseline(file)


def load_baseline(file: Path) -> Baseline:
    """Read a baseline.

    Args:
        file: its file.

    Returns:
        The baseline.

    Raises:
        InconclusiveError: if the file is none, or one of another format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise InconclusiveError(f"{file} has another format than {FORMAT}: take a new baseline with mode=baseline")
        tasks = {task: TaskBaseline(**values) for task, values in content.pop("tasks").items()}
        return Baseline(**content, tasks=tasks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InconclusiveError(f"{file} cannot be read as a baseline: {error}") from error


def last_value(record: RunRecord) -> float:
    """The value of a run: mean return per agent over the episodes of its last evaluation.

    Raises:
        InconclusiveError: if it was not evaluated at its end.
    """
    if not record.evaluation_frames or record.evaluation_frames[-1] != record.frames[-1]:
        raise InconclusiveError(f"{record.id} was not evaluated at its end: set experiment.evaluation=true")
    return float(np.mean(record.evaluation_returns[-1]))


def values_by_task(records: Sequence[RunRecord]) -> dict[str, dict[str, float]]:
    """Sort the values of runs by task, then seed."""
    values: dict[str, dict[str, float]] = {}
    for record in sorted(records, key=lambda record: (record.task, record.seed)):
        values.setdefault(record.task, {})[str(record.seed)] = last_value(record)
    return values


def _is_alike(file: Path, here: Mapping[str, Any]) -> bool:
    """Whether a baseline was taken on a machine that its processor and versions do not tell from this one."""
    try:
        made_with = load_baseline(file).provenance
    except InconclusiveError:
        return False
    return all(made_with.get(key, "none") == here[key] for key in MACHINE)


def _describe_host(file: Path) -> str:
    try:
        made_with = load_baseline(file).provenance
    except InconclusiveError:
        return f"{file.name}, which cannot be read"
    return f"{file.stem}: {made_with['cpu']}, torch {made_with['torch']}"


def _describe_difference(config: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name the keys in which two configurations differ, the first few of them."""
    left, right = ({k: v for k, v in flatten(c) if k != "seed"} for c in (config, other))
    keys = [key for key in sorted(left | right) if left.get(key, "none") != right.get(key, "none")]
    shown = [f"{key}={left.get(key, 'none')} instead of {right.get(key, 'none')}" for key in keys[:3]]
    return ", ".join(shown) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
