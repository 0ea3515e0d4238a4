"""What BenchMARL's own experiment leaves on disk, against what this package takes it to be."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarl.experiment import Experiment, ExperimentConfig

from benchmarl_himpo.host import benchmarl_files as files


@pytest.fixture(scope="module")
def run(finished: Experiment) -> Path:
    return Path(finished.folder_name)


@pytest.fixture(scope="module")
def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(files.checkpoint_folder(run) / files.checkpoint_name(128), weights_only=False)


def rows(run: Path, metric: str) -> list[tuple[int, float]]:
    lines = files.scalars_file(run, metric).read_text().splitlines()
    return [(int(step), float(value)) for step, value in (line.split(",") for line in lines)]


def test_the_config_file_holds_one_pickle_for_each_part(run: Path, finished: Experiment) -> None:
    with (run / files.CONFIG_FILE).open("rb") as stream:
        parts = {part: pickle.load(stream) for part in files.CONFIG_PARTS}
        assert stream.read() == b""
    assert parts["task"] == finished.task and parts["task.config"] == finished.task.config
    assert parts["algorithm"] == finished.algorithm_config and parts["seed"] == finished.seed
    assert parts["model"] == finished.model_config and parts["critic_model"] == finished.critic_model_config
    assert isinstance(parts["experiment"], ExperimentConfig) and parts["callbacks"] == []


def test_checkpoints_are_named_after_their_frames(run: Path) -> None:
    found = sorted(files.checkpoint_folder(run).iterdir())
    assert sorted(files.checkpoint_frames(file) or 0 for file in found) == [64, 128]
    assert all(files.run_of(file) == run.resolve() for file in found)


def test_other_files_are_no_checkpoints() -> None:
    others = ("checkpoint_80.pt.sha256", "checkpoint_.pt", "checkpoint_best.pt", "policy_80.pt", "checkpoint_80.ckpt")
    assert [files.checkpoint_frames(Path(name)) for name in others] == [None] * 5


def test_a_checkpoint_says_its_frames(checkpoint: dict[str, Any]) -> None:
    assert files.is_checkpoint(checkpoint) and files.total_frames_in(checkpoint) == 128
    assert not files.is_checkpoint(checkpoint["collector"])


def test_a_checkpoint_has_the_loss_of_each_group(checkpoint: dict[str, Any], finished: Experiment) -> None:
    assert checkpoint[files.loss_key("agents")].keys() == finished.losses["agents"].state_dict().keys()


def test_a_checkpoint_has_the_buffer_of_each_group(checkpoint: dict[str, Any], finished: Experiment) -> None:
    assert checkpoint[files.buffer_key("agents")].keys() == finished.replay_buffers["agents"].state_dict().keys()


def test_a_checkpoint_has_the_policy_of_the_collector(checkpoint: dict[str, Any], finished: Experiment) -> None:
    state = files.policy_state_in(checkpoint)
    assert state.keys() == finished.policy.state_dict().keys()
    assert files.policy_state_in({"state": {}}) is None


def test_total_frames_are_logged_in_every_iteration(run: Path) -> None:
    assert rows(run, files.FRAMES) == [(0, 64.0), (1, 128.0)]


def test_the_return_in_collection_is_logged_in_every_iteration(run: Path, finished: Experiment) -> None:
    logged = rows(run, files.COLLECTION_RETURN)
    assert [step for step, _ in logged] == [0, 1] and logged[-1][1] == pytest.approx(finished.mean_return)


@pytest.mark.parametrize("metric", [files.COLLECTION_TIME, files.TRAINING_TIME, files.EVALUATION_TIME])
def test_the_time_is_logged_in_every_iteration(metric: str, run: Path) -> None:
    logged = rows(run, metric)
    assert [step for step, _ in logged] == [0, 1] and all(0 < value < 100 for _, value in logged)


def test_the_csv_logger_writes_scalars_and_videos_to_their_folders(run: Path) -> None:
    assert {file.suffix for file in files.scalars_folder(run).iterdir()} == {".csv"}
    assert files.videos_folder(run).is_dir()


def test_logs_take_the_name_of_a_folder_that_was_renamed(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "my best run"))
    files.take_name(copy)
    assert rows(copy, files.FRAMES) == rows(run, files.FRAMES)
    assert files.json_file(copy).read_bytes() == files.json_file(run).read_bytes()
    assert sorted(path.name for path in copy.iterdir() if path.name.startswith(run.name)) == []


def test_the_json_file_holds_the_returns_of_each_evaluation(run: Path, finished: Experiment) -> None:
    content, data = files.read_run_json(files.json_file(run))
    assert list(content) == ["toy"] and list(content["toy"]["toy"]["ippo"]) == ["seed_0"]
    evaluations = files.evaluations_in(data)
    assert list(evaluations) == [64, 128] and all(len(returns) == 3 for returns in evaluations.values())
    logged = rows(run, "eval/reward/episode_reward_mean")
    assert logged[1][1] == pytest.approx(sum(evaluations[128]) / 3)


def test_data_until_leaves_out_later_evaluations_alone(run: Path) -> None:
    _, data = files.read_run_json(files.json_file(run))
    kept = files.data_until(data, 64)
    assert list(files.evaluations_in(kept)) == [64] and kept.keys() == data.keys() - {"step_2"}
