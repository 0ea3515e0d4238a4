"""The tasks as BenchMARL and the commands see them: options, every algorithm, win rates, exact resuming, bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarl.environments import task_config_registry
from benchmarl.experiment import Experiment
from support.run_states import differences, last_state, scalars
from support.smax import N_ENVS, make_smax, needs_smax
from support.sweeps import FINGERPRINT, records, run_here
from support.tiny_overrides import SMALL

from benchmarl_himpo.environments.smax.options import SmaxConfig
from benchmarl_himpo.environments.smax.task import SmaxTask
from benchmarl_himpo.harness.commands import evaluate, report, resume, sweep
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.sweeps.engines import ENGINES

MakeExperiment = Callable[..., Experiment]
TASK = "task=smax/smacv2_5_units"
N_FRAMES_OF = ("max_n_frames", "on_policy_collected_frames_per_batch", "evaluation_interval")
"""What is set to one iteration that is long enough for battles to end."""


def read_rows(folder: Path, name: str) -> list[float]:
    (file,) = folder.rglob(f"{name}.csv")
    return [float(row.split(",")[1]) for row in file.read_text().split()]


# Without JAX


def test_the_options_are_those_of_jaxmarl() -> None:
    for task in SmaxTask:
        assert vars(task.get_from_yaml().options) == {
            "see_enemy_actions": True,
            "walls_cause_death": True,
            "attack_mode": "closest",
            "max_steps": 100,
        }
        assert task_config_registry[f"smax/{task.name.lower()}"] is task


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack_mode": "weakest"}, "task.attack_mode=weakest must be one of closest, random"),
        ({"max_steps": 0}, "task.max_steps=0 must be 1 or more"),
    ],
)
def test_what_cannot_be_played_is_named(changes: dict, message: str) -> None:
    options = SmaxTask.SMACV2_5_UNITS.get_from_yaml().config
    with pytest.raises(ValueError, match=re.escape(message)):
        SmaxConfig(**(options | changes))


def test_a_missing_extra_is_named_before_anything_is_written(
    call_command: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("jaxmarl", "jax"):
        monkeypatch.setitem(sys.modules, module, None)
    done = call_command(TASK, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 1
    needs = "jaxmarl>=0.2,<0.3 (not installed), jax (not installed)"
    assert f"{TASK} needs {needs}: pip install 'benchmarl_himpo[smax]'." in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("checkpoints"))


@needs_smax
def test_importing_the_tasks_imports_no_jax() -> None:
    code = "import sys, benchmarl_himpo.environments.tasks; sys.exit('jax' in sys.modules or 'jaxmarl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# With JAX


@needs_smax
def test_networks_see_the_observation_critics_the_state_and_the_hierarchy_positions_and_deaths() -> None:
    task, env = SmaxTask.SMACV2_5_UNITS.get_from_yaml(), make_smax()
    assert set(task.observation_spec(env)["agents"].keys()) == {"observation"}
    assert set(task.action_mask_spec(env)["agents"].keys()) == {"action_mask"}
    assert task.state_spec(env)["state"].shape == (120,)
    assert task.max_steps(env) == 101
    assert task.group_map(env) == {"agents": [f"agent_{i}" for i in range(5)]}


@needs_smax
@pytest.mark.parametrize("algorithm", ["himppo", "himppo_flat", "mappo", "ippo", "qmix"])
def test_every_algorithm_trains_and_resumes_exactly_in_the_middle_of_battles(
    algorithm: str, make_experiment: MakeExperiment, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("whole", "half")}
    for name, n_frames in {"whole": 80, "half": 40}.items():
        folders[name].mkdir()
        experiment = make_experiment(
            f"algorithm={algorithm}",
            TASK,
            f"experiment.max_n_frames={n_frames}",
            f"experiment.save_folder={folders[name]}",
        )
        experiment.run()
        folders[name] = Path(experiment.folder_name)
    if algorithm == "himppo":
        inputs = experiment.algorithm.hierarchies["agents"].inputs
        assert (inputs.position_source.key, inputs.alive_key) == ("position", "alive")
    resume.main([str(folders["half"]), "experiment.max_n_frames=80"])
    assert differences(last_state(folders["whole"], 80), last_state(folders["half"], 80)) == []
    assert scalars(folders["whole"]) == scalars(folders["half"])
    assert len(read_rows(folders["half"], "eval_agents_win_rate")) == 2


@needs_smax
def test_win_rates_stand_beside_returns_in_logs_evaluations_records_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
    monkeypatch.setitem(ENGINES, "here", run_here)
    folder, frames = tmp_path / "sweep", [f"experiment.{name}=200" for name in N_FRAMES_OF]
    overrides = [*SMALL, *frames, "experiment.checkpoint_interval=0", f"absolute_metric_episodes={N_ENVS}"]
    sweep.main(["algorithm=ippo", TASK, "seed=0,1", "engine=here", f"folder={folder}", *overrides])
    first, second = records(folder)
    (run,) = (folder / first.id).glob("*/")
    assert first.evaluation_metrics == {"win_rate": read_rows(run, "eval_agents_win_rate")}
    assert first.metrics.keys() == {"win_rate"}
    assert all(0 <= rate <= 1 for rate in read_rows(run, "collection_agents_win_rate"))
    evaluate.main([str(run), f"episodes={N_ENVS}"])
    (evaluated,) = json.loads((run / "evaluation.json").read_text())["results"]
    assert set(evaluated["episodes"]["win_rate"]) <= {0.0, 1.0}
    assert evaluated["win_rate"]["value"] == sum(evaluated["episodes"]["win_rate"]) / N_ENVS
    report.main([str(folder), f"output={tmp_path / 'report'}"])
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    (task,) = data["analysis"]["tasks"]
    mean = (first.metrics["win_rate"] + second.metrics["win_rate"]) / 2
    assert task["rows"][0]["metrics"]["win_rate"]["value"] == mean
    assert "win rate" in (tmp_path / "report" / "report.md").read_text()


@needs_smax
def test_a_device_that_jax_lacks_is_named() -> None:
    task = SmaxTask.SMACV2_5_UNITS.get_from_yaml()
    with pytest.raises(ValueError, match=r"experiment\.sampling_device=meta is not supported by the installed JAX"):
        task.get_env_fun(num_envs=2, continuous_actions=False, seed=0, device=torch.device("meta"))


@needs_smax
@pytest.mark.slow
def test_the_larger_task_trains(make_experiment: MakeExperiment) -> None:
    make_experiment("algorithm=himppo", "task=smax/smacv2_10_units").run()
    assert compose(["task=smax/smacv2_10_units"]).task.max_steps == 100
