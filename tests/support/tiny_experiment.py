"""Experiments of a second, made from Python as BenchMARL's users do."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments import VmasTask
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models import MlpConfig

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.environments import accelerate
from support.toy_task import ToyTask


@cache
def _load_algorithm(name: str) -> AlgorithmConfig:
    return algorithm_config_registry[name].get_from_yaml()


def algorithm_config(name: str = "himppo", **options: Any) -> AlgorithmConfig:
    """A named algorithm with narrow networks and some options replaced."""
    config = copy.deepcopy(_load_algorithm(name))
    goal_dim = 8 if name == "himppo_cosine" else 2  # cosine credit compares goals with node states
    for key, value in {"hidden_dim": 8, "goal_dim": goal_dim, **options}.items():
        assert hasattr(config, key), key
        setattr(config, key, value)
    return config


def mlp_config() -> MlpConfig:
    """A network of one layer of 16."""
    return MlpConfig(num_cells=[16], activation_class=torch.nn.Tanh, layer_class=torch.nn.Linear)


def vmas_task(name: str, **options: Any) -> TaskClass:
    """A VMAS task with short episodes and some options replaced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BenchMARL has no type check for some of its tasks
        task = VmasTask[name.upper()].get_from_yaml()
    task.config |= {"max_steps": 12, **options}
    return accelerate(task)


class TinyExperiment:
    """Builds experiments of two iterations of 64 frames in 4 environments.

    Args:
        save_folder: where they write.
    """

    def __init__(self, save_folder: Path) -> None:
        self.save_folder = save_folder

    def config(self, **options: Any) -> ExperimentConfig:
        """The experiment config with some options replaced."""
        config = ExperimentConfig.get_from_yaml()
        tiny: dict[str, Any] = {
            "max_n_frames": None,
            "max_n_iters": 2,
            "on_policy_collected_frames_per_batch": 64,
            "on_policy_n_envs_per_worker": 4,
            "on_policy_n_minibatch_iters": 2,
            "on_policy_minibatch_size": 32,
            "off_policy_collected_frames_per_batch": 64,
            "off_policy_n_envs_per_worker": 4,
            "off_policy_n_optimizer_steps": 2,
            "off_policy_train_batch_size": 16,
            "off_policy_memory_size": 128,
            "lr": 0.001,
            "evaluation": False,
            "evaluation_interval": 64,
            "evaluation_episodes": 3,
            "render": False,
            "loggers": [],
            "create_json": False,
            "save_folder": str(self.save_folder),
        }
        for key, value in {**tiny, **options}.items():
            assert hasattr(config, key), key
            setattr(config, key, value)
        return config

    def __call__(
        self,
        algorithm: AlgorithmConfig | None = None,
        task: TaskClass | None = None,
        model: Any = None,
        critic_model: Any = None,
        seed: int = 0,
        callbacks: Any = (),
        **options: Any,
    ) -> Experiment:
        """Build one; what is left out is HiMPPO on the toy task with a small MLP."""
        return Experiment(
            task=ToyTask() if task is None else task,
            algorithm_config=algorithm_config() if algorithm is None else algorithm,
            model_config=mlp_config() if model is None else model,
            critic_model_config=mlp_config() if critic_model is None else critic_model,
            seed=seed,
            config=self.config(**options),
            callbacks=list(callbacks),
        )
