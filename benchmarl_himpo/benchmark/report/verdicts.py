"""What a report says first: who is ahead, as far as the runs tell, and what to know before any number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarl_himpo.benchmark.comparison import Absent
from benchmarl_himpo.benchmark.report.analysis import Aggregates, Analysis, TaskResult
from benchmarl_himpo.benchmark.report.document import Content
from benchmarl_himpo.benchmark.statistics import FEW_RUNS


@dataclass(frozen=True)
class Verdict:
    """Who is ahead on a task."""

    task: str
    outcome: Literal["ahead", "inconclusive", "none"]
    text: str


def judge(analysis: Analysis) -> list[Verdict]:
    """Say who is ahead: over all tasks, where there are several with scores and all are fair, and on each.

    Args:
        analysis: what follows from the runs.

    Returns:
        The verdicts.
    """
    found = analysis.aggregates
    fair = not any(result.unequal for result in analysis.tasks)
    several = found is not None and len(found.tasks) > 1 and len(found.variants) > 1
    over_all = [judge_scores(found)] if found and several and fair else []
    return [*over_all, *map(judge_task, analysis.tasks)]


def judge_scores(found: Aggregates) -> Verdict:
    """Say whose scores are ahead over all tasks: the bootstrap's probability of improvement decides.

    Args:
        found: the aggregates, of at least two variants.

    Returns:
        The verdict.
    """
    leader, *others = found.variants
    open_ = [other for other in others if not found.improvement[leader][other].excludes(0.5)]
    task = f"all {len(found.tasks)} tasks with scores"
    if found.without_tasks:
        lacking = "; ".join(f"{variant} lacks {', '.join(tasks)}" for variant, tasks in found.without_tasks.items())
        return Verdict(task, "none", f"No verdict: whoever has no runs on one of them might be ahead. {lacking}.")
    lead = f"{leader} has the highest IQM of scores, {found.variants[leader]['iqm']}"
    if open_:
        against = "; ".join(f"{other} (probability {found.improvement[leader][other]})" for other in open_)
        return Verdict(task, "inconclusive", f"Inconclusive. {lead}, but equality is not excluded against {against}.")
    nearest = min(others, key=lambda other: found.improvement[leader][other].value)
    chance = found.improvement[leader][nearest]
    text = f"{lead}, and is ahead of all that have runs on each. Nearest is {nearest}: probability {chance}."
    return Verdict(task, "ahead", text)


def judge_task(result: TaskResult) -> Verdict:
    """Say who is ahead on a task.

    Ahead is who leads every other variant with intervals that exclude equality; everything else is inconclusive.

    Args:
        result: the task.

    Returns:
        The verdict.
    """
    if result.unequal:
        return Verdict(
            result.label, "none", f"No verdict: variants were not run and evaluated alike. {'. '.join(result.unequal)}."
        )
    if not result.rivals:
        text = f"Only {result.leader}: {result.rows[0].per_agent} per agent. Nothing to compare with."
        return Verdict(result.label, "none", text)
    behind = [rival.variant for rival in result.rivals if rival.is_behind]
    open_ = [rival for rival in result.rivals if not rival.is_behind]
    lead = f"{result.leader} has the highest mean, {result.rows[0].per_agent} per agent"
    script = _compare_with_script(result)
    if not open_:
        nearest = result.rivals[0]
        text = (
            f"{lead}, and is ahead of every other variant. Nearest is {nearest.variant}: {nearest.difference} behind, "
            f"probability of improvement {nearest.improvement}.{script}"
        )
        return Verdict(result.label, "ahead", text)
    against = "; ".join(f"{r.variant} (difference {r.difference}, probability {r.improvement})" for r in open_)
    rest = f" It is ahead of {', '.join(behind)}." if behind else ""
    text = f"Inconclusive. {lead}, but equality is not excluded against {against}.{rest}{script}"
    return Verdict(result.label, "inconclusive", text)


def _compare_with_script(result: TaskResult) -> str:
    if result.anchors is None or result.anchors.scripted is None:
        return ""
    first, script = result.rows[0].per_agent, result.anchors.scripted
    if not first.excludes(script):
        return f" Its interval contains what the script earns ({script:.2f})."
    return f" It earns {'more' if first.value > script else 'less'} than the script ({script:.2f})."


def summarise(content: Content) -> str:
    """Say in a sentence what was compared, and how to read its numbers."""
    comparison, settings = content.comparison, content.settings
    lengths = sorted({record.frames[-1] for record in comparison.records if record.frames})
    counts = {"run": len(comparison.records), "variant": len(comparison.variants), "task": len(comparison.tasks)}
    runs, variants, tasks = (f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts.items())
    frames = " to ".join(f"{n:,}" for n in dict.fromkeys([*lengths[:1], *lengths[-1:]])) or "0"
    return (
        f"{runs} of {frames} frames: {variants} on {tasks}. Brackets are {settings.confidence:.0%} intervals over runs."
    )


def write_warnings(content: Content) -> list[str]:
    """Say what a reader has to know before any number."""
    common = content.comparison.common
    said = [f"All runs have {', '.join(common)}, where they have the option; labels leave that out."] if common else []
    if content.analysis.few_runs:
        said.append(
            f"Few runs: some variants have fewer than {FEW_RUNS} on a task. Bootstrap intervals of so few cover less "
            "than they say (about 75 to 90 %), so the verdict on a task also asks for Welch's interval."
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
