"""The stratified rank test: scipy's test for one stratum, a direct permutation for several, ties and unequal sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarl_himpo.benchmark.statistics import mean_drop, stratified_rank_test

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=12).map(np.array)


def test_one_stratum_worked_by_hand() -> None:
    """Ranks of 1 and 3 among 1, 2, 3, 4, 5 are 1 and 3: U = 1 of a mean of 3, variance 2 * 3 * 6 / 12."""
    p = stratified_rank_test([np.array([1.0, 3.0])], [np.array([2.0, 4.0, 5.0])])
    assert p == pytest.approx(stats.norm.cdf((1 - 3) / math.sqrt(3)))


@given(SCORES, SCORES)
def test_one_stratum_is_scipys_mann_whitney(scores: np.ndarray, reference: np.ndarray) -> None:
    if len({*scores, *reference}) == 1:
        assert stratified_rank_test([scores], [reference]) == 1.0
        return
    expected = stats.mannwhitneyu(
        scores, reference, alternative="less", method="asymptotic", use_continuity=False
    ).pvalue
    assert stratified_rank_test([scores], [reference]) == pytest.approx(expected, abs=1e-12)


def weighted_wins(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A task's part of the statistic: wins over the reference, weighted. Shape ``[*B]``."""
    n, m = scores.shape[-1], reference.shape[-1]
    return (scores[..., :, None] > reference[..., None, :]).sum((-2, -1)) / (n + m + 1)


@pytest.mark.parametrize(("n", "m"), [(5, 20), (10, 20), (5, 8)])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_several_strata_are_a_direct_permutation_within_each(n: int, m: int, shift: float) -> None:
    """Half of the ties of the statistic counted; the standard error of 20,000 permutations is at most 0.004."""
    rng = np.random.default_rng([n, m, int(10 * shift)])
    levels = (0.0, 10.0, -3.0)  # strata have nothing in common
    scores = [level - shift + rng.normal(size=n) for level in levels]
    reference = [level + rng.normal(size=m) for level in levels]
    observed = sum(weighted_wins(*pair) for pair in zip(scores, reference, strict=True))
    permuted = np.zeros(20_000)
    for task, other in zip(scores, reference, strict=True):
        shuffled = rng.permuted(np.tile(np.concatenate([task, other]), (len(permuted), 1)), axis=1)
        permuted += weighted_wins(shuffled[:, :n], shuffled[:, n:])
    exact = ((permuted < observed - 1e-9).mean() + (permuted < observed + 1e-9).mean()) / 2
    assert stratified_rank_test(scores, reference) == pytest.approx(exact, abs=0.012)


def test_strata_of_unequal_sizes_are_weighted() -> None:
    """A large stratum counts for more wins than a small one, but not for its square."""
    rng = np.random.default_rng(0)
    scores, reference = [rng.normal(size=4), rng.normal(size=30)], [rng.normal(size=6), rng.normal(size=40)]
    excess = sum(
        w * (stats.mannwhitneyu(x, y).statistic - len(x) * len(y) / 2)
        for x, y, w in zip(scores, reference, (1 / 11, 1 / 71), strict=True)
    )
    variance = 4 * 6 / 12 / 11 + 30 * 40 / 12 / 71
    assert stratified_rank_test(scores, reference) == pytest.approx(stats.norm.cdf(excess / math.sqrt(variance)))


def test_a_stratum_in_which_all_is_equal_says_nothing() -> None:
    low, high = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    alone = stratified_rank_test([low], [high])
    assert stratified_rank_test([low, np.ones(3)], [high, np.ones(3)]) == pytest.approx(alone)
    assert stratified_rank_test([high], [low]) == pytest.approx(1 - alone)


def test_a_drop_is_a_share_of_what_is_above_chance() -> None:
    drop = mean_drop([np.array([6.0, 8.0]), np.array([-1.0])], [np.array([10.0, 12.0]), np.array([1.0])], [1.0, -3.0])
    assert drop == pytest.approx(((11 - 7) / (11 - 1) + (1 + 1) / (1 + 3)) / 2)
