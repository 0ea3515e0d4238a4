"""Same seed, same run; what is saved comes back; evaluation is deterministic and leaves training alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Experiment
from support.toy_task import ToyTask
from tensordict import TensorDictBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy.keys import HierarchyKeys

KEYS = HierarchyKeys("agents")

MakeAlgorithm = Callable[..., AlgorithmConfig]


def parameters_of(experiment: Experiment) -> list[torch.Tensor]:
    """A copy of all parameters."""
    return [parameter.detach().clone() for loss in experiment.losses.values() for parameter in loss.parameters()]


def all_equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["himppo", "himppo_paper"])
def test_the_same_seed_gives_the_same_parameters_after_three_iterations(
    name: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    results = []
    for seed in (3, 3, 4):
        experiment = tiny_experiment(
            make_algorithm(name),
            ToyTask(truncated_share=0.5),
            seed=seed,
            max_n_iters=3,
            evaluation=True,
            create_json=True,
        )
        experiment.run()
        results.append(parameters_of(experiment))
    assert all_equal(results[0], results[1])
    assert not all_equal(results[0], results[2])


def test_the_same_seed_gives_the_same_parameters_on_vmas(
    tiny_experiment: Any, make_vmas: Callable[..., TaskClass]
) -> None:
    results = []
    for _ in range(2):
        experiment = tiny_experiment(task=make_vmas("navigation", n_agents=3), max_n_iters=3)
        experiment.run()
        results.append(parameters_of(experiment))
    assert all_equal(*results)


# Saving


@pytest.mark.parametrize("name", ["himppo", "himppo_flat"])
def test_a_saved_run_reloads_and_goes_on(
    name: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm, tmp_path: Path
) -> None:
    experiment = tiny_experiment(make_algorithm(name), checkpoint_at_end=True)
    experiment.run()
    (checkpoint,) = tmp_path.rglob("checkpoint_128.pt")
    reloaded = Experiment.reload_from_file(str(checkpoint), experiment_patch={"max_n_iters": 4})
    assert reloaded.algorithm_name == experiment.algorithm_name
    assert reloaded.algorithm_config == experiment.algorithm_config
    assert all_equal(parameters_of(reloaded), parameters_of(experiment))
    assert reloaded.n_iters_performed == 2
    reloaded.run()
    assert reloaded.n_iters_performed == 4
    assert not all_equal(parameters_of(reloaded), parameters_of(experiment))


def test_a_state_dict_brings_back_what_acts_and_what_values(tiny_experiment: Any) -> None:
    trained, fresh = tiny_experiment(), tiny_experiment(seed=1)
    with torch.no_grad():
        for parameter in trained.losses["agents"].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()))
    assert all_equal(parameters_of(fresh), parameters_of(trained))
    batch = next(iter(fresh.collector)).clone()
    outputs = []
    for experiment in (trained, fresh):
        torch.manual_seed(0)
        with torch.no_grad():
            acted = experiment.policy(batch.select(*experiment.policy.in_keys)[:, 0])
        torch.manual_seed(0)
        processed = experiment.algorithm.process_batch("agents", batch.clone())
        outputs.append((acted.get(KEYS[0].action), acted.get(KEYS[2].action), processed.get(KEYS[0].value_target)))
    for first, second in zip(*outputs, strict=True):
        assert torch.equal(first, second)


# Evaluation


def deterministic_rollout(experiment: Experiment) -> TensorDictBase:
    """One episode of every environment, with nothing drawn by the policy."""
    experiment.test_env.base_env.set_seed(7)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        return experiment.test_env.rollout(12, experiment.policy, break_when_any_done=False)


@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "discrete"])
def test_a_deterministic_rollout_draws_neither_goals_nor_actions(continuous: bool, tiny_experiment: Any) -> None:
    experiment = tiny_experiment(prefer_continuous_actions=continuous)
    torch.manual_seed(0)
    first = deterministic_rollout(experiment)
    torch.manual_seed(1)
    second = deterministic_rollout(experiment)
    for level in range(3):
        assert torch.equal(first.get(KEYS[level].action), second.get(KEYS[level].action))
    actor = experiment.policy[0].actors[2]
    with torch.no_grad():
        mean = actor.get_dist(first[:, 0].select(*actor.in_keys)).mean
    torch.testing.assert_close(first.get(KEYS[2].action)[:, 0], mean)


def test_evaluation_from_python_writes_its_returns(tiny_experiment: Any, tmp_path: Path) -> None:
    experiment = tiny_experiment(create_json=True)
    experiment.evaluate()
    (file,) = tmp_path.rglob("*.json")
    assert "himppo" in json.dumps(json.loads(file.read_text()))


def test_evaluation_leaves_training_as_it_was(tiny_experiment: Any) -> None:
    results = []
    for evaluation in (True, False):
        experiment = tiny_experiment(evaluation=evaluation, create_json=True)
        experiment.run()
        results.append(parameters_of(experiment))
    assert all_equal(*results)
