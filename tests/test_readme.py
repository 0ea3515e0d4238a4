"""The Python of the README runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
FOUND = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
PLUGIN = README.parent / "tests" / "plugin_package"
BLOCKS = [block for kind, block in FOUND if kind == "python" and "himpo_escort" not in block]


def test_readme_shows_an_experiment_and_the_parts_alone() -> None:
    """One block trains an experiment, one trains the parts with TorchRL alone."""
    assert [name in block for block, name in zip(BLOCKS, ("Experiment(", "HimppoLoss("), strict=True)] == [True, True]


def test_the_plugin_that_the_readme_shows_is_the_one_that_is_installed_and_used_in_tests() -> None:
    """All its files but the scenario, and of the metadata the entry point."""
    shown = [block for _, block in FOUND]
    files = [file for file in PLUGIN.glob("himpo_escort/**/*.*") if file.suffix in (".py", ".yaml")]
    assert [file.name for file in files if file.read_text(encoding="utf-8") not in shown] == ["scenario.py"]
    metadata = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
    assert [kind for kind, block in FOUND if kind == "toml" and metadata.endswith(block)] == ["toml"]


@pytest.mark.parametrize("block", BLOCKS, ids=["experiment", "standalone"])
def test_block_of_readme_runs(block: str, tmp_path: Path) -> None:
    """Each block runs in an empty folder, in a process that has imported nothing else."""
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
