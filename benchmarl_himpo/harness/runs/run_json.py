"""The JSON file of a run, in the format of marl-eval, which nests one run's data under its names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_run_json(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the file of one run.

    Args:
        file: the file, ``<name>.json`` in the run's folder.

    Returns:
        All of it, and the part of it that holds the evaluations ``step_<n>`` and ``absolute_metrics``.
    """
    content = json.loads(file.read_text())
    (tasks,) = content.values()
    (algorithms,) = tasks.values()
    (seeds,) = algorithms.values()
    (data,) = seeds.values()
    return content, data
