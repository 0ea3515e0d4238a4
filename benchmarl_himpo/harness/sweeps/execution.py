"""Bring the runs of a sweep to their records, those that have none yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from benchmarl_himpo.harness.records.record import RECORD_FILE, load_record
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.sweeps.engines import ENGINES
from benchmarl_himpo.harness.sweeps.expansion import SweepError
from benchmarl_himpo.harness.sweeps.progress import Progress

States = dict[str, str]
"""By id of a run, what came of it: ``done``, ``done before``, or why not."""


def check_engine(engine: str, n_workers: int | None, n_retries: int) -> None:
    """Check how runs are to be started.

    Args:
        engine: name of the engine.
        n_workers: runs at a time; None for as many as there are cores.
        n_retries: how often a run is started again.

    Raises:
        SweepError: if a value is out of range or a package is missing, with the option named.
    """
    if engine not in ENGINES:
        raise SweepError(f"engine={engine} does not exist: choose from {', '.join(ENGINES)}")
    if engine == "ray" and find_spec("ray") is None:
        raise SweepError("engine=ray needs ray, which is not installed: pip install 'benchmarl_himpo[ray]'")
    check_workers(n_workers, n_retries)


def check_workers(n_workers: int | None, n_retries: int) -> None:
    """Check how many runs are to be done at a time, and how often; see :func:`check_engine`."""
    if n_workers is not None and n_workers < 1:
        raise SweepError(f"workers={n_workers} must be 1 or more, or null for as many as there are cores")
    if n_retries < 0:
        raise SweepError(f"retries={n_retries} must be 0 or more")


def find_done(specs: Sequence[RunSpec], results: Sequence[Path] = ()) -> States:
    """Say which runs have a record, in their folders or among results that were published.

    Raises:
        RecordError: if a file there that is named after a run holds no record.
    """
    published = {file.stem: file for folder in results for file in folder.rglob("*.json")}
    states = {}
    for spec in specs:
        if spec.id in published:
            load_record(published[spec.id])
            states[spec.id] = "done before, in results"
    return states | {spec.id: "done before" for spec in specs if (spec.folder / RECORD_FILE).is_file()}


def do_missing(
    specs: Sequence[RunSpec],
    states: States,
    engine: str,
    n_workers: int | None,
    n_retries: int,
    on_done: Callable[[RunSpec], None] = lambda spec: None,
) -> None:
    """Do the runs that have no state, and fill in their states as they end.

    Args:
        specs: all runs.
        states: what :func:`find_done` gave; filled in.
        engine: a key of :data:`~benchmarl_himpo.harness.sweeps.engines.ENGINES`.
        n_workers: runs at a time; None: as many as there are cores.
        n_retries: how often a run is started again that was killed, or that the system failed.
        on_done: called with each run as soon as it has its record.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when all runs have been stopped.
    """
    to_do = [spec for spec in specs if spec.id not in states]
    for spec in to_do:
        spec.save()
    progress = Progress(to_do)
    try:
        with closing(ENGINES[engine](to_do, n_workers, n_retries)) as events:
            for ended in events:
                if ended is None:
                    progress.refresh()
                else:
                    progress.end(ended)
                    states[ended.spec.id] = "done" if ended.succeeded else f"failed: {ended.reason}"
                    if ended.succeeded:
                        on_done(ended.spec)
    finally:
        progress.view.close()
