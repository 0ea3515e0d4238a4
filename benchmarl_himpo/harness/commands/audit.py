"""Audit trained runs: is the hierarchy used? Measures the effect of perturbing goals, graph and messages.

    python -m benchmarl_himpo.audit RUN_DIR episodes=1000

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/audit.yaml;
anything with a dot changes the run's configuration, and values separated by commas are audited one after another.
`--config-dir DIR` names a folder of YAML files of your own, as for run.
Every perturbed policy is evaluated on the episodes of the intact one. Only the results are written to a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_for_trained_runs
from benchmarl_himpo.harness.commands.evaluate import INTERRUPTED, EvaluateOptions
from benchmarl_himpo.harness.composition import combine_values
from benchmarl_himpo.harness.evaluation.audit import AuditRow, audit, judge
from benchmarl_himpo.harness.evaluation.combinations import load_combinations
from benchmarl_himpo.harness.evaluation.goal_choices import GoalChoice
from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.output import Results
from benchmarl_himpo.harness.runs.run_config import find_run
from benchmarl_himpo.harness.statistics import Estimate, as_percent


def audit_runs(folders: list[Path], options: EvaluateOptions, combinations: list[list[str]], results: Results) -> None:
    """Audit every run with every combination of overrides, and print a table and verdicts for each."""
    for run, changes, experiment in load_combinations(folders, combinations, options.episodes):
        intact, rows, choices = audit(experiment, options.seed, options.confidence)
        print(f"{run} {' '.join(changes)}\n\n{format_audit(intact, rows, options)}\n")
        for group, goals in choices.items():
            if goals:
                print(f"goals that {group} follow, and what workers then do\n\n{format_choices(goals)}\n")
        results.keep(
            {
                "run": run,
                "overrides": changes,
                "intact": asdict(intact),
                "rows": [asdict(row) for row in rows],
                "verdicts": judge(rows),
                "goals": {group: [asdict(goal) for goal in goals] for group, goals in choices.items()},
            }
        )


def format_audit(intact: Estimate, rows: list[AuditRow], options: EvaluateOptions) -> str:
    """Format an audit as a Markdown table, with the verdicts below it."""
    heading = (
        f"return per agent over {options.episodes} episodes, {as_percent(options.confidence)} intervals, effects paired"
    )
    perturbed = (("" if row.level is None else row.level, row.name, row.value, row.effect) for row in rows)
    table = markdown_table(["level", "perturbation", "return", "effect"], [("", "none", intact, ""), *perturbed])
    return "\n".join([heading, "", table, "", *judge(rows)])


def format_choices(goals: list[GoalChoice]) -> str:
    """Format the statistics of categorical goals as a Markdown table."""
    rows = []
    for goal in goals:
        action = "" if goal.action is None else ", ".join(f"{number:.2f}" for number in goal.action)
        rows.append((goal.level, goal.goal, f"{goal.share:.0%}", action))
    return markdown_table(["level", "goal", "share of steps", "action"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence(INTERRUPTED):
        folders, options, changes = read_for_trained_runs("audit", EvaluateOptions, given)
        results = Results(options.output or find_run(folders[0]) / "audit.json", asdict(options))
        audit_runs(folders, options, combine_values(changes), results)
        results.finish()
