"""The comparison with the baseline, in two stages: an alarm, and its confirmation by fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarl_himpo.benchmark.regression.baseline import Baseline
from benchmarl_himpo.benchmark.regression.verdict import Finding, Verdict
from benchmarl_himpo.benchmark.statistics import Scores, mean_drop, stratified_rank_test

Values = Mapping[str, Mapping[str, float]]
"""By task and seed, the value of a run."""

EXPECTED = (
    "Where nothing was lost, about 5 % of changes that alter numbers raise the alarm and under 1 % fail. A loss of a "
    "tenth mostly passes, one of a fifth is mostly caught, one of three tenths nearly always."
)
"""What the rule is worth, simulated in ``tests/benchmark/regression``."""


@dataclass(frozen=True)
class Rule:
    """When the gate alarms, and when it fails.

    Args:
        first_alpha: level of the first stage's test.
        second_alpha: level of the test of both stages together.
        least_drop: drop that these must also show, as a share of the baseline above random actions.
    """

    first_alpha: float
    second_alpha: float
    least_drop: float

    def __post_init__(self) -> None:
        for name, value in (("first_alpha", self.first_alpha), ("second_alpha", self.second_alpha)):
            if not 0 < value < 1:
                raise ValueError(f"{name}={value} must lie between 0 and 1")
        if not 0 <= self.least_drop <= 1:
            raise ValueError(f"least_drop={self.least_drop} must lie between 0 and 1")

    def alarms(self, scores: Scores, reference: Scores) -> bool:
        """Tell whether the first stage's runs look worse than the baseline's."""
        return stratified_rank_test(scores, reference) <= self.first_alpha

    def fails(self, scores: Scores, reference: Scores, chance: Sequence[float]) -> bool:
        """Tell whether the runs of both stages are worse, and by enough to matter."""
        is_lower = stratified_rank_test(scores, reference) <= self.second_alpha
        return is_lower and mean_drop(scores, reference, chance) >= self.least_drop


def judge_first(values: Values, baseline: Baseline, rule: Rule) -> tuple[bool, Finding]:
    """Judge the first stage.

    Args:
        values: of its runs.
        baseline: what they are compared with.
        rule: the rule.

    Returns:
        Whether it alarms, and what was found: nothing that fails the gate yet.
    """
    scores, reference, _ = _align(values, baseline)
    numbers = compare(values, baseline)
    is_alarm = rule.alarms(scores, reference)
    relation = "an alarm, which fresh seeds have to confirm" if is_alarm else "no alarm"
    return is_alarm, Finding("first stage", Verdict.OK, f"{_describe(numbers, rule.first_alpha)}: {relation}", numbers)


def judge_second(values: Values, baseline: Baseline, rule: Rule) -> Finding:
    """Judge the runs of both stages together.

    Args:
        values: of all runs.
        baseline: what they are compared with.
        rule: the rule.

    Returns:
        What was found.
    """
    numbers = compare(values, baseline)
    has_failed = rule.fails(*_align(values, baseline))
    relation = "confirmed" if has_failed else f"not confirmed, which takes both and a drop of {rule.least_drop:.0%}"
    verdict = Verdict.REGRESSED if has_failed else Verdict.OK
    return Finding("both stages", verdict, f"{_describe(numbers, rule.second_alpha)}: {relation}", numbers)


def compare(values: Values, baseline: Baseline) -> dict[str, object]:
    """Compare runs with the baseline.

    Args:
        values: of the runs.
        baseline: the baseline.

    Returns:
        ``p``, ``drop``, and for each of ``tasks`` its means, numbers of runs and drop.
    """
    scores, reference, chance = _align(values, baseline)
    tasks = {
        name: {
            "random": random,
            "baseline_mean": float(other.mean()),
            "baseline_runs": len(other),
            "mean": float(task.mean()),
            "runs": len(task),
            "values": dict(values[name]),
            "p": stratified_rank_test([task], [other]),
            "drop": mean_drop([task], [other], [random]),
        }
        for name, task, other, random in zip(baseline.tasks, scores, reference, chance, strict=True)
    }
    return {
        "p": stratified_rank_test(scores, reference),
        "drop": mean_drop(scores, reference, chance),
        "tasks": tasks,
    }


def format_comparison(finding: Finding) -> str:
    """Lay the numbers of a stage out as a Markdown table."""
    lines = [
        f"{finding.check}:",
        "",
        "| task | random | baseline, mean (runs) | now, mean (runs) | drop | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in finding.numbers["tasks"].items():
        before, now = (f"{task[f'{of}mean']:.3f} ({task[f'{of}runs']})" for of in ("baseline_", ""))
        lines.append(f"| {name} | {task['random']:.3f} | {before} | {now} | {task['drop']:.1%} | {task['p']:.3f} |")
    together = f"| {finding.numbers['drop']:.1%} | {finding.numbers['p']:.4f} |"
    return "\n".join([*lines, f"| all, stratified | | | {together}"])


def _describe(numbers: Mapping[str, object], alpha: float) -> str:
    return f"p = {numbers['p']:.4f} at level {alpha}, drop {numbers['drop']:.1%}"


def _align(values: Values, baseline: Baseline) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Values of runs, of the baseline and of random actions, each task by task."""
    tasks = baseline.tasks
    scores = [np.array(list(values[name].values())) for name in tasks]
    return scores, [task.scores for task in tasks.values()], [task.random for task in tasks.values()]
