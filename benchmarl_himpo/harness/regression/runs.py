"""The runs of the gate: ``python -m benchmarl_himpo.run`` in the folder of a state of the code.

The gate uses only the command and BenchMARL's JSON file of the tested code, so that older commits with other modules
can be compared.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.records.labels import flatten
from benchmarl_himpo.harness.records.provenance import PACKAGES, provenance, source_digest
from benchmarl_himpo.harness.regression.verdict import InconclusiveError
from benchmarl_himpo.harness.runs.training import n_frames_of
from benchmarl_himpo.harness.sweeps.engines import LOG_FILE, describe_signal, last_line, one_thread, run_processes
from benchmarl_himpo.harness.sweeps.expansion import compose_checked, expand
from benchmarl_himpo.host.benchmarl_files import evaluations_in, read_run_json

VALUE_FILE = "value.json"
"""File with the value of a finished run of the gate."""
MACHINE = ("cpu", "cpu_capability", "preloaded", *PACKAGES)
"""Packages and settings that affect a run's results in addition to the code."""


@dataclass(frozen=True)
class GateRun:
    """One run, independent of the state of the code."""

    task: str  # name of the task, such as ``vmas/sampling``
    seed: int
    overrides: tuple[str, ...]  # all others of the command, in Hydra's syntax
    n_frames: int  # its length

    @property
    def name(self) -> str:
        """Name that is unique for the overrides."""
        digest = hashlib.sha256("\n".join(self.overrides).encode()).hexdigest()[:8]
        return f"{self.task.replace('/', '_')}-s{self.seed}-{digest}"


@dataclass(frozen=True)
class Side:
    """One of the two states of the code."""

    name: str  # name in progress and messages
    root: Path  # folder from which its package is imported
    folder: Path  # folder of its runs, specific to this state of the code and the machine


Job = tuple[Side, GateRun]


def make_side(name: str, root: Path, folder: Path) -> Side:
    """Build a side, with a folder of runs that is specific to its code and this machine."""
    machine = provenance({"cpu"})
    state = [source_digest(root), *(str(machine[key]) for key in MACHINE)]
    return Side(name, root, (folder / hashlib.sha256("\n".join(state).encode()).hexdigest()[:16]).resolve())


def plan(protocol: str, seeds: Sequence[int], overrides: Sequence[str] = ()) -> list[GateRun]:
    """List the runs of a file of ``conf/protocol`` with these seeds on each task, seed by seed.

    The protocol's values are part of the overrides, so that another state of the code uses them independently of its
    own protocols, with its own defaults for other options.

    Raises:
        SweepError: if the runs cannot be composed.
        ValueError: if seeds are among the overrides, or two runs have one task and seed.
    """
    if any(line.lstrip("+~").startswith("seed=") for line in overrides):
        raise ValueError("seed=... is no override of the gate: first_seeds, second_seeds and toy_seeds are its seeds")
    runs = [replace(run, seed=seed) for run in _compose_runs(protocol, tuple(overrides)) for seed in seeds]
    if len({(run.task, run.seed) for run in runs}) < len(runs):
        raise ValueError(f"protocol={protocol} has several runs of one task and seed: the gate takes one")
    return sorted(runs, key=lambda run: run.seed)


@cache
def _compose_runs(protocol: str, overrides: tuple[str, ...]) -> tuple[GateRun, ...]:
    """The runs of a protocol without their seeds, cached because composing takes a second."""
    lines_of_runs = expand([f"protocol={protocol}", *overrides])
    runs = []
    for lines in dict.fromkeys(tuple(line for line in run if not line.startswith("seed=")) for run in lines_of_runs):
        cfg = compose_checked(list(lines))
        own = [line for line in lines if not line.startswith("protocol=")]
        given = {line.partition("=")[0]: line for line in [*_values_of(protocol), *own]}
        runs.append(GateRun(cfg.hydra.runtime.choices["task"], 0, tuple(given.values()), n_frames_of(cfg)))
    return tuple(runs)


