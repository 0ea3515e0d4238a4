"""Analysis of the runs of a comparison: estimates per task, aggregates over tasks, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.reference_returns.reference_returns import ReferenceReturns, ReferenceTable
from benchmarl_himpo.harness.report.comparison import Comparison
from benchmarl_himpo.harness.report.factors import Setting, find_settings
from benchmarl_himpo.harness.report.fairness import find_unequal_settings, kind_of_actions, kind_of_control
from benchmarl_himpo.harness.statistics import (
    AGGREGATES,
    FEW_RUNS,
    Bootstrap,
    Estimate,
    estimate_mean,
    estimate_unpaired_difference,
    iqm,
    performance_profile,
)

N_THRESHOLDS = 51
"""Points of a performance profile."""


@dataclass(frozen=True)
class Band:
    """Estimates along an axis."""

    value: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def of(cls, limits: Iterable[np.ndarray]) -> Band:
        """Build a band from the result of :meth:`~benchmarl_himpo.harness.statistics.Bootstrap.limits`."""
        return cls(*(values.tolist() for values in limits))


@dataclass(frozen=True)
class Row:
    """Returns of a variant on a task: means over runs with Student's intervals."""

    variant: str
    seeds: list[int]
    per_agent: Estimate
    team: Estimate | None  # None: groups of different sizes, whose sum a mean over groups does not give
    fraction: Estimate | None  # of the upper bound; None: no bound is known
    score: Estimate | None  # between the reference returns; None: none are known
    last_collection: Estimate | None  # per agent, sampled actions; None: no episode ended while collecting
    last_evaluation: Estimate | None  # per agent; None: there was none
    metrics: dict[str, Estimate]  # metrics of the environment, by name


@dataclass(frozen=True)
class Rival:
    """Comparison of the leader of a task with another variant."""

    variant: str
    improvement: Estimate  # probability that a run of the leader beats one of the variant
    difference: Estimate  # of the mean returns per agent, Welch's interval

    @property
    def is_behind(self) -> bool:
        """Whether both intervals exclude equality: the bootstrap's, too narrow for few runs, and Welch's."""
        return self.improvement.low > 0.5 and self.difference.low > 0.0


@dataclass(frozen=True)
class Control:
    """Comparison of a hierarchy with a control without goals."""

    variant: str
    control: str
    kind: str  # description of the control
    difference: Estimate  # of the mean returns per agent, Welch's interval


@dataclass(frozen=True)
class Change:
    """Effect of a change of one factor."""

    setting: Setting
    difference: Estimate | None  # of the mean returns per agent from the default's, Welch's interval; None: single runs


@dataclass(frozen=True)
class TaskResult:
    """Results on a task."""

    label: str
    n_agents: int  # 0: not known
    reference_returns: ReferenceReturns | None
    rows: list[Row]  # best first
    improvement: dict[str, dict[str, Estimate]]  # probability that a run of the first beats one of the second
    leader: Row  # the highest mean, of variants with several runs where there are two of these
    rivals: list[Rival]  # of the leader, best first
    not_judged: list[str]  # variants with a single run, if others have several
    unequal: list[str]  # settings that should be equal but differ
    controls: list[Control]  # of goals, where the hierarchy and the control have several runs
    changes: list[Change]  # of one factor of an algorithm at a time, where several are changed

    @property
    def heading(self) -> str:
        """The task and its number of agents, if known."""
        return f"{self.label}, {self.n_agents} agents" if self.n_agents else self.label


@dataclass(frozen=True)
class Aggregates:
    """Scores over all tasks that have reference returns, of the variants that have runs on each of them."""

    tasks: list[str]
    n_runs: dict[str, int]  # of each variant, on each of the tasks alike
    variants: dict[str, dict[str, Estimate]]  # variant, statistic
    improvement: dict[str, dict[str, Estimate]]
    thresholds: list[float]
    profiles: dict[str, Band]
    without_tasks: dict[str, list[str]]  # variants that are left out, with the tasks that they lack


@dataclass(frozen=True)
class Analysis:
    """All results of a report about returns."""

    measure: str
    left_out: list[str]  # ids of runs without the measure
    values: dict[str, float]  # return per agent by id
    few_runs: bool
    tasks: list[TaskResult]
    aggregates: (
        Aggregates | None
    )  # None: no task has reference returns, or no variant a seed that it has on each that has
    min_max_iqm: dict[str, Estimate] = field(default_factory=dict)  # scores between this report's lowest and highest


