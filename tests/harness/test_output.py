"""Where results go: refused before anything is computed, written whole or not at all, printed where writing fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf
from support.scripts import load_script
from support.trained_runs import OVERRIDES, train

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.commands import audit, evaluate, export, film, report, sweep
from benchmarl_himpo.harness.commands.run import train_and_summarise
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.evaluation import combinations
from benchmarl_himpo.harness.output import (
    OutputError,
    Results,
    check_output_file,
    check_output_folder,
    files_below,
    keep_older,
    write_whole,
)
from benchmarl_himpo.harness.report import comparison
from benchmarl_himpo.harness.runs import checkpoint
from benchmarl_himpo.harness.runs.training import CommandError

ROOT = Path(__file__).parents[2]
FULL_DISK = Path("/dev/full")

needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full here")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "algorithm=himppo_2l")


def places(tmp_path: Path) -> dict[str, Path]:
    """Folders into which nobody can write, root neither."""
    (tmp_path / "file").write_text("text")
    return {
        "a file": tmp_path / "file",
        "in a file": tmp_path / "file" / "a" / "b",
        **({"no disk": Path("/proc/a")} if Path("/proc/self").exists() else {}),
    }


# The helper


@pytest.mark.parametrize("place", ["a file", "in a file", "no disk"])
def test_a_place_that_cannot_be_written_to_is_named_with_the_option(place: str, tmp_path: Path) -> None:
    if place not in places(tmp_path):
        pytest.skip("no /proc here")
    folder = places(tmp_path)[place]
    with pytest.raises(OutputError, match=rf"^option={folder} .*name another folder$"):
        check_output_folder("option", folder)
    with pytest.raises(OutputError, match=rf"^option={folder / 'x.json'} .*name another file$"):
        check_output_file("option", folder / "x.json")
    assert (tmp_path / "file").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder: name a file"):
        check_output_file("option", tmp_path)


def test_a_good_place_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    check_output_file("option", tmp_path / "old.json")
    check_output_file("option", tmp_path / "new" / "new.json")
    check_output_folder("option", tmp_path)
    check_output_folder("option", tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "a.json"
    write_whole(file, "first\n")
    assert file.read_bytes() == b"first\n"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raise_disk_full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, "second\n")
    assert file.read_bytes() == b"first\n"
    (tmp_path / "link.json").symlink_to(file)
    write_whole(tmp_path / "link.json", "third\n")
    assert (tmp_path / "link.json").is_symlink()
    assert file.read_bytes() == b"third\n"
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def raise_disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@needs_full_disk
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(FULL_DISK)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "link.json", "text")
    assert FULL_DISK.is_char_device()


# The commands, before they compute


def arguments(run: Path, bad: Path) -> dict[str, tuple[ModuleType, ModuleType, str, list[str]]]:
    """By command: its module, where its first expensive function is, and what to call it with."""
    file, folder = f"output={bad}/x.json", f"output={bad}"
    return {
        "evaluate": (evaluate, combinations, "load_trained", [str(run), file]),
        "audit": (audit, combinations, "load_trained", [str(run), file]),
        "film": (film, combinations, "load_trained", [str(run), file]),
        "export": (export, export, "export_run", [str(run), folder]),
        "report": (report, comparison, "collect", [str(run), folder]),
        "sweep": (sweep, sweep, "expand", ["algorithm=ippo", f"folder={bad}"]),
        "publish": (sweep, sweep, "expand", ["algorithm=ippo", f"publish={bad}"]),
    }


@pytest.mark.parametrize("place", ["a file", "in a file", "no disk"])
@pytest.mark.parametrize("name", ["evaluate", "audit", "film", "export", "report", "sweep", "publish"])
def test_a_command_looks_where_its_results_go_before_it_computes(
    name: str, place: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place not in places(tmp_path):
        pytest.skip("no /proc here")
    if name == "film":
        pytest.importorskip("matplotlib", reason="a film needs matplotlib")
    module, owner, expensive, given = arguments(run, places(tmp_path)[place])[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(owner, expensive, lambda *_: pytest.fail(f"{expensive} was called"))
    with pytest.raises(SystemExit) as exit_info:
        module.main(given)
    assert str(exit_info.value.code).startswith(given[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_looks_where_its_results_go_before_it_trains(
    make_experiment: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in places(tmp_path).values():
        with pytest.raises(OutputError, match=rf"^experiment\.save_folder={folder} "):
            make_experiment("algorithm=ippo", f"experiment.save_folder={folder}")


def test_the_throughput_measurement_looks_where_its_results_go_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script(ROOT / "benchmarks" / "throughput.py", "throughput")
    (tmp_path / "file").write_text("text")
    output = tmp_path / "file" / "x.json"
    monkeypatch.setattr(script, "measure_all", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--short", "--output", str(output)])
    with pytest.raises(SystemExit) as exit_info:
        script.main()
    said = str(exit_info.value.code)
    assert said.startswith(f"--output={output} cannot be written")
    assert "\n" not in said


def test_files_below_links_are_found_once(tmp_path: Path) -> None:
    for name in ("runs", "chosen"):
        (tmp_path / name).mkdir()
    for name in ("a.json", "b.txt"):
        (tmp_path / "runs" / name).touch()
    (tmp_path / "chosen" / "link").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    assert files_below(tmp_path / "chosen", "*.json") == [tmp_path / "chosen" / "link" / "a.json"]


def test_every_older_file_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "video.gif"
    for content in ("first", "second", "third"):
        keep_older(file)
        file.write_text(content)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"video.1.gif": "first", "video.2.gif": "second", "video.gif": "third"}


# The commands, where writing fails all the same


@needs_full_disk
@pytest.mark.parametrize("command", [evaluate, pytest.param(audit, marks=pytest.mark.slow)])
def test_an_evaluation_that_cannot_be_kept_is_printed(
    command: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both runs are played, though the first result could not be written."""
    (tmp_path / "x.json").symlink_to(FULL_DISK)
    with pytest.raises(SystemExit) as exit_info:
        command.main([str(run), "episodes=2", "task.n_agents=3,4", f"output={tmp_path / 'x.json'}"])
    said = capsys.readouterr().out
    assert "task.n_agents=3" in said
    assert "task.n_agents=4" in said
    assert f"output={tmp_path / 'x.json'} could not be written" in str(exit_info.value.code)


