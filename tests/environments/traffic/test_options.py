"""Options of the traffic signals, and what is said where the extra or memory would not do; without SUMO."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarl_himpo.environments.traffic.environment import NEEDED
from benchmarl_himpo.environments.traffic.options import TrafficConfig
from benchmarl_himpo.environments.traffic.task import TrafficTask
from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import check_config

OPTIONS = {
    "delta_seconds": 5,
    "yellow_seconds": 2,
    "min_green_seconds": 5,
    "episode_seconds": 3600,
    "reward": "queue",
}


def test_the_defaults_are_those_of_sumo_rl_and_resco() -> None:
    task = TrafficTask.GRID4X4.get_task()
    assert task.config == OPTIONS
    assert task.options.max_steps == 720
    assert (task.env_name(), task.supports_continuous_actions(), task.supports_discrete_actions()) == (
        "traffic",
        False,
        True,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta_seconds": 0}, "task.delta_seconds=0 must be 1 or more"),
        ({"delta_seconds": 2}, "task.delta_seconds=2 must be above task.yellow_seconds=2"),
        ({"yellow_seconds": 0}, "task.yellow_seconds=0"),
        ({"min_green_seconds": -1}, "task.min_green_seconds=-1"),
        ({"episode_seconds": 3601}, "task.episode_seconds=3601 must be a multiple of task.delta_seconds=5"),
        ({"reward": "speed"}, "task.reward=speed is unknown: choose one of queue, diff-waiting-time, "),
    ],
)
def test_what_cannot_be_simulated_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrafficConfig(**{**OPTIONS, **changes})


MANY = "experiment.off_policy_n_envs_per_worker=75"


@pytest.mark.parametrize(
    ("overrides", "option"),
    [
        ([], "experiment.on_policy_n_envs_per_worker=120"),
        (["algorithm=qmix", MANY], MANY),
        (["experiment=traffic", "experiment.evaluation_episodes=256"], "experiment.evaluation_episodes=256"),
        (["experiment=traffic", "absolute_metric_episodes=320"], "absolute_metric_episodes=320"),
    ],
)
def test_more_processes_than_a_machine_holds_are_refused_before_any_starts(
    overrides: list[str], option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NEEDED:
        monkeypatch.setitem(sys.modules, name, sys)  # whether SUMO is there or not
    cfg = compose(["task=traffic/grid4x4", *overrides], return_hydra_config=True)
    with pytest.raises(
        RequestError, match=rf"^{re.escape(option)} is too many environments.*choose 64 at most, .*experiment=traffic"
    ):
        check_config(cfg, cfg.hydra.runtime.choices)


def test_a_missing_extra_is_named_before_anything_is_built(
    call_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NEEDED:
        monkeypatch.setitem(sys.modules, name, None)
    done = call_command("task=traffic/grid4x4", f"experiment.save_folder={tmp_path / 'runs'}", cwd=tmp_path)
    assert done.returncode == 1
    assert "task=traffic/grid4x4 needs sumo_rl (not installed), libsumo (not installed), sumo (not" in done.stderr
    assert done.stderr.count("pip install 'benchmarl_himpo[traffic]'") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ImportError, match=r"needs sumo_rl, libsumo, sumo: pip install 'benchmarl_himpo\[traffic\]'"):
        TrafficTask.GRID4X4.get_task().get_env_fun(2, False, 0, "cpu")()