def do(jobs: Sequence[Job], n_workers: int | None, n_retries: int) -> dict[Job, float]:
    """Execute the runs that have no value yet, and return all values, the mean returns of the last evaluations.

    Args:
        jobs: the runs, each with its side.
        n_workers: parallel processes with one thread each; None: the number of cores.
        n_retries: number of restarts of a run whose process was killed.

    Raises:
        InconclusiveError: if runs failed, or ended without an evaluation.
    """
    waiting = deque((job, n_retries) for job in jobs if not _value_file(job).is_file())
    n_before, failed = len(jobs) - len(waiting), []
    with (
        tqdm(total=len(jobs), initial=n_before, desc="runs", unit="run", file=sys.stderr) as bar,
        closing(run_processes(waiting, lambda waiting_job: _start(waiting_job[0]), n_workers)) as processes,
    ):
        for ended in processes:
            if ended is None:
                continue
            (job, retries), code = ended
            reason = _keep_value(job) if code == 0 else _reason(job, code)
            if reason and code < 0 and retries:
                waiting.appendleft((job, retries - 1))
                continue
            failed += [f"{job[1].name} of {job[0].name}: {reason}"] if reason else []
            bar.set_postfix_str(f"{job[0].name} {job[1].name}: {reason or format(_read_value(job), '.3f')}")
            bar.update()
    if failed:
        raise InconclusiveError(
            f"{len(failed)} of {len(jobs)} runs are missing ({'; '.join(failed[:3])}): fix the errors in their "
            f"{LOG_FILE} in {jobs[0][0].folder.parent}; the same command repeats only these runs"
        )
    return {job: _read_value(job) for job in jobs}


def _values_of(protocol: str) -> list[str]:
    """Values of a protocol, as overrides, without the definition of the comparison."""
    content = OmegaConf.load(CONF_DIR / "protocol" / f"{protocol}.yaml")
    assert isinstance(content, DictConfig)
    entries = [entry for entry in content.pop("defaults", []) if entry != "_self_"]
    if inherited := [entry for entry in entries if isinstance(entry, str)]:
        raise ValueError(
            f"protocol={protocol} inherits values of {inherited[0]}, which older commits may not have: give the gate a "
            "protocol that has all of its values, as regression has"
        )
    groups = [next(iter(entry.items())) for entry in entries]
    chosen = [f"{str(group).removeprefix('override /')}={name}" for group, name in groups]
    del content.protocol
    values = flatten(OmegaConf.to_container(content))  # type: ignore[arg-type]
    return [*chosen, *(f"{key}={json.dumps(value)}" for key, value in values)]


def _start(job: Job) -> subprocess.Popen[bytes]:
    """Start a run in a new session, so that Ctrl-C reaches only the gate, which then stops its runs."""
    side, run = job
    folder = side.folder / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarl_himpo.run", *run.overrides, f"seed={run.seed}"]
    with (folder / LOG_FILE).open("wb") as log:
        return subprocess.Popen(
            [*command, f"hydra.run.dir={json.dumps(str(folder))}"],
            cwd=side.root,  # where `python -m` looks first
            env=one_thread(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _value_file(job: Job) -> Path:
    side, run = job
    return side.folder / run.name / VALUE_FILE


def _read_value(job: Job) -> float:
    return float(json.loads(_value_file(job).read_text())["value"])


def _reason(job: Job, code: int) -> str:
    return describe_signal(-code) if code < 0 else last_line(job[0].folder / job[1].name / LOG_FILE)


def _keep_value(job: Job) -> str:
    """Write the value of a run that ended; returns the reason if it has none."""
    side, run = job
    files = [file for file in (side.folder / run.name).glob("*/*.json") if file.stem == file.parent.name]
    if len(files) != 1:
        return "it left no JSON file of evaluations (experiment.create_json=true)"
    evaluations = evaluations_in(read_run_json(files[0])[1])
    n_frames = max(evaluations, default=0)
    if n_frames < run.n_frames:
        return f"it was not evaluated at its end, {run.n_frames:,} frames: set experiment.evaluation=true"
    file = _value_file(job)
    temporary = file.with_suffix(".tmp")
    returns = evaluations[n_frames]
    temporary.write_text(json.dumps({"value": float(np.mean(returns)), "episodes": len(returns)}))
    temporary.replace(file)
    return ""
