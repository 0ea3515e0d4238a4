"""Progress of a sweep, one line per run, and its outcome as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.records.ledger import Ledger, State
from benchmarl_himpo.harness.records.record import RECORD_FILE, load_record
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.runs.run_logs import read_progress
from benchmarl_himpo.harness.sweeps.engines import Ended

SHARE_BETWEEN_LINES = 0.1
"""Fraction of a run between two of its lines, without a terminal."""


class Progress:
    """Follows the runs of a sweep by their files, for any engine."""

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self.view: Bars | Lines = Bars(len(specs)) if sys.stderr.isatty() else Lines(len(specs))
        self._attempts_before = {spec.id: Ledger(spec.folder).status().n_attempts for spec in specs}
        self._open = {spec.id: spec for spec in specs}

    def refresh(self) -> None:
        """Show every run that is running."""
        for spec in self._open.values():
            status = Ledger(spec.folder).status()
            if status.state is State.RUNNING and status.n_attempts > self._attempts_before[spec.id]:
                self.view.show(spec, *read_progress(spec.folder))

    def end(self, ended: Ended) -> None:
        """Show the end of a run."""
        del self._open[ended.spec.id]
        self.view.end(ended)


class Bars:
    """A bar for the sweep and one for each run that is running."""

    def __init__(self, n_runs: int) -> None:
        self._total = tqdm(total=n_runs, desc="runs", unit="run")
        self._bars: dict[str, Any] = {}

    def show(self, spec: RunSpec, frames: int, collection_return: float | None) -> None:
        """Move the bar of a run, which has its frames, return and remaining time."""
        if spec.id not in self._bars:
            self._bars[spec.id] = tqdm(
                total=spec.n_frames, initial=frames, desc=spec.id, unit=" frames", unit_scale=True, leave=False
            )
        bar = self._bars[spec.id]
        bar.set_postfix_str(_describe_return(collection_return), refresh=False)
        bar.update(frames - bar.n)

    def end(self, ended: Ended) -> None:
        """Take a bar away and leave a line."""
        if ended.spec.id in self._bars:
            self._bars.pop(ended.spec.id).close()
        self._total.write(_describe_end(ended), file=sys.stderr)
        self._total.update()

    def close(self) -> None:
        """Close all bars."""
        for bar in (*self._bars.values(), self._total):
            bar.close()


class Lines:
    """For files and pipes: a line when a run begins, at every tenth of it, and when it ends."""

    def __init__(self, n_runs: int) -> None:
        self._n_runs, self._n_ended = n_runs, 0
        self._first: dict[str, tuple[float, int]] = {}  # time and frames when first seen
        self._said: dict[str, int] = {}  # frames at the last line

    def show(self, spec: RunSpec, frames: int, collection_return: float | None) -> None:
        """Write a line if there is enough progress."""
        started, first = self._first.setdefault(spec.id, (time.monotonic(), frames))
        if spec.id in self._said and frames - self._said[spec.id] < SHARE_BETWEEN_LINES * spec.n_frames:
            return
        self._said[spec.id] = frames
        seconds = (time.monotonic() - started) / (frames - first) * (spec.n_frames - frames) if frames > first else None
        left = "" if seconds is None else f", {seconds / 60:.0f} min left"
        said = f"{frames:,} of {spec.n_frames:,} frames {_describe_return(collection_return)}{left}"
        print(f"{spec.id}: {said}", file=sys.stderr, flush=True)

    def end(self, ended: Ended) -> None:
        """Write a line."""
        self._n_ended += 1
        print(f"{_describe_end(ended)} ({self._n_ended} of {self._n_runs})", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to close."""


def format_table(specs: Sequence[RunSpec], states: dict[str, str]) -> str:
    """Format the outcome of a sweep as a Markdown table, with multi-line reasons below it."""
    columns = ["variant", "task", "seed", "last evaluation", "absolute metric", "minutes", "attempts", "state"]
    rows = []
    for spec in sorted(specs, key=lambda spec: (spec.task_label, spec.variant, spec.seed)):
        state = states[spec.id].partition("\n")[0].replace("|", "\\|")
        rows.append([spec.variant, spec.task_label, spec.seed, *_numbers(spec), state])
    reasons = [f"\n{spec.id}: {states[spec.id]}" for spec in specs if "\n" in states[spec.id]]
    return "\n".join([markdown_table(columns, rows), *reasons])


def _numbers(spec: RunSpec) -> list[object]:
    """Last evaluation, absolute metric, minutes and attempts of a run, as far as they are known."""
    file = spec.folder / RECORD_FILE
    if not file.is_file():
        frames, value = read_progress(spec.folder)
        attempts = Ledger(spec.folder).status().n_attempts
        said = f"{_describe_return(value)} in training at {frames:,} frames" if frames else ""
        return [said, "", "", attempts or ""]
    record = load_record(file)
    evaluation = "" if record.last_evaluation is None else f"{record.last_evaluation:.2f}"
    metric = "" if record.best_evaluated is None else f"{record.best_evaluated:.2f}"
    return [evaluation, metric, f"{sum(record.timers.values()) / 60:.1f}", record.attempts]


def _describe_return(value: float | None) -> str:
    return "" if value is None else f"return {value:.2f}"


def _describe_end(ended: Ended) -> str:
    if not ended.succeeded:
        return f"{ended.spec.id}: failed, {ended.reason}"
    record = load_record(ended.spec.folder / RECORD_FILE)
    return f"{ended.spec.id}: done, {record.frames[-1]:,} frames {_describe_return(record.last_evaluation)}"
