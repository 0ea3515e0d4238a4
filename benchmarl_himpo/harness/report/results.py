"""Result sections of a report: returns, curves, aggregates, probabilities of improvement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarl_himpo.environments.metrics import heading_of
from benchmarl_himpo.harness.records.record import LAST_ITERATIONS
from benchmarl_himpo.harness.report.analysis import Aggregates, Row, TaskResult
from benchmarl_himpo.harness.report.curves import has_evaluations, sample_efficiency, task_curves
from benchmarl_himpo.harness.report.document import Content, Section, Table
from benchmarl_himpo.harness.report.figures import (
    CURVE_AXES,
    Style,
    draw_communication,
    draw_curves,
    draw_efficiency,
    draw_factors,
    draw_profiles,
    draw_task,
)
from benchmarl_himpo.harness.report.verdicts import describe_lack
from benchmarl_himpo.harness.statistics import AGGREGATES, Estimate, as_percent

Columns = dict[str, Callable[[Row], str]]
"""Cells of a variant's row, by the names of the columns."""

N_RUNS: Columns = {"runs": lambda row: str(len(row.seeds))}
RETURNS: Columns = N_RUNS | {
    "return per agent": lambda row: str(row.per_agent),
    "sum over agents": lambda row: _text(row.team),
    "share of the upper bound": lambda row: _percent(row.fraction),
    "score": lambda row: _text(row.score),
}
ENDS: Columns = N_RUNS | {
    f"last {LAST_ITERATIONS} batches, actions sampled": lambda row: _text(row.last_collection),
    "last evaluation": lambda row: _text(row.last_evaluation),
}


def write_results(content: Content) -> list[Section]:
    """Write the result sections."""
    style = Style(content.comparison.variants)
    return [
        _returns(content, style),
        _curves(content, style),
        _ends(content),
        _aggregates(content, style),
        _improvements(content),
        *_factors(content),
        *_goals(content),
        *_communication(content, style),
    ]


def _returns(content: Content, style: Style) -> Section:
    tables, pictures = [], []
    for number, result in enumerate(content.analysis.tasks):
        metrics = dict.fromkeys(name for row in result.rows for name in row.metrics)
        tables.append(_table(result, RETURNS | {heading_of(name): partial(_metric, name) for name in metrics}))
        pictures.append(draw_task(number, result, _values_of(content, result), style))
    coverage = as_percent(content.settings.confidence)
    return Section(
        "Returns per task",
        [
            f"Each run has one value, its {content.analysis.measure}. Means over runs with Student's {coverage} CI. "
            "The sum over agents counts a shared reward once per agent.",
            *_explain_references(content),
        ],
        [*tables, *_reference_table(content)],
        pictures,
    )


def _values_of(content: Content, result: TaskResult) -> dict[str, list[float]]:
    """Returns of the runs of each variant on a task."""
    known = content.analysis.values
    return {
        row.variant: [known[r.id] for r in content.comparison.runs(result.label, row.variant) if r.id in known]
        for row in result.rows
    }


def _table(result: TaskResult, columns: Columns) -> Table:
    rows = [[row.variant, *(text_of(row) for text_of in columns.values())] for row in result.rows]
    return Table(result.heading, ["variant", *columns], rows)


def _explain_references(content: Content) -> list[str]:
    """Explain the reference returns of scores, and name tasks without them."""
    unknown = [result.label for result in content.analysis.tasks if result.reference_returns is None]
    said = [
        "A normalised score is 0 at the return of the random policy and 1 at that of the best scripted policy, or at "
        "the upper bound, which no team can exceed, where no policy is scripted. These reference returns were measured "
        "with continuous actions where a task has them, unless discrete ones have their own; version "
        f"{content.references.version}, sha256 {content.references.digest[:12]}."
    ]
    return [*said, f"No reference returns are stored for {', '.join(unknown)}: no scores there."] if unknown else said


