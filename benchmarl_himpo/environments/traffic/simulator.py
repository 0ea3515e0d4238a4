"""Communicates with the process of one simulation."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).with_name("worker.py")
LAST_WORDS = 2_000
"""Maximal number of characters of a dead process's output in an error message."""


class SimulatorError(ChildProcessError):
    """A simulation failed; the message contains its error."""


class Simulator:
    """A simulation in a separate process, which ends with this object and with the parent process.

    Sending a request and receiving its answer are separate calls, so that several simulations compute at once.

    Args:
        options: arguments of :class:`~benchmarl_himpo.environments.traffic.worker.Simulation`; the first answer
            confirms that it was built.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._printed = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: modules beside the script are not to be found by its imports
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
        )
        self.close = weakref.finalize(self, _stop, self._process, self._printed)
        """End the process; a second call does nothing."""
        self.send("build", options)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, *request: Any) -> None:
        """Send a request, whose answer has to be received before the next."""
        assert self._process.stdin is not None
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # the process has died; receive() raises with its output

    def receive(self) -> Any:
        """Wait for the answer to the last request.

        Raises:
            SimulatorError: if the simulation failed, or its process has died.
        """
        assert self._process.stdout is not None
        try:
            answer, failure = pickle.load(self._process.stdout)
        except (EOFError, ValueError, pickle.UnpicklingError):
            answer, failure = None, self._describe_death()
        if failure:
            self.close()
            raise SimulatorError(f"a simulation of SUMO failed: {failure}")
        return answer

    def _describe_death(self) -> str:
        if not self.close.alive:
            return "it was closed before"
        code = self._process.wait()
        how = f"its process was killed by signal {-code}" if code < 0 else f"its process exited with code {code}"
        self._printed.seek(0)
        said = " ".join(self._printed.read().decode(errors="replace")[-LAST_WORDS:].split())
        return f"{how}, with the output: {said}" if said else f"{how} without output"


def _stop(process: subprocess.Popen[bytes], printed: IO[bytes]) -> None:
    """End a process; it has no state to save."""
    process.kill()
    process.wait()
    for file in (process.stdin, process.stdout, printed):
        assert file is not None
        try:
            file.close()
        except BrokenPipeError:
            pass  # the unread rest of a request
