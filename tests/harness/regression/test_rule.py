"""The paired test against a direct enumeration, and what the rule of the gate is worth, simulated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarl_himpo.harness.command_line import read_options
from benchmarl_himpo.harness.regression import comparison
from benchmarl_himpo.harness.regression.comparison import Rule, compare, paired_differences, sign_flip_test
from benchmarl_himpo.harness.regression.gate import GateOptions
from benchmarl_himpo.harness.regression.verdict import InconclusiveError
from benchmarl_himpo.harness.sweeps.expansion import read_values

DIFFERENCES = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=6).map(np.array)

# The test


def test_two_pairs_worked_by_hand() -> None:
    """Of the four signs of two equal losses one sum is as low as the observed one."""
    assert sign_flip_test([np.array([-1.0, -1.0])]) == pytest.approx(1 / 4)
    assert sign_flip_test([np.array([1.0, 1.0])]) == 1.0


def test_pairs_that_do_not_differ_say_nothing() -> None:
    assert sign_flip_test([np.zeros(3), np.zeros(2)]) == 1.0
    alone = sign_flip_test([np.array([-2.0, -1.0, -3.0])])
    assert sign_flip_test([np.array([-2.0, -1.0, -3.0]), np.zeros(3)]) == pytest.approx(alone)


def enumerated(differences: list[np.ndarray]) -> float:
    """Share of all sign flips whose scaled sum is no higher than the observed one."""
    scaled = np.concatenate([d / np.sqrt((d**2).mean()) if d.any() else d for d in differences])
    sums = [float(np.dot(signs, scaled)) for signs in product((1.0, -1.0), repeat=len(scaled))]
    return float(np.mean(np.array(sums) <= scaled.sum() + 1e-9))


@given(DIFFERENCES, DIFFERENCES)
def test_few_pairs_are_enumerated(one: np.ndarray, other: np.ndarray) -> None:
    assert sign_flip_test([one, other]) == pytest.approx(enumerated([one, other]))


def test_many_pairs_are_resampled_to_what_enumeration_gives() -> None:
    """Sixteen pairs have 65,536 flips; the standard error of 9,999 of them is at most 0.005."""
    rng = np.random.default_rng(0)
    for shift in (0.0, -0.3, -0.8):
        differences = [scale * (shift + rng.normal(size=8)) for scale in (1.0, 100.0)]
        assert sign_flip_test(differences) == pytest.approx(enumerated(differences), abs=0.015)


@given(st.floats(0.01, 100.0))
def test_the_unit_of_a_task_changes_nothing(factor: float) -> None:
    one, other = np.array([-1.0, 2.0, -4.0, -1.5]), np.array([0.5, -0.25, -1.0])
    assert sign_flip_test([one, factor * other]) == pytest.approx(sign_flip_test([one, other]))


def test_a_drop_is_a_share_of_the_bases_return_above_the_random_policy() -> None:
    base = {"a": {1: 10.0, 2: 12.0}, "b": {1: 1.0, 2: 1.0}}
    now = {"a": {1: 6.0, 2: 8.0}, "b": {2: -1.0, 1: -1.0}}
    numbers = compare(now, base, {"a": 1.0, "b": -3.0})
    assert numbers["tasks"]["a"]["drop"] == pytest.approx(4 / 10)
    assert numbers["tasks"]["b"]["drop"] == pytest.approx(2 / 4)
    assert numbers["drop"] == pytest.approx(0.45)
    assert numbers["p"] == pytest.approx(1 / 16)
    assert numbers["tasks"]["a"]["pairs"][1] == {"seed": 2, "base": 12.0, "now": 8.0}
    (of_a, _) = paired_differences({"a": {2: 8.0, 1: 7.0}, "b": {1: 0.0, 2: 0.0}}, base)
    assert of_a.tolist() == [-3.0, -4.0]  # by seed, whatever their order


def test_a_base_that_learned_nothing_is_inconclusive_and_named() -> None:
    values = {"a": {1: 2.0, 2: 2.0}, "b": {1: 0.0, 2: 0.0}}
    with pytest.raises(InconclusiveError, match="random policy on b"):
        compare(values, values, {"a": 1.0, "b": 0.0})


# The rule

N_STUDIES = 500
N_TASKS, N_SEEDS = 3, 8
CV = 0.25
"""Coefficient of variation of seeds: the limit that tasks of the gate are chosen by."""


@pytest.fixture(scope="module")
def rule() -> Rule:
    """The rule as it is configured."""
    options = read_options("regression", GateOptions, [])
    return Rule(options.first_alpha, options.second_alpha, options.least_drop)


def draw(rng: np.random.Generator, n: int, level: float, failing: float) -> np.ndarray:
    """Values of seeds: normal around a level, and a share of seeds that learned a third as much."""
    values = level * (1 + CV * rng.normal(size=n))
    return np.where(rng.random(n) < failing, values / 3, values)


def rates(rule: Rule, loss: float, failing: float) -> tuple[float, float]:
    """Shares of studies in which the first stage alarms, and in which the gate fails."""
    rng = np.random.default_rng([int(100 * loss), int(100 * failing)])
    n_alarms = n_failures = 0
    for _ in range(N_STUDIES):
        base, now = ([draw(rng, 2 * N_SEEDS, level, failing) for _ in range(N_TASKS)] for level in (1.0, 1 - loss))
        differences = [new - old for new, old in zip(now, base, strict=True)]
        if rule.alarms(sign_flip_test([task[:N_SEEDS] for task in differences])):
            n_alarms += 1
            drop = float(np.mean([1 - new.mean() / old.mean() for new, old in zip(now, base, strict=True)]))
            n_failures += rule.fails(sign_flip_test(differences), drop)
    return n_alarms / N_STUDIES, n_failures / N_STUDIES


@pytest.fixture(autouse=True)
def _fewer_flips(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Studies are many: 499 flips tell p-values of 0.01 and 0.05 apart from higher ones."""
    if "rule" in request.fixturenames:
        monkeypatch.setattr(comparison, "N_FLIPS", 499)


@pytest.mark.parametrize("failing", [0.0, 0.15], ids=["normal", "with failed seeds"])
def test_false_alarms_are_as_rare_as_it_is_said(rule: Rule, failing: float) -> None:
    """The standard error of an alarm's rate is 0.010, of a failure's 0.004."""
    alarms, failures = rates(rule, 0.0, failing)
    assert alarms == pytest.approx(0.05, abs=0.02)
    assert failures < 0.02


@pytest.mark.parametrize(
    ("failing", "least_power"),
    [pytest.param(0.0, 0.85, id="normal", marks=pytest.mark.slow), pytest.param(0.15, 0.45, id="with failed seeds")],
)
def test_a_loss_of_a_fifth_is_mostly_seen_and_one_of_a_tenth_mostly_not(
    rule: Rule, failing: float, least_power: float
) -> None:
    power = {loss: rates(rule, loss, failing)[1] for loss in (0.1, 0.2, 0.3)}
    assert power[0.1] < 0.35
    assert power[0.2] > least_power
    assert power[0.3] > 0.88


def test_the_number_of_seeds_is_the_one_that_was_simulated() -> None:
    options = read_options("regression", GateOptions, [])
    assert [len(read_values(name, getattr(options, name))) for name in ("first_seeds", "second_seeds")] == [
        N_SEEDS,
        N_SEEDS,
    ]
