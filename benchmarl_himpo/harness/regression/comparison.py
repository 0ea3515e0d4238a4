"""The comparison with another commit, in two stages: a first test, and its confirmation on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.regression.verdict import Finding, InconclusiveError, Verdict

Values = Mapping[str, Mapping[int, float]]
"""Value of a run by task and seed: the mean return per agent of its last evaluation."""

N_FLIPS = 9_999
"""Number of random permutations if there are too many to enumerate: p-values are exact to 0.002 at 0.05."""
EXPECTED = (
    "Without a regression, the first stage rejects about 5 % of changes that alter numbers, both stages under 1 %. A "
    "regression by a fifth is mostly detected, by three tenths nearly always, by a tenth mostly not."
)
"""Error rates of the rule, simulated in ``tests/harness/regression``."""


@dataclass(frozen=True)
class Rule:
    """Decision rule of the gate: when the first stage rejects, and when the gate fails.

    Raises:
        ValueError: if a value is out of range.
    """

    first_alpha: float  # level of the first stage's test
    second_alpha: float  # level of the test of both stages together
    least_drop: float  # minimal drop in both stages, as a fraction of the base's return above the random policy

    def __post_init__(self) -> None:
        for name, value in (("first_alpha", self.first_alpha), ("second_alpha", self.second_alpha)):
            if not 0 < value < 1:
                raise ValueError(f"{name}={value:g} must lie between 0 and 1")
        if not 0 <= self.least_drop <= 1:
            raise ValueError(f"least_drop={self.least_drop:g} must lie between 0 and 1")

    def alarms(self, p: float) -> bool:
        """Whether the first stage rejects, by its p-value."""
        return p <= self.first_alpha

    def fails(self, p: float, drop: float) -> bool:
        """Whether the gate fails, by the p-value and the drop of both stages."""
        return p <= self.second_alpha and drop >= self.least_drop


def sign_flip_test(differences: Sequence[np.ndarray]) -> float:
    """Test whether paired differences are below zero, stratified by task.

        z = Σ_k Σ_s d_ks / rms_k,  rms_k² = mean over s of d_ks²

    compared with the same sum under random signs of each d_ks: under the null hypothesis the two runs of a pair are
    exchangeable, for any distribution. Each task is scaled by its own differences, so that noisy tasks do not dominate;
    the scale is invariant to sign flips, so the test keeps its level (:func:`scipy.stats.permutation_test`; all flips
    for up to 13 pairs).

    Args:
        differences: this code's value minus the base's. Shape ``[n_seeds]`` for each task.

    Returns:
        The one-sided p-value, small if values are lower; 1 if no pair differs.
    """
    scaled = [task / np.sqrt(np.mean(task**2)) if np.any(task) else task for task in differences]
    result = stats.permutation_test(
        (np.concatenate(scaled),),
        lambda pairs, axis: pairs.sum(axis).round(9),  # so that equal sums tie whatever their last bits
        permutation_type="samples",
        alternative="less",
        n_resamples=N_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def compare(values: Values, base: Values, random: Mapping[str, float]) -> dict[str, Any]:
    """Compare runs with those of the base, seed by seed.

    Args:
        values: of this code's runs.
        base: of the base's runs, with the same tasks and seeds.
        random: the return of the random policy on each task.

    Returns:
        ``p``, ``drop`` (mean over tasks), and for each of ``tasks`` means, the drop as a share of the base's return
        above the random policy's, and the values of each pair.

    Raises:
        InconclusiveError: if the base did not learn on a task, so that a loss cannot be detected.
    """
    means = {name: float(np.mean(list(scores.values()))) for name, scores in base.items()}
    idle = [name for name, mean in means.items() if mean <= random[name]]
    if idle:
        raise InconclusiveError(
            f"the base is not above the random policy on {', '.join(idle)}, so a loss could not be seen there: let "
            "runs be longer (experiment.max_n_frames), or compare on other tasks"
        )
    differences = paired_differences(values, base)
    tasks: dict[str, dict[str, Any]] = {
        name: {
            "random": random[name],
            "base_mean": means[name],
            "mean": float(np.mean(list(values[name].values()))),
            "drop": -float(of_task.mean()) / (means[name] - random[name]),
            "p": sign_flip_test([of_task]),
            "pairs": [{"seed": seed, "base": scores[seed], "now": values[name][seed]} for seed in sorted(scores)],
        }
        for (name, scores), of_task in zip(base.items(), differences, strict=True)
    }
    drop = float(np.mean([task["drop"] for task in tasks.values()]))
    return {"p": sign_flip_test(differences), "drop": drop, "tasks": tasks}


def paired_differences(values: Values, base: Values) -> list[np.ndarray]:
    """This code's values minus the base's, task by task. Shape ``[n_seeds]`` each."""
    return [np.array([values[task][seed] - scores[seed] for seed in sorted(scores)]) for task, scores in base.items()]


def judge_first(values: Values, base: Values, random: Mapping[str, float], rule: Rule) -> tuple[bool, Finding]:
    """Evaluate the first stage: whether it rejects, and its finding, which does not fail the gate yet."""
    numbers = compare(values, base, random)
    is_alarm = rule.alarms(numbers["p"])
    relation = "an alarm, which fresh seeds have to confirm" if is_alarm else "no alarm"
    return is_alarm, Finding("first stage", Verdict.OK, f"{_describe(numbers, rule.first_alpha)}: {relation}", numbers)


def judge_second(values: Values, base: Values, random: Mapping[str, float], rule: Rule) -> Finding:
    """Evaluate the runs of both stages together."""
    numbers = compare(values, base, random)
    has_failed = rule.fails(numbers["p"], numbers["drop"])
    relation = "confirmed" if has_failed else f"not confirmed, which takes both and a drop of {rule.least_drop:.0%}"
    verdict = Verdict.REGRESSED if has_failed else Verdict.OK
    return Finding("both stages", verdict, f"{_describe(numbers, rule.second_alpha)}: {relation}", numbers)


def format_comparison(finding: Finding) -> str:
    """Format the numbers of a stage as a Markdown table."""
    numbers = finding.numbers
    rows = [
        (
            name,
            *(f"{task[mean]:.3f}" for mean in ("random", "base_mean", "mean")),
            len(task["pairs"]),
            f"{task['drop']:.1%}",
            f"{task['p']:.3f}",
        )
        for name, task in numbers["tasks"].items()
    ]
    rows.append(("all, stratified", "", "", "", "", f"{numbers['drop']:.1%}", f"{numbers['p']:.4f}"))
    columns = ["task", "random policy", "base, mean", "now, mean", "pairs", "drop", "p"]
    return f"{finding.check}:\n\n{markdown_table(columns, rows)}"


def _describe(numbers: Mapping[str, Any], alpha: float) -> str:
    return f"p = {numbers['p']:.4f} at level {alpha}, drop {numbers['drop']:.1%}"