MEASURES: dict[str, Callable[[RunRecord], list[float] | None]] = {
    "absolute metric: mean return of the best evaluated policy over fresh episodes": lambda r: (
        None if r.absolute_metric is None else r.absolute_metric["returns"]
    ),
    "mean return over the last evaluation": lambda r: r.evaluation_returns[-1] if r.evaluation_returns else None,
    "mean return over the episodes of the last batch, actions sampled": lambda r: [
        value for value in r.collection_return[-1:] if value is not None
    ],
}
"""Measures of a run's return, best first: description, and the returns of which it is the mean."""


def analyse(comparison: Comparison, references: ReferenceTable, settings: Bootstrap) -> Analysis:
    """Compute all results about returns; all runs are compared by the best measure that any of them has."""
    measure, values = _measure(comparison.records)
    scored = replace(comparison, records=[r for r in comparison.records if r.id in values])
    tasks = [
        _analyse_task(
            scored,
            task,
            values,
            _references_for(scored.runs_on(task), references),
            settings,
            find_unequal_settings(comparison.runs_on(task)),  # of those without the measure too
        )
        for task in scored.tasks
    ]
    return Analysis(
        measure=measure,
        left_out=[record.id for record in comparison.records if record.id not in values],
        values=values,
        few_runs=any(len(row.seeds) < FEW_RUNS for task in tasks for row in task.rows),
        tasks=tasks,
        aggregates=_aggregate(scored, tasks, values, settings),
        min_max_iqm=_min_max_iqm(scored, values, settings),
    )


def _measure(records: list[RunRecord]) -> tuple[str, dict[str, float]]:
    """Value each run by the best measure that any of them has."""
    for name, returns_of in MEASURES.items():
        returns = {record.id: returns_of(record) for record in records}
        values = {run: float(np.mean(episodes)) for run, episodes in returns.items() if episodes}
        if values:
            return name, values
    raise ValueError("no run has any return: nothing can be compared")


def _references_for(runs: list[RunRecord], references: ReferenceTable) -> ReferenceReturns | None:
    """Reference returns of the task of some runs, for their kind of actions."""
    kinds = {kind_of_actions(record) for record in runs}
    return references.of(runs[0].task_label, kinds.pop() if len(kinds) == 1 else None)


def _values_of(comparison: Comparison, task: str, variant: str, values: dict[str, float]) -> np.ndarray:
    """Returns per agent of a variant's runs on a task. Shape ``[n_runs]``."""
    return np.array([values[record.id] for record in comparison.runs(task, variant)])


def _analyse_task(
    comparison: Comparison,
    task: str,
    values: dict[str, float],
    references: ReferenceReturns | None,
    settings: Bootstrap,
    unequal: list[str],
) -> TaskResult:
    """Compute the results on a task."""
    variants = comparison.variants_of(task)
    returns = {variant: _values_of(comparison, task, variant, values) for variant in variants}
    runs = {variant: comparison.runs(task, variant) for variant in variants}
    confidence = settings.confidence

    def estimate_known(values: Iterable[float | None]) -> Estimate | None:
        known = [value for value in values if value is not None]
        return estimate_mean(known, confidence) if known else None

    def row(variant: str) -> Row:
        of_runs, first = returns[variant], runs[variant][0]
        is_sum = len(set(first.group_sizes.values())) == 1
        bound = references.upper_bound if references else None
        return Row(
            variant=variant,
            seeds=[record.seed for record in runs[variant]],
            per_agent=estimate_mean(of_runs, confidence),
            team=estimate_mean(of_runs * first.n_agents, confidence) if is_sum else None,
            fraction=estimate_mean(of_runs / bound, confidence) if bound else None,
            score=estimate_mean(references.normalise(of_runs), confidence) if references else None,
            last_collection=estimate_known(record.last_collection for record in runs[variant]),
            last_evaluation=estimate_known(record.last_evaluation for record in runs[variant]),
            metrics={
                name: estimate
                for name in dict.fromkeys(name for record in runs[variant] for name in record.metrics)
                if (estimate := estimate_known(record.metrics.get(name) for record in runs[variant]))
            },
        )

    rows = sorted(map(row, variants), key=lambda r: -r.per_agent.value)
    improvement = _improvements({row.variant: [returns[row.variant]] for row in rows}, settings)
    several = [row for row in rows if len(row.seeds) > 1]
    leader, *others = judged = several if len(several) > 1 else rows
    return TaskResult(
        label=task,
        n_agents=runs[leader.variant][0].n_agents,
        reference_returns=references,
        rows=rows,
        improvement=improvement,
        leader=leader,
        rivals=[
            Rival(
                other.variant,
                improvement[leader.variant][other.variant],
                estimate_unpaired_difference(returns[leader.variant], returns[other.variant], confidence),
            )
            for other in others
        ],
        not_judged=[row.variant for row in rows if row not in judged],
        unequal=unequal,
        controls=[
            Control(
                variant, control, kind, estimate_unpaired_difference(returns[variant], returns[control], confidence)
            )
            for variant in variants
            for control in variants
            if min(len(runs[variant]), len(runs[control])) > 1
            and (kind := kind_of_control(runs[variant][0].config, runs[control][0].config))
        ],
        changes=[
            Change(
                setting,
                estimate_unpaired_difference(returns[setting.variant], returns[setting.default], confidence)
                if min(len(runs[setting.variant]), len(runs[setting.default])) > 1
                else None,
            )
            for setting in find_settings(variants)
        ],
    )


