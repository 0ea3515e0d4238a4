"""Commands in processes of their own, which have imported nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = """
import json, sys
from importlib import import_module
for command, *arguments in json.loads(sys.argv[1]):
    sys.argv = [command, *arguments]
    import_module(f"benchmarl_himpo.{command}").main()
"""


def run_python(cwd: Path, path: Sequence[Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start Python with folders that it imports from, beside this checkout."""
    folders = os.pathsep.join(str(folder) for folder in (ROOT, *path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def run_commands(cwd: Path, path: Sequence[Path], *commands: Sequence[str]) -> str:
    """Give commands one after another to one process; returns what it printed."""
    done = run_python(cwd, path, "-c", COMMANDS, json.dumps(commands))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
