"""Background sections of a report: cost, configurations, provenance, runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import yaml

from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.report.comparison import Comparison
from benchmarl_himpo.harness.report.document import Content, Section, Table
from benchmarl_himpo.harness.report.fairness import ABSENT, NOT_COMPARED, find_differences, find_provenance
from benchmarl_himpo.harness.runs.run_config import COMPUTATION

UNKNOWN = "-"
"""Placeholder for unknown values of a run."""


def write_background(content: Content) -> list[Section]:
    """Write the background sections."""
    return [_cost(content.comparison), _fairness(content), _provenance(content), _runs(content)]


def frames_per_second(record: RunRecord) -> float | None:
    """Speed over the logged iterations, of which there may be none for the beginning of a run; None: unknown."""
    frames, seconds = record.frames, record.seconds
    if not seconds or not seconds[-1]:
        return None
    before = 2 * frames[0] - frames[1] if len(frames) > 1 else 0  # iterations have equally many frames
    return (frames[-1] - before) / seconds[-1]


COSTS: dict[str, Callable[[RunRecord], float | None]] = {
    "frames/s": frames_per_second,
    "collection s": lambda r: r.timers.get("collection"),
    "training s": lambda r: r.timers.get("training"),
    "evaluation s": lambda r: r.timers.get("evaluation"),
    "peak memory MiB": lambda r: None if r.peak_memory is None else r.peak_memory / 2**20,
    "gradient steps": lambda r: r.gradient_steps,
    "parameters": lambda r: sum(r.parameters.values()) or None,
    "messages per agent and step": lambda r: r.communication.get("messages"),
    "bytes per agent and step": lambda r: r.communication.get("bytes"),
}
"""Costs of a run, by column; None: unknown."""


def _cost(comparison: Comparison) -> Section:
    tables = []
    for task in comparison.tasks:
        runs = {variant: comparison.runs(task, variant) for variant in comparison.variants_of(task)}
        rows = [
            [
                variant,
                *(str(of[0].config.get(option, UNKNOWN)) for option in COMPUTATION),
                *(mean_and_range(of, value_of) for value_of in COSTS.values()),
            ]
            for variant, of in runs.items()
        ]
        tables.append(Table(task, ["variant", *COMPUTATION, *COSTS], rows))
        parts = sorted({part for of in runs.values() for part in of[0].parameters})
        counts = [
            [part, *(f"{of[0].parameters[part]:,}" if part in of[0].parameters else "" for of in runs.values())]
            for part in parts
        ]
        if counts:
            tables.append(Table(f"{task}: parameters", ["group, loss, level", *runs], counts))
    text = (
        "Mean over runs, and in brackets the range where it is wider than a tenth of the mean; a dash where it is "
        "unknown. Frames per second of collection and training: compare only runs on the same machine with the same "
        "load. Messages and bytes are those of execution if every agent, and every node of an upper level, is a "
        "separate machine: the maximum that all of them send, per agent and env step."
    )
    return Section("Cost", [text], tables)


def mean_and_range(runs: list[RunRecord], value_of: Callable[[RunRecord], float | None]) -> str:
    """Format the mean cost of a variant's runs, with the range if it is wider than a tenth of the mean."""
    values = [value for value in map(value_of, runs) if value is not None]
    if not values:
        return UNKNOWN
    mean, low, high = float(np.mean(values)), min(values), max(values)
    digits = 0 if abs(mean) >= 10 else 1
    spread = f" ({low:,.{digits}f}-{high:,.{digits}f})" if high - low > 0.1 * abs(mean) else ""
    return f"{mean:,.{digits}f}{spread}"


def _fairness(content: Content) -> Section:
    comparison = content.comparison
    tables: dict[str, list[Table]] = {}  # by what they say
    tasks: dict[str, list[str]] = {}  # that it is said of
    folded = []
    for task in comparison.tasks:
        variants, differences = find_differences(comparison.runs_on(task))
        said = repr((variants, differences))
        tables[said] = _tables_of_differences(variants, differences)
        tasks.setdefault(said, []).append(task)
        for variant in variants:
            config = comparison.runs(task, variant)[0].config
            shown = {key: value for key, value in config.items() if key not in NOT_COMPARED}
            if shown:
                folded.append((f"configuration of {variant} on {task}", yaml.safe_dump(shown, sort_keys=True)))
    text = "Resolved configurations; keys that are not listed have the same value for all variants of a task."
    named = [
        replace(table, caption=f"{', '.join(tasks[said])}: {table.caption}")
        for said, of in tables.items()
        for table in of
    ]
    return Section("What differs", [text], [*_tuning_tables(content), *named], folded=folded)


def _tuning_tables(content: Content) -> list[Table]:
    """Table of the tuning of each algorithm before a comparison."""
    algorithms = {record.algorithm for record in content.comparison.records}
    tables = []
    for protocol in content.protocols:
        rows = [
            [algorithm, tried, ", ".join(f"{k}={v}" for k, v in protocol.tuned.get(algorithm, {}).items()) or "-"]
            for algorithm, tried in protocol.tuning.items()
            if algorithm in algorithms
        ]
        of = f": {protocol.name}" if len(content.protocols) > 1 else ""
        columns = ["algorithm", "settings tried", "tuned values"]
        tables.append(Table(f"Tuning before the comparison{of}", columns, rows))
    return tables


def _tables_of_differences(variants: list[str], differences: dict[str, list[str]]) -> list[Table]:
    """Tables of keys with different values, and of keys that only some variants have."""
    rows = [[key, *values] for key, values in differences.items()]
    differing = [row for row in rows if len({*row[1:]} - {ABSENT}) > 1]
    lacking = [row for row in rows if row not in differing]
    captions = {"keys that differ": differing, "keys that some do not have, and the others agree on": lacking}
    return [Table(caption, ["key", *variants], of) for caption, of in captions.items() if of]


def _provenance(content: Content) -> Section:
    found = find_provenance(content.comparison.records)
    rows = [[key, text] for key, text in found.items()]
    return Section("Provenance", tables=[Table("Versions and machines", ["what", "value"], rows)])


def _runs(content: Content) -> Section:
    comparison, values = content.comparison, content.analysis.values
    rows = [
        [
            record.id,
            f"{values[record.id]:.2f}" if record.id in values else "none",
            f"{record.n_frames:,}",
            f"{record.seconds[-1]:,.0f}" if record.seconds else UNKNOWN,
            UNKNOWN if record.resumed is None else "yes" if record.resumed else "no",
            UNKNOWN if record.attempts is None else str(record.attempts),
            comparison.files[record.id],
        ]
        for record in comparison.records
    ]
    columns = ["run", "return per agent", "frames", "seconds", "resumed", "attempts", "file"]
    absent = [[a.variant, a.task, str(a.seed), a.reason] for a in comparison.absent]
    tables = [Table("Runs without a record", ["variant", "task", "seed", "what is known"], absent)] if absent else []
    text = [] if absent else ["Every variant of a task has the same seeds, and no run is unfinished."]
    return Section("Runs", text, [*tables, Table("Runs", columns, rows)])
