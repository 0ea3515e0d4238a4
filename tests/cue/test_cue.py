"""The hierarchy learns: a cue that only agent 0 sees reaches agent 1 as a goal, and by no other way.

Neighbours exchange nothing, so what agent 1 knows of its target stands in the goal it receives. The best policy earns 1
per step, chance 1 / 4. Everything is default HiMPPO but for the neighbours and the size of networks, batches and
learning rate.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarl.algorithms import IppoConfig
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models import MlpConfig
from cue_task import CueTask
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.evaluation.audit import Change, DisturbedPolicy, shuffle_environments, zero

OPTIMUM, CHANCE = 1.0, 0.25
N_EPISODES = 1_000  # standard error of a score at chance: 0.014
NEAR_CHANCE = CHANCE + 0.1
N_ITERS = 45  # seeds reach the optimum between iterations 25 and 35


def train(algorithm: AlgorithmConfig, seed: int, folder: Path, task: CueTask | None = None) -> Experiment:
    """Train on the cue task: 6,000 frames an iteration, 10 steps of 3,000 on them."""
    config = ExperimentConfig.get_from_yaml()
    config.max_n_frames, config.max_n_iters = None, N_ITERS
    config.on_policy_collected_frames_per_batch, config.on_policy_n_envs_per_worker = 6_000, 600
    config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 5, 3_000
    config.lr = 0.01
    config.evaluation, config.evaluation_episodes, config.render = False, N_EPISODES, False
    config.loggers, config.create_json, config.save_folder = [], False, str(folder)
    models = (MlpConfig(num_cells=[32], activation_class=torch.nn.Tanh, layer_class=torch.nn.Linear) for _ in range(2))
    experiment = Experiment(
        task=CueTask() if task is None else task,
        algorithm_config=algorithm,
        model_config=next(models),
        critic_model_config=next(models),
        seed=seed,
        config=config,
    )
    experiment.run()
    return experiment


def himppo_config(name: str = "himppo") -> AlgorithmConfig:
    """A named algorithm whose workers exchange nothing, with narrow networks."""
    config = algorithm_config_registry[name].get_from_yaml()
    config.neighbours, config.hidden_dim = "none", 32
    return config


def score(experiment: Experiment, change: Change | None = None) -> float:
    """Mean reward per step of the deterministic policy: 1 is best, 0.25 chance. Workers' goals may be changed."""
    policy = experiment.policy if change is None else DisturbedPolicy(experiment.policy[0], level=1, change=change)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        episode = experiment.test_env.rollout(experiment.max_steps, policy)
    assert episode.shape[0] == N_EPISODES
    return float(episode.get(("next", "agents", "reward")).mean())


def check_that_goals_carry_the_cue(experiment: Experiment) -> None:
    """Near the optimum as trained, near chance where goals are zeroed or come from the environment next door."""
    assert score(experiment) >= 0.9 * OPTIMUM
    assert score(experiment, zero) < NEAR_CHANCE
    assert score(experiment, shuffle_environments) < NEAR_CHANCE


def test_himppo_brings_the_cue_to_the_listener_through_goals_alone(tmp_path: Path) -> None:
    check_that_goals_carry_the_cue(train(himppo_config(), seed=0, folder=tmp_path))


def test_ippo_stays_at_chance(tmp_path: Path) -> None:
    experiment = train(IppoConfig.get_from_yaml(), seed=0, folder=tmp_path)
    assert score(experiment) < NEAR_CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_other_seeds_of_himppo_bring_the_cue_too(seed: int, tmp_path: Path) -> None:
    check_that_goals_carry_the_cue(train(himppo_config(), seed, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["himppo_paper", "himppo_nl", "himppo_fl", "himppo_sg"])
def test_three_level_variants_bring_the_cue_too(name: str, tmp_path: Path) -> None:
    check_that_goals_carry_the_cue(train(himppo_config(name), seed=0, folder=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["himppo_2l", "himppo_haven"])
def test_two_level_variants_bring_a_cue_that_lasts_as_long_as_their_goals(name: str, tmp_path: Path) -> None:
    task = CueTask(redraw_interval=5)
    check_that_goals_carry_the_cue(train(himppo_config(name), seed=0, folder=tmp_path, task=task))


@pytest.mark.slow
def test_the_flat_control_reads_the_cue_from_the_team_state(tmp_path: Path) -> None:
    # The same information without a hierarchy: the task is solvable, and chance is what a lack of information earns
    experiment = train(himppo_config("himppo_flat"), seed=0, folder=tmp_path)
    assert score(experiment) >= 0.9 * OPTIMUM
    blind = himppo_config("himppo_flat")
    blind.team_state = False
    assert score(train(blind, seed=0, folder=tmp_path)) < NEAR_CHANCE
