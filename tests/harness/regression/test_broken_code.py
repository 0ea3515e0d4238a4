"""The gate at work, with runs that are trained: it passes what is whole and fails what is broken.

Each test judges a clone of the project in which a broken algorithm has taken the place of HiMPPO.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import broken_himppo
import pytest

from benchmarl_himpo.harness.regression.checkout import OWN_ROOT
from benchmarl_himpo.harness.sweeps.engines import one_thread

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (OWN_ROOT / ".git").exists(), reason="not a git checkout"),
]

SHORT = [
    *("mode=full", "base=HEAD", "task=vmas/sampling", "random_episodes=200"),
    *("experiment.max_n_frames=12000", "experiment.evaluation_interval=12000", "experiment.evaluation_episodes=100"),
    *("first_seeds=range(10,16)", "second_seeds=range(20,26)"),
]
"""The comparison on one task, with runs of four iterations."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as it stands, committed or not, in a repository of its own."""
    root = tmp_path / "clone"
    for folder in ("benchmarl_himpo", "conf"):
        shutil.copytree(OWN_ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=as it stands"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *command], cwd=root, check=True)
    return root


def break_code(clone: Path, algorithm: str) -> None:
    """Let the configuration of HiMPPO build a broken algorithm."""
    shutil.copy(broken_himppo.__file__, clone)
    with (clone / "benchmarl_himpo" / "algorithms" / "__init__.py").open("a") as file:
        file.write(
            f"\nimport broken_himppo\nHimppoConfig.associated_class = staticmethod(lambda: broken_himppo.{algorithm})\n"
        )


def run_gate(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarl_himpo.regression", *arguments]
    return subprocess.run(command, cwd=clone, env={**one_thread(), "PYTHONPATH": ""}, capture_output=True, text=True)


def test_the_toy_task_is_learned_by_the_code_as_it_is(clone: Path) -> None:
    done = run_gate(clone)
    assert done.returncode == 0, done.stderr
    assert "| toy task | ok |" in done.stdout


@pytest.mark.parametrize("algorithm", ["WithoutGoals", "WithFirstGoals", "WithUntrainedSubManagers"])
def test_the_toy_task_needs_goals_that_are_sent_renewed_and_learned(algorithm: str, clone: Path) -> None:
    break_code(clone, algorithm)
    done = run_gate(clone)
    assert done.returncode == 1, done.stderr
    assert "| toy task | regressed |" in done.stdout


def test_a_change_of_the_last_digits_passes_the_comparison(clone: Path) -> None:
    defaults = clone / "conf" / "algorithm" / "base" / "himppo.yaml"
    defaults.write_text(defaults.read_text().replace("clip_epsilon: 0.2\n", "clip_epsilon: 0.2000001\n"))
    done = run_gate(clone, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "| first stage | ok |" in done.stdout


def test_the_reward_of_one_level_turned_round_fails_the_comparison(clone: Path) -> None:
    break_code(clone, "WithFlippedReward")
    done = run_gate(clone, *SHORT, "toy_threshold=0")  # so that it comes to the comparison
    assert done.returncode == 1, done.stderr
    assert "| both stages | regressed |" in done.stdout
