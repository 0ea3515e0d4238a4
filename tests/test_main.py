"""``himpo <command>`` and ``python -m benchmarl_himpo.<command>`` are the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from support.commands import run_python

import benchmarl_himpo
from benchmarl_himpo.__main__ import COMMANDS, main

PACKAGE = Path(benchmarl_himpo.__file__).parent


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gets_the_arguments_after_its_name(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["himpo", command, "a", "b=c", "--multirun"])
    monkeypatch.setattr(import_module(f"benchmarl_himpo.{command}"), "main", lambda: seen.append(sys.argv))
    main()
    assert seen == [["himpo", "a", "b=c", "--multirun"]]


def test_every_module_that_is_a_command_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py") if "import main\n" in file.read_text()}
    assert modules == {file.stem for file in (PACKAGE / "harness" / "commands").glob("[!_]*.py")} == {*COMMANDS}
    monkeypatch.setattr(sys, "argv", ["himpo", "--help"])
    main()
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["anchors"], ["--multirun"]])
def test_without_a_command_that_exists_those_that_do_are_named(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["himpo", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    said = str(exit_info.value.code)
    assert all(command in said for command in COMMANDS)
    assert all(said.startswith(f"{argument} is no command") for argument in arguments)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"run"}))
def test_help_is_the_text_of_the_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["himpo", command, "--help"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code
    usage = import_module(f"benchmarl_himpo.harness.commands.{command}").__doc__
    assert capsys.readouterr().out == f"{usage}\n"
    assert f"python -m benchmarl_himpo.{command} " in usage


def test_python_starts_the_commands_as_a_module(tmp_path: Path) -> None:
    """As `run` is started in tests/test_package.py."""
    done = run_python(tmp_path, [], "-m", "benchmarl_himpo", "--help")
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


def test_the_help_of_run_is_that_of_hydra(
    call_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Once: Hydra takes seconds to list all files, and that both ways call the same function is tested above."""
    done = call_command("run", "--help", cwd=tmp_path, main=main)
    assert done.returncode == 0, done.stderr
    assert "algorithm: " in done.stdout and "himppo_paper" in done.stdout


def test_jobs_of_hydra_that_are_refused_before_anything_is_built_are_the_same_both_ways(
    call_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    arguments = ["--multirun", "seed=0,1", "algorithm=ippo", "experiment.loggers=[abacus]"]
    one = call_command(*arguments, f"hydra.sweep.dir={tmp_path / '0'}", cwd=tmp_path)
    other = call_command("run", *arguments, f"hydra.sweep.dir={tmp_path / '1'}", cwd=tmp_path, main=main)
    assert one.returncode == other.returncode == 1
    assert "experiment.loggers has the unknown logger 'abacus'" in one.stderr
    assert one.stderr == other.stderr
    assert {path.name for path in (tmp_path / "0").iterdir()} == {path.name for path in (tmp_path / "1").iterdir()}
