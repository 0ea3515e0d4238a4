"""Compare what two runs left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two nested states differ, wall time and devices aside."""
    if isinstance(a, dict):
        found = [f"{path}: {key}" for key in a.keys() ^ b.keys()]
        kept = (key for key in a.keys() & b.keys() if key not in ("total_time", "__device"))
        return found + [place for key in kept for place in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, (list, tuple)):
        pairs = enumerate(zip(a, b, strict=True))
        return [place for i, (x, y) in pairs for place in differences(x, y, f"{path}/{i}")]
    is_equal = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b or (a != a and b != b)  # NaN is not NaN
    return [] if is_equal else [path]


def last_state(folder: Path, n_frames: int) -> Any:
    """The checkpoint that a run of so many frames ended with."""
    return torch.load(folder / "checkpoints" / f"checkpoint_{n_frames}.pt", weights_only=True)


def scalars(folder: Path) -> dict[str, str]:
    """Every CSV file of a run but the timers, by name."""
    files = folder.glob("*/scalars/*.csv")
    return {file.name: file.read_text() for file in files if not file.name.startswith("timers")}
