"""A distribution with a task, an algorithm and a graph builder of its own: installed, and every command takes them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarl.algorithms import MappoConfig
from benchmarl.algorithms import algorithm_config_registry as host_registry
from benchmarl.environments import task_config_registry
from omegaconf import OmegaConf
from support.commands import run_commands, run_python
from support.tiny_overrides import SMALL

from benchmarl_himpo import PluginError, add_yaml_folder, config, register, register_algorithm, register_task
from benchmarl_himpo.algorithms import HimppoConfig
from benchmarl_himpo.environments import OwnTask
from benchmarl_himpo.environments.tasks import TASKS
from benchmarl_himpo.harness.commands import evaluate
from benchmarl_himpo.harness.records.record import load_record

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tests" / "plugin_package"
PAGE = ROOT / "docs" / "how_to" / "own_task.md"
OWN = ["algorithm=himppo_chain", "task=escort/pair", "task.max_steps=10"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the plug-in is installed in."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, *flags, str(PACKAGE)], check=True, timeout=300)
    return folder


@pytest.fixture
def overrides() -> list[str]:
    return [*SMALL, *OWN]


def test_an_installed_plugin_trains_is_evaluated_and_reported(site: Path, overrides: list[str], tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    run_commands(
        tmp_path,
        [site],
        ["run", *overrides, f"experiment.save_folder={runs}"],
        ["evaluate", runs, "episodes=2"],
        ["report", runs, f"output={tmp_path / 'report'}"],
    )
    (file,) = Path(runs).glob("*/evaluation.json")
    assert len(json.loads(file.read_text())["results"]) == 1
    assert "himppo_chain" in (tmp_path / "report" / "report.json").read_text()


@pytest.mark.slow
def test_every_command_takes_what_an_installed_plugin_has(site: Path, overrides: list[str], tmp_path: Path) -> None:
    runs, sweep, report = (str(tmp_path / name) for name in ("runs", "sweep", "report"))
    said = run_commands(
        tmp_path,
        [site],
        ["run", *overrides, f"experiment.save_folder={runs}"],
        ["resume", runs, "experiment.max_n_frames=120"],
        ["evaluate", runs, "episodes=2", "task.n_guards=3,4"],
        ["export", runs, "episodes=1"],
        ["sweep", f"folder={sweep}", "results=[]", "workers=1", *overrides],
        ["report", sweep, f"output={report}"],
    )
    (run,) = Path(runs).iterdir()
    saved = OmegaConf.load(run / "run.yaml")
    assert (saved.choices.algorithm, saved.choices.task) == ("himppo_chain", "escort/pair")
    assert (saved.algorithm.neighbours, saved.algorithm.goal_interval) == ("chain", [5])  # its own, and inherited
    assert saved.task == {"n_guards": 3, "max_steps": 10}
    assert "true, bitwise identical to an uninterrupted run" in said
    assert len(json.loads((run / "evaluation.json").read_text())["results"]) == 2
    assert {file.parent.name for file in run.glob("bundle/*/bundle.json")} == {"porter", "guard"}
    (file,) = Path(sweep).glob("*/record.json")
    record = load_record(file)
    assert (record.algorithm, record.task) == ("himppo_chain", "escort/pair")
    assert record.provenance["plugins"] == "himpo_escort 1.0"
    assert "himppo_chain" in (Path(report) / "report.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("is_continuous", [True, False])
def test_each_command_is_a_process_of_its_own(
    is_continuous: bool, site: Path, overrides: list[str], tmp_path: Path
) -> None:
    """With either kind of actions."""
    given = [*overrides, f"experiment.prefer_continuous_actions={str(is_continuous).lower()}"]
    for command in (
        ["run", *given, f"experiment.save_folder={tmp_path}"],
        ["resume", "RUN", "experiment.max_n_frames=120"],
        ["audit", "RUN", "episodes=2"],
        ["export", "RUN", "episodes=1"],
        ["sweep", "folder=sweep", "results=[]", "workers=1", *given, "seed=0,1"],
        ["report", "sweep", "output=report"],
    ):
        run = next((str(file.parent) for file in tmp_path.glob("*/run.yaml")), "")
        done = run_python(
            tmp_path, [site], "-m", "benchmarl_himpo", *(run if word == "RUN" else word for word in command)
        )
        assert done.returncode == 0, done.stdout + done.stderr


def page_blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_page_on_own_tasks_do_what_it_says(site: Path, tmp_path: Path) -> None:
    """On tiny runs of one seed; the first line is what the fixture has done."""
    (block,) = page_blocks("bash")
    install, *lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert install == ["install", "."]
    small = [*SMALL, "task.max_steps=10"]
    for command, *arguments in lines:
        run = next((str(file.parent) for file in tmp_path.glob("outputs/*/*/himppo_*/run.yaml")), "")
        of_test = {
            "RUN_DIR": run,
            "experiment.max_n_frames=600000": "experiment.max_n_frames=120",
            "seed=range(5)": "seed=0",
        }
        given = [*(small if command in ("run", "sweep") else []), *(of_test.get(word, word) for word in arguments)]
        done = run_python(tmp_path, [site], "-m", "benchmarl_himpo", command, *given)
        assert done.returncode == 0, done.stdout + done.stderr
        if command == "resume":
            assert "true, bitwise identical to an uninterrupted run" in done.stdout
    assert len(list((tmp_path / "outputs" / "escort").glob("*/record.json"))) == 3
    (report,) = tmp_path.rglob("report.json")
    assert "escort/pair" in report.read_text()


@pytest.mark.slow
def test_the_environment_of_the_page_keeps_its_specs(site: Path, tmp_path: Path) -> None:
    done = run_python(tmp_path, [site], "-W", "error::UserWarning:torchrl", "-c", page_blocks("python")[-1])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_benchmarls_own_command_finds_it_too(site: Path, overrides: list[str], tmp_path: Path) -> None:
    done = run_python(tmp_path, [site], "-m", "benchmarl.run", *overrides, "experiment.loggers=[]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without type checks" not in done.stderr
    assert len(list(tmp_path.rglob("himppochain_pair_*/checkpoints/checkpoint_80.pt"))) == 1


@pytest.mark.slow
def test_without_the_plugin_its_runs_are_not_touched_and_its_name_is_said(
    site: Path, overrides: list[str], tmp_path: Path
) -> None:
    run_commands(tmp_path, [site], ["run", *overrides, f"experiment.save_folder={tmp_path}"])
    (run,) = (file.parent for file in tmp_path.glob("*/run.yaml"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    done = run_python(tmp_path, [], "-m", "benchmarl_himpo.resume", str(run), "experiment.max_n_frames=120")
    assert done.returncode == 1
    assert done.stderr.startswith("algorithm=himppo_chain has no YAML file here: install the plug-in")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


# A plug-in that cannot be loaded


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a plug-in of one module, whose function is `register`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[benchmarl_himpo.plugins]\nmine = {name}:register\n")

    return write


def test_a_plugin_that_cannot_be_loaded_is_named_every_time_and_no_command_starts(
    install: Callable[[str, str], None], tmp_path: Path
) -> None:
    install("himpo_broken", "def register():\n    raise KeyError('a name')\n")
    sentence = r"the plug-in of himpo_broken 2\.0 \(himpo_broken:register\) cannot be loaded \(KeyError: 'a name'\)"
    for _ in range(2):
        with pytest.raises(PluginError, match=sentence):
            register()
    with pytest.raises(SystemExit, match=sentence):
        evaluate.main([str(tmp_path), "episodes=2"])


def test_a_plugin_is_called_once_and_may_register_the_package_itself(install: Callable[[str, str], None]) -> None:
    lines = ["import benchmarl_himpo", "calls = []", "def register():", "    calls.append(1)"]
    install("himpo_once", "\n".join([*lines, "    benchmarl_himpo.register()"]))
    register()
    register()
    assert sys.modules.pop("himpo_once").calls == [1]


# Names


class Ippo:
    pass


class OtherConfig(HimppoConfig):
    @staticmethod
    def associated_class() -> type:
        return Ippo


class OtherTask(OwnTask):
    CUE = None

    @staticmethod
    def associated_class() -> type:
        return TASKS["toy/cue"].associated_class()


def test_what_has_the_name_of_another_is_refused_and_replaces_nothing() -> None:
    ippo, cue = host_registry["ippo"], task_config_registry["toy/cue"]
    with pytest.raises(ValueError, match=r"algorithm=ippo is already benchmarl\.algorithms\.ippo\.IppoConfig"):
        register_algorithm(OtherConfig)
    with pytest.raises(ValueError, match=r"task=toy/cue is already benchmarl_himpo\.environments\.cue\.CueTask"):
        register_task(OtherTask.CUE)
    assert host_registry["ippo"] is ippo
    assert task_config_registry["toy/cue"] is cue
    register_algorithm(MappoConfig)  # what is there already


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "_ADDED", [])
    (tmp_path / "algorithm").mkdir()
    return tmp_path


def test_files_of_a_folder_inherit_ours_and_a_folder_is_added_once(folder: Path) -> None:
    (folder / "algorithm" / "mine.yaml").write_text("defaults:\n- himppo_2l\n- _self_\nhidden_dim: 7\n")
    add_yaml_folder(folder)
    add_yaml_folder(str(folder))
    assert config.added_yaml_folders() == (folder,)
    expected = {**config.load_yaml("algorithm", "himppo_2l"), "hidden_dim": 7}
    assert config.load_yaml("algorithm", "mine") == expected
    # Where _self_ is missing, it is the last, as in Hydra
    (folder / "algorithm" / "mine.yaml").write_text("defaults:\n- himppo_2l\nhidden_dim: 7\n")
    assert config.load_yaml("algorithm", "mine") == expected


@pytest.mark.parametrize("name", ["himppo", "mappo"])
def test_files_with_the_name_of_one_of_ours_or_of_benchmarl_are_refused(name: str, folder: Path) -> None:
    (folder / "algorithm" / f"{name}.yaml").write_text("a: 1\n")
    with pytest.raises(ValueError, match=f"algorithm/{name}.yaml has the name of "):
        add_yaml_folder(folder)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        add_yaml_folder(folder / "nowhere")
    assert config.added_yaml_folders() == ()
