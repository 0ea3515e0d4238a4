"""Evaluate trained runs: returns with confidence intervals, and transfer to other tasks.

    python -m benchmarl_himpo.evaluate RUN_DIR
    python -m benchmarl_himpo.evaluate RUN_DIR_A RUN_DIR_B task.n_agents=3,5,7

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/evaluate.yaml;
anything with a dot changes the run's configuration, and values separated by commas are evaluated one after another.
`--config-dir DIR` names a folder of YAML files of your own, as for run.
All policies are evaluated on the same episodes. Only the results are written to a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarl_himpo.environments.metrics import heading_of
from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_for_trained_runs
from benchmarl_himpo.harness.composition import combine_values
from benchmarl_himpo.harness.evaluation.combinations import load_combinations
from benchmarl_himpo.harness.evaluation.episodes import play
from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.output import Results
from benchmarl_himpo.harness.runs.run_config import find_run
from benchmarl_himpo.harness.statistics import Estimate, as_percent, estimate_mean

INTERRUPTED = "Interrupted: what was finished before is in the output file; the runs are as they were."


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of ``evaluate`` and ``audit``; see ``conf/evaluate.yaml`` and ``conf/audit.yaml``."""

    episodes: int
    seed: int
    confidence: float
    output: Path | None

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise ValueError(f"episodes={self.episodes} must be 2 or more: an interval needs as many")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence:g} must lie between 0 and 1")


def evaluate(folders: list[Path], options: EvaluateOptions, combinations: list[list[str]], results: Results) -> None:
    """Evaluate every run with every combination of overrides, and print a table."""
    table = []
    try:
        for run, changes, experiment in load_combinations(folders, combinations, options.episodes):
            returns = play(experiment, options.seed)
            episodes = {"per_agent": returns.per_agent, "team": returns.team, **returns.metrics}
            means = {name: estimate_mean(values, options.confidence) for name, values in episodes.items()}
            table.append((run, " ".join(changes) or "as trained", means))
            results.keep(
                {
                    "run": run,
                    "overrides": changes,
                    **{name: asdict(mean) for name, mean in means.items()},
                    "episodes": {name: values.tolist() for name, values in episodes.items()},
                }
            )
    finally:  # show the finished evaluations also after an error
        if table:
            print(format_returns(table, options))
    if len(combinations) > 1:
        print(f"\n{format_transfer(table)}")


def format_returns(table: list[tuple[str, str, dict[str, Estimate]]], options: EvaluateOptions) -> str:
    """Format returns as a Markdown table."""
    heading = f"return over {options.episodes} episodes, {as_percent(options.confidence)} interval of the mean"
    columns = {"per_agent": "per agent", "team": "sum over agents"}
    columns |= {name: heading_of(name) for _, _, means in table for name in means if name not in columns}
    rows = [[run, task, *(means.get(column, "-") for column in columns)] for run, task, means in table]
    return f"{heading}\n\n{markdown_table(['run', 'task', *columns.values()], rows)}"


def format_transfer(table: list[tuple[str, str, dict[str, Estimate]]]) -> str:
    """Format sums of returns over agents as a matrix: one run per row, one task per column."""
    runs, tasks = list(dict.fromkeys(run for run, _, _ in table)), list(dict.fromkeys(task for _, task, _ in table))
    cells = {(run, task): means["team"] for run, task, means in table}
    rows = [[run, *(f"{cells[run, task].value:.2f}" for task in tasks)] for run in runs]
    return markdown_table(["sum over agents", *tasks], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence(INTERRUPTED):
        folders, options, changes = read_for_trained_runs("evaluate", EvaluateOptions, given)
        results = Results(options.output or find_run(folders[0]) / "evaluation.json", asdict(options))
        evaluate(folders, options, combine_values(changes), results)
        results.finish()
