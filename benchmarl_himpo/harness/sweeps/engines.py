"""Engines that execute runs: processes on this machine, or Ray.

An engine takes specs, the number of parallel runs and the number of restarts. It yields when a run ends, or ``None``
about twice a second so that its caller can show progress. Closing the engine stops its runs.
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
"""Time that an interrupted run has to close its files before it is killed."""


@dataclass(frozen=True)
class Ended:
    """A run that will not be restarted: whether it has a record, and the reason if not."""

    spec: RunSpec
    succeeded: bool
    reason: str = ""


Job = TypeVar("Job")

Engine = Callable[[Sequence[RunSpec], int | None, int], Generator[Ended | None, None, None]]


def run_in_processes(
    specs: Sequence[RunSpec], n_workers: int | None, n_retries: int
) -> Generator[Ended | None, None, None]:
    """One process with one thread per run; its output is written to ``log.txt`` in the run's folder.

    A run whose process was killed, or that failed because of the system, is restarted up to ``n_retries`` times.
    ``n_workers``: parallel processes; None: one per core available to this process.
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
    """Run processes in parallel; closing the generator interrupts the running ones.

    Args:
        waiting: the jobs; the caller may add jobs between two yields.
        start: starts the process of a job.
        n_workers: parallel processes; None: one per core available to this process.

    Yields:
        A finished job with the exit code of its process, negative for a signal, or None while no process ends.
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
    """One Ray task per run, each in a new worker process, on the cluster of ``RAY_ADDRESS`` or on this machine.

    The sweep's folder has to be on a file system that all machines share. ``n_workers``: cores of a local cluster that
    is started here; None: the cores of this process. Not used for an existing cluster.
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
    """Execute a run on a node of a Ray cluster, after a check that the node has the sweep's fingerprint."""
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
    """Start a run in a new session, so that Ctrl-C reaches only the sweep, which then stops its runs."""
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
    """Environment with this process's search path for the modules that a run imports."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)} if spec.imports else {}


def one_thread() -> dict[str, str]:
    """Environment of a process that computes with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _note_exit(spec: RunSpec, code: int) -> str:
    """Write an exit code into the ledger, and return the reason for the end of the run."""
    reason = describe_signal(-code) if code < 0 else _own_reason(spec) or last_line(spec.folder / LOG_FILE)
    Ledger(spec.folder).add("exited", exit_code=code, reason=reason)
    return reason


def _own_reason(spec: RunSpec) -> str:
    """The reason that a run itself logged for its end in the last attempt."""
    status = Ledger(spec.folder).status()
    return "" if status.is_exit_noted else status.reason


def describe_signal(number: int) -> str:
    """Describe the signal that killed a process."""
    return f"killed by signal {number} ({signal.Signals(number).name})"


def last_line(log: Path) -> str:
    """Last line that a process wrote."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "ended without output"


def _ray_reason(spec: RunSpec, error: Exception) -> str:
    """Reason for a task's failure, in one line: the run's own, or Ray's error of its worker."""
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
