"""Means and differences with Student's confidence intervals (scipy)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A statistic and its confidence interval, in the same unit; NaN limits where nothing is known of its spread."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def excludes(self, value: float) -> bool:
        """Tell whether a value lies outside the interval; never where the interval is not known."""
        return self.low > value or self.high < value


def estimate_mean(values: ArrayLike, confidence: float) -> Estimate:
    """Estimate the mean that independent values are drawn around.

    Args:
        values: one value per episode or run. Shape ``[n]``.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate: of one value without an interval; where all of several are equal, an interval of no width.
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan)
    if (values == values[0]).all():
        return Estimate(mean, mean, mean)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    return Estimate(mean, float(interval.low), float(interval.high))


def estimate_difference(values: ArrayLike, reference: ArrayLike, confidence: float) -> Estimate:
    """Estimate the mean of ``values - reference``, episode by episode.

    Args:
        values: one value per episode. Shape ``[n]``.
        reference: of the same episodes. Shape ``[n]``.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate.

    Raises:
        ValueError: if the numbers of episodes differ, so that nothing is paired.
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if values.shape != reference.shape:
        raise ValueError(f"paired values must be as many, got {list(values.shape)} and {list(reference.shape)}")
    return estimate_mean(values - reference, confidence)


def estimate_unpaired_difference(values: ArrayLike, reference: ArrayLike, confidence: float) -> Estimate:
    """Estimate the difference of two means, of runs that are not paired (Welch's interval).

    Runs of one seed that play the same fresh episodes have some luck in common; this takes no advantage of that, since
    variants may have runs of different seeds (our choice).

    Args:
        values: one value per run. Shape ``[n]``.
        reference: one value per run. Shape ``[m]``.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate, without an interval where either has fewer than two runs.
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    difference = float(values.mean() - reference.mean())
    if min(len(values), len(reference)) < 2:
        return Estimate(difference, math.nan, math.nan)
    if values.std() == reference.std() == 0:
        return Estimate(difference, difference, difference)
    interval = stats.ttest_ind(values, reference, equal_var=False).confidence_interval(confidence)
    return Estimate(difference, float(interval.low), float(interval.high))