def test_runs_that_were_evaluated_are_printed_when_another_cannot_be(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.yaml").write_text((run / "run.yaml").read_text())
    with pytest.raises(SystemExit, match="holds no good checkpoint"):
        evaluate.main([str(run), str(broken), "episodes=2", f"output={tmp_path / 'x.json'}"])
    assert f"| {run.name} | as trained |" in capsys.readouterr().out
    assert (tmp_path / "x.json").is_file()


def test_a_disk_that_is_full_at_the_end_of_training_loses_neither_numbers_nor_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    given = [*OVERRIDES, "algorithm=ippo", "experiment.evaluation=true", "experiment.evaluation_interval=80"]
    given += [f"experiment.save_folder={tmp_path}", "absolute_metric_episodes=2", "experiment.evaluation_episodes=2"]
    cfg = compose(given, return_hydra_config=True)
    with monkeypatch.context() as patch:
        patch.setattr("benchmarl_himpo.harness.evaluation.absolute_metric.write_whole", raise_disk_full)
        with pytest.raises(CommandError, match=r"absolute metric, -?\d+\.\d{3}, could not be written"):
            train_and_summarise(cfg, cfg.hydra.runtime.choices)
    assert "return, training" in capsys.readouterr().out
    cfg.experiment.max_n_frames = 80
    monkeypatch.setattr(checkpoint.torch, "save", raise_disk_full)
    with pytest.raises(CommandError, match=r"mean return of -?\d+\.\d{3} .*No checkpoint had been written"):
        train_and_summarise(cfg, cfg.hydra.runtime.choices)


@pytest.mark.slow
def test_an_export_that_cannot_be_kept_leaves_the_old_bundle(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    export.main([str(run), "episodes=1", f"output={bundle}"])
    old = {file.name: file.read_bytes() for file in bundle.iterdir() if file.is_file()}

    def raise_as_torch(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file\nframe #1")

    monkeypatch.setattr("torch.export.save", raise_as_torch)
    with pytest.raises(SystemExit, match=r"\.pt2 could not be written") as exit_info:
        export.main([str(run), "episodes=1", f"output={bundle}"])
    assert "\n" not in str(exit_info.value.code)
    assert {file.name: file.read_bytes() for file in bundle.iterdir() if file.is_file()} == old
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


# What is replaced


def test_an_old_result_stays_until_the_new_one_is_complete(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "x.json"
    evaluate.main([str(run), "episodes=2", f"output={output}"])
    old = output.read_bytes()
    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(SystemExit, match="No space left"):
        evaluate.main([str(run), "episodes=3", f"output={output}"])
    assert output.read_bytes() == old


def test_an_older_result_is_kept_beside_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    for episodes in (1, 2, 3):
        results = Results(file, {"episodes": episodes})
        results.keep({"run": "a"})
        results.keep({"run": "b"})
    kept = {path.name: json.loads(path.read_text())["settings"]["episodes"] for path in tmp_path.iterdir()}
    assert kept == {"evaluation.json": 3, "evaluation.1.json": 1, "evaluation.2.json": 2}


def test_every_command_with_an_option_for_its_results_is_in_these_tests(tmp_path: Path) -> None:
    """An option called output, folder or publish; the gate's is tested with the gate."""
    options = {(file.stem, name) for file in CONF_DIR.glob("*.yaml") for name in OmegaConf.load(file)}
    tested = {(module.__name__.rpartition(".")[2], given[-1].partition("=")[0]) for module, _, _, given in
              arguments(tmp_path, tmp_path).values()}  # fmt: skip
    places = {pair for pair in options if pair[1] in ("output", "folder", "publish")}
    assert places - tested == {("regression", "folder")}
