"""What an audit says of goals that are chosen from a few is what a rollout holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benchmarl.experiment import Experiment

from benchmarl_himpo.harness.evaluation.episodes import fixed_episodes
from benchmarl_himpo.harness.evaluation.goal_choices import GoalChoice, GoalChoices
from benchmarl_himpo.hierarchy.keys import HierarchyKeys

KEYS = HierarchyKeys("agents")


def choices_of(experiment: Experiment) -> tuple[list[GoalChoice], torch.Tensor, torch.Tensor]:
    """What is counted over twelve steps, and the workers' goals and actions there."""
    policy = experiment.policy[0]
    counted = GoalChoices(policy.hierarchy)
    with fixed_episodes(experiment, 1):
        rollout = experiment.test_env.rollout(12, policy)
    for step in rollout.unbind(1):
        counted.watch(step)
    return list(counted), rollout.get(KEYS[1].action).argmax(-1), rollout.get(("agents", "action"))


@pytest.mark.parametrize("is_continuous", [True, False])
def test_shares_and_actions_are_those_of_the_rollout(
    is_continuous: bool, make_experiment: Callable[..., Experiment]
) -> None:
    experiment = make_experiment(
        *("algorithm=himppo", "algorithm.goal=categorical", "task=vmas/sampling"),
        f"experiment.prefer_continuous_actions={is_continuous}",
    )
    choices, goals, actions = choices_of(experiment)
    assert sum(choice.share for choice in choices if choice.level == 1) == pytest.approx(1)
    assert sum(choice.share for choice in choices if choice.level == 2) == pytest.approx(1)
    assert all(choice.action is None for choice in choices if choice.level == 2)
    numbers = actions if is_continuous else torch.nn.functional.one_hot(actions, actions.max() + 1)
    for choice in choices[: experiment.algorithm.goal_space.dim]:
        follows = goals == choice.goal
        assert choice.share == pytest.approx(follows.float().mean().item())
        if choice.action is None:
            assert not follows.any()
            continue
        mean = numbers[follows].double().mean(0)
        assert choice.action[: len(mean)] == pytest.approx(mean.tolist(), abs=1e-6)
        assert is_continuous or sum(choice.action) == pytest.approx(1)
    shares = [choice.share for choice in choices if choice.level == 1]
    assert shares == sorted(shares, reverse=True)


def test_environments_without_batch_dimension_are_counted(make_experiment: Callable[..., Experiment]) -> None:
    pytest.importorskip("mpe2", reason="needs the pettingzoo extra")
    experiment = make_experiment("algorithm=himppo_2l", "algorithm.goal=categorical", "task=mpe/simple_spread")
    policy = experiment.policy[0]
    counted = GoalChoices(policy.hierarchy)
    with fixed_episodes(experiment, 1):
        for step in experiment.test_env.rollout(3, policy).unbind(0):
            counted.watch(step)
    assert sum(choice.share for choice in counted) == pytest.approx(1)


def test_vectors_are_not_counted(make_experiment: Callable[..., Experiment]) -> None:
    assert choices_of(make_experiment("algorithm=himppo", "task=vmas/sampling"))[0] == []
