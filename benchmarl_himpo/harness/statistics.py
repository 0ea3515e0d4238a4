"""Statistics over episodes, runs and tasks, with confidence intervals.

For one sample and for the difference of two: Student's and Welch's intervals (scipy). Over tasks: the statistics that
"Deep Reinforcement Learning at the Edge of the Statistical Precipice" recommends, Agarwal et al., 2021,
https://arxiv.org/abs/2108.13264. These functions take an array of scores per task, one per run on the last axis, and
reduce that axis; tasks may have different numbers of runs. Intervals come from :func:`scipy.stats.bootstrap` with each
task as a separate sample, which is the paper's stratified bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

Scores = Sequence[np.ndarray]
"""For each task the scores of its runs. Shape ``[*B, n_runs]`` each."""

Statistic = Callable[[Scores], np.ndarray]
"""Takes scores, returns one number per batch entry, or several: shape ``[*B]`` or ``[*K, *B]``."""

FEW_RUNS = 10
"""Number of runs per task below which bootstrap intervals have less than nominal coverage (simulated in the tests)."""

BATCH = 1_000
"""Resamples that are evaluated at once; bounds memory and does not affect results."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its confidence interval, in the same unit; limits are NaN if the variance is unknown."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def excludes(self, value: float) -> bool:
        """Whether a value is outside the interval; False if the interval is unknown."""
        return self.low > value or self.high < value


def estimate_mean(values: ArrayLike, confidence: float) -> Estimate:
    """Estimate the mean of independent values.

    Args:
        values: one value per episode or run. Shape ``[n]``.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate; without an interval for a single value, with an interval of zero width for equal values.
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan)
    if (values == values[0]).all():
        return Estimate(mean, mean, mean)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return Estimate(mean, float(interval.low), float(interval.high))


def as_percent(confidence: float) -> str:
    """Write a confidence as a percentage, such as ``95%`` or ``99.9%``."""
    return f"{100 * confidence:g}%"


def estimate_difference(values: ArrayLike, reference: ArrayLike, confidence: float) -> Estimate:
    """Estimate the mean of ``values - reference``, paired by episode. Shape ``[n]`` each.

    Raises:
        ValueError: if the numbers of episodes differ.
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if values.shape != reference.shape:
        raise ValueError(f"paired values must have equal shapes, got {list(values.shape)} and {list(reference.shape)}")
    return estimate_mean(values - reference, confidence)


def estimate_unpaired_difference(values: ArrayLike, reference: ArrayLike, confidence: float) -> Estimate:
    """Estimate the difference of two means of unpaired runs (Welch's interval).

    Runs of one seed on the same fresh episodes are correlated; this estimate does not use that, since variants may have
    runs of different seeds.

    Args:
        values: one value per run. Shape ``[n]``.
        reference: one value per run. Shape ``[m]``.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate, without an interval if either sample has fewer than two runs.
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    difference = float(values.mean() - reference.mean())
    if min(len(values), len(reference)) < 2:
        return Estimate(difference, math.nan, math.nan)
    if (values == values[0]).all() and (reference == reference[0]).all():
        return Estimate(difference, difference, difference)
    interval = stats.ttest_ind(values, reference, equal_var=False).confidence_interval(confidence)
    return Estimate(difference, float(interval.low), float(interval.high))


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: of all runs of all tasks, the mean of the middle half. Shape ``[*B]``."""
    return np.asarray(stats.trim_mean(np.concatenate(scores, axis=-1), 0.25, axis=-1))


def median(scores: Scores) -> np.ndarray:
    """Median over tasks of the mean over runs. Shape ``[*B]``."""
    return np.asarray(np.median([task.mean(-1) for task in scores], axis=0))


def mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over runs. Shape ``[*B]``."""
    return np.asarray(np.mean([task.mean(-1) for task in scores], axis=0))


def optimality_gap(scores: Scores) -> np.ndarray:
    """Mean over tasks of the shortfall from a score of 1; scores above 1 count as 1. Shape ``[*B]``."""
    return 1 - mean([np.minimum(task, 1) for task in scores])


AGGREGATES: dict[str, Statistic] = {"iqm": iqm, "median": median, "mean": mean, "optimality_gap": optimality_gap}
"""The aggregates that a report shows, by name."""


def probability_of_improvement(scores: Scores, reference: Scores) -> np.ndarray:
    """Mean over tasks of the probability that a run beats a run of the reference; a tie is half a win.

        P(X > Y) = 1/(N K) Σᵢ Σⱼ S(xᵢ, yⱼ),  S = 1, 1/2, 0 for >, =, <.

    Shape ``[*B]``, in [0, 1].
    """
    wins = [
        (np.sign(task[..., :, None] - other[..., None, :]) / 2 + 0.5).mean((-2, -1))
        for task, other in zip(scores, reference, strict=True)
    ]
    return np.asarray(np.mean(wins, axis=0))


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs, of all tasks, whose score is above each threshold. Shape ``[n_thresholds, *B]``, in [0, 1]."""
    together = np.concatenate(scores, axis=-1)
    return np.stack([(together > threshold).mean(-1) for threshold in thresholds])


@dataclass(frozen=True)
class Bootstrap:
    """Intervals by the stratified percentile bootstrap.

    Args:
        confidence: coverage of the intervals, in (0, 1).
        repetitions: number of resamples.
        seed: of the resampling; the same seed gives the same interval.
    """

    confidence: float
    repetitions: int
    seed: int

    def limits(self, statistic: Statistic, scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute a statistic of one number or several, and lower and upper limits of its interval. Same shape each.

        Limits are NaN if a task has a single run.
        """
        value = np.asarray(statistic(scores))
        n_runs = [task.shape[-1] for task in scores]
        if min(n_runs) < 2:
            unknown = np.full_like(value, math.nan, dtype=float)
            return value, unknown, unknown

        def resampled(*runs: np.ndarray, axis: int) -> np.ndarray:
            return statistic([task[..., drawn] for task, drawn in zip(scores, runs, strict=True)])

        interval = stats.bootstrap(
            [np.arange(n) for n in n_runs],
            resampled,
            n_resamples=self.repetitions,
            batch=BATCH,
            confidence_level=self.confidence,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        ).confidence_interval
        return value, np.asarray(interval.low), np.asarray(interval.high)

    def estimate(self, statistic: Statistic, scores: Scores) -> Estimate:
        """Estimate a statistic that is one number."""
        return Estimate(*map(float, self.limits(statistic, scores)))

    def improvement(self, scores: Scores, reference: Scores) -> Estimate:
        """Estimate a probability of improvement: both algorithms' runs are resampled."""
        n_tasks = len(scores)
        return self.estimate(
            lambda both: probability_of_improvement(both[:n_tasks], both[n_tasks:]), [*scores, *reference]
        )
