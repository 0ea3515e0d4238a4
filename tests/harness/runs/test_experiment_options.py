"""The sets of the experiment's options: each option is in the one that it is meant to be in."""

from __future__ import annotations

from dataclasses import fields

from benchmarl.experiment import ExperimentConfig

from benchmarl_himpo.harness.runs.experiment_options import (
    ACTIONS,
    ANNEALING,
    EVALUATION,
    LENGTH,
    OF_COMPARISONS,
    OFF_POLICY,
    ON_POLICY,
    WITHOUT_EFFECT_ON_ITERATIONS,
    WITHOUT_EFFECT_ON_RESULTS,
    options_not_read,
)

SETS = (ON_POLICY, OFF_POLICY, ACTIONS, ANNEALING, LENGTH, EVALUATION, WITHOUT_EFFECT_ON_RESULTS)
TRAINING = {
    "sampling_device",
    "train_device",
    "buffer_device",
    "share_policy_params",
    "collect_with_grad",
    "parallel_collection",
    "gamma",
    "lr",
    "adam_eps",
    "adam_extra_kwargs",
    "clip_grad_norm",
    "clip_grad_val",
    "soft_target_update",
    "polyak_tau",
    "hard_target_update_frequency",
    "exploration_eps_init",
    "exploration_eps_end",
}


def test_every_option_of_the_experiment_is_in_one_set_or_says_what_an_iteration_does() -> None:
    in_sets = [name for names in SETS for name in names]
    assert sorted([*in_sets, *TRAINING]) == sorted(field.name for field in fields(ExperimentConfig))


def test_options_of_one_kind_of_algorithm_and_of_evaluations_are_known_by_their_names() -> None:
    assert options_not_read(on_policy=True) == OFF_POLICY >= {"off_policy_memory_size", "off_policy_prb_beta"}
    assert options_not_read(on_policy=False) == ON_POLICY >= {"on_policy_minibatch_size"}
    assert EVALUATION == {
        "evaluation",
        "evaluation_interval",
        "evaluation_episodes",
        "evaluation_deterministic_actions",
        "evaluation_static",
    }


def test_what_trains_is_part_of_a_run_and_of_no_comparison() -> None:
    training = TRAINING | ON_POLICY | OFF_POLICY
    assert not training & (WITHOUT_EFFECT_ON_ITERATIONS | OF_COMPARISONS)
    assert {"evaluation_static", "max_n_iters", "prefer_continuous_actions"} <= OF_COMPARISONS
    assert "prefer_continuous_actions" not in WITHOUT_EFFECT_ON_ITERATIONS
    assert WITHOUT_EFFECT_ON_RESULTS < WITHOUT_EFFECT_ON_ITERATIONS
    assert not WITHOUT_EFFECT_ON_RESULTS & OF_COMPARISONS
