"""A run that is killed and resumed ends where it would have ended."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.environments import VmasTask
from benchmarl.experiment import Callback
from support.run_states import differences, last_state, scalars
from tensordict import LazyStackedTensorDict, TensorDict
from vmas.simulator.core import World

from benchmarl_himpo.environments.lbf.observation import observe
from benchmarl_himpo.environments.lbf.placement import new_boards
from benchmarl_himpo.environments.sampling_scenario import SamplingScenario
from benchmarl_himpo.harness.callbacks import SummaryCallback
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.checkpoint import CheckpointError, newest_checkpoint, read_checkpoint
from benchmarl_himpo.harness.runs.training import config_to_continue

N_FRAMES = 320


@pytest.mark.parametrize(
    "algorithm", ["himppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("himppo_paper", "mappo")), "qmix"]
)
def test_half_a_run_resumed_is_the_whole_run(algorithm, runs) -> None:
    """Weights, Adam states, random numbers, buffers, counters and evaluations, to the last bit."""
    resumed = check_resumes_exactly(runs, f"algorithm={algorithm}")
    (summary,) = (callback for callback in resumed.callbacks if isinstance(callback, SummaryCallback))
    assert summary.evaluation_return is not None


def test_what_torchrl_derives_from_specs_is_kept_from_step_to_step(make_experiment) -> None:
    experiment = make_experiment("algorithm=himppo")
    for env in (experiment.collector.env, experiment.test_env):
        assert env._step_mdp is env._step_mdp
    experiment.close()


MID_EPISODE = {
    "lbf": ["task=lbf/foraging_8x8_2p_1f", "task.field_size=[5,5]", "task.max_steps=30"],
    "lbfws": ["task=lbfws/easy", "task.initial_energy=6", "task.max_steps=30"],
    "toy": ["task=toy/cue", "task.max_steps=30"],
    "sampling": ["task=vmas/sampling", "task.max_steps=30"],
    # VMAS's own loops over Gaussians and cells are slow
    "stock sampling": [
        "task=vmas/sampling",
        "task.max_steps=30",
        "task.n_gaussians=1",
        "accelerated=false",
        "experiment.evaluation=false",
    ],
}
"""Tasks of which a checkpoint of 160 frames, 40 steps, falls in the middle of episodes."""
OF_IQL = ("lbfws",)
"""Generators of its own and masks."""
SLOW = ("lbf", "stock sampling", "toy")
"""Tasks whose state is kept as that of another one."""


@pytest.mark.parametrize(
    ("task", "algorithm"),
    [
        pytest.param(t, a, marks=pytest.mark.slow if t in SLOW or (a == "iql" and t not in OF_IQL) else ())
        for t in MID_EPISODE
        for a in ("himppo", "iql")
    ],
)
def test_a_run_resumes_exactly_in_the_middle_of_episodes(task, algorithm, runs) -> None:
    check_resumes_exactly(runs, f"algorithm={algorithm}", *MID_EPISODE[task])


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["window", "gru"])
def test_memories_resume_in_the_middle_of_episodes(memory, runs) -> None:
    check_resumes_exactly(runs, "algorithm=himppo", f"algorithm.memory={memory}", *MID_EPISODE["toy"])


@pytest.mark.slow
def test_goal_intervals_that_shorten_resume_where_they_were(runs) -> None:
    """Without the last two checkpoints, as if killed; with another length the run is another."""
    overrides = ("algorithm=himppo", "algorithm.initial_goal_interval=[15,2]", "experiment.keep_checkpoints_num=null")
    whole = runs.trained(*overrides)
    half = Path(shutil.copytree(whole, whole.parent / "half" / whole.name))
    for path in sorted((half / "checkpoints").glob("*.pt"), key=lambda path: path.stat().st_mtime_ns)[2:]:
        path.unlink()
    copied = Path(shutil.copytree(half, whole.parent / "longer" / whole.name))
    resumed = runs.resume(half)
    assert (resumed.resumed, resumed.resumed_exactly) == (True, True)
    assert differences(last_state(whole, N_FRAMES), last_state(half, N_FRAMES)) == []
    assert scalars(whole) == scalars(half)
    longer = runs.build_resumed(copied, "experiment.max_n_frames=640")
    assert not longer.resumed_exactly
    assert longer.policy[0].hierarchy.layout.periods == (1, 10, 20)
    longer.close()


def test_goal_intervals_are_kept_if_the_collector_has_no_policy_of_its_own(runs) -> None:
    folder = runs.trained(
        "algorithm=himppo", "algorithm.initial_goal_interval=[15,2]", "experiment.collect_with_grad=true"
    )
    resumed = runs.build_resumed(folder)
    assert resumed.policy[0].hierarchy.layout.periods == (1, 5, 10)
    resumed.close()


def test_a_run_continues_in_its_own_folder(runs, tmp_path: Path) -> None:
    folder = runs.trained("algorithm=himppo")
    with pytest.raises(CheckpointError, match="continues in its own folder"):
        config_to_continue(folder, [f"experiment.save_folder={tmp_path}"])


@pytest.mark.parametrize("task", ["lbf", "lbfws"])
def test_episodes_that_end_at_different_times_go_on(task, runs) -> None:
    """The checkpoints of the test above hold boards that are at different steps."""
    folder = runs.run("algorithm=ippo", "experiment.max_n_frames=160", *MID_EPISODE[task])
    experiment = runs.build_resumed(folder)
    steps = experiment.collector.env.base_env.state.step_count.tolist()
    assert len(set(steps)) > 1 and max(steps) > 0
    experiment.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["give_way", "simple_reference"])
def test_vmas_tasks_resume_exactly_in_the_middle_of_episodes(task, runs) -> None:
    """One with controllers that integrate errors, one that draws which landmark an agent's goal is."""
    check_resumes_exactly(runs, "algorithm=ippo", f"task=vmas/{task}", "task.max_steps=30")


