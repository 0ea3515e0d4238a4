"""The Python of the README runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
PAGE = README.parent / "docs" / "how_to" / "own_task.md"
FOUND, ON_PAGE = (
    re.findall(r"```(\w+)\n(.*?)```", file.read_text(encoding="utf-8"), flags=re.DOTALL) for file in (README, PAGE)
)
PLUGIN = README.parent / "tests" / "plugin_package"
BLOCKS = [block for kind, block in FOUND if kind == "python" and "himpo_escort" not in block]


def test_readme_shows_an_experiment_and_the_parts_alone() -> None:
    """One block trains an experiment, one trains the parts with TorchRL alone."""
    assert [name in block for block, name in zip(BLOCKS, ("Experiment(", "HimppoLoss("), strict=True)] == [True, True]


def test_the_plugin_that_is_shown_is_the_one_that_is_installed_and_used_in_tests() -> None:
    """Every file of it, its task on the page and the rest here, and of the metadata the entry point."""
    shown = {"README.md": [block for _, block in FOUND], PAGE.name: [block for _, block in ON_PAGE]}
    files = [file for file in PLUGIN.glob("himpo_escort/**/*.*") if file.suffix in (".py", ".yaml")]
    places = {
        file.name: [place for place, blocks in shown.items() if file.read_text(encoding="utf-8") in blocks]
        for file in files
    }
    assert places == {
        "__init__.py": ["README.md"],
        "himppo_chain.yaml": ["README.md"],
        "task.py": [PAGE.name],
        "pair.yaml": [PAGE.name],
    }
    metadata = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")
    assert [kind for kind, block in FOUND if kind == "toml" and metadata.endswith(block)] == ["toml"]


@pytest.mark.parametrize("block", BLOCKS, ids=["experiment", "standalone"])
def test_block_of_readme_runs(block: str, tmp_path: Path) -> None:
    """Each block runs in an empty folder, in a process that has imported nothing else."""
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