def _reference_table(content: Content) -> list[Table]:
    """Table of the tasks' reference returns."""
    known = [
        (result.label, result.reference_returns)
        for result in content.analysis.tasks
        if result.reference_returns is not None
    ]
    if not known:
        return []
    rows = [
        [
            label,
            _number(references.random),
            ", ".join(f"{name} {value:.2f}" for name, value in references.scripts.items()) or "unknown",
            _number(references.upper_bound),
        ]
        for label, references in known
    ]
    tables = [Table("Reference returns per agent", ["task", "random policy", "scripted policies", "upper bound"], rows)]
    for metric in dict.fromkeys(metric for _, references in known for metric in references.metrics):
        means = [
            [label, ", ".join(f"{name} {mean:.3g}" for name, mean in references.metrics[metric].items())]
            for label, references in known
            if metric in references.metrics
        ]
        tables.append(Table("Other metrics of these policies", ["task", heading_of(metric)], means))
    return tables


def _curves(content: Content, style: Style) -> Section:
    tasks = content.analysis.tasks
    curves = [task_curves(content.comparison, result.label, content.settings.confidence) for result in tasks]
    pictures = [
        draw_curves(over, number, result, of_variants[over], style)
        for over in CURVE_AXES
        for number, (result, of_variants) in enumerate(zip(tasks, curves, strict=True))
        if of_variants[over]
    ]
    evaluated = (
        "of each evaluation" if has_evaluations(content.comparison) else "of the episodes that ended in each batch"
    )
    text = (
        f"Mean returns {evaluated}. Wall-clock time, where it is known, is that of collection and training, without "
        "evaluations; it depends on what else the machine did: see the load average below."
    )
    return Section("Learning curves", [text], pictures=pictures)


def _ends(content: Content) -> Section:
    tables = [_table(result, ENDS) for result in content.analysis.tasks]
    text = (
        "Mean returns per agent at the end of the curves: of the episodes that ended in the last batches, with sampled "
        "actions, and of the last evaluation."
    )
    return Section("The end of training", [text], tables)


def _aggregates(content: Content, style: Style) -> Section:
    analysis, settings = content.analysis, content.settings
    title = "Aggregates over tasks"
    found = analysis.aggregates
    ranges = Table(
        "Between this report's extremes",
        ["variant", "IQM, min-max"],
        [[variant, str(value)] for variant, value in analysis.min_max_iqm.items()],
    )
    if found is None:
        none = "no task has reference returns, or no variant has a seed on each that has"
        return Section(title, [f"There are no scores to aggregate: {none}."], [ranges])
    names = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}
    table = Table(
        f"Scores over {', '.join(found.tasks)}",
        ["variant", "runs on each task", *(names[name] for name in AGGREGATES)],
        [
            [variant, str(found.n_runs[variant]), *(str(values[name]) for name in AGGREGATES)]
            for variant, values in found.variants.items()
        ],
    )
    references = {r.label: r.reference_returns for r in analysis.tasks if r.reference_returns is not None}
    scored = replace(content.comparison, records=[r for r in content.comparison.records if r.id in analysis.values])
    efficiency = sample_efficiency(scored, references, list(found.variants), settings)
    text = [
        f"Intervals are stratified percentile bootstraps over runs and tasks, {settings.repetitions:,} resamples, seed "
        f"{settings.seed}. The optimality gap is the mean amount by which scores are below 1; lower is better. Min-max "
        "scores lie between the lowest and the highest run of each task in this report: they change with the variants "
        "in it. Runs with seeds that their variant does not have on every task are left out.",
        *_explain_left_out(found),
    ]
    pictures = [draw_profiles(found, style)] if found.profiles else []
    return Section(
        title,
        text,
        [table, ranges],
        [*pictures, *([draw_efficiency(efficiency, style)] if efficiency.variants else [])],
    )


def _explain_left_out(found: Aggregates) -> list[str]:
    return [
        f"{variant} is left out: it lacks {describe_lack(lacking)}." for variant, lacking in found.without_tasks.items()
    ]


def _improvements(content: Content) -> Section:
    analysis = content.analysis
    tables = [_matrix(result.label, result.improvement) for result in analysis.tasks if len(result.rows) > 1]
    if analysis.aggregates is not None and len(analysis.aggregates.tasks) > 1 and len(analysis.aggregates.variants) > 1:
        tables.insert(0, _matrix("all tasks", analysis.aggregates.improvement))
    text = (
        "The probability that a run of the row's variant has a higher return than one of the column's; a tie counts "
        "half. Best first."
    )
    return Section("Probability of improvement", [text] if tables else ["There is one variant only."], tables)


