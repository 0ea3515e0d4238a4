"""Executes one run of a sweep until it has a record; called by every engine.

python -m benchmarl_himpo.harness.sweeps.run_one SWEEP_FOLDER/ID/spec.yaml
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from omegaconf import DictConfig

from benchmarl_himpo.harness.checks import check_sweep
from benchmarl_himpo.harness.command_line import EXIT_INTERRUPTED
from benchmarl_himpo.harness.composition import compose, search_in
from benchmarl_himpo.harness.records.fingerprint import OTHER_NUMERICS, fingerprint
from benchmarl_himpo.harness.records.ledger import Ledger
from benchmarl_himpo.harness.records.lifecycle import finish_run, note_start
from benchmarl_himpo.harness.records.provenance import peak_memory
from benchmarl_himpo.harness.records.record import RECORD_FILE, RunRecord, load_record
from benchmarl_himpo.harness.records.spec import RunSpec, comparable_config, hash_config, load_spec, make_spec
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.lock import RunLockedError, lock_folder
from benchmarl_himpo.harness.runs.run_config import describe_changes, read_changes
from benchmarl_himpo.harness.runs.run_logs import find_begun_run
from benchmarl_himpo.harness.runs.training import CommandError, continue_newest, n_frames_done, n_frames_of, train
from benchmarl_himpo.registration import PluginError

Outcome = Literal["finished", "skipped"]

EXIT_SYSTEM = 75
"""Exit code for a failure of the system and not of the run: EX_TEMPFAIL."""
ABANDONED_FOLDER = "abandoned"
"""Folder of attempts without a checkpoint."""
SECONDS_TO_CLOSE = 20.0
"""Time until an interrupted run is interrupted again."""


class SystemFailureError(RuntimeError):
    """A run failed for an external reason, so that another attempt may succeed."""


def run_one(spec: RunSpec) -> Outcome:
    """Execute a run until it has a record: skip a recorded run, continue an interrupted one, else start it.

    Raises:
        SystemFailureError: if a file could not be read or written, so that another attempt may succeed.
        CommandError: with one sentence, if the run has to stop.
        RunLockedError: if another process executes the run.
        KeyboardInterrupt: after Ctrl-C.
    """
    search_in(None if spec.config_dir is None else Path(spec.config_dir))
    for module in spec.imports:
        import_module(module)
    cfg = compose(spec.overrides, return_hydra_config=True)
    if hash_config(comparable_config(cfg, cfg.hydra.runtime.choices)) != spec.config_hash:
        raise CommandError(f"{spec.id} is configured otherwise by now: files of conf/ changed; start the sweep again")
    return _run_locked(spec, cfg, cfg.hydra.runtime.choices)


def check_fingerprint(spec: RunSpec) -> None:
    """Check that this machine has the fingerprint of the machine that started the sweep; takes some seconds.

    Raises:
        CommandError: if the fingerprints differ.
    """
    if fingerprint() != spec.fingerprint:
        raise CommandError(
            f"{spec.id} belongs to a machine that computes other numbers than this one: give the sweep machines with "
            "the same processors and versions"
        )


def run_composed(cfg: DictConfig, choices: Mapping[str, str], overrides: list[str]) -> RunRecord:
    """Execute a run of a sweep as a job of a Hydra launcher, which composed the config.

    Args:
        cfg: the composed config; ``sweep_folder`` is the parent of the run's folder.
        choices: the file chosen for each group.
        overrides: the overrides that compose the config.

    Raises:
        CommandError: with one sentence, if the run is not supported or has to stop.
    """
    try:
        check_sweep(cfg.experiment)
        spec = make_spec(cfg, choices, overrides, Path(cfg.sweep_folder), fingerprint())
        spec.folder.mkdir(parents=True, exist_ok=True)
        outcome = _run_locked(spec, cfg, choices)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    record = load_record(spec.folder / RECORD_FILE)
    other = f" {OTHER_NUMERICS}" if record.fingerprint != spec.fingerprint else ""
    print(f"{spec.id}: {outcome}, {spec.folder / RECORD_FILE}{other}")
    return record


def _run_locked(spec: RunSpec, cfg: DictConfig, choices: Mapping[str, str]) -> Outcome:
    """Execute the run with its folder locked, and log its events in its ledger."""
    with lock_folder(spec.folder):
        if (spec.folder / RECORD_FILE).is_file():
            return "skipped"
        spec.save()
        try:
            with Ledger(spec.folder).note_failure():
                _run_to_record(spec, cfg, choices)
        except Exception as error:
            if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
                raise SystemFailureError(str(error)) from error
            raise
        return "finished"


def _run_to_record(spec: RunSpec, cfg: DictConfig, choices: Mapping[str, str]) -> None:
    torch.set_num_threads(cfg.n_threads or 1)
    _place_attempt(spec, cfg)
    n_done = n_frames_done(cfg)
    note_start(spec, n_done, cfg, fingerprint=spec.fingerprint)
    if n_done < n_frames_of(cfg):
        train(cfg, choices, resumes=cfg.experiment.restore_file is not None)
        Ledger(spec.folder).add("trained", peak_memory=peak_memory())
    run = find_begun_run(spec.folder)
    if run is None:
        raise RuntimeError(f"{spec.folder} holds no run after training")
    finish_run(spec, run, cfg, choices, RECORD_FILE)


def _place_attempt(spec: RunSpec, cfg: DictConfig) -> None:
    """Set the run's folder and its newest intact checkpoint, from which it continues, in the config.

    An attempt without an intact checkpoint is set aside, and the run starts anew.
    """
    for run in [path for path in spec.folder.iterdir() if path.is_dir() and path.name != ABANDONED_FOLDER]:
        if changes := describe_changes(read_changes(run)):
            raise CommandError(
                f"{spec.id} was resumed with other options than those of its sweep ({'; '.join(changes)}): move {run} "
                "out of the sweep's folder, and the sweep trains the run again"
            )
        try:
            continue_newest(cfg, run)
        except CheckpointError:
            (spec.folder / ABANDONED_FOLDER).mkdir(exist_ok=True)
            run.rename(spec.folder / ABANDONED_FOLDER / run.name)
        else:
            return
    cfg.experiment.save_folder = str(spec.folder)


def _end_with_parent() -> None:
    """Interrupt this process when the engine at the other end of its standard input has exited."""
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return  # started by hand

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        while True:  # an interrupt that falls into a destructor is lost
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(SECONDS_TO_CLOSE)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Execute the spec given on the command line, for :mod:`benchmarl_himpo.harness.sweeps.engines`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
    _end_with_parent()
    try:
        print(run_one(load_spec(Path(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except SystemFailureError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_SYSTEM)
    except (CommandError, CheckpointError, PluginError, RunLockedError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
