"""The regression gate: does this code still learn what it learned?

    python -m benchmarl_himpo.regression                      # the same numbers twice, and a toy task
    python -m benchmarl_himpo.regression mode=full base=main  # then three tasks against the code of another commit

Exit code 0: no regression detected; 1: returns regressed; 2: inconclusive, with a sentence that says what to do. With
mode=full the base is checked out into a git worktree, both sides run with the same seeds on this machine, and the pairs
are tested. Options and their defaults are in conf/regression.yaml; everything else on the line changes the runs of both
sides, as in a sweep. The same command again goes on where it was stopped.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.harness.command_line import exit_on_interrupt, given_arguments, register_or_exit
from benchmarl_himpo.harness.commands.options import split_arguments
from benchmarl_himpo.harness.regression.comparison import EXPECTED, format_comparison
from benchmarl_himpo.harness.regression.gate import Gate
from benchmarl_himpo.harness.regression.verdict import Finding, InconclusiveError, Verdict, format_findings
from benchmarl_himpo.harness.sweeps.execution import check_workers

OPTIONS_FILE = "regression.yaml"
MODES = ("quick", "full")


def read_arguments(arguments: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """Sort a command line into options of the gate and overrides of its runs.

    Args:
        arguments: the command line.

    Returns:
        The options over their defaults, and the overrides.

    Raises:
        ValueError: if an option is out of range.
    """
    options, overrides = split_arguments(OPTIONS_FILE, arguments)
    if options.mode not in MODES:
        raise ValueError(f"mode={options.mode} does not exist: choose from {', '.join(MODES)}")
    if options.mode == "full" and options.base is None:
        raise ValueError("mode=full needs base=..., the commit, tag or branch to compare with, such as base=main")
    if options.mode == "quick" and options.base is not None:
        raise ValueError(f"base={options.base} is compared with in mode=full alone: add mode=full, or leave it out")
    if options.random_episodes < 1:
        raise ValueError(f"random_episodes={options.random_episodes} must be 1 or more")
    check_workers(options.workers, options.retries)
    return options, overrides


def run_gate(gate: Gate) -> None:
    """Do what the mode asks for, print what was found and keep it as a file.

    Args:
        gate: the gate; what it cannot judge becomes a finding of its own.
    """
    modes = {"quick": gate.run_quick, "full": gate.run_full}
    try:
        modes[gate.options.mode]()
    except InconclusiveError as error:
        gate.findings.append(Finding("runs", Verdict.INCONCLUSIVE, str(error)))
    stages = [finding for finding in gate.findings if "tasks" in finding.numbers]
    for finding in stages:
        print(f"{format_comparison(finding)}\n")
    print(format_findings(gate.findings))
    if stages:
        print(f"\n{EXPECTED}")
    print(f"\n{gate.verdict.name.lower()}; results: {gate.save_result()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__, needs_some=False)
    register_or_exit()
    message = (
        "Interrupted: finished runs are kept. To go on:\n"
        f"{shlex.join(['python', '-m', 'benchmarl_himpo.regression', *given])}"
    )
    try:
        with exit_on_interrupt(message):
            gate = Gate(*read_arguments(given))
            run_gate(gate)
    except (ValueError, RuntimeError, OSError, OmegaConfBaseException, HydraException) as error:
        print(error, file=sys.stderr)
        sys.exit(Verdict.INCONCLUSIVE)
    except Exception:  # Python's own exit code would say that something was lost
        traceback.print_exc()
        sys.exit(Verdict.INCONCLUSIVE)
    sys.exit(gate.verdict)


if __name__ == "__main__":
    main()
