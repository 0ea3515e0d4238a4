"""The regression gate: does this code still learn as before?

    python -m benchmarl_himpo.regression                      # repeatability, and a toy task
    python -m benchmarl_himpo.regression mode=full base=main  # also three tasks compared with another commit

Exit code 0: no regression detected; 1: returns regressed; 2: inconclusive, with a sentence that says what to do. With
mode=full the base is checked out into a git worktree, both sides run with the same seeds on this machine, and the pairs
are tested. Options and their defaults are in conf/regression.yaml; other arguments override the runs of both sides, as
in a sweep. The same command continues an interrupted gate.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_for_new_runs
from benchmarl_himpo.harness.regression.comparison import EXPECTED, format_comparison
from benchmarl_himpo.harness.regression.gate import Gate, GateOptions
from benchmarl_himpo.harness.regression.verdict import Finding, InconclusiveError, Verdict, format_findings


def run_gate(gate: Gate) -> None:
    """Run the checks of the mode, print and save the findings; an inconclusive check is a finding too."""
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
    message = (
        "Interrupted: finished runs are kept. To go on:\n"
        f"{shlex.join(['python', '-m', 'benchmarl_himpo.regression', *given])}"
    )
    try:
        with exit_with_a_sentence(message, errors=()):
            gate = Gate(*read_for_new_runs("regression", GateOptions, given))
            run_gate(gate)
    except (ValueError, RuntimeError, OSError, OmegaConfBaseException, HydraException) as error:
        print(error, file=sys.stderr)
        sys.exit(Verdict.INCONCLUSIVE)
    except Exception:  # Python's own exit code would mean a regression
        traceback.print_exc()
        sys.exit(Verdict.INCONCLUSIVE)
    sys.exit(gate.verdict)
