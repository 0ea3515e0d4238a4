"""Event log of a run over all its attempts, one line of JSON per event.

Events: ``unrecorded`` (there were attempts before the ledger), ``started`` (with the ``frames`` of the checkpoint from
which it continues, the ``provenance`` and, in a sweep, the numerics ``fingerprint``), ``trained`` (with
``peak_memory``), ``finished``, ``failed`` (with a ``reason``), ``interrupted``, and, from the parent process,
``exited`` (with an ``exit_code`` and a ``reason``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any

LEDGER_FILE = "attempts.jsonl"


class State(Enum):
    """State of a run."""

    NEW = auto()
    """Not started, according to the ledger."""
    RUNNING = auto()
    """Running, or killed without an event."""
    INTERRUPTED = auto()
    FAILED = auto()
    FINISHED = auto()


@dataclass(frozen=True)
class Status:
    """Summary of the events of a run.

    Args:
        state: state of the run.
        n_attempts: number of starts.
        reason: reason for the end of the last attempt, if known; for a finished run, why it has no record.
        is_exit_noted: whether the parent process has noted the exit.
    """

    state: State = State.NEW
    n_attempts: int = 0
    reason: str = ""
    is_exit_noted: bool = False

    def after(self, event: dict[str, Any]) -> Status:
        """The status after one more event."""
        reason = str(event.get("reason", self.reason))
        match event["event"]:
            case "started":
                return Status(State.RUNNING, self.n_attempts + 1)
            case "interrupted":
                return replace(self, state=State.INTERRUPTED, reason="interrupted")
            case "failed":
                return replace(self, state=State.FAILED, reason=reason)
            case "exited":
                state = self.state if self.state is State.INTERRUPTED else State.FAILED
                return replace(self, state=state, reason=reason, is_exit_noted=True)
            case "finished":
                return replace(self, state=State.FINISHED, reason=str(event.get("reason", "")))
        return self


class Ledger:
    """The events of one run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LEDGER_FILE

    def add(self, event: str, **content: Any) -> None:
        """Append an event with its content, as JSON."""
        attempt = self.status().n_attempts + (event == "started")
        line = json.dumps({"event": event, "time": now(), "attempt": attempt, **content})
        is_torn = self.file.is_file() and not self.file.read_bytes().endswith(b"\n")  # by a crash
        with self.file.open("a") as file:
            file.write(f"\n{line}\n" if is_torn else f"{line}\n")

    def add_start(self, frames: int, **content: Any) -> None:
        """Append the start of an attempt at a number of frames; adds the exit of the last attempt if it is missing."""
        if self.status().state is State.RUNNING:
            self.add("exited", exit_code=None, reason="its process was killed (no exit event)")
        self.add("started", frames=frames, pid=os.getpid(), **content)

    @contextmanager
    def note_failure(self) -> Iterator[None]:
        """Append the failure of the attempt if an exception ends it; a full disk does not mask that exception."""
        try:
            yield
        except KeyboardInterrupt:
            with suppress(OSError):
                self.add("interrupted")
            raise
        except Exception as error:
            with suppress(OSError):
                self.add("failed", reason=f"{type(error).__name__}: {error}")
            raise

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first, without incomplete lines from a crash."""
        if not self.file.is_file():
            return []
        events = []
        for line in self.file.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return events

    def starts(self) -> list[dict[str, Any]]:
        """The starts of the attempts since the run last started from scratch."""
        starts = [event for event in self.events() if event["event"] == "started"]
        fresh = [i for i, event in enumerate(starts) if not event["frames"]]
        return starts[fresh[-1] :] if fresh else starts

    def status(self) -> Status:
        """Compute the status from all events."""
        status = Status()
        for event in self.events():
            status = status.after(event)
        return status


def now() -> str:
    """The time, in ISO format, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
