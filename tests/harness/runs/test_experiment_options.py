"""The table of the experiment's options: each has a role, and what is read from the table is what was meant."""

from __future__ import annotations

from dataclasses import fields

from benchmarl.experiment import ExperimentConfig

from benchmarl_himpo.harness.runs.experiment_options import (
    OF_COMPARISONS,
    OF_ONE_KIND,
    ROLES,
    WITHOUT_EFFECT_ON_ITERATIONS,
    WITHOUT_EFFECT_ON_RESULTS,
    options_not_read,
)

NAMES = {field.name for field in fields(ExperimentConfig)}


def test_every_option_of_the_experiment_has_a_role_and_nothing_else_has() -> None:
    assert set(ROLES) == NAMES


def test_options_of_one_kind_of_algorithm_are_those_that_benchmarl_names_after_it() -> None:
    assert options_not_read(on_policy=True) == {name for name in NAMES if name.startswith("off_policy_")}
    assert options_not_read(on_policy=False) == {name for name in NAMES if name.startswith("on_policy_")}
    assert options_not_read(True) | options_not_read(False) == OF_ONE_KIND


def test_what_trains_is_part_of_a_run_and_of_no_comparison() -> None:
    training = {
        "lr",
        "gamma",
        "sampling_device",
        "exploration_eps_end",
        "on_policy_minibatch_size",
        "collect_with_grad",
    }
    assert not training & (WITHOUT_EFFECT_ON_ITERATIONS | OF_COMPARISONS)
    assert {"evaluation_static", "max_n_iters", "prefer_continuous_actions"} <= OF_COMPARISONS
    assert "prefer_continuous_actions" not in WITHOUT_EFFECT_ON_ITERATIONS
    assert WITHOUT_EFFECT_ON_RESULTS < WITHOUT_EFFECT_ON_ITERATIONS
    assert not WITHOUT_EFFECT_ON_RESULTS & OF_COMPARISONS
