"""What levels share and what they do not: no gradient, no parameter, no call that is not due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.experiment import Experiment
from support.toy_task import ToyTask
from tensordict import TensorDictBase

from benchmarl_himpo.hierarchy.keys import HierarchyKeys

KEYS = HierarchyKeys("agents")

MakeAlgorithm = Callable[..., AlgorithmConfig]


@pytest.fixture(params=["himppo", "himppo_paper", "himppo_fl"])
def experiment(request: pytest.FixtureRequest, tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> Experiment:
    """Three levels that train, with an entropy bonus."""
    experiment: Experiment = tiny_experiment(make_algorithm(request.param, entropy_coef=0.01), ToyTask(n_agents=4))
    return experiment


def processed_batch(experiment: Experiment) -> TensorDictBase:
    """The first batch, ready for the loss. Shape ``[n_rows]``."""
    batch = next(iter(experiment.collector)).clone()
    return experiment.algorithm.process_batch("agents", batch).reshape(-1)


def networks_with_gradient(loss: torch.nn.Module, value: torch.Tensor) -> set[tuple[int, str]]:
    """The (level, network) pairs that a scalar depends on."""
    names, parameters = zip(*loss.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    found = set()
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None and gradient.any():
            _, level, network, *_ = name.split(".")
            found.add((int(level), network))
    return found


def test_the_loss_of_a_level_moves_its_own_actor_and_critic_alone(experiment: Experiment) -> None:
    loss, batch = experiment.losses["agents"], processed_batch(experiment)
    for level, level_loss in enumerate(loss.level_losses):
        out = level_loss(batch.clone())
        for name in ("loss_objective", "loss_entropy"):
            assert networks_with_gradient(loss, out[name]) == {(level, "actor_network_params")}
        assert networks_with_gradient(loss, out["loss_critic"]) == {(level, "critic_network_params")}


def test_the_summed_objective_moves_every_actor_and_no_critic_and_the_critic_loss_the_reverse(
    experiment: Experiment,
) -> None:
    loss = experiment.losses["agents"]
    out = loss(processed_batch(experiment))
    levels = range(3)
    assert networks_with_gradient(loss, out["loss_objective"]) == {(level, "actor_network_params") for level in levels}
    assert networks_with_gradient(loss, out["loss_critic"]) == {(level, "critic_network_params") for level in levels}


def test_every_parameter_belongs_to_exactly_one_network_and_one_optimiser(experiment: Experiment) -> None:
    loss = experiment.losses["agents"]
    owners = Counter(
        id(parameter)
        for optimizer in experiment.optimizers["agents"].values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    )
    assert set(owners) == {id(parameter) for parameter in loss.parameters()}
    assert set(owners.values()) == {1}
    storages = [parameter.data_ptr() for parameter in loss.parameters()]
    assert len(set(storages)) == len(storages)


def test_what_is_trained_is_what_acts(experiment: Experiment) -> None:
    trained = {parameter.data_ptr() for level in experiment.losses["agents"].actor_params() for parameter in level}
    acting = {parameter.data_ptr() for parameter in experiment.policy.parameters()}
    assert trained == acting


def test_nothing_in_a_processed_batch_carries_a_gradient(experiment: Experiment) -> None:
    batch = processed_batch(experiment)
    assert not any(value.requires_grad for value in batch.values(True, True))


def test_the_external_rewards_order_inside_an_interval_is_hidden_from_shielded_workers(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    # Rewards swapped inside intervals: workers feel it under FL and telescoped credit, not under uniform and final
    feels = {}
    for label, options in {
        "uniform": {"credit": "uniform"},
        "final": {"credit": "final"},
        "telescoped": {"credit": "telescoped", "critic_rows": "all"},
        "external": {"credit": "uniform", "worker_external_reward": True},
    }.items():
        algorithm = make_algorithm("himppo_paper", **options)
        experiment = tiny_experiment(algorithm, ToyTask(min_steps=100, max_steps=100))
        batch = next(iter(experiment.collector)).clone()[:, :10]
        swapped = batch.clone()
        reward = swapped.get(("next", "agents", "reward"))
        reward[:, [1, 3, 6, 9]] = reward[:, [3, 1, 9, 6]]
        advantages = []
        for data in (batch, swapped):
            torch.manual_seed(0)
            advantages.append(experiment.algorithm.process_batch("agents", data).get(KEYS[0].advantage))
        feels[label] = not torch.allclose(*advantages, atol=1e-5)
    assert feels == {"uniform": False, "final": False, "telescoped": True, "external": True}


# Calls


def count_calls(experiment: Experiment) -> Counter[int]:
    """Count the calls of every level's actor from now on."""
    calls: Counter[int] = Counter()
    for level, actor in enumerate(experiment.policy[0].actors):
        actor.register_forward_pre_hook(lambda *_, level=level: calls.update([level]))
    return calls


def test_upper_actors_are_called_only_on_steps_where_they_decide(tiny_experiment: Any) -> None:
    experiment = tiny_experiment(task=ToyTask(min_steps=100, max_steps=100))
    env, calls = experiment.env_func(), count_calls(experiment)
    env.rollout(20, experiment.policy)
    assert calls == {0: 20, 1: 4, 2: 2}


def test_where_environments_decide_at_different_times_only_those_are_computed(tiny_experiment: Any) -> None:
    experiment = tiny_experiment(task=ToyTask())
    n_rows: dict[int, list[int]] = {1: [], 2: []}
    for level, actor in enumerate(experiment.policy[0].actors):
        if level > 0:
            actor.register_forward_pre_hook(lambda _, args, level=level: n_rows[level].append(args[0].shape[0]))
    env = experiment.env_func()
    batch = env.rollout(40, experiment.policy, break_when_any_done=False)
    clock = batch.get(KEYS.clock).squeeze(-1)
    for level, period in ((1, 5), (2, 10)):
        n_due = (clock % period == 0).sum(0)  # environments that decide at each step
        assert n_rows[level] == n_due[n_due > 0].tolist()
        assert 0 < n_due.count_nonzero() < 40 and n_due.unique().numel() > 2
