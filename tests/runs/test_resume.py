"""A run that is killed and resumed ends where it would have ended."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from benchmarl.experiment import Callback
from run_states import differences, last_state, scalars

from benchmarl_himpo.callbacks import SummaryCallback
from benchmarl_himpo.environments.lbf.observation import observe
from benchmarl_himpo.environments.lbf.placement import new_boards

N_FRAMES = 320


@pytest.mark.parametrize("algorithm", ["himppo", "himppo_paper", "mappo", "qmix"])
def test_half_a_run_resumed_is_the_whole_run(algorithm, runs) -> None:
    """Weights, Adam states, random numbers, buffers, counters and evaluations, to the last bit."""
    whole = runs.run(f"algorithm={algorithm}")
    half = runs.run(f"algorithm={algorithm}", "experiment.max_n_frames=160")
    resumed = runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert (resumed.resumed, resumed.resumed_exactly) == (True, True)
    assert differences(last_state(whole, N_FRAMES), last_state(half, N_FRAMES)) == []
    assert scalars(whole) == scalars(half)
    (summary,) = (callback for callback in resumed.callbacks if isinstance(callback, SummaryCallback))
    assert summary.evaluation_return is not None


def test_what_torchrl_derives_from_specs_is_kept_from_step_to_step(make_experiment) -> None:
    experiment = make_experiment("algorithm=himppo")
    for env in (experiment.collector.env, experiment.test_env):
        assert env._step_mdp is env._step_mdp
    experiment.close()


@pytest.mark.parametrize("task", ["vmas/balance", "vmas/navigation"])
def test_other_tasks_resume_exactly_too(task, runs) -> None:
    whole = runs.run("algorithm=himppo", f"task={task}", "task.max_steps=20")
    half = runs.run("algorithm=himppo", f"task={task}", "task.max_steps=20", "experiment.max_n_frames=160")
    assert runs.resume(half, f"experiment.max_n_frames={N_FRAMES}").resumed_exactly
    assert differences(last_state(whole, N_FRAMES), last_state(half, N_FRAMES)) == []


@pytest.mark.parametrize("algorithm", ["himppo", "qmix"])
def test_tasks_with_random_numbers_of_their_own_resume_exactly_where_all_episodes_end_with_the_batch(
    algorithm, runs
) -> None:
    task = ["task=lbfws/medium", "task.max_steps=20", f"algorithm={algorithm}"]
    whole = runs.run(*task)
    half = runs.run(*task, "experiment.max_n_frames=160")
    assert runs.resume(half, f"experiment.max_n_frames={N_FRAMES}").resumed_exactly
    states = last_state(whole, N_FRAMES), last_state(half, N_FRAMES)
    assert differences(*states) == []
    assert not torch.equal(states[0]["random_state"]["environment"], states[0]["test_environment_random_state"])
    assert scalars(whole) == scalars(half)


def test_random_numbers_of_a_task_go_on_where_episodes_end_at_different_times(runs) -> None:
    """The environments begin new episodes, on the boards that the generator would have given next."""

    class FirstSight(Callback):
        observation = None

        def on_batch_collected(self, batch) -> None:
            if self.observation is None:
                self.observation = batch[:, 0]["agents", "observation"]

    half = runs.run("task=lbfws/medium", "task.max_steps=200", "algorithm=ippo", "experiment.max_n_frames=160")
    resumed = runs.build_resumed(half, f"experiment.max_n_frames={N_FRAMES}")
    resumed.callbacks.append(FirstSight())
    resumed.run()
    assert (resumed.resumed, resumed.resumed_exactly) == (True, False)
    generator = torch.Generator()
    generator.set_state(last_state(half, 160)["random_state"]["environment"])
    boards = new_boards(4, resumed.task.options, generator)
    sight = observe(boards._replace(energy=30 * boards.energy), resumed.task.options)
    assert torch.equal(resumed.callbacks[-1].observation, sight)


def test_in_the_middle_of_an_episode_environments_begin_new_ones_and_the_run_says_so(runs) -> None:
    half = runs.run("algorithm=himppo", "task.max_steps=30", "experiment.max_n_frames=160")
    resumed = runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert (resumed.resumed, resumed.resumed_exactly) == (True, False)
    assert resumed.total_frames == N_FRAMES


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


def test_rows_logged_after_the_checkpoint_are_written_once(runs) -> None:
    """As if killed between two checkpoints, in the middle of a row."""
    whole = runs.run("algorithm=ippo")
    half = runs.run("algorithm=ippo", "experiment.max_n_frames=160")
    (rewards,) = half.glob("*/scalars/collection_reward_episode_reward_mean.csv")
    rewards.write_text(rewards.read_text() + "2,123.0\n3,12")
    runs.resume(half, f"experiment.max_n_frames={N_FRAMES}")
    assert scalars(whole) == scalars(half)


def test_a_moved_run_resumes(runs, tmp_path: Path) -> None:
    half = runs.run("algorithm=ippo", "experiment.max_n_frames=160")
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
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
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


@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_process_loses_nothing_before_its_last_checkpoint(
    n_kills: int, sampling_overrides: list[str], tmp_path: Path
) -> None:
    """SIGKILL at random moments, resume by the command, and the end is that of a run nobody touched."""
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
        assert "as if it had not been interrupted" in said
    # By a process too: what other tests did to this one may round differently
    process = start(["benchmarl_himpo.run", *overrides, f"experiment.save_folder={tmp_path / 'whole'}"])
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (whole,) = (tmp_path / "whole").iterdir()
    assert differences(last_state(whole, n_frames), last_state(folder, n_frames)) == []
    assert scalars(whole) == scalars(folder)
