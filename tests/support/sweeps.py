"""Sweeps of a few seconds a run on sampling, whose episodes of 20 steps end with each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarl_himpo.harness.records.record import RunRecord, load_record
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.sweeps.engines import Ended
from benchmarl_himpo.harness.sweeps.run_one import run_one
from support.tiny_overrides import SAMPLING

FINGERPRINT = "0123456789abcdef"
N_FRAMES = 320

TINY = [
    *SAMPLING,
    f"experiment.max_n_frames={N_FRAMES}",
    "experiment.evaluation_interval=160",
    "experiment.evaluation_episodes=2",
    "absolute_metric_episodes=5",
]


def records(folder: Path) -> list[RunRecord]:
    """The records of a sweep, by id."""
    return [load_record(file) for file in sorted(folder.glob("*/record.json"))]


def run_here(specs: Sequence[RunSpec], *_: int | None) -> Iterator[Ended]:
    """An engine that does the runs in this process, without the seconds that another one takes to import everything."""
    for spec in specs:
        run_one(spec)
        yield Ended(spec, succeeded=True)


def results(record: RunRecord) -> dict[str, object]:
    """What a record says that does not depend on how fast it was or how often it was started."""
    names = ("id", "variant", "config", "frames", "collection_return", "evaluation_frames", "evaluation_returns")
    more = ("absolute_metric", "parameters", "gradient_steps")
    return {name: getattr(record, name) for name in (*names, *more)}
