"""Runs of BenchMARL's own commands, whose JSON file contains only evaluations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarl_himpo.harness.output import files_below
from benchmarl_himpo.harness.records.labels import join_label
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, RecordError, RunRecord
from benchmarl_himpo.harness.runs.run_config import CONFIG_FILE
from benchmarl_himpo.host.benchmarl_files import evaluations_in, read_run_json

UNKNOWN_CONFIG = "configuration unknown"
"""Difference in the label of a task that is known only from a JSON file, which does not contain its options."""
REPORT_FILE = "marl_eval.json"
"""Name of the file of this format that a report writes."""


def read_json_runs(folder: Path) -> list[tuple[RunRecord, Path]]:
    """Read the runs below a folder that have only BenchMARL's JSON: a record and its file for each.

    Runs of this package, which have a record or are unfinished, and copies of a file under the same name are left out.
    """
    found: dict[str, tuple[RunRecord, Path]] = {}
    own = {file.parent for name in (CONFIG_FILE, RUN_RECORD_FILE) for file in files_below(folder, name)}
    names = {run.name for run in own}
    for file in files_below(folder, "*.json"):
        is_own = file.parent in own or file.stem in names
        if file.name != REPORT_FILE and not is_own and file.stem not in found:
            record = _read(file)
            if record is not None:
                found[file.stem] = record, file
    return list(found.values())


def _read(file: Path) -> RunRecord | None:
    """Read a file; None unless it has this format and contains one run with an evaluation."""
    try:
        content, data = read_run_json(file)
        ((environment, tasks),) = content.items()
        ((task, algorithms),) = tasks.items()
        ((algorithm, seeds),) = algorithms.items()
        (seed,) = (int(name.removeprefix("seed_")) for name in seeds)
        evaluations = [(int(frames), [float(r) for r in returns]) for frames, returns in evaluations_in(data).items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # some other JSON
    if not evaluations:
        return None
    if not all(math.isfinite(value) for _, returns in evaluations for value in returns):
        raise RecordError(f"{file} has returns that are not finite, as of a run that diverged: leave it out")
    return RunRecord(
        id=file.stem,
        variant=algorithm,
        algorithm=algorithm,
        task=f"{environment}/{task}",
        model="unknown",
        task_label=join_label(f"{environment}/{task}", [UNKNOWN_CONFIG]),
        seed=seed,
        **_nothing_known(len(evaluations)),
        evaluation_frames=[frames for frames, _ in evaluations],
        evaluation_returns=[returns for _, returns in evaluations],
    )


def _nothing_known(n_evaluations: int) -> dict[str, Any]:
    """Values of a record's fields that the file lacks; its ``absolute_metrics`` are best single episodes."""
    empty: dict[str, Any] = {name: {} for name in ("group_sizes", "config", "parameters", "timers", "provenance")}
    empty |= {name: [] for name in ("frames", "seconds", "collection_return")}
    empty |= dict.fromkeys(("fingerprint", "absolute_metric", "peak_memory", "gradient_steps", "resumed", "attempts"))
    return {**empty, "config_hash": "", "evaluation_seconds": [None] * n_evaluations}
