"""Tasks that a user registers as BenchMARL's examples do, with YAML files of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarl.environments import task_config_registry
from omegaconf import OmegaConf
from support.tiny_overrides import SMALL

from benchmarl_himpo.environments.tasks import load_task
from benchmarl_himpo.harness.commands import evaluate, export, resume, sweep
from benchmarl_himpo.harness.composition import compose, config_dir, search_in
from benchmarl_himpo.harness.records.record import load_record
from benchmarl_himpo.harness.records.spec import comparable_config, label
from benchmarl_himpo.harness.runs.checkpoint import list_checkpoints
from benchmarl_himpo.harness.runs.run_config import load_run_config

TESTS = Path(__file__).parents[2]
TASK = "toy/own"
MODULE = """
from benchmarl.environments import task_config_registry
from benchmarl.environments.common import Task
from support.toy_task import ToyTask

class OwnTask(ToyTask):
    def __init__(self, name, config):
        super().__init__(**config)
        self.name = name

class Own(Task):
    OWN = None

    @staticmethod
    def associated_class():
        return OwnTask

task_config_registry["toy/own"] = Own.OWN
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that registers a task, imported, and the folder of its YAML file."""
    (tmp_path / "own_tasks.py").write_text(MODULE)
    (tmp_path / "conf" / "task" / "toy").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "toy" / "own.yaml").write_text("n_agents: 3\nmin_steps: 5\nmax_steps: 10\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(task_config_registry, TASK, None)
    __import__("own_tasks")
    yield tmp_path / "conf"
    sys.modules.pop("own_tasks")
    search_in(None)


@pytest.fixture
def overrides() -> list[str]:
    return [*SMALL, f"task={TASK}", "algorithm=himppo_flat", "experiment.evaluation_episodes=3"]


@pytest.fixture
def trained(conf: Path, overrides: list[str], runs, tmp_path: Path) -> Path:
    search_in(conf)
    runs.overrides = [*overrides, f"experiment.save_folder={tmp_path / 'runs'}", "task.n_agents=4"]
    run = runs.run()
    search_in(None)
    return run


@pytest.mark.slow
def test_every_command_takes_its_run_without_the_folder_of_its_file(trained: Path, capsys) -> None:
    evaluate.main([str(trained), "episodes=2"])
    export.main([str(trained), "episodes=2"])
    resume.resume(trained, ["experiment.max_n_frames=120"])
    assert list_checkpoints(trained / "checkpoints")[0].name == "checkpoint_120.pt"
    assert load_run_config(trained)[0].task.n_agents == 4


def test_where_the_folder_is_given_its_file_lies_below_the_runs_values(trained: Path, conf: Path) -> None:
    with (conf / "task" / "toy" / "own.yaml").open("a") as file:
        file.write("has_alive: true\n")
    assert "has_alive" not in load_run_config(trained)[0].task
    search_in(conf)
    task = load_run_config(trained)[0].task
    assert (task.has_alive, task.n_agents) == (True, 4)


def test_every_command_takes_the_folder_as_hydra_does(trained: Path, conf: Path) -> None:
    for given in ([f"--config-dir={conf}"], ["-cd", str(conf)]):
        evaluate.main([*given, str(trained), "episodes=2"])
        assert config_dir() == conf
    evaluate.main([str(trained), "episodes=2"])
    assert config_dir() is None
    export.main(["--config-dir", str(conf), str(trained), "episodes=2", f"output={conf / 'bundle'}"])
    assert config_dir() == conf
    for command in (evaluate, export, sweep):
        with pytest.raises(SystemExit) as exit_info:
            command.main(["--config-dir", "nowhere", "task=toy/own"])
        assert "--config-dir nowhere does not exist" in str(exit_info.value.code)


def test_a_task_that_is_not_registered_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, choices = load_run_config(trained)
    monkeypatch.delitem(task_config_registry, TASK)
    with pytest.raises(ValueError, match="task=toy/own is not registered in this process: import the module"):
        load_task(cfg.task, choices["task"])
    with pytest.raises(SystemExit) as exit_info:
        evaluate.main([str(trained), "episodes=2"])
    assert "task=toy/own is not registered" in str(exit_info.value.code)


def test_a_label_names_every_value_because_no_file_has_the_others(conf: Path, overrides: list[str]) -> None:
    search_in(conf)
    labels = []
    for n_agents in (3, 4):
        cfg = compose([*overrides, f"task.n_agents={n_agents}"], return_hydra_config=True)
        labels.append(label(comparable_config(cfg, cfg.hydra.runtime.choices))[1])
    assert re.match(r"toy/own\[max_steps=10; min_steps=5; n_agents=3; ", labels[0])
    assert "n_agents=4" in labels[1]


@pytest.mark.slow
def test_the_processes_of_a_sweep_know_the_task(conf: Path, overrides: list[str], tmp_path: Path) -> None:
    """The sweep's program finds the task's module in a folder of its own."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport own_tasks\n"
        "from benchmarl_himpo.harness.commands import sweep\nsweep.main()\n"
    )
    given = [f"--config-dir={conf}", f"folder={tmp_path / 'sweep'}", "results=[]", "workers=1", *overrides]
    done = subprocess.run(
        [sys.executable, str(program), *given],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "sweep").glob("*/record.json")
    record = load_record(file)
    assert (record.task, record.config["task"]) == (TASK, OmegaConf.load(conf / "task" / "toy" / "own.yaml"))
    assert str(tmp_path) not in file.read_text()


def test_a_sweep_whose_program_registers_the_task_itself_says_what_to_do(
    conf: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(task_config_registry[TASK]), "__module__", "__main__")
    monkeypatch.setattr(sweep, "fingerprint", lambda: "f" * 16)
    with pytest.raises(SystemExit) as exit_info:
        sweep.main([f"--config-dir={conf}", f"folder={tmp_path / 'sweep'}", *overrides])
    assert "register it in a module that the program imports" in str(exit_info.value.code)
