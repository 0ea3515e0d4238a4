"""Run every combination of algorithms, tasks and seeds; interrupted sweeps can be continued.

    python -m benchmarl_himpo.sweep algorithm=himppo,mappo task=vmas/sampling 'seed=range(0,5)'
    python -m benchmarl_himpo.sweep protocol=sampling_continuous folder=outputs/continuous

Values separated by commas and ranges are combined as `--multirun` does; `protocol=` takes a published comparison from
conf/protocol. Options of the sweep itself (folder, engine, workers, retries, results, strict, publish, dry_run) and
their defaults are in conf/sweep.yaml; `--config-dir DIR` names a folder of YAML files of your own, as for run. Each run
is a process with one thread, in a folder named after its configuration: the same command skips finished runs and
continues interrupted ones.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarl_himpo.harness.command_line import (
    USUAL_ERRORS,
    exit_with_a_sentence,
    given_arguments,
    read_for_new_runs,
    take_config_dir,
)
from benchmarl_himpo.harness.output import OutputError, check_output_folder
from benchmarl_himpo.harness.records.fingerprint import fingerprint
from benchmarl_himpo.harness.records.record import RECORD_FILE, load_record
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.runs.lock import lock_folder
from benchmarl_himpo.harness.sweeps.execution import (
    check_engine,
    check_publish,
    describe_other_numerics,
    do_missing,
    find_done,
)
from benchmarl_himpo.harness.sweeps.expansion import SweepError, expand, make_specs
from benchmarl_himpo.harness.sweeps.progress import format_table


@dataclass(frozen=True)
class SweepOptions:
    """Options of ``sweep``; see ``conf/sweep.yaml``."""

    folder: Path
    engine: str
    workers: int | None
    retries: int
    results: list[Path]
    strict: bool
    publish: Path | None
    dry_run: bool

    def __post_init__(self) -> None:
        check_engine(self.engine, self.workers, self.retries)


def read_arguments(arguments: Sequence[str]) -> tuple[SweepOptions, list[str]]:
    """Read a command line into the options and the overrides of the runs.

    Raises:
        ValueError: as :func:`~benchmarl_himpo.harness.command_line.read_for_new_runs`.
        SweepError: if an option is out of range, or has no effect in a sweep.
    """
    options, overrides = read_for_new_runs("sweep", SweepOptions, arguments)
    missing = [folder for folder in options.results if not folder.is_dir()]
    if missing and any(argument.startswith("results=") for argument in arguments):
        raise SweepError(f"results: {missing[0]} does not exist; name folders of records, or none with results=[]")
    names = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if ignored := [name for name in names if name == "sweep_folder" or name.startswith("hydra")]:
        raise SweepError(f"{ignored[0]} has no effect in a sweep: folder=... is where its runs go")
    if "objective" in names:
        raise SweepError("objective=... is for Hydra's sweepers that optimise (run --multirun); a sweep does every run")
    return options, overrides


def sweep(options: SweepOptions, overrides: list[str]) -> bool:
    """Execute all unfinished runs, print the outcome, and return whether all runs are done.

    Raises:
        SweepError: if the sweep cannot be started.
        OutputError: if a folder cannot be written to.
        RunLockedError: if another sweep uses the folder.
        KeyboardInterrupt: after Ctrl-C, when all runs have been stopped.
    """
    folder, publish = options.folder, options.publish
    if not options.dry_run:
        check_output_folder("folder", folder)
        if publish is not None:
            check_output_folder("publish", publish)
    runs = expand(overrides)
    print(f"{len(runs)} runs; taking the numerics fingerprint", file=sys.stderr)
    specs = make_specs(runs, folder, fingerprint())
    states = find_done(specs, options.results, options.strict)
    print(f"{len(states)} done before, {len(specs) - len(states)} to do in {folder}", file=sys.stderr)
    if said := describe_other_numerics(states):
        print(said, file=sys.stderr)
    if publish is not None:
        check_publish(specs, states, publish)
    if options.dry_run:
        print(format_table(specs, {spec.id: states.get(spec.id, "to do") for spec in specs}))
        return True
    folder.mkdir(parents=True, exist_ok=True)
    unpublished: list[str] = []
    copy = partial(_publish, folder=publish, unpublished=unpublished)
    with lock_folder(folder):
        for spec in specs:
            copy(spec)
        try:
            do_missing(specs, states, options.engine, options.workers, options.retries, on_done=copy)
        finally:
            print(format_table(specs, {spec.id: states.get(spec.id, "not done") for spec in specs}))
    if unpublished:
        raise OutputError(
            f"publish={publish} could not be written to ({unpublished[-1]}): records are complete in {folder}, and the "
            "same command copies them"
        )
    return all(state.startswith("done") for state in states.values())


def _publish(spec: RunSpec, folder: Path | None, unpublished: list[str]) -> None:
    """Copy the record of a run to a folder, if both exist; failures are collected, since other runs continue."""
    if folder is not None and (spec.folder / RECORD_FILE).is_file():
        record = load_record(spec.folder / RECORD_FILE)
        try:
            record.save(folder / f"{spec.id}.json")
        except OSError as error:
            unpublished.append(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    message = (
        "Interrupted: finished runs are kept, begun ones continue from their last checkpoint. To go on:\n"
        f"python -m benchmarl_himpo.sweep {shlex.join(given)}"
    )
    with exit_with_a_sentence(message, (*USUAL_ERRORS, RuntimeError)):
        options, overrides = read_arguments(take_config_dir(given))
        is_done = sweep(options, overrides)
    if not is_done:
        sys.exit("Some runs failed, see the table; their log.txt say more. The same command tries again.")
