"""The Python of the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_readme_shows_an_experiment_and_the_parts_alone() -> None:
    """One block trains an experiment, one trains the parts with TorchRL alone."""
    assert [name in block for block, name in zip(BLOCKS, ("Experiment(", "HimppoLoss("), strict=True)] == [True, True]


@pytest.mark.parametrize("block", BLOCKS, ids=["experiment", "standalone"])
def test_block_of_readme_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
