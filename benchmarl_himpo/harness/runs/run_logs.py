"""Logs of a run: the CSV files of its logger, and its evaluations as JSON in the format of marl-eval."""

from __future__ import annotations

from pathlib import Path

from benchmarl_himpo.harness.runs.checkpoint import CONFIG_FILE
from benchmarl_himpo.host.benchmarl_files import COLLECTION_RETURN, FRAMES, scalars_file


def find_begun_run(folder: Path) -> Path | None:
    """Find BenchMARL's output folder below a run's folder in a sweep; None if the run has not started."""
    return next((file.parent for file in sorted(folder.glob(f"*/{CONFIG_FILE}"))), None)


def read_scalars(run: Path, name: str) -> dict[int, float]:
    """Read the values of one metric by iteration from BenchMARL's output folder; empty if never logged."""
    file = scalars_file(run, name)
    if not file.is_file():
        return {}
    rows = (line.split(",") for line in file.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return {int(step): float(value) for step, value in rows}


def read_progress(folder: Path) -> tuple[int, float | None]:
    """Progress of a run in a sweep: frames, and mean return of the last finished episodes."""
    run = find_begun_run(folder)
    if run is None:
        return 0, None
    frames = read_scalars(run, FRAMES)
    returns = read_scalars(run, COLLECTION_RETURN)
    return int(max(frames.values(), default=0)), list(returns.values())[-1] if returns else None
