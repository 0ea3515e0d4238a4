"""The gate on a project of two files whose runs take no time: real processes, real git, values that a test decides."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarl_himpo.harness.commands import regression
from benchmarl_himpo.harness.regression import checkout, gate, quick

RunGate = Callable[..., int]

RUN = """
import json, os, pathlib, sys
from benchmarl_himpo.value import value

given = dict(argument.split("=", 1) for argument in sys.argv[1:])
seed, task, folder = int(given["seed"]), given["task"], pathlib.Path(json.loads(given["hydra.run.dir"]))
result = value(task, seed, folder)
run = folder / "run"
run.mkdir(parents=True)
steps = {"step_0": {"step_count": 0, "return": [0.0]}}
steps["step_1"] = {"step_count": int(given["experiment.max_n_frames"]), "return": [result - 1, result + 1]}
(run / "run.json").write_text(json.dumps({"env": {task: {"himppo": {"seed_0": steps}}}}))
with open(os.environ["RUNS_DONE"], "a") as done:
    done.write(f"{pathlib.Path.cwd().name} {task} {seed}\\n")
"""
USUAL = """
import random

def value(task, seed, folder):
    return 20.0 if seed < 10 else 10 + random.Random(seed).gauss(0, 1)
"""


class Project:
    """A git repository with a package of the project's name, whose ``run`` gives what ``value.py`` says.

    Args:
        root: where it goes.
        log: file that every run writes a line to.
    """

    def __init__(self, root: Path, log: Path) -> None:
        self.root, self.log = root, log
        (root / "benchmarl_himpo").mkdir(parents=True)
        (root / "benchmarl_himpo" / "__init__.py").write_text("")
        (root / "benchmarl_himpo" / "run.py").write_text(RUN)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(USUAL)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def change(self, value: str) -> None:
        """Change the working copy."""
        (self.root / "benchmarl_himpo" / "value.py").write_text(value)

    def commit(self, value: str) -> None:
        self.change(value)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=a state of the code")

    @property
    def done(self) -> list[str]:
        """A line for each run that was trained: folder of its code, task and seed."""
        return self.log.read_text().splitlines() if self.log.is_file() else []


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Digests that are made up; may be changed."""
    digests = {"fingerprint": "f" * 16, "himppo": "b" * 16}
    monkeypatch.setattr(quick, "take_digests", lambda *names: {name: digests[name] for name in names})
    return digests


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project that the gate takes for its own."""
    log = tmp_path / "done.txt"
    monkeypatch.setenv("RUNS_DONE", str(log))
    monkeypatch.setenv("PYTHONPATH", os.devnull)
    project = Project(tmp_path / "project", log)
    monkeypatch.setattr(checkout, "OWN_ROOT", project.root)
    monkeypatch.setattr(gate, "OWN_ROOT", project.root)
    return project


@pytest.fixture
def run_gate(project: Project, digests: dict[str, str], tmp_path: Path) -> RunGate:
    """Run the command, with the comparison on the toy task for brevity, and give its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exit_info:
            regression.main(
                [
                    *(f"folder={tmp_path / 'runs'}", "workers=8", "protocol=regression_cue", "random_episodes=2"),
                    *("first_seeds=range(10,15)", "second_seeds=range(20,25)", *arguments),
                ]
            )
        return int(exit_info.value.code)

    return run