@pytest.mark.slow
@pytest.mark.parametrize("actions", ["continuous", "discrete"])
@pytest.mark.parametrize("task", [task.name.lower() for task in VmasTask])
def test_every_vmas_task_resumes_exactly_in_the_middle_of_episodes(task, actions, runs) -> None:
    is_continuous = f"experiment.prefer_continuous_actions={actions == 'continuous'}"
    check_resumes_exactly(runs, "algorithm=ippo", f"task=vmas/{task}", "task.max_steps=30", is_continuous)


def check_resumes_exactly(runs, *overrides: str) -> ResumableExperiment:
    """Half a run, resumed, leaves what the whole run leaves."""
    whole = runs.trained(*overrides)
    half = runs.run(*overrides, "experiment.max_n_frames=160")
    resumed = runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert (resumed.resumed, resumed.resumed_exactly) == (True, True)
    assert differences(last_state(whole, N_FRAMES), last_state(half, N_FRAMES)) == []
    assert scalars(whole) == scalars(half)
    return resumed


def test_tasks_with_random_numbers_of_their_own_evaluate_on_others(runs) -> None:
    state = last_state(runs.run("task=lbfws/medium", "algorithm=ippo", "experiment.max_n_frames=80"), 80)
    assert not torch.equal(state["random_state"]["environment"], state["test_environment_random_state"])


@pytest.mark.slow
def test_a_scenario_whose_state_cannot_be_read_begins_new_episodes_and_the_run_says_so(runs, monkeypatch) -> None:
    def make_world(scenario: SamplingScenario, *args: Any, **kwargs: Any) -> World:
        scenario.stream = iter(range(3))
        return original(scenario, *args, **kwargs)

    original = SamplingScenario.make_world
    monkeypatch.setattr(SamplingScenario, "make_world", make_world)
    half = runs.run("algorithm=himppo", "experiment.max_n_frames=160")
    assert last_state(half, 160)["episodes"] is None
    resumed = runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert (resumed.resumed, resumed.resumed_exactly, resumed.total_frames) == (True, False, N_FRAMES)


