"""What the rule of the gate is worth, simulated: false alarms, power, and what it cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarl_himpo.benchmark.expansion import read_values
from benchmarl_himpo.benchmark.regression.stages import Rule
from benchmarl_himpo.config import read_options

N_STUDIES = 1_500
N_TASKS, N_BASELINE, N_NEW = 3, 20, 5
CV = 0.25
"""Coefficient of variation of seeds: near the limit that tasks of the gate are chosen by."""


@pytest.fixture(scope="module")
def rule() -> Rule:
    """The rule as it is configured."""
    options = read_options("regression.yaml", [])
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
        reference = [draw(rng, N_BASELINE, 1.0, failing) for _ in range(N_TASKS)]
        first, second = ([draw(rng, N_NEW, 1 - loss, failing) for _ in range(N_TASKS)] for _ in range(2))
        if rule.alarms(first, reference):
            n_alarms += 1
            both = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
            n_failures += rule.fails(both, reference, [0.0] * N_TASKS)
    return n_alarms / N_STUDIES, n_failures / N_STUDIES


@pytest.mark.parametrize("failing", [0.0, 0.15], ids=["normal", "with failed seeds"])
def test_false_alarms_are_as_rare_as_it_is_said(rule: Rule, failing: float) -> None:
    """The standard error of an alarm's rate is 0.006, of a failure's 0.003."""
    alarms, failures = rates(rule, 0.0, failing)
    assert alarms == pytest.approx(0.05, abs=0.02)
    assert failures < 0.02


@pytest.mark.parametrize(("failing", "least_power"), [(0.0, 0.85), (0.15, 0.55)], ids=["normal", "with failed seeds"])
def test_a_loss_of_a_fifth_is_mostly_seen_and_one_of_a_tenth_mostly_not(
    rule: Rule, failing: float, least_power: float
) -> None:
    power = {loss: rates(rule, loss, failing)[1] for loss in (0.1, 0.2, 0.3)}
    assert power[0.1] < 0.3
    assert power[0.2] > least_power
    assert power[0.3] > 0.93


def test_the_number_of_seeds_is_the_one_that_was_simulated() -> None:
    options = read_options("regression.yaml", [])
    numbers = [len(read_values(name, options[name])) for name in ("baseline_seeds", "first_seeds", "second_seeds")]
    assert numbers == [N_BASELINE, N_NEW, N_NEW]
