"""What happened to a run, one line of JSON per event, through every attempt at it.

Events: ``adopted`` (the ``run`` that a longer one begins after, with its ``peak_memory`` and the beginning of its
``provenance``), ``unrecorded`` (there were attempts before the ledger), ``started`` (with the ``frames`` of the
checkpoint it goes on from), ``trained`` (with ``peak_memory``), ``finished``, ``failed`` (with a ``reason``),
``interrupted``, and, from whoever watches the process, ``exited`` (with an ``exit_code`` and a ``reason``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LEDGER_FILE = "attempts.jsonl"


class Ledger:
    """The events of one run.

    Args:
        folder: the folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / LEDGER_FILE

    def add(self, event: str, **content: Any) -> None:
        """Append an event.

        Args:
            event: its name.
            content: what is known of it, JSON.
        """
        line = json.dumps({"event": event, "time": now(), "attempt": self._attempt(event), **content})
        with self.file.open("a") as file:
            file.write(f"{line}\n")

    def add_start(self, frames: int, **content: Any) -> None:
        """Append that an attempt started, and before it that the last one has ended, where nobody said so.

        Args:
            frames: those of the checkpoint it goes on from.
            content: what else is known of it, JSON.
        """
        if self.is_running:
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

    @property
    def n_attempts(self) -> int:
        """How often the run was started."""
        return sum(event["event"] == "started" for event in self.events())

    @property
    def is_running(self) -> bool:
        """Whether nobody has said that the last attempt ended."""
        events = self.events()
        return bool(events) and events[-1]["event"] in ("started", "trained")

    @property
    def is_unfinished(self) -> bool:
        """Whether something happened after which the run has not finished."""
        events = self.events()
        return bool(events) and events[-1]["event"] != "finished"

    @property
    def is_interrupted(self) -> bool:
        """Whether the last attempt was interrupted."""
        return any(event["event"] == "interrupted" for event in self._last_attempt())

    @property
    def reason(self) -> str:
        """Why the last attempt ended, as far as anybody said."""
        return next((str(event["reason"]) for event in reversed(self._last_attempt()) if "reason" in event), "")

    @property
    def last_words(self) -> str:
        """Why the last attempt ended, where the run itself said so and nobody has noted its exit since."""
        events = self.events()
        if not events or events[-1]["event"] not in ("failed", "interrupted"):
            return ""
        return str(events[-1].get("reason", events[-1]["event"]))

    def _last_attempt(self) -> list[dict[str, Any]]:
        n_attempts = self.n_attempts
        return [event for event in self.events() if event["attempt"] == n_attempts]

    def _attempt(self, event: str) -> int:
        return self.n_attempts + (event == "started")


def now() -> str:
    """The time, in ISO format, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