def test_without_the_replay_buffers_a_run_does_not_say_that_it_is_the_same(runs) -> None:
    half = runs.run("algorithm=iql", "experiment.max_n_frames=80", "experiment.exclude_buffer_from_checkpoint=true")
    resumed = runs.build_resumed(half)
    assert (resumed.resumed, resumed.resumed_without_buffers, resumed.resumed_exactly) == (True, True, False)
    resumed.close()


def test_agents_of_a_group_that_observe_differently_begin_new_episodes(runs) -> None:
    """TorchRL cannot write down what its collector carries then."""
    experiment = runs.build("algorithm=ippo")
    assert experiment.state_dict()["episodes"] is not None
    agents = [TensorDict({"observation": torch.zeros(4, size)}, [4]) for size in (2, 3)]
    experiment.collector._carrier["agents"] = LazyStackedTensorDict(*agents, stack_dim=1)
    assert experiment.state_dict()["episodes"] is None
    experiment.close()


@pytest.mark.slow
def test_with_another_number_of_environments_new_episodes_begin_on_boards_that_come_next(runs) -> None:
    """On those that the generator would have given next."""

    class FirstSight(Callback):
        observation = None

        def on_batch_collected(self, batch) -> None:
            if self.observation is None:
                self.observation = batch[:, 0]["agents", "observation"]

    half = runs.run("task=lbfws/medium", "task.max_steps=200", "algorithm=ippo", "experiment.max_n_frames=160")
    resumed = runs.build_resumed(
        half, f"experiment.max_n_frames={N_FRAMES}", "experiment.on_policy_n_envs_per_worker=5"
    )
    resumed.callbacks.append(FirstSight())
    resumed.run()
    assert (resumed.resumed, resumed.resumed_exactly, resumed.resumed_with_changes) == (True, False, True)
    generator = torch.Generator()
    generator.set_state(last_state(half, 160)["random_state"]["environment"])
    boards = new_boards(5, resumed.task.options, generator)
    sight = observe(boards._replace(energy=30 * boards.energy), resumed.task.options)
    assert torch.equal(resumed.callbacks[-1].observation, sight)


def test_changed_options_take_effect_and_the_run_says_that_it_is_another(runs) -> None:
    half = runs.run("algorithm=ippo", "experiment.max_n_frames=160", "+experiment.adam_extra_kwargs.weight_decay=0.01")
    resumed = runs.build_resumed(half, f"experiment.max_n_frames={N_FRAMES}", "experiment.lr=1e-5")
    assert (resumed.resumed, resumed.resumed_exactly) == (True, False)
    for optimizer in resumed.optimizers["agents"].values():
        assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(1e-5, 0.01)]
    resumed.run()
    resumed = runs.build_resumed(half, "experiment.max_n_frames=400", "experiment.evaluation=false")
    assert resumed.resumed_exactly  # with what it was changed to; evaluating changes nothing
    resumed.close()


@pytest.mark.parametrize(
    ("option", "expected"),
    [(None, (True, None)), ("fused=false", (False, None)), ("foreach=true", (None, True))],
)
def test_adam_of_every_algorithm_is_fused_unless_an_option_says_otherwise(option, expected, runs) -> None:
    experiment = runs.build("algorithm=ippo", *([f"+experiment.adam_extra_kwargs.{option}"] if option else []))
    groups = [group for optimizer in experiment.optimizers["agents"].values() for group in optimizer.param_groups]
    assert {(group["fused"], group["foreach"]) for group in groups} == {expected}
    experiment.close()


