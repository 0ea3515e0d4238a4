"""Figures of a report: reproducible SVG of matplotlib, for embedding in a page."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarl_himpo.harness.reference_returns.reference_returns import ReferenceReturns
from benchmarl_himpo.harness.report.analysis import Aggregates, Band, Row, TaskResult
from benchmarl_himpo.harness.report.curves import Curve, Efficiency

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8c6d31")
"""Colours of Okabe and Ito, suitable for colour-blind readers; yellow, invisible on white, is replaced."""
DASHES = ("-", "--", "-.", ":")
SCRIPT_LINES = ("--", "-.", (0, (1, 3)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
"""Line styles of heuristic policies, which are grey like the random policy."""
SIZE = (4.4, 3.2)
"""Size of a figure in inches; it fills the width of a phone, and a part of a screen."""
TASK_ROW = 0.42
"""Height of a variant's row, in inches: its label may take three lines."""
LEGEND_ROW = 0.17
"""Height of a legend's row, in inches."""
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "benchmarl_himpo",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
}
CURVE_AXES = {"frames": (1000, "frames (thousands)"), "minutes": (1, "collection and training (minutes)")}
"""Unit and label of the axis of learning curves over frames and over wall-clock."""
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Picture:
    """A picture of a report."""

    name: str  # of its file
    caption: str
    svg: str


@dataclass(frozen=True)
class Style:
    """Style of each variant, the same in all figures."""

    variants: list[str]

    def of(self, variant: str) -> dict[str, Any]:
        """Colour and line of a variant."""
        i = self.variants.index(variant)
        return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}

    def sort(self, variants: Iterable[str]) -> list[str]:
        """Variants in the order of legends."""
        return sorted(variants, key=self.variants.index)


def draw_curves(over: str, number: int, result: TaskResult, curves: dict[str, Curve], style: Style) -> Picture:
    """Draw the learning curves of a task over ``frames`` or ``minutes``; ``number`` is the index of the task."""
    scale, xlabel = CURVE_AXES[over]

    def draw(axes: Axes) -> None:
        for variant in style.sort(curves):
            curve, look = curves[variant], style.of(variant)
            for x, y in curve.runs.values():
                axes.plot(np.array(x) / scale, y, linewidth=0.5, alpha=0.4, **look)
            _draw_band(axes, np.array(curve.at) / scale, curve.band, variant, look)
        _draw_references(axes, result.reference_returns, axes.axhline)
        axes.set(xlabel=xlabel, ylabel="return per agent")

    caption = f"{result.label}: mean return over {over}, Student's intervals, a thin line per run"
    return Picture(f"curves_{number}_{over}", caption, _render(result.label, draw))


def draw_task(number: int, result: TaskResult, values: dict[str, list[float]], style: Style) -> Picture:
    """Draw the returns of each variant on a task: every run as a dot, the mean and its interval."""

    def draw(axes: Axes) -> None:
        rows = result.rows[::-1]
        for y, row in enumerate(rows):
            _draw_row(axes, y, row, values[row.variant], style.of(row.variant)["color"])
        _draw_references(axes, result.reference_returns, axes.axvline)
        axes.set(xlabel="return per agent", yticks=range(len(rows)))
        axes.set_yticklabels([_wrap(row.variant, 18) for row in rows])

    svg = _render(result.label, draw, height=max(SIZE[1], TASK_ROW * len(result.rows)))
    return Picture(f"returns_{number}", f"{result.label}: mean, interval and runs", svg)


def draw_factors(number: int, result: TaskResult, values: dict[str, list[float]]) -> Picture:
    """Draw the returns of a study of factors: every setting by factor, and the default's interval as background."""
    rows = {row.variant: row for row in result.rows}
    factors = list(dict.fromkeys((change.setting.default, change.setting.factor) for change in result.changes))
    lines = [(default, default, "black") for default in dict.fromkeys(default for default, _ in factors)]
    for change in result.changes:
        colour = COLOURS[factors.index((change.setting.default, change.setting.factor)) % len(COLOURS)]
        lines.append((change.setting.variant, f"{change.setting.factor}: {change.setting.value}", colour))

    def draw(axes: Axes) -> None:
        for y, (variant, _, colour) in enumerate(lines[::-1]):
            _draw_row(axes, y, rows[variant], values[variant], colour)
        for default in dict.fromkeys(change.setting.default for change in result.changes):
            axes.axvspan(
                rows[default].per_agent.low, rows[default].per_agent.high, color="grey", alpha=0.15, linewidth=0
            )
        axes.set(xlabel="return per agent", yticks=range(len(lines)))
        axes.set_yticklabels([_wrap(label, 26) for _, label, _ in lines[::-1]])

    svg = _render(result.label, draw, height=max(SIZE[1], TASK_ROW * len(lines)))
    return Picture(f"factors_{number}", f"{result.label}: one factor at a time, the default's interval in grey", svg)


def _draw_row(axes: Axes, y: int, row: Row, values: list[float], colour: str) -> None:
    """Draw the runs of a variant, their mean and its interval on a line."""
    axes.plot(values, [y - 0.18] * len(values), "o", color=colour, ms=3, alpha=0.5)
    axes.plot([row.per_agent.low, row.per_agent.high], [y, y], color=colour, linewidth=2)
    axes.plot(row.per_agent.value, y, "D", color=colour, ms=5)


