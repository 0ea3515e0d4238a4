"""Statistics over runs: numbers worked by hand, plain loops, rliable, and simulated coverage."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy import stats

from benchmarl_himpo.harness.statistics import (
    AGGREGATES,
    Bootstrap,
    as_percent,
    estimate_mean,
    estimate_unpaired_difference,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

TWO_TASKS = [np.array([0.0, 0.2, 0.4, 3.0]), np.array([0.6, 0.8, 1.0, 2.0])]
SETTINGS = Bootstrap(confidence=0.95, repetitions=2_000, seed=0)


def random_scores(n_runs: int, n_tasks: int, level: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [level + 0.1 * task + 0.1 * rng.normal(size=n_runs) for task in range(n_tasks)]


# Numbers worked by hand


def test_aggregates_worked_by_hand() -> None:
    assert iqm(TWO_TASKS) == pytest.approx((0.4 + 0.6 + 0.8 + 1.0) / 4)  # two of eight cut at each end
    assert mean(TWO_TASKS) == pytest.approx((0.9 + 1.1) / 2)
    assert median([*TWO_TASKS, np.array([5.0])]) == pytest.approx(1.1)
    assert optimality_gap(TWO_TASKS) == pytest.approx(1 - (1.6 / 4 + 3.4 / 4) / 2)  # 3 and 2 count as 1


def test_tasks_may_have_different_numbers_of_runs() -> None:
    ragged = [np.array([1.0, 3.0]), np.array([4.0])]
    assert mean(ragged) == pytest.approx(3.0)
    assert iqm(ragged) == pytest.approx(8 / 3)  # a quarter of three is less than one
    assert probability_of_improvement(ragged, [np.array([2.0]), np.array([4.0])]) == pytest.approx(0.5)


def test_a_probability_of_improvement_counts_pairs() -> None:
    x, y = np.array([1.0, 2.0, 5.0]), np.array([2.0, 3.0])
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(x, y))
    assert probability_of_improvement([x], [y]) == pytest.approx(wins / 6)
    rng = np.random.default_rng(0)
    many, others = rng.integers(0, 9, size=(2, 20, 7))
    expected = [stats.mannwhitneyu(a, b).statistic / 49 for a, b in zip(many, others, strict=True)]
    assert probability_of_improvement(many, others) == pytest.approx(np.mean(expected))


def test_a_profile_is_the_share_of_runs_above() -> None:
    shares = performance_profile(TWO_TASKS, np.array([-1.0, 0.0, 0.7, 3.0]))
    assert shares.tolist() == [1.0, 7 / 8, 4 / 8, 0.0]


def test_statistics_reduce_the_last_axis_alone() -> None:
    batch = [np.stack([task, task + 1, task * 2]) for task in TWO_TASKS]
    for name, statistic in AGGREGATES.items():
        alone = [float(statistic([task[row] for task in batch])) for row in range(3)]
        assert statistic(batch) == pytest.approx(alone), name


# Intervals


def test_the_bootstrap_is_that_of_a_plain_loop_over_tasks() -> None:
    """The same resampling by hand, with many draws of its own: equal up to what is left of chance."""
    scores = random_scores(8, 3, 0.5)
    found = Bootstrap(confidence=0.9, repetitions=20_000, seed=0).estimate(iqm, scores)
    rng = np.random.default_rng(1)
    draws = [iqm([rng.choice(task, len(task)) for task in scores]) for _ in range(4_000)]
    low, high = np.quantile(draws, [0.05, 0.95])
    assert found.value == iqm(scores)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    together = stats.bootstrap((np.concatenate(scores),), iqm_of_all, n_resamples=9_999, method="percentile", rng=0)
    width = found.high - found.low
    assert together.confidence_interval.high - together.confidence_interval.low > 1.1 * width  # strata matter


def iqm_of_all(scores: np.ndarray, axis: int) -> np.ndarray:
    return stats.trim_mean(scores, 0.25, axis=axis)


def test_the_same_seed_gives_the_same_interval_and_leaves_random_numbers_alone() -> None:
    np.random.seed(3)
    first = SETTINGS.estimate(iqm, TWO_TASKS)
    after = np.random.rand()
    np.random.seed(3)
    assert np.random.rand() == after
    assert SETTINGS.estimate(iqm, TWO_TASKS) == first
    assert replace(SETTINGS, seed=1).estimate(iqm, TWO_TASKS) != first


def test_statistics_of_several_numbers_have_as_many_intervals() -> None:
    thresholds = np.linspace(0, 1, 5)
    profile = partial(performance_profile, thresholds=thresholds)
    value, low, high = SETTINGS.limits(profile, TWO_TASKS)
    assert value.shape == low.shape == high.shape == (5,)
    for i, threshold in enumerate(thresholds):
        alone = SETTINGS.estimate(lambda s, t=threshold: performance_profile(s, np.array([t]))[0], TWO_TASKS)
        assert (value[i], low[i], high[i]) == (alone.value, alone.low, alone.high)


def test_one_run_has_no_interval() -> None:
    single = SETTINGS.estimate(iqm, [np.array([1.0, 2.0]), np.array([3.0])])
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert not single.excludes(-100.0)
    assert str(estimate_mean([3.0], 0.95)) == "3.00"
    assert not estimate_unpaired_difference([3.0], [1.0, 2.0], 0.95).excludes(-100.0)


def test_equal_runs_have_an_interval_of_no_width() -> None:
    equal = SETTINGS.estimate(iqm, [np.ones(5)])
    assert (equal.low, equal.high) == (1.0, 1.0)
    assert estimate_unpaired_difference(np.ones(3), np.zeros(3), 0.95).low == 1.0


def test_differences_of_equal_runs_have_an_interval_of_no_width_and_no_warning() -> None:
    """The standard deviation of 0.1, 0.1 and 0.1 is not zero in floating point."""
    assert estimate_unpaired_difference([0.1] * 3, [0.3] * 3, 0.95).low == pytest.approx(-0.2)


@pytest.mark.parametrize(("confidence", "text"), [(0.95, "95%"), (0.999, "99.9%"), (0.57, "57%")])
def test_a_confidence_is_written_as_it_is(confidence: float, text: str) -> None:
    assert as_percent(confidence) == text


def test_an_unpaired_difference_is_welchs() -> None:
    """Worked by hand: means 3 and 1, standard errors 1 and 1/2, Welch and Satterthwaite's degrees of freedom."""
    x, y = np.array([1.0, 3.0, 5.0, 3.0, 3.0]), np.array([0.0, 1.0, 2.0, 1.0])
    var_x, var_y = x.var(ddof=1) / 5, y.var(ddof=1) / 4
    freedom = (var_x + var_y) ** 2 / (var_x**2 / 4 + var_y**2 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(var_x + var_y)
    found = estimate_unpaired_difference(x, y, 0.95)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))