def test_fused_adam_takes_the_same_steps_up_to_rounding(runs) -> None:
    """The same batch from the same seed, in the first iteration."""
    states = [
        last_state(runs.run("algorithm=ippo", "experiment.max_n_frames=80", *option), 80)["loss_agents"]
        for option in ([], ["+experiment.adam_extra_kwargs.fused=false"])
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "begun_with",
    [
        pytest.param("null", id="one rate", marks=pytest.mark.slow),
        pytest.param("[0.001,0.002,0.003]", id="rates of levels"),
    ],
)
def test_every_level_resumes_with_the_learning_rate_that_is_asked_for(begun_with, runs) -> None:
    """Whatever rates the checkpoint was written with; what Adam has averaged is the checkpoint's."""
    half = runs.run("algorithm=himppo", f"algorithm.lr={begun_with}", "experiment.max_n_frames=160")
    resumed = runs.build_resumed(half, f"experiment.max_n_frames={N_FRAMES}", "algorithm.lr=[1e-5,2e-5,3e-5]")
    saved = read_checkpoint(newest_checkpoint(half / "checkpoints"))["optimizers"]["agents"]
    for name, optimizer in resumed.optimizers["agents"].items():
        assert [group["lr"] for group in optimizer.param_groups] == [1e-5, 2e-5, 3e-5]
        averages = [entry["exp_avg"] for entry in saved[name]["state"].values()]
        own = [optimizer.state[param]["exp_avg"] for group in optimizer.param_groups for param in group["params"]]
        assert all(torch.equal(average, mine) for average, mine in zip(averages, own, strict=True))
    resumed.close()


def test_rows_logged_after_the_checkpoint_are_written_once(runs) -> None:
    """As if killed between two checkpoints, in the middle of a row."""
    whole = runs.trained("algorithm=ippo")
    half = runs.trained("algorithm=ippo", "experiment.max_n_frames=160")
    (rewards,) = half.glob("*/scalars/collection_reward_episode_reward_mean.csv")
    rewards.write_text(rewards.read_text() + "2,123.0\n3,12")
    runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert scalars(whole) == scalars(half)


def test_a_moved_run_resumes(runs, tmp_path: Path) -> None:
    half = runs.trained("algorithm=ippo", "experiment.max_n_frames=160")
    moved = tmp_path / "elsewhere" / half.name
    shutil.move(half, moved)
    resumed = runs.resume(moved, f"experiment.max_n_frames={N_FRAMES}")
    assert Path(resumed.folder_name) == moved
    assert not half.exists()


def test_evaluating_changes_nothing_in_training(runs) -> None:
    """VMAS shares random numbers between its environments; evaluations draw from their own."""
    states = [
        last_state(runs.run("algorithm=himppo", f"experiment.evaluation={evaluates}"), N_FRAMES)
        for evaluates in (True, False)
    ]
    assert differences(states[0]["loss_agents"], states[1]["loss_agents"]) == []


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_in_between(process: subprocess.Popen[str], output: Path, generator: random.Random) -> None:
    """Kill a process at a random moment after its first own checkpoint."""
    before = {path.stat().st_mtime_ns for path in output.glob("*/checkpoints/*.pt")}
    while process.poll() is None and not {p.stat().st_mtime_ns for p in output.glob("*/checkpoints/*.pt")} - before:
        time.sleep(0.01)
    time.sleep(generator.random())
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [2, 20])
def test_a_killed_process_loses_nothing_before_its_last_checkpoint(
    n_kills: int, sampling_overrides: list[str], tmp_path: Path
) -> None:
    """SIGKILL at random moments, resume by the command, and the end is that of an uninterrupted run."""
    n_frames = 80 * 8 * n_kills
    overrides = [*sampling_overrides, "algorithm=himppo", f"experiment.max_n_frames={n_frames}"]
    killed = tmp_path / "killed"
    generator = random.Random(0)
    process = start(["benchmarl_himpo.run", *overrides, f"experiment.save_folder={killed}"])
    kill_in_between(process, killed, generator)
    for _ in range(n_kills - 1):
        kill_in_between(start(["benchmarl_himpo.resume", str(killed)]), killed, generator)
    process = start(["benchmarl_himpo.resume", str(killed)])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (folder,) = killed.iterdir()
    if "is finished" not in said:
        assert "resumed: true" in said
        assert "bitwise identical to an uninterrupted run" in said
    # By a process too: what other tests did to this one may round differently
    process = start(["benchmarl_himpo.run", *overrides, f"experiment.save_folder={tmp_path / 'whole'}"])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (whole,) = (tmp_path / "whole").iterdir()
    assert differences(last_state(whole, n_frames), last_state(folder, n_frames)) == []
    assert scalars(whole) == scalars(folder)
