"""What happened to a run, one line of JSON per event, through every attempt at it.

Events: ``unrecorded`` (there were attempts before the ledger), ``started`` (with the ``frames`` of the checkpoint it
goes on from, the ``provenance`` and, in a sweep, the numerics ``fingerprint``), ``trained`` (with ``peak_memory``),
``finished``, ``failed`` (with a ``reason``), ``interrupted``, and, from whoever watches the process, ``exited`` (with
an ``exit_code`` and a ``reason``).
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
    """Where a run is."""

    NEW = auto()
    """Nobody has started it, as far as its ledger knows."""
    RUNNING = auto()
    """Running, or killed without anybody's noting it."""
    INTERRUPTED = auto()
    FAILED = auto()
    FINISHED = auto()


@dataclass(frozen=True)
class Status:
    """What the events of a run amount to.

    Args:
        state: where it is.
        n_attempts: how often it was started.
        reason: why the last attempt ended, as far as anybody said; of a run that finished, why it has no record.
        is_exit_noted: whether whoever watched the process has noted its end.
    """

    state: State = State.NEW
    n_attempts: int = 0
    reason: str = ""
    is_exit_noted: bool = False

    def after(self, event: dict[str, Any]) -> Status:
        """Give the status after one more event."""
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
        """Append an event, with what is known of it, JSON."""
        attempt = self.status().n_attempts + (event == "started")
        line = json.dumps({"event": event, "time": now(), "attempt": attempt, **content})
        with self.file.open("a") as file:
            file.write(f"{line}\n")

    def add_start(self, frames: int, **content: Any) -> None:
        """Append that an attempt starts at so many frames, and first that the last one ended where nobody said so."""
        if self.status().state is State.RUNNING:
            self.add("exited", exit_code=None, reason="its process was killed (no exit event)")
        self.add("started", frames=frames, pid=os.getpid(), **content)

    @contextmanager
    def note_failure(self) -> Iterator[None]:
        """Append how the attempt ended, where an exception ends it; a full disk does not hide that exception."""
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
        """All events, oldest first; a line that was cut by a crash is left out."""
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
        """The starts of the attempts that the run consists of: those since it last began with nothing."""
        starts = [event for event in self.events() if event["event"] == "started"]
        fresh = [i for i, event in enumerate(starts) if not event["frames"]]
        return starts[fresh[-1] :] if fresh else starts

    def status(self) -> Status:
        """Read what the events amount to."""
        status = Status()
        for event in self.events():
            status = status.after(event)
        return status


def now() -> str:
    """The time, in ISO format, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
