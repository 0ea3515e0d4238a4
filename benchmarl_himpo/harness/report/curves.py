"""Learning curves: returns of runs over frames and over wall-clock, interpolated to common points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.reference_returns.reference_returns import ReferenceReturns
from benchmarl_himpo.harness.report.analysis import Band, balance
from benchmarl_himpo.harness.report.comparison import Comparison
from benchmarl_himpo.harness.statistics import Bootstrap, estimate_mean, iqm

N_TIMES = 40
"""Number of points of a curve over wall-clock, where runs have no common points."""

Line = tuple[list[float], list[float]]
"""Points of one run: positions and returns."""


@dataclass(frozen=True)
class Curve:
    """A variant on a task: the mean over runs with Student's intervals, and every run."""

    at: list[float]
    band: Band
    runs: dict[int, Line]  # by seed


@dataclass(frozen=True)
class Efficiency:
    """IQM of scores over frames, over all tasks that have reference returns."""

    frames: list[float]
    variants: dict[str, Band]


def has_evaluations(comparison: Comparison) -> bool:
    """Whether every run was evaluated during training; otherwise curves show returns of collection."""
    return all(record.evaluation_returns for record in comparison.records)


def draw_from(record: RunRecord, evaluated: bool) -> tuple[list[float], list[float], list[float]]:
    """Points of a run: frames, minutes of collection and training if all are known, and returns per agent.

    Returns are means over evaluations, or over the episodes that ended in each batch.
    """
    if evaluated:
        seconds = record.evaluation_seconds
        minutes = [] if None in seconds else [value / 60 for value in seconds if value is not None]
        return list(record.evaluation_frames), minutes, [float(np.mean(r)) for r in record.evaluation_returns]
    kept = [i for i, value in enumerate(record.collection_return) if value is not None]
    returns = [value for value in record.collection_return if value is not None]
    return [record.frames[i] for i in kept], [record.seconds[i] / 60 for i in kept], returns


def task_curves(comparison: Comparison, task: str, confidence: float) -> dict[str, dict[str, Curve]]:
    """Average the curves of a task's runs, over ``frames`` and over ``minutes``, by variant.

    Over frames at every point of any run; over minutes, if known and overlapping, at equal steps up to the end of the
    shortest run.
    """
    evaluated = has_evaluations(comparison)
    over: dict[str, dict[str, Curve]] = {"frames": {}, "minutes": {}}
    for variant in comparison.variants_of(task):
        frames, minutes = {}, {}
        for record in comparison.runs(task, variant):
            at_frames, at_minutes, returns = draw_from(record, evaluated)
            if returns:
                frames[record.seed] = (at_frames, returns)
            if at_minutes:
                minutes[record.seed] = (at_minutes, returns)
        if frames:
            at = sorted({x for line in frames.values() for x in line[0]})
            over["frames"][variant] = _average(frames, at, confidence)
        if minutes:
            last = min(line[0][-1] for line in minutes.values())
            first = max(line[0][0] for line in minutes.values())
            if first <= last:  # runs that were evaluated once have no time in common
                over["minutes"][variant] = _average(minutes, np.linspace(first, last, N_TIMES).tolist(), confidence)
    return over


def interpolate(line: Line, at: Sequence[float]) -> np.ndarray:
    """Interpolate a run at given points, NaN before its first and after its last. Shape ``[n_points]``."""
    return np.interp(at, *line, left=np.nan, right=np.nan)


def _average(lines: dict[int, Line], at: list[float], confidence: float) -> Curve:
    """Average runs at points that at least one of them reaches."""
    values = np.stack([interpolate(line, at) for line in lines.values()], axis=1)  # [n_points, n_runs]
    estimates = [estimate_mean(row[~np.isnan(row)], confidence) for row in values]
    band = Band([e.value for e in estimates], [e.low for e in estimates], [e.high for e in estimates])
    return Curve(at, band, lines)


def sample_efficiency(
    comparison: Comparison, references: dict[str, ReferenceReturns], variants: Sequence[str], settings: Bootstrap
) -> Efficiency:
    """Aggregate scores over frames, at every point of any run that all runs reach.

    ``references`` are the reference returns of the aggregated tasks by label; the variants have runs on each of them,
    see :func:`balance`.
    """
    evaluated = has_evaluations(comparison)
    balanced = balance(comparison, list(references))
    lines = {
        variant: [[draw_from(record, evaluated) for record in balanced.runs(task, variant)] for task in references]
        for variant in variants
    }
    runs = [line for of_tasks in lines.values() for task in of_tasks for line in task]
    if not runs or not all(line[2] for line in runs):
        return Efficiency([], {})
    first, last = max(line[0][0] for line in runs), min(line[0][-1] for line in runs)
    if first > last:
        return Efficiency([], {})
    at = sorted({x for line in runs for x in line[0] if first <= x <= last})

    def scores(variant: str) -> list[np.ndarray]:
        return [
            reference.normalise(np.stack([interpolate((line[0], line[2]), at) for line in task], axis=-1))
            for task, reference in zip(lines[variant], references.values(), strict=True)
        ]

    return Efficiency(at, {variant: Band.of(settings.limits(iqm, scores(variant))) for variant in variants})