def _factors(content: Content) -> list[Section]:
    """Effects of factors, if several are changed one at a time."""
    tables, pictures = [], []
    for number, result in enumerate(content.analysis.tasks):
        of_variants = {row.variant: row for row in result.rows}
        rows = []
        for default in dict.fromkeys(change.setting.default for change in result.changes):
            row = of_variants[default]
            rows.append([default, "default", str(len(row.seeds)), str(row.per_agent), "", ""])
            for change in result.changes:
                if change.setting.default == default:
                    row, difference = of_variants[change.setting.variant], change.difference
                    verdict = "-" if difference is None else _judge(difference)
                    returns = [str(len(row.seeds)), str(row.per_agent), _text(difference), verdict]
                    rows.append([change.setting.factor, change.setting.value, *returns])
        if rows:
            columns = ["factor", "setting", "runs", "return per agent", "difference from the default", "verdict"]
            tables.append(Table(result.heading, columns, rows))
            pictures.append(draw_factors(number, result, _values_of(content, result)))
    if not tables:
        return []
    coverage = as_percent(content.settings.confidence)
    text = (
        "Variants that differ from the default of their algorithm in one option, or in fields of the part that it "
        "chooses; a variant of two options stands below the one that has one of them alone. Differences of mean "
        f"returns per agent with Welch's {coverage} CI, not corrected for multiple comparisons."
    )
    return [Section("Return by factor", [text], tables, pictures)]


def _goals(content: Content) -> list[Section]:
    """Comparisons of hierarchies with controls without goals, if there are controls."""
    rows = [
        [result.label, found.variant, found.control, found.kind, str(found.difference), _judge(found.difference)]
        for result in content.analysis.tasks
        for found in result.controls
    ]
    if not rows:
        return []
    coverage = as_percent(content.settings.confidence)
    text = (
        f"Differences of mean returns per agent between hierarchies and their controls, with Welch's {coverage} CI. "
        "Goals are shown to help where both controls are behind and an audit of the trained policies finds that they "
        "use their goals (python -m benchmarl_himpo.audit)."
    )
    columns = ["task", "variant", "control", "what the control is", "difference", "verdict"]
    return [Section("Do goals help?", [text], [Table("Hierarchies and their controls", columns, rows)])]


def _communication(content: Content, style: Style) -> list[Section]:
    """Returns of variants over their bytes, on tasks where these are known and differ."""
    pictures = []
    for number, result in enumerate(content.analysis.tasks):
        of_runs = {row.variant: content.comparison.runs(result.label, row.variant)[0] for row in result.rows}
        n_bytes = {v: run.communication["bytes"] for v, run in of_runs.items() if "bytes" in run.communication}
        if len(set(n_bytes.values())) > 1:
            pictures.append(draw_communication(number, result, n_bytes, style))
    if not pictures:
        return []
    text = (
        "Mean returns per agent over the bytes per agent and step at execution (see Cost). The grey line is the Pareto "
        "front of the means: no other variant has a higher return with as few bytes."
    )
    return [Section("Return against communication", [text], pictures=pictures)]


def _judge(difference: Estimate) -> str:
    if not difference.excludes(0.0):
        return "no significant difference"
    return "ahead" if difference.value > 0 else "behind"


def _matrix(caption: str, improvement: dict[str, dict[str, Estimate]]) -> Table:
    names = list(improvement)
    rows = [
        [f"{number}. {a}", *(str(improvement[a][b]) if b in improvement[a] else "" for b in names)]
        for number, a in enumerate(names, 1)
    ]
    return Table(caption, ["", *(f"{number}." for number in range(1, len(names) + 1))], rows)


def _metric(name: str, row: Row) -> str:
    return _text(row.metrics.get(name))


def _text(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    texts = [f"{100 * value:.0f}" for value in (estimate.value, estimate.low, estimate.high)]
    return f"{texts[0]} %" if texts[1] == "nan" else f"{texts[0]} % [{texts[1]}, {texts[2]}]"
