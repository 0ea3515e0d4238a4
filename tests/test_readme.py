"""The Python of the README runs as it stands, and its links hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    """In an empty folder, in a process that has imported nothing else."""
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_what_the_readme_links_to_is_there() -> None:
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]*)\)", TEXT) if "://" not in target}
    assert len(targets) > 10
    assert [target for target in targets if not (README.parent / target).is_file()] == []
