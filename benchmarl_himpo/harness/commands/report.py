"""Compare finished runs: verdicts, curves, tables with intervals, cost, configurations and provenance, in one page.

    python -m benchmarl_himpo.report RUNS
    python -m benchmarl_himpo.report outputs/sweep outputs/continuous output=my_report
    python -m benchmarl_himpo.report outputs/continuous protocol=sampling_continuous
    python -m benchmarl_himpo.report benchmarks/results 'protocol=[smax,traffic]' output=my_report

RUNS are folders of sweeps, of runs (such as of a --multirun) or of records. All records below them are read, with
protocol= only those of its runs; unfinished and missing runs are named. With several protocols, methods are named after
their algorithms, so that each is one over the tasks of all. For BenchMARL's own runs, which have no record,
the JSON file of evaluations is read.
Options and their defaults are in conf/report.yaml. The output is report.html (one self-contained file), report.md,
report.json, report.csv, marl_eval.json and figures/*.svg; equal runs give identical files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_options, split_folders
from benchmarl_himpo.harness.output import OutputError, check_output_folder


@dataclass(frozen=True)
class ReportOptions:
    """Options of ``report``; see ``conf/report.yaml``."""

    output: Path | None
    title: str
    protocol: list[str]
    confidence: float
    repetitions: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence:g} must lie between 0 and 1")
        if self.repetitions < 100:
            raise ValueError(f"repetitions={self.repetitions} must be 100 or more: fewer say nothing of an interval")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must be 0 or more")


def report(folders: list[Path], options: ReportOptions) -> None:
    """Read runs, print verdicts and warnings, write the report, and print its path."""
    from benchmarl_himpo.harness.reference_returns.reference_returns import load_reference_returns
    from benchmarl_himpo.harness.report.analysis import analyse
    from benchmarl_himpo.harness.report.comparison import collect
    from benchmarl_himpo.harness.report.document import Content
    from benchmarl_himpo.harness.report.verdicts import judge, write_warnings
    from benchmarl_himpo.harness.report.writers import write_report
    from benchmarl_himpo.harness.statistics import Bootstrap
    from benchmarl_himpo.harness.sweeps.protocol import load_protocol, name_by_algorithm
    from benchmarl_himpo.registration import register

    register()  # the kind of actions is asked of tasks and algorithms
    output = options.output or folders[0] / "report"
    check_output_folder("output", output)
    settings = Bootstrap(options.confidence, options.repetitions, options.seed)
    protocols = [load_protocol(name) for name in options.protocol]
    planned = frozenset().union(*(protocol.runs for protocol in protocols)) if protocols else None
    names = name_by_algorithm(protocols) if len(protocols) > 1 else {}
    comparison, references = collect(folders, planned, names), load_reference_returns()
    content = Content(comparison, analyse(comparison, references, settings), references, settings, protocols)
    verdicts = [f"{verdict.task}: {verdict.text}" for verdict in judge(content.analysis)]
    print("\n\n".join([*verdicts, *write_warnings(content)]))
    try:
        files = write_report(content, output, options.title)
    except OSError as error:
        raise OutputError(f"output={output} could not be written ({error}): what is printed is all there is") from error
    print(f"\nreport: {files[0]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    try:
        with exit_with_a_sentence("Interrupted: the report is not complete."):
            folders, rest = split_folders(given)
            options = read_options("report", ReportOptions, rest)
            if not folders:
                raise ValueError("give at least one folder of runs")
            report(folders, options)
    except ModuleNotFoundError as error:
        sys.exit(f"a report needs {error.name}: pip install 'benchmarl_himpo[report]'")
