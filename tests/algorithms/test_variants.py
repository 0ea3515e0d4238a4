"""Every named algorithm: its config, its name in files, and that it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments.common import TaskClass
from omegaconf import OmegaConf

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.algorithms.options import PARTS
from benchmarl_himpo.harness.composition import compose

NAMES = ("himppo", "paper", "paper_tuned", "fl", "nl", "sg", "2l", "nomsg", "nogoal", "haven", "flat", "cosine", "dial")
ALGORITHMS = [name if name == "himppo" else f"himppo_{name}" for name in NAMES]
OF_A_KIND = ("himppo", "himppo_flat", "himppo_dial")
"""A hierarchy, workers alone, and goals that carry gradients: the others act as one of these."""

MakeAlgorithm = Callable[..., AlgorithmConfig]
MakeTask = Callable[..., TaskClass]


def changed_parameters(before: list[torch.Tensor], after: list[torch.Tensor]) -> list[bool]:
    """Which parameters moved."""
    return [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]


def test_the_registry_holds_exactly_the_named_algorithms() -> None:
    assert sorted(algorithm_config_registry) == sorted(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_composed_config_equals_get_from_yaml(name: str) -> None:
    config_class = algorithm_config_registry[name]
    composed = OmegaConf.to_object(compose([f"algorithm={name}"]).algorithm)
    loaded = config_class.get_from_yaml()
    assert type(composed) is type(loaded) is config_class
    assert composed == loaded
    assert "???" not in str(vars(loaded))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_differs_from_its_base_only_in_the_options_it_is_named_for(name: str) -> None:
    levels = {"n_nodes", "goal_interval", "gamma", "lmbda"}
    allowed = {
        "himppo_paper_tuned": {"credit", "gamma"},
        "himppo_fl": {"worker_external_reward"},
        "himppo_nl": {"local_reward"},
        "himppo_sg": {"clustering"},
        "himppo_2l": levels,
        "himppo_nomsg": {"neighbours"},
        "himppo_nogoal": {"send_goals"},
        "himppo_haven": levels | {"credit", "worker_external_reward"},
        "himppo_flat": levels | {"team_state"},
        "himppo_cosine": {"credit", "goal_dim", "worker_external_reward"},
        "himppo_dial": {"goal_gradient", "objective_coef"},
    }
    assert {*allowed, "himppo", "himppo_paper"} == {*algorithm_config_registry}
    base = vars(algorithm_config_registry["himppo"].get_from_yaml())
    config = vars(algorithm_config_registry[name].get_from_yaml())
    differing = {key for key in base if base[key] != config[key]}
    if name in allowed:
        assert differing <= allowed[name]
        assert differing & allowed[name]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_part_of_another_package_takes_the_place_of_the_default_on_the_command_line(name: str) -> None:
    """Hydra merges mappings: a default that were one would leave its fields in what the user gives."""
    algorithm = compose(
        [f"algorithm={name}", *(f"algorithm.{option}={{name:own,size:3}}" for option in PARTS)]
    ).algorithm
    assert [algorithm[option] for option in PARTS] == [{"name": "own", "size": 3}] * len(PARTS)


@pytest.mark.parametrize("name", ["himppo_paper", "himppo_paper_tuned"])
def test_the_paper_configs_hold_what_the_source_states(name: str) -> None:
    paper = algorithm_config_registry[name].get_from_yaml()
    assert (len(paper.n_nodes), paper.goal_interval, paper.credit) == (2, [5, 2], "uniform")
    assert paper.lmbda == [0.95, 0.0, 0.0]
    assert (paper.worker_external_reward, paper.clustering) == (False, "kmeans")
    assert paper.local_reward != "none"


def test_every_algorithm_has_a_class_name_of_its_own() -> None:
    classes = {name: config.associated_class() for name, config in algorithm_config_registry.items()}
    assert {name: cls.__name__.lower() for name, cls in classes.items()} == {
        name: name.replace("_", "") for name in ALGORITHMS
    }


@pytest.mark.parametrize(
    ("name", "continuous"),
    [pytest.param(name, True, id=f"{name}-continuous") for name in ALGORITHMS]
    + [
        pytest.param(name, False, id=f"{name}-discrete", marks=() if name in OF_A_KIND else pytest.mark.slow)
        for name in ALGORITHMS
    ],
)
def test_two_iterations_move_every_network_and_keep_it_finite(
    name: str, continuous: bool, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    experiment = tiny_experiment(make_algorithm(name), prefer_continuous_actions=continuous)
    assert experiment.algorithm_name == name.replace("_", "")
    assert experiment.continuous_actions == continuous
    parameters = list(experiment.losses["agents"].parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    experiment.run()
    assert all(parameter.isfinite().all() for parameter in parameters)
    assert all(changed_parameters(before, parameters))
    assert experiment.n_iters_performed == 2


def test_himppo_trains_on_vmas_sampling(tiny_experiment: Any, make_vmas: MakeTask) -> None:
    experiment = tiny_experiment(task=make_vmas("sampling"))
    experiment.run()
    assert all(parameter.isfinite().all() for parameter in experiment.losses["agents"].parameters())


@pytest.mark.slow
@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "discrete"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_on_vmas_sampling(
    name: str, continuous: bool, tiny_experiment: Any, make_algorithm: MakeAlgorithm, make_vmas: MakeTask
) -> None:
    experiment = tiny_experiment(
        make_algorithm(name), make_vmas("sampling"), prefer_continuous_actions=continuous, max_n_iters=3
    )
    experiment.run()
    assert all(parameter.isfinite().all() for parameter in experiment.losses["agents"].parameters())
