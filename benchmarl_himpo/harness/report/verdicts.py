"""The beginning of a report: verdicts and warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarl_himpo.harness.report.analysis import Aggregates, Analysis, Rival, TaskResult
from benchmarl_himpo.harness.report.comparison import Absent
from benchmarl_himpo.harness.report.document import Content
from benchmarl_himpo.harness.report.fairness import describe_fingerprints
from benchmarl_himpo.harness.statistics import FEW_RUNS, as_percent


@dataclass(frozen=True)
class Headline:
    """The verdict on a task, or on all tasks."""

    task: str
    outcome: Literal["ahead", "inconclusive", "none"]
    text: str


def judge(analysis: Analysis) -> list[Headline]:
    """Verdicts over all tasks, if several have scores and all comparisons are fair, and on each task."""
    found = analysis.aggregates
    fair = not any(result.unequal for result in analysis.tasks)
    several = found is not None and len(found.tasks) > 1 and len(found.variants) > 1
    over_all = [judge_scores(found)] if found and several and fair else []
    return [*over_all, *map(judge_task, analysis.tasks)]


def judge_scores(found: Aggregates) -> Headline:
    """Verdict over all tasks, for two variants or more, by the bootstrapped probability of improvement."""
    task = f"all {len(found.tasks)} tasks with scores"
    if found.without_tasks:
        without: dict[str, list[str]] = {}
        for variant, tasks in found.without_tasks.items():
            without.setdefault(describe_lack(tasks), []).append(variant)
        lacking = "; ".join(f"{' and '.join(of)} lack{'s'[len(of) > 1 :]} {lack}" for lack, of in without.items())
        return Headline(task, "none", f"No verdict, because some variants lack runs on some tasks: {lacking}.")
    leader, *others = found.variants
    chances = {other: found.improvement[leader][other] for other in others}
    lead = f"{leader} has the highest IQM of scores, {found.variants[leader]['iqm']}"
    open_ = [f"{other} (probability {chance})" for other, chance in chances.items() if not chance.low > 0.5]
    if open_:
        text = f"Inconclusive. {lead}, but equality is not excluded against {'; '.join(open_)}."
        return Headline(task, "inconclusive", text)
    nearest = min(others, key=lambda other: chances[other].value)
    text = f"{lead}, and is ahead of every other variant. Nearest is {nearest}: probability {chances[nearest]}."
    return Headline(task, "ahead", text)


def describe_lack(tasks: Sequence[str]) -> str:
    """Say what a variant without scores over all tasks lacks: runs on some, or a seed that is the same on each."""
    return f"runs on {', '.join(tasks)}" if tasks else "a seed with runs on every task"


def judge_task(result: TaskResult) -> Headline:
    """Verdict on a task.

    A variant is ahead if its intervals against every other variant exclude equality, each with several runs; otherwise
    the verdict is inconclusive.
    """
    if result.unequal:
        return Headline(
            result.label, "none", f"No verdict: variants were not run and evaluated alike. {'. '.join(result.unequal)}."
        )
    leader = result.leader.variant
    if not result.rivals:
        text = f"Only {leader}: {result.leader.per_agent} per agent. Nothing to compare with."
        return Headline(result.label, "none", text)
    behind = [rival.variant for rival in result.rivals if rival.is_behind]
    open_ = [rival for rival in result.rivals if not rival.is_behind]
    of_several = " of several runs" if result.not_judged else ""
    lead = f"{leader} has the highest mean{of_several}, {result.leader.per_agent} per agent"
    rest = _compare_with_script(result)
    if not open_ and not result.not_judged:
        nearest = result.rivals[0]
        text = (
            f"{lead}, and is ahead of every other variant. Nearest is {nearest.variant}: {nearest.difference} behind, "
            f"probability of improvement {nearest.improvement}.{rest}"
        )
        return Headline(result.label, "ahead", text)
    against = [f"{rival.variant} ({_describe_difference(rival)})" for rival in open_]
    against += [f"{variant}, of which there is one run" for variant in result.not_judged]
    rest = (f" It is ahead of {', '.join(behind)}." if behind else "") + rest
    text = f"Inconclusive. {lead}, but equality is not excluded against {'; '.join(against)}.{rest}"
    return Headline(result.label, "inconclusive", text)


def _describe_difference(rival: Rival) -> str:
    if math.isnan(rival.difference.low):
        return f"difference {rival.difference}, without an interval, which takes several runs of both"
    return f"difference {rival.difference}, probability {rival.improvement}"


def _compare_with_script(result: TaskResult) -> str:
    if result.reference_returns is None or result.reference_returns.scripted is None:
        return ""
    first, script = result.leader.per_agent, result.reference_returns.scripted
    if math.isnan(first.low):  # a single run
        return f" The scripted policy's return is {script:.2f}."
    if not first.excludes(script):
        return f" Its confidence interval contains the return of the scripted policy ({script:.2f})."
    return f" Its return is {'above' if first.value > script else 'below'} the scripted policy's ({script:.2f})."


def summarise(content: Content) -> str:
    """One sentence on the comparison and its intervals."""
    comparison, settings = content.comparison, content.settings
    lengths = sorted({record.n_frames for record in comparison.records if record.n_frames})
    counts = {"run": len(comparison.records), "variant": len(comparison.variants), "task": len(comparison.tasks)}
    runs, variants, tasks = (f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts.items())
    frames = " to ".join(f"{n:,}" for n in dict.fromkeys([*lengths[:1], *lengths[-1:]])) or "0"
    coverage = as_percent(settings.confidence)
    said = f"{runs} of {frames} frames: {variants} on {tasks}. Brackets are {coverage} intervals over runs."
    return " ".join([*(protocol.question for protocol in content.protocols), said])


def write_warnings(content: Content) -> list[str]:
    """Warnings about the comparison."""
    common = content.comparison.common
    said = [f"All runs have {', '.join(common)}, where they have the option; labels leave that out."] if common else []
    if content.analysis.few_runs:
        said.append(
            f"Few runs: some variants have fewer than {FEW_RUNS} on a task. Bootstrap intervals of so few cover less "
            "than they say (about 75 to 90 %), so the verdict on a task also asks for Welch's interval."
        )
    if left_out := content.analysis.left_out:
        said.append(f"Left out of tables and verdicts, because they lack this measure: {', '.join(left_out)}.")
    said += describe_fingerprints(content.comparison.records)
    n_json = sum(not record.config for record in content.comparison.records)
    if n_json:
        said.append(
            f"BenchMARL's JSON file alone tells of {n_json} run{'s' if n_json > 1 else ''}. It holds evaluations, but "
            "no configuration, so that there are no scores and equal conditions cannot be checked, no "
            "returns of collection, no wall-clock, no cost, and not whether the run finished. Its absolute_metrics, "
            "the best single evaluation episode, is not used."
        )
    for what, planned in (("Unfinished", True), ("Unequal seeds", False)):
        runs = [run for run in content.comparison.absent if run.planned == planned]
        if runs:
            said.append(f"{what}: {_list_runs(runs)}.")
    return said


def _list_runs(runs: list[Absent]) -> str:
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(f"{run.variant} on {run.task}: {run.reason}", []).append(str(run.seed))
    return "; ".join(f"{what} (seed {', '.join(of)})" for what, of in seeds.items())
