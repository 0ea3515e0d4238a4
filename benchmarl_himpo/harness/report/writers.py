"""Write a report: one self-contained page, Markdown with figures, and files for programs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchmarl_himpo.environments.metrics import METRICS
from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.harness.report.analysis import MEASURES
from benchmarl_himpo.harness.report.background import write_background
from benchmarl_himpo.harness.report.document import Content, Section, Table
from benchmarl_himpo.harness.report.figures import inline
from benchmarl_himpo.harness.report.results import write_results
from benchmarl_himpo.harness.report.verdicts import judge, summarise, write_warnings

FORMAT = 3
"""Version of ``report.json``: raised when a key changes its meaning."""

FIGURES = "figures"


def write_report(content: Content, folder: Path, title: str) -> list[Path]:
    """Write all files of a report into a folder, created if missing; equal content gives identical files."""
    sections = [*write_results(content), *write_background(content)]
    data = as_data(content)
    texts = {
        "report.html": as_html(content, sections, data, title),
        "report.md": as_markdown(content, sections, title),
        "report.json": f"{json.dumps(data, sort_keys=True, indent=1, allow_nan=False)}\n",
        "report.csv": as_csv(content),
        "marl_eval.json": f"{json.dumps(as_marl_eval(content), allow_nan=False)}\n",
    }
    texts |= {f"{FIGURES}/{p.name}.svg": p.svg for section in sections for p in section.pictures}
    older = set((folder / FIGURES).glob("*.svg")) if (folder / "report.json").is_file() else set()
    for name, text in texts.items():
        write_whole(folder / name, text)
    for figure in older - {folder / name for name in texts}:  # of an earlier report with more tasks
        figure.unlink()
    return [folder / name for name in texts]


def as_data(content: Content) -> dict[str, Any]:
    """All results about returns, and the value of each run, as JSON data."""
    comparison, analysis = content.comparison, content.analysis
    data = {
        "format": FORMAT,
        "settings": asdict(content.settings),
        "reference_returns": {"version": content.references.version, "sha256": content.references.digest},
        "protocol": ", ".join(protocol.name for protocol in content.protocols) or None,
        "verdicts": [asdict(verdict) for verdict in judge(analysis)],
        "warnings": write_warnings(content),
        "analysis": asdict(analysis),
        "common": comparison.common,
        "absent": [asdict(run) for run in comparison.absent],
        "runs": [
            {
                "id": r.id,
                "variant": r.variant,
                "task": r.task_label,
                "seed": r.seed,
                "config_hash": r.config_hash,
                "file": comparison.files[r.id],
                "return_per_agent": analysis.values.get(r.id),
                "metrics": r.metrics,
                "evaluation_frames": r.evaluation_frames,
                "evaluation_seconds": r.evaluation_seconds,
                "evaluation_means": [float(np.mean(returns)) for returns in r.evaluation_returns],
            }
            for r in comparison.records
        ],
    }
    return dict(_without_nan(data))


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not support, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_html(content: Content, sections: list[Section], data: dict[str, Any], title: str) -> str:
    """The report as one self-contained page with styles, figures and data, without external resources and scripts."""
    environment = Environment(
        loader=PackageLoader("benchmarl_himpo.harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inline"] = lambda picture: Markup(inline(picture))  # matplotlib escapes what it draws
    raw = json.dumps(data, sort_keys=True, allow_nan=False).replace("<", r"\u003c")
    return environment.get_template("report.html.jinja").render(
        title=title,
        verdicts=judge(content.analysis),
        warnings=write_warnings(content),
        summary=summarise(content),
        sections=sections,
        raw=Markup(raw),  # in a script element nothing but a "<" ends it
    )


def as_markdown(content: Content, sections: list[Section], title: str) -> str:
    """The report as Markdown, with figures in separate files."""
    lines = [f"# {_escape(title)}", "", _escape(summarise(content)), ""]
    verdicts = judge(content.analysis)
    lines += [f"- **{_escape(v.task)}**: {_escape(v.text)}" for v in verdicts]
    lines += ["", *(f"> {_escape(warning)}\n" for warning in write_warnings(content))]
    for section in sections:
        lines += [f"## {section.title}", ""]
        lines += [f"{_escape(text)}\n" for text in section.paragraphs]
        lines += [_write_table(table) for table in section.tables]
        lines += [f"![{_escape(p.caption)}]({FIGURES}/{p.name}.svg)\n" for p in section.pictures]
    return "\n".join(lines).rstrip() + "\n"


def _write_table(table: Table) -> str:
    columns, *rows = ([_escape(cell) for cell in row] for row in (table.columns, *table.rows))
    return f"**{_escape(table.caption)}**\n\n{markdown_table(columns, rows)}\n"


def _escape(text: str) -> str:
    """Escape text for Markdown."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", escaped)


def as_csv(content: Content) -> str:
    """A CSV row per run."""
    references_on = {result.label: result.reference_returns for result in content.analysis.tasks}
    rows = []
    for record in content.comparison.records:
        value = content.analysis.values.get(record.id)
        references = references_on.get(record.task_label)
        score = None if references is None or value is None else float(references.normalise(np.array(value)))
        rows.append(
            {
                "task": record.task_label,
                "variant": record.variant,
                "seed": record.seed,
                "return_per_agent": value,
                "score": score,
                "last_collection": record.last_collection,
                "last_evaluation": record.last_evaluation,
                **{name: record.metrics.get(name) for name in METRICS},
                "n_agents": record.n_agents or None,
                "frames": record.n_frames,
                "seconds": record.seconds[-1] if record.seconds else None,
                "peak_memory": record.peak_memory,
                "gradient_steps": record.gradient_steps,
                "parameters": sum(record.parameters.values()) or None,
                "messages": record.communication.get("messages"),
                "bytes": record.communication.get("bytes"),
                "resumed": record.resumed,
                "attempts": record.attempts,
                "config_hash": record.config_hash,
                "id": record.id,
            }
        )
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def as_marl_eval(content: Content) -> dict[str, Any]:
    """The evaluations in the format of marl-eval: environment, task, algorithm, seed, step.

    The format requires an entry ``absolute_metrics`` after the ordered steps of every run, and allows no comma in the
    name of an algorithm. The entry contains the episodes behind a run's value in this report: of the absolute metric,
    or of the last evaluation if no run measured it. Runs without that value, or without evaluations, are left out.
    """
    returns_of = MEASURES[content.analysis.measure]
    found: dict[str, Any] = {}
    for record in content.comparison.records:
        if record.id not in content.analysis.values or not record.evaluation_returns:
            continue
        environment, _, task = record.task_label.partition("/")
        steps: dict[str, Any] = {
            f"step_{i}": {
                "step_count": frames,
                **({} if seconds is None else {"elapsed_time": seconds}),
                "return": returns,
            }
            for i, (frames, seconds, returns) in enumerate(
                zip(record.evaluation_frames, record.evaluation_seconds, record.evaluation_returns, strict=True)
            )
        }
        steps["absolute_metrics"] = {"return": returns_of(record)}
        algorithm = record.variant.replace(",", " ")
        seeds = found.setdefault(environment, {}).setdefault(task, {}).setdefault(algorithm, {})
        seeds[f"seed_{record.seed}"] = steps
    return found
