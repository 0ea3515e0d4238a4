"""The hierarchy learns: a cue that only agent 0 sees reaches agent 1 as a goal, and by no other way.

Neighbours exchange nothing, so what agent 1 knows of its target stands in the goal it receives. The best policy has a
return of 1 per step, a random one 1 / 4. Everything is default HiMPPO but for the neighbours and the size of networks,
batches and learning rate. The regression gate trains the default, seed 0; other seeds and variants are trained here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarl.algorithms import IppoConfig
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments.common import TaskClass
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models import MlpConfig
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.environments.cue import LISTENER, SPEAKER, CueConfig, CueEnv, CueTask
from benchmarl_himpo.harness.evaluation.audit import Change, PerturbedPolicy, shuffle_environments, zero

OPTIMUM, CHANCE = 1.0, 0.25
N_EPISODES = 1_000  # standard error of a score at chance: 0.014
NEAR_CHANCE = CHANCE + 0.1
N_ITERS = 45


def cue_task(**changes: int) -> TaskClass:
    """The task with some options replaced."""
    return CueTask.CUE.get_task({**CueTask.CUE.get_from_yaml().config, **changes})


def test_the_environment_keeps_its_specs_and_repeats_itself() -> None:
    config = CueConfig(n_targets=4, redraw_interval=3, visible_steps=None, max_steps=7)
    check_env_specs(CueEnv(config, 5, seed=0))
    first, again, other = (CueEnv(config, 5, seed=seed).reset() for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all()


def test_only_the_speaker_sees_the_target_and_only_the_listener_is_paid_for_it() -> None:
    env = CueEnv(CueConfig(n_targets=4, redraw_interval=3, visible_steps=None, max_steps=6), 50, seed=0)
    torch.manual_seed(0)
    rollout = env.rollout(6)
    observation = rollout["agents", "observation"]
    target = observation[..., SPEAKER, :].argmax(-1)  # [50, 6]
    assert (observation[..., LISTENER, :] == 0).all()
    hit = (rollout["agents", "action"][..., LISTENER] == target).float()
    assert torch.equal(rollout["next", "agents", "reward"], hit[..., None, None].expand(-1, -1, 2, 1))
    assert torch.equal(target[:, :3], target[:, :1].expand(-1, 3))
    assert torch.equal(target[:, 3:], target[:, 3:4].expand(-1, 3))
    assert (target[:, 0] != target[:, 3]).any()
    assert rollout["next", "terminated"].squeeze(-1).sum(1).tolist() == [1] * 50


def test_a_cue_is_seen_for_the_first_steps_of_each_target_alone() -> None:
    env = CueEnv(CueConfig(n_targets=4, redraw_interval=3, visible_steps=2, max_steps=6), 5, seed=0)
    rollout = env.rollout(6)
    assert rollout["agents", "observation"][..., SPEAKER, :].sum(-1).tolist() == [[1, 1, 0, 1, 1, 0]] * 5
    always = CueEnv(CueConfig(n_targets=4, redraw_interval=3, visible_steps=None, max_steps=6), 5, seed=0)
    seen = always.rollout(6)["agents", "observation"][:, [0, 1, 3, 4]]
    assert torch.equal(rollout["agents", "observation"][:, [0, 1, 3, 4]], seen)  # the same targets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_targets": 1}, "n_targets=1 must be 2 or more"),
        ({"max_steps": 0}, "max_steps=0 must be 1"),
        ({"visible_steps": 0}, "visible_steps=0 must be 1"),
        ({"n": 1}, "task.n "),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cue_task(**changes)


def train(algorithm: AlgorithmConfig, seed: int, folder: Path, task: TaskClass | None = None) -> Experiment:
    """Train on the cue task: 6,000 frames an iteration, 10 steps of 3,000 on them."""
    config = ExperimentConfig.get_from_yaml()
    config.max_n_frames, config.max_n_iters = None, N_ITERS
    config.on_policy_collected_frames_per_batch, config.on_policy_n_envs_per_worker = 6_000, 300
    config.on_policy_n_minibatch_iters, config.on_policy_minibatch_size = 5, 3_000
    config.lr = 0.01
    config.evaluation, config.evaluation_episodes, config.render = False, N_EPISODES, False
    config.loggers, config.create_json, config.save_folder = [], False, str(folder)
    models = (MlpConfig(num_cells=[32], activation_class=torch.nn.Tanh, layer_class=torch.nn.Linear) for _ in range(2))
    experiment = Experiment(
        task=cue_task() if task is None else task,
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


def score(experiment: Experiment, change: Change | None = None, since: int = 0) -> float:
    """Mean reward per step of the deterministic policy: 1 is best, 0.25 chance. Workers' goals may be changed.

    ``since`` leaves out the steps before it.
    """
    policy = experiment.policy if change is None else PerturbedPolicy(experiment.policy[0], level=1, change=change)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        episode = experiment.test_env.rollout(experiment.max_steps, policy)
    assert episode.shape[0] == N_EPISODES
    return float(episode.get(("next", "agents", "reward"))[:, since:].mean())


def check_that_goals_carry_the_cue(experiment: Experiment) -> None:
    """Near the optimum as trained, near chance where goals are zeroed or come from the environment next door."""
    assert score(experiment) >= 0.9 * OPTIMUM
    assert score(experiment, zero) < NEAR_CHANCE
    assert score(experiment, shuffle_environments) < NEAR_CHANCE


@pytest.mark.slow
def test_ippo_stays_at_chance(tmp_path: Path) -> None:
    experiment = train(IppoConfig.get_from_yaml(), seed=0, folder=tmp_path)
    assert score(experiment) < NEAR_CHANCE


@pytest.mark.slow
def test_without_goals_that_are_received_himppo_stays_at_chance(tmp_path: Path) -> None:
    assert score(train(himppo_config("himppo_nogoal"), seed=0, folder=tmp_path)) < NEAR_CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_other_seeds_of_himppo_bring_the_cue_too(seed: int, tmp_path: Path) -> None:
    check_that_goals_carry_the_cue(train(himppo_config(), seed, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["himppo_nl", "himppo_fl", "himppo_sg"])
def test_three_level_variants_bring_the_cue_too(name: str, tmp_path: Path) -> None:
    check_that_goals_carry_the_cue(train(himppo_config(name), seed=0, folder=tmp_path))


@pytest.mark.slow
def test_what_the_paper_states_brings_more_of_the_cue_than_chance(tmp_path: Path) -> None:
    """The preset is not tuned, and in this time it learns the task half."""
    assert score(train(himppo_config("himppo_paper"), seed=0, folder=tmp_path)) > NEAR_CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["himppo_2l", "himppo_haven"])
def test_two_level_variants_bring_a_cue_that_lasts_as_long_as_their_goals(name: str, tmp_path: Path) -> None:
    task = cue_task(redraw_interval=5)
    check_that_goals_carry_the_cue(train(himppo_config(name), seed=0, folder=tmp_path, task=task))


@pytest.mark.slow
def test_the_flat_control_reads_the_cue_from_the_team_state(tmp_path: Path) -> None:
    # The same information without a hierarchy solves the task; without the information the return is that of chance
    experiment = train(himppo_config("himppo_flat"), seed=0, folder=tmp_path)
    assert score(experiment) >= 0.9 * OPTIMUM
    blind = himppo_config("himppo_flat")
    blind.team_state = False
    assert score(train(blind, seed=0, folder=tmp_path)) < NEAR_CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("memory", [None, "window", "gru"])
def test_a_cue_that_is_gone_is_told_by_superiors_that_remember_it(memory: str | None, tmp_path: Path) -> None:
    """It is seen in the first 5 of 20 steps; the manager decides again at step 10, when nobody sees it any more."""
    algorithm = himppo_config()
    algorithm.memory = memory
    experiment = train(algorithm, seed=0, folder=tmp_path, task=cue_task(redraw_interval=20, visible_steps=5))
    late = score(experiment, since=10)
    assert late < NEAR_CHANCE if memory is None else late >= 0.9 * OPTIMUM