def draw_communication(number: int, result: TaskResult, n_bytes: dict[str, float], style: Style) -> Picture:
    """Draw the return of each variant of a task over its bytes at execution, and the Pareto front."""

    def draw(axes: Axes) -> None:
        rows = [row for row in result.rows if row.variant in n_bytes]
        for row in rows:
            of, at, colour = row.per_agent, n_bytes[row.variant], style.of(row.variant)["color"]
            axes.plot([at, at], [of.low, of.high], color=colour, linewidth=2)
            axes.plot(at, of.value, "D", color=colour, ms=5, label=row.variant)
        front = communication_front(rows, n_bytes)
        corners = [n_bytes[row.variant] for row in front]
        means = [row.per_agent.value for row in front]
        axes.step(corners, means, where="post", color="grey", linewidth=1, label="front")
        axes.set_xscale("symlog", linthresh=max(1.0, min((n for n in n_bytes.values() if n > 0), default=1.0)))
        axes.set_xlim(left=0)
        axes.set(xlabel="bytes per agent and step", ylabel="return per agent")

    caption = f"{result.label}: return over bytes that acting takes, means and intervals"
    return Picture(f"communication_{number}", caption, _render(result.label, draw))


def communication_front(rows: list[Row], n_bytes: dict[str, float]) -> list[Row]:
    """Pareto front of the rows, highest return for fewest bytes, sorted by bytes."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (n_bytes[row.variant], -row.per_agent.value)):
        if not front or row.per_agent.value > front[-1].per_agent.value:
            front.append(row)
    return front


def draw_profiles(aggregates: Aggregates, style: Style) -> Picture:
    """Draw performance profiles."""
    caption = "Performance profile: share of runs whose score is above τ, stratified bootstrap intervals"
    at = np.array(aggregates.thresholds)
    return _draw_bands(caption, at, aggregates.profiles, style, xlabel="score τ", ylabel="share of runs above τ")


def draw_efficiency(efficiency: Efficiency, style: Style) -> Picture:
    """Draw the IQM of scores over frames."""
    caption = "Sample efficiency: IQM of scores over frames, stratified bootstrap intervals"
    scale, xlabel = CURVE_AXES["frames"]
    at = np.array(efficiency.frames) / scale
    return _draw_bands(caption, at, efficiency.variants, style, xlabel=xlabel, ylabel="IQM of scores")


def _draw_bands(caption: str, at: np.ndarray, bands: dict[str, Band], style: Style, **labels: str) -> Picture:
    """Draw a band for each variant; the figure is named after its caption up to the colon."""

    def draw(axes: Axes) -> None:
        for variant in style.sort(bands):
            _draw_band(axes, at, bands[variant], variant, style.of(variant))
        axes.set(**labels)

    title = caption.partition(":")[0].lower()
    return Picture(title.replace(" ", "_"), caption, _render(title, draw))


def _draw_band(axes: Axes, x: np.ndarray, band: Band, label: str, look: dict[str, Any]) -> None:
    axes.plot(x, band.value, linewidth=1.5, label=label, **look)
    axes.fill_between(x, band.low, band.high, color=look["color"], alpha=0.15, linewidth=0)


def _draw_references(axes: Axes, references: ReferenceReturns | None, draw_line: Callable[..., Any]) -> None:
    """Draw the reference returns of a task; the upper bound, far from the data, only appears in the legend."""
    if references is None:
        return
    draw_line(references.random, color="grey", linestyle=":", linewidth=1, label="random policy")
    for (name, value), line in zip(references.scripts.items(), cycle(SCRIPT_LINES), strict=False):
        draw_line(value, color="grey", linestyle=line, linewidth=1, label=f"scripted policy: {name}")
    if references.upper_bound is not None:
        axes.plot([], [], linestyle="none", label=f"upper bound: {references.upper_bound:.1f}")


def _wrap(label: str, width: int) -> str:
    """Break a long label into at most three lines; the tables have the rest."""
    return "\n".join(textwrap.wrap(label, width, max_lines=3, placeholder="...", break_on_hyphens=False))


def _render(title: str, draw: Callable[[Axes], None], height: float = SIZE[1]) -> str:
    """Draw a figure with its title above and its legend below, and return it as SVG."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(SIZE[0], height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.suptitle(_wrap(title, 60), fontsize=9)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            n_columns = 1 if max(map(len, labels)) > 30 else 2
            labels = [_wrap(label, 60) for label in labels]
            n_rows = -(-sum(label.count("\n") + 1 for label in labels) // n_columns)
            figure.set_size_inches(SIZE[0], height + LEGEND_ROW * n_rows)
            figure.legend(handles, labels, loc="outside lower center", ncols=n_columns, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    return buffer.getvalue()


def inline(picture: Picture) -> str:
    """Convert a figure to an ``svg`` element for a page: no prologue, no size, only unique identifiers."""
    svg = picture.svg[picture.svg.index("<svg") :]
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{picture.name}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{picture.name}-", svg)
