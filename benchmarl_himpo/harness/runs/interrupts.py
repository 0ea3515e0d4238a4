"""Ctrl-C lets a run finish its iteration and write a checkpoint, so that it can be resumed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers of clusters send before they kill."""
USUAL_HANDLERS = (signal.default_int_handler, signal.SIG_DFL)
"""Handlers that a Python process begins with."""


@contextmanager
def checkpoint_on_interrupt(experiment: ResumableExperiment) -> Iterator[None]:
    """Let the first signal stop the experiment with a checkpoint, and the second one at once.

    Signals keep their meaning where the process ignores them, as background jobs of a shell ignore Ctrl-C, or has a
    handler of its own, as jobs of submitit have, and outside the main thread.

    Args:
        experiment: the experiment that runs in the block.
    """

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, before[number])
        experiment.stop_after_iteration()
        print(
            "\nInterrupted: the run stops after this iteration, with a checkpoint; once more stops it at once.",
            file=sys.stderr,
        )

    is_main = threading.current_thread() is threading.main_thread()
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    before = {number: handler for number, handler in handlers.items() if handler in USUAL_HANDLERS}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