# rliable


@pytest.fixture(scope="module")
def rliable():
    """rliable's library and metrics; it draws from numpy's global generator."""
    pytest.importorskip("rliable", reason="rliable is not installed: pip install 'benchmarl_himpo[test]'")
    from rliable import library, metrics

    np.random.seed(0)
    return library, metrics


def as_matrix(scores: list[np.ndarray]) -> np.ndarray:
    return np.stack(scores, axis=1)  # runs x tasks


RLIABLE_NAMES = {
    "iqm": "aggregate_iqm",
    "median": "aggregate_median",
    "mean": "aggregate_mean",
    "optimality_gap": "aggregate_optimality_gap",
}


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize(("n_runs", "n_tasks"), [pytest.param(10, 5, marks=pytest.mark.slow), (5, 3), (3, 1)])
def test_aggregates_are_rliables(name: str, n_runs: int, n_tasks: int, rliable) -> None:
    library, metrics = rliable
    scores = random_scores(n_runs, n_tasks, 0.7)
    statistic = getattr(metrics, RLIABLE_NAMES[name])
    points, intervals = library.get_interval_estimates(
        {"a": as_matrix(scores)}, lambda x: np.array([statistic(x)]), reps=5_000
    )
    found = Bootstrap(confidence=0.95, repetitions=20_000, seed=0).estimate(AGGREGATES[name], scores)
    assert found.value == pytest.approx(float(points["a"][0]), abs=1e-12)
    assert [found.low, found.high] == pytest.approx(intervals["a"].flatten().tolist(), abs=0.01)


def test_probability_of_improvement_is_rliables(rliable) -> None:
    library, metrics = rliable
    scores, reference = random_scores(6, 3, 0.6), random_scores(6, 3, 0.5, seed=1)
    points, intervals = library.get_interval_estimates(
        {"a,b": (as_matrix(scores), as_matrix(reference))}, metrics.probability_of_improvement, reps=1_000
    )
    found = Bootstrap(confidence=0.95, repetitions=20_000, seed=0).improvement(scores, reference)
    assert found.value == pytest.approx(float(points["a,b"]), abs=1e-12)
    assert [found.low, found.high] == pytest.approx(intervals["a,b"].flatten().tolist(), abs=0.025)  # 1,000 repetitions


def test_performance_profiles_are_rliables(rliable) -> None:
    library, _ = rliable
    scores, thresholds = random_scores(10, 4, 0.5), np.linspace(0, 1.2, 13)
    points, intervals = library.create_performance_profile({"a": as_matrix(scores)}, thresholds, reps=5_000)
    value, low, high = Bootstrap(confidence=0.95, repetitions=20_000, seed=0).limits(
        partial(performance_profile, thresholds=thresholds), scores
    )
    assert value.tolist() == pytest.approx(points["a"].tolist(), abs=1e-12)
    assert np.stack([low, high]) == pytest.approx(intervals["a"], abs=0.03)  # shares move in steps of 1/40


# Simulated coverage


def coverage(n_runs: int, n_tasks: int, interval) -> float:
    """How often an interval holds the truth, 0, in 600 studies of normal scores."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        found = interval([rng.normal(size=n_runs) for _ in range(n_tasks)])
        held += found.low <= 0 <= found.high
    return held / 600


@pytest.mark.slow
def test_students_interval_covers_what_it_says_even_with_three_runs() -> None:
    """The standard error of 600 studies is 0.009."""
    for n_runs in (3, 5, 10):
        assert coverage(n_runs, 1, lambda scores: estimate_mean(scores[0], 0.95)) == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
def test_the_bootstrap_covers_less_than_it_says_below_ten_runs() -> None:
    """What the report says of few runs, and why tables per task have Student's intervals."""
    interval = partial(Bootstrap(confidence=0.95, repetitions=1_000, seed=0).estimate, iqm)
    covered = {n_runs: coverage(n_runs, 3, interval) for n_runs in (3, 5, 10, 20)}
    assert 0.75 < covered[3] < 0.90
    assert covered[3] < covered[5] < 0.945
    assert covered[10] == pytest.approx(0.94, abs=0.03)
    assert covered[20] == pytest.approx(0.95, abs=0.03)
