"""Means and paired differences with Student's confidence intervals (scipy)."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval, in the unit of what was averaged."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def estimate_mean(values: Tensor, confidence: float) -> Estimate:
    """Estimate the mean that independent values are drawn around.

    Args:
        values: one value per episode. Shape ``[n]``, n at least 2.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate; where all values are equal, an interval of no width.
    """
    mean = float(values.double().mean())
    if bool((values == values[0]).all()):
        return Estimate(mean, mean, mean)
    interval = stats.ttest_1samp(values.double().numpy(), 0.0).confidence_interval(confidence)
    return Estimate(mean, float(interval.low), float(interval.high))


def estimate_difference(values: Tensor, reference: Tensor, confidence: float) -> Estimate:
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
    if values.shape != reference.shape:
        raise ValueError(f"paired values must be as many, got {list(values.shape)} and {list(reference.shape)}")
    return estimate_mean(values.double() - reference.double(), confidence)
