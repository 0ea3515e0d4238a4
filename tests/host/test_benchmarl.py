"""What is used of BenchMARL's objects beyond its documentation."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from benchmarl.algorithms import IppoConfig
from benchmarl.environments import task_config_registry
from benchmarl.experiment import Experiment
from benchmarl.hydra_config import load_task_config_from_hydra
from omegaconf import OmegaConf
from support.tiny_experiment import TinyExperiment
from support.toy_task import ToyTask
from torchrl.record.loggers import CSVLogger

from benchmarl_himpo.host.benchmarl import (
    EXPERIMENT_ATTRIBUTES,
    HOOKS,
    evaluations_to_write,
    experiment_loggers,
    offer_type_check,
    training_env,
)
from benchmarl_himpo.host.benchmarl_files import conf_dir
from benchmarl_himpo.host.hook import Hook


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.owner.__name__}.{hook.name}")
def test_benchmarl_has_the_hook(hook: Hook) -> None:
    parameters = inspect.signature(getattr(hook.owner, hook.name)).parameters
    assert tuple(name for name in parameters if name != "self") == hook.parameters


def test_an_experiment_calls_its_hooks_in_this_order(build: TinyExperiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours rely on it: the name before the task, the collector after the algorithm, the loops inside ``run``."""
    called: list[str] = []
    names = [hook.name for hook in HOOKS if hook.owner is Experiment]

    def note(name: str) -> None:
        original = getattr(Experiment, name)

        def noted(self: Experiment, *arguments: object) -> object:
            called.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(Experiment, name, noted)

    for name in names:
        note(name)
    options = {"loggers": ["csv"], "max_n_iters": 1, "evaluation": True}
    first = build(IppoConfig.get_from_yaml(), checkpoint_at_end=True, **options)
    first.run()
    assert list(dict.fromkeys(called)) == names[:-1]  # the last one loads
    (checkpoint,) = first.folder_name.glob("*/*.pt")
    called.clear()
    build(IppoConfig.get_from_yaml(), restore_file=str(checkpoint), **options).close()
    assert called == [*names[:4], "_load_experiment"]


@pytest.mark.parametrize("name", EXPERIMENT_ATTRIBUTES)
def test_an_experiment_has_the_attribute(name: str, finished: Experiment) -> None:
    assert hasattr(finished, name)


def test_the_policy_of_each_group_is_a_part_of_the_policy(finished: Experiment) -> None:
    assert list(finished.group_policies) == list(finished.group_map)
    assert all(own is part for own, part in zip(finished.group_policies.values(), finished.policy, strict=True))


def test_conf_dir_holds_a_file_for_each_algorithm_and_task() -> None:
    assert (conf_dir() / "algorithm" / "ippo.yaml").is_file()
    assert (conf_dir() / "task" / "vmas" / "sampling.yaml").is_file()


def test_experiment_loggers_are_those_of_the_config(experiment: Experiment) -> None:
    assert [type(logger) for logger in experiment_loggers(experiment)] == [CSVLogger]


def test_evaluations_to_write_is_what_the_next_evaluation_writes(build: TinyExperiment, experiment: Experiment) -> None:
    evaluations = evaluations_to_write(experiment)
    assert evaluations == {"absolute_metrics": {}}
    evaluations["step_7"] = {"step_count": 448, "return": [1.0]}
    experiment.evaluate()
    written = (experiment.folder_name / f"{experiment.name}.json").read_text()
    assert '"step_7"' in written and '"step_0"' in written
    without = build(IppoConfig.get_from_yaml())
    assert evaluations_to_write(without) is None
    without.close()


@pytest.mark.parametrize("with_grad", [False, True])
def test_training_env_is_the_one_that_is_collected_in(with_grad: bool, build: TinyExperiment) -> None:
    experiment = build(IppoConfig.get_from_yaml(), ToyTask(), collect_with_grad=with_grad, max_n_iters=1)
    env = training_env(experiment)
    assert env.batch_size == torch.Size([4]) and env.base_env.n_steps_done == 0
    experiment.run()
    assert env.base_env.n_steps_done == 16


def test_an_environment_function_that_is_replaced_in_setup_algorithm_is_the_one_that_is_built(
    build: TinyExperiment,
) -> None:
    built = []

    class Counting(Experiment):
        def _setup_algorithm(self) -> None:
            super()._setup_algorithm()
            build_env = self.env_func
            self.env_func = lambda: built.append(1) or build_env()

    config = build.config()
    parts = build(IppoConfig.get_from_yaml())
    parts.close()
    models = {"model_config": parts.model_config, "critic_model_config": parts.critic_model_config}
    Counting(task=ToyTask(), algorithm_config=parts.algorithm_config, seed=0, config=config, **models).close()
    assert built == [1]


@dataclass
class Options:
    """Options of a task that nobody plays."""

    n_agents: int


def test_offer_type_check_lets_benchmarls_loader_check_a_task_without_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = SimpleNamespace(get_task=lambda options: options)
    monkeypatch.setitem(task_config_registry, "vmas/nobody_plays", task)
    cfg = OmegaConf.create({"n_agents": 3})
    with pytest.warns(UserWarning):
        load_task_config_from_hydra(cfg, "vmas/nobody_plays")
    offer_type_check("vmas/nobody_plays", Options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_task_config_from_hydra(cfg, "vmas/nobody_plays") == {"n_agents": 3}
        with pytest.raises(TypeError, match="n_agent_s"):
            load_task_config_from_hydra(OmegaConf.create({"n_agent_s": 3}), "vmas/nobody_plays")