def _improvements(scores: dict[str, list[np.ndarray]], settings: Bootstrap) -> dict[str, dict[str, Estimate]]:
    """Probability of improvement for every pair; the reverse pair has the complement."""
    found: dict[str, dict[str, Estimate]] = {variant: {} for variant in scores}
    names = list(scores)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            forth = settings.improvement(scores[first], scores[second])
            found[first][second] = forth
            found[second][first] = Estimate(1 - forth.value, 1 - forth.high, 1 - forth.low)
    return found


def _aggregate(
    comparison: Comparison, results: list[TaskResult], values: dict[str, float], settings: Bootstrap
) -> Aggregates | None:
    """Aggregate scores over all tasks that have reference returns."""
    references = {result.label: result.reference_returns for result in results if result.reference_returns is not None}
    if not references:
        return None
    balanced = balance(comparison, list(references))
    if not balanced.records:
        return None
    scores = _best_first(
        {
            variant: [
                references_of_task.normalise(_values_of(balanced, task, variant, values))
                for task, references_of_task in references.items()
            ]
            for variant in balanced.variants
        }
    )
    lacking = {
        variant: [task for task in references if not comparison.runs(task, variant)]
        for variant in comparison.variants
        if variant not in scores
    }
    highest = max(task.max() for of_tasks in scores.values() for task in of_tasks)
    thresholds = np.linspace(0, max(1.0, float(highest)), N_THRESHOLDS)
    profile = partial(performance_profile, thresholds=thresholds)
    return Aggregates(
        tasks=list(references),
        n_runs={variant: len(of_tasks[0]) for variant, of_tasks in scores.items()},
        variants={
            variant: {name: settings.estimate(statistic, of_tasks) for name, statistic in AGGREGATES.items()}
            for variant, of_tasks in scores.items()
        },
        improvement=_improvements(scores, settings),
        thresholds=thresholds.tolist(),
        profiles={variant: Band.of(settings.limits(profile, of_tasks)) for variant, of_tasks in scores.items()},
        without_tasks=lacking,
    )


def balance(comparison: Comparison, tasks: Sequence[str]) -> Comparison:
    """Keep equally many runs of a variant on each task, because aggregates pool runs over tasks.

    Keeps runs on the tasks with these labels whose seeds their variant has on each of the tasks.
    """
    common = {
        variant: set.intersection(*({record.seed for record in comparison.runs(task, variant)} for task in tasks))
        for variant in comparison.variants
    }
    return replace(
        comparison,
        records=[r for r in comparison.records if r.task_label in tasks and r.seed in common[r.variant]],
    )


def _min_max_iqm(comparison: Comparison, values: dict[str, float], settings: Bootstrap) -> dict[str, Estimate]:
    """IQM of returns between the lowest and the highest run of each task in this report, over all tasks."""
    ranges = {}
    for task in comparison.tasks:
        of_task = [values[record.id] for record in comparison.runs_on(task)]
        ranges[task] = (min(of_task), max(max(of_task) - min(of_task), 1e-12))
    balanced = balance(comparison, list(ranges))
    scores = {
        variant: [(_values_of(balanced, task, variant, values) - low) / width for task, (low, width) in ranges.items()]
        for variant in balanced.variants
    }
    return {variant: settings.estimate(iqm, of_tasks) for variant, of_tasks in _best_first(scores).items()}


def _best_first(scores: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    return dict(sorted(scores.items(), key=lambda item: -float(iqm(item[1]))))
