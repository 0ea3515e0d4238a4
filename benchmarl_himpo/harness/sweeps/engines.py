"""What starts runs: processes of this machine, or Ray.

An engine takes specs, how many to run at a time and how often to start one again, and yields as runs end, or ``None``
about twice a second so that its caller can show progress. Closing it stops what is running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarl_himpo.harness.records.ledger import Ledger
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.sweeps.run_one import EXIT_SYSTEM, Outcome, SystemFailureError, check_fingerprint, run_one

LOG_FILE = "log.txt"
POLL_SECONDS = 0.5
SECONDS_TO_STOP = 20.0
"""How long an interrupted run may take to close its files before it is killed."""


@dataclass(frozen=True)
class Ended:
    """A run that will not be started again: whether it has a record, and why not."""

    spec: RunSpec
    succeeded: bool
    reason: str = ""


Job = TypeVar("Job")

Engine = Callable[[Sequence[RunSpec], int | None, int], Generator[Ended | None, None, None]]


def run_in_processes(
    specs: Sequence[RunSpec], n_workers: int | None, n_retries: int
) -> Generator[Ended | None, None, None]:
    """One process a run, of one thread; output goes to ``log.txt`` in the run's folder.

    A run whose process was killed, or that the system failed, is started again ``n_retries`` times. ``n_workers``:
    processes at a time; None: one for each core this process may use.
    """
    waiting = deque((spec, n_retries) for spec in specs)
    with closing(run_processes(waiting, lambda job: _start(job[0]), n_workers)) as processes:
        for ended in processes:
            if ended is None:
                yield None
                continue
            (spec, retries), code = ended
            if code == 0:
                yield Ended(spec, True)
                continue
            reason = _note_exit(spec, code)
            if retries > 0 and (code < 0 or code == EXIT_SYSTEM):
                waiting.appendleft((spec, retries - 1))
            else:
                yield Ended(spec, False, reason)


def run_processes(
    waiting: deque[Job], start: Callable[[Job], subprocess.Popen[bytes]], n_workers: int | None
) -> Generator[tuple[Job, int] | None, None, None]:
    """Run processes, some at a time; closing the generator interrupts those that are running.

    Args:
        waiting: what they are to do; its caller may add to it between two yields.
        start: starts one.
        n_workers: processes at a time; None: one for each core this process may use.

    Yields:
        A job whose process ended with its exit code, negative for a signal, and None while nothing happens.
    """
    running: dict[subprocess.Popen[bytes], Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < (n_workers or n_cores()):
                job = waiting.popleft()
                running[start(job)] = job
            time.sleep(POLL_SECONDS)
            yield None
            for process in [process for process in running if process.poll() is not None]:
                process.communicate()  # closes the pipe
                yield running.pop(process), process.returncode
    finally:
        _stop(list(running))


def run_with_ray(
    specs: Sequence[RunSpec], n_workers: int | None, n_retries: int
) -> Generator[Ended | None, None, None]:
    """One Ray task a run, in a worker process of its own: on the cluster of ``RAY_ADDRESS``, or on this machine.

    The sweep's folder has to be on a file system that all machines share. ``n_workers``: cores of a cluster that this
    starts; None: those of this process. A cluster that is there has its own.
    """
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        own_cluster = (
            {} if "RAY_ADDRESS" in os.environ else {"num_cpus": n_workers or n_cores(), "include_dashboard": False}
        )
        ray.init(log_to_driver=False, **own_cluster)
    # A process a run (max_calls), because generators and counters of libraries live as long as their process
    task = ray.remote(num_cpus=1, max_calls=1, max_retries=n_retries, retry_exceptions=[SystemFailureError])(
        _run_on_node
    )
    home = ray.get_runtime_context().get_node_id()
    running = {task.remote(spec, home): spec for spec in specs}
    try:
        while running:
            ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            yield None
            for reference in ended:
                spec = running.pop(reference)
                try:
                    ray.get(reference)
                    yield Ended(spec, True)
                except ray.exceptions.RayError as error:
                    yield Ended(spec, False, _ray_reason(spec, error))
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=SECONDS_TO_STOP)
        if is_ours:
            ray.shutdown()


ENGINES: dict[str, Engine] = {"processes": run_in_processes, "ray": run_with_ray}


def n_cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_on_node(spec: RunSpec, home: str) -> Outcome:
    """Do a run on a node of a Ray cluster; one that did not take the fingerprint first shows that it has the same."""
    import ray

    spec.folder.mkdir(parents=True, exist_ok=True)
    with (spec.folder / LOG_FILE).open("a") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            if ray.get_runtime_context().get_node_id() != home:
                check_fingerprint(spec)
            return run_one(spec)
        except Exception:
            traceback.print_exc()
            raise


def _start(spec: RunSpec) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own: Ctrl-C reaches the sweep alone, which then stops its runs."""
    with (spec.folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarl_himpo.harness.sweeps.run_one", str(spec.save())],
            env={**one_thread(), **_search_path(spec)},
            stdin=subprocess.PIPE,  # its end tells the run that the sweep is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _search_path(spec: RunSpec) -> dict[str, str]:
    """Let a process find the modules that a run imports where this one did."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)} if spec.imports else {}


def one_thread() -> dict[str, str]:
    """Environment of a process that computes with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _note_exit(spec: RunSpec, code: int) -> str:
    """Write an exit code into the ledger, and say why the run ended."""
    reason = describe_signal(-code) if code < 0 else _own_reason(spec) or last_line(spec.folder / LOG_FILE)
    Ledger(spec.folder).add("exited", exit_code=code, reason=reason)
    return reason


def _own_reason(spec: RunSpec) -> str:
    """Why a run ended, where it said so itself; what was noted of an attempt before does not count."""
    status = Ledger(spec.folder).status()
    return "" if status.is_exit_noted else status.reason


def describe_signal(number: int) -> str:
    """Say that a process was killed, and by what."""
    return f"killed by signal {number} ({signal.Signals(number).name})"


def last_line(log: Path) -> str:
    """Last line that a process wrote."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "ended without output"


def _ray_reason(spec: RunSpec, error: Exception) -> str:
    """Say why a task failed, in one line: what the run wrote, or what Ray knows of its worker."""
    cause = getattr(error, "cause", None) or error  # what was raised in the task, without Ray's traceback
    reason = _own_reason(spec) or f"{type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
    Ledger(spec.folder).add("exited", exit_code=None, reason=reason)
    return reason


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Interrupt processes, and kill those that do not end."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()  # closes the pipe
