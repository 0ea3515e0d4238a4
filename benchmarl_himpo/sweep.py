"""Run every combination of algorithms, tasks and seeds, and lose nothing.

    python -m benchmarl_himpo.sweep algorithm=himppo,mappo task=vmas/sampling 'seed=range(0,5)'
    python -m benchmarl_himpo.sweep protocol=sampling_continuous folder=outputs/continuous

Values separated by commas and ranges are combined as `--multirun` does; `protocol=` takes a published comparison from
conf/protocol. Options of the sweep itself (folder, engine, workers, retries, results, publish, dry_run) and their
defaults are in conf/sweep.yaml. Each run is a process of one thread with a folder named after what it is: the same
command again skips what is finished and continues what was begun.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.benchmark.engines import ENGINES
from benchmarl_himpo.benchmark.expansion import SweepError, expand, make_specs
from benchmarl_himpo.benchmark.fingerprint import fingerprint
from benchmarl_himpo.benchmark.progress import Progress, format_table
from benchmarl_himpo.benchmark.record import RECORD_FILE
from benchmarl_himpo.benchmark.spec import RunSpec
from benchmarl_himpo.command_line import exit_on_interrupt, given_arguments
from benchmarl_himpo.config import read_options
from benchmarl_himpo.registration import register
from benchmarl_himpo.runs.lock import lock_folder

OPTIONS_FILE = "sweep.yaml"


def read_arguments(arguments: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """Sort a command line into options of the sweep and overrides of its runs.

    Args:
        arguments: the command line.

    Returns:
        The options over their defaults, and the overrides.

    Raises:
        SweepError: if an option is out of range.
    """
    names = read_options(OPTIONS_FILE, []).keys()
    given = [argument for argument in arguments if argument.partition("=")[0] in names]
    options = read_options(OPTIONS_FILE, given)
    if options.engine not in ENGINES:
        raise SweepError(f"engine={options.engine} does not exist: choose from {', '.join(ENGINES)}")
    if options.workers is not None and not _is_count(options.workers, least=1):
        raise SweepError(f"workers={options.workers} must be 1 or more, or null for as many as there are cores")
    if not _is_count(options.retries, least=0):
        raise SweepError(f"retries={options.retries} must be 0 or more")
    return options, [argument for argument in arguments if argument not in given]


def sweep(options: DictConfig, overrides: list[str]) -> bool:
    """Do all runs that are not done, and print what came of them.

    Args:
        options: see ``conf/sweep.yaml``.
        overrides: the runs, in Hydra's syntax.

    Returns:
        Whether all runs are done.

    Raises:
        SweepError: if the sweep cannot be started.
        RunLockedError: if another sweep uses the folder.
        KeyboardInterrupt: after Ctrl-C, when all runs have been stopped.
    """
    runs = expand(overrides)
    print(f"{len(runs)} runs; taking the numerics fingerprint", file=sys.stderr)
    folder = Path(options.folder)
    specs = make_specs(runs, folder, fingerprint())
    states = _states(specs, [Path(results) for results in options.results])
    to_do = [spec for spec in specs if spec.id not in states]
    print(f"{len(states)} done before, {len(to_do)} to do in {folder}", file=sys.stderr)
    if options.dry_run:
        print(format_table(specs, {spec.id: states.get(spec.id, "to do") for spec in specs}))
        return True
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        for spec in to_do:
            spec.save()
        try:
            _do(to_do, options, states)
        finally:
            print(format_table(specs, {spec.id: states.get(spec.id, "not done") for spec in specs}))
    if options.publish:
        _publish(specs, Path(str(options.publish)))
    return all(state.startswith("done") for state in states.values())


def _states(specs: Sequence[RunSpec], results: Sequence[Path]) -> dict[str, str]:
    """Say which runs have a record, here or among the results."""
    published = {file.stem for folder in results for file in folder.rglob("*.json")}
    states = {spec.id: "done before, in results" for spec in specs if spec.id in published}
    return states | {spec.id: "done before" for spec in specs if (spec.folder / RECORD_FILE).is_file()}


def _do(to_do: Sequence[RunSpec], options: DictConfig, states: dict[str, str]) -> None:
    """Start an engine and follow it; fills in the states."""
    progress = Progress(to_do)
    try:
        with closing(ENGINES[options.engine](to_do, options.workers, options.retries)) as events:
            for ended in events:
                if ended is None:
                    progress.refresh()
                else:
                    progress.end(ended)
                    states[ended.spec.id] = "done" if ended.succeeded else f"failed: {ended.reason}"
    finally:
        progress.view.close()


def _publish(specs: Sequence[RunSpec], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for spec in specs:
        if (spec.folder / RECORD_FILE).is_file():
            shutil.copyfile(spec.folder / RECORD_FILE, folder / f"{spec.id}.json")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    register()
    signal.signal(signal.SIGTERM, _interrupt)
    message = (
        "Interrupted: finished runs are kept, begun ones continue from their last checkpoint. To go on:\n"
        f"python -m benchmarl_himpo.sweep {shlex.join(given)}"
    )
    try:
        with exit_on_interrupt(message):
            options, overrides = read_arguments(given)
            is_done = sweep(options, overrides)
    except (ValueError, RuntimeError, OSError, OmegaConfBaseException) as error:
        sys.exit(str(error))
    if not is_done:
        sys.exit("Some runs failed, see the table; their attempts.jsonl say more. The same command tries again.")


if __name__ == "__main__":
    main()
