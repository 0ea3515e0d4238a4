"""Execute the runs of a sweep that have no record yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from benchmarl_himpo.harness.output import files_below
from benchmarl_himpo.harness.records.fingerprint import OTHER_NUMERICS
from benchmarl_himpo.harness.records.ledger import Ledger
from benchmarl_himpo.harness.records.record import RECORD_FILE, load_record
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.sweeps.engines import ENGINES
from benchmarl_himpo.harness.sweeps.expansion import SweepError
from benchmarl_himpo.harness.sweeps.progress import Progress

States = dict[str, str]
"""State of each run by id: ``done``, ``done before``, or the reason for a failure."""


def check_engine(engine: str, n_workers: int | None, n_retries: int) -> None:
    """Check the options of :func:`do_missing`.

    Raises:
        SweepError: if a value is out of range or a package is missing, with the option named.
    """
    if engine not in ENGINES:
        raise SweepError(f"engine={engine} does not exist: choose from {', '.join(ENGINES)}")
    if engine == "ray" and find_spec("ray") is None:
        raise SweepError("engine=ray needs ray, which is not installed: pip install 'benchmarl_himpo[ray]'")
    check_workers(n_workers, n_retries)


def check_workers(n_workers: int | None, n_retries: int) -> None:
    """Check the numbers of parallel runs and of restarts; see :func:`check_engine`."""
    if n_workers is not None and n_workers < 1:
        raise SweepError(f"workers={n_workers} must be 1 or more, or null for as many as there are cores")
    if n_retries < 0:
        raise SweepError(f"retries={n_retries} must be 0 or more")


def find_done(specs: Sequence[RunSpec], results: Sequence[Path] = (), strict: bool = False) -> States:
    """Find the runs that have a record, in their folders or among published results.

    Args:
        specs: all runs.
        results: folders of published records.
        strict: whether to ignore records with another numerics fingerprint than their run's.

    Returns:
        The states of the runs that are done.

    Raises:
        RecordError: if a file that is named after a run is not a record.
        SweepError: if a run was started in its folder with another fingerprint and ``strict`` is set.
    """
    published: dict[str, list[Path]] = {}
    for file in sorted(file for folder in results for file in files_below(folder, "*.json")):
        published.setdefault(file.stem, []).append(file)
    states: States = {}
    for spec in specs:
        if strict:
            _check_numerics(spec)
        places = {"done before": _own_record(spec), "done before, in results": published.get(spec.id, [])}
        found = {state: [load_record(file).fingerprint for file in files] for state, files in places.items() if files}
        same = [state for state, fingerprints in found.items() if spec.fingerprint in fingerprints]
        others = [] if strict else [f"{state}, {OTHER_NUMERICS}" for state in found]
        if same or others:
            states[spec.id] = [*same, *others][0]
    return states


def describe_other_numerics(states: States) -> str:
    """Describe the number of runs whose record has another fingerprint; empty if there are none."""
    n_others = sum(state.endswith(OTHER_NUMERICS) for state in states.values())
    if not n_others:
        return ""
    return (
        f"{n_others} of them by records with another numerics fingerprint than this machine's, from other versions or "
        "another processor: strict=true does these again"
    )


def check_publish(specs: Sequence[RunSpec], states: States, folder: Path) -> None:
    """Check that copying records to a folder replaces no existing record.

    Raises:
        SweepError: if the folder has another record of a run of this sweep.
    """
    for spec in specs:
        file, own = folder / f"{spec.id}.json", _own_record(spec)
        is_another = load_record(own[0]) != load_record(file) if own and file.is_file() else spec.id not in states
        if file.is_file() and is_another:
            raise SweepError(f"publish={folder} has another record of {spec.id}, which is kept: choose another folder")


def _own_record(spec: RunSpec) -> list[Path]:
    """The record in the folder of a run, if it exists."""
    return [file for file in (spec.folder / RECORD_FILE,) if file.is_file()]


def _check_numerics(spec: RunSpec) -> None:
    """Reject a folder in which a run was started with another fingerprint."""
    taken = [load_record(file).fingerprint for file in _own_record(spec)]
    taken = taken or [event.get("fingerprint") for event in Ledger(spec.folder).starts()]
    if any(fingerprint != spec.fingerprint for fingerprint in taken):
        raise SweepError(
            f"strict=true: {spec.folder} holds a run with another numerics fingerprint than this machine's, which is "
            "kept: choose another folder=..."
        )


def do_missing(
    specs: Sequence[RunSpec],
    states: States,
    engine: str,
    n_workers: int | None,
    n_retries: int,
    on_done: Callable[[RunSpec], None] = lambda spec: None,
) -> None:
    """Execute the runs that have no state, and add their states as they end.

    Args:
        specs: all runs.
        states: result of :func:`find_done`, extended in place.
        engine: a key of :data:`~benchmarl_himpo.harness.sweeps.engines.ENGINES`.
        n_workers: parallel runs; None: the number of cores.
        n_retries: number of restarts of a run that was killed, or that failed because of the system.
        on_done: called with each run as soon as it has a record.
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
