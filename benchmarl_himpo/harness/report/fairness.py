"""Comparability of runs: settings that must be equal, differences between configurations, and provenance."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from benchmarl.algorithms import algorithm_config_registry
from benchmarl.environments import Task, task_config_registry

from benchmarl_himpo.harness.records.labels import flatten
from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.runs.experiment_options import OF_COMPARISONS
from benchmarl_himpo.harness.runs.origin import describe_origin

EQUAL_SETTINGS = frozenset(f"experiment.{option}" for option in OF_COMPARISONS)
"""Keys of a configuration that all variants of a task must share, besides the task itself."""

NOT_COMPARED = ("seed",)
"""Keys of a configuration that differ between the runs of one variant."""

ABSENT = "-"
"""Placeholder for the value of a key that a configuration does not have."""


def find_unequal_settings(records: list[RunRecord]) -> list[str]:
    """List the settings of a task's runs that differ but must be equal, in one sentence each.

    These are the task's configuration, the kind of actions, evaluations, episodes and fresh episodes, and frames; for
    runs with unknown configuration, the frames and the episodes of evaluations.
    """
    configs = {record.id: dict(flatten(record.config)) for record in records}
    keys = {key for config in configs.values() for key in config if key.startswith("task.")} | EQUAL_SETTINGS
    seen: dict[str, dict[str, list[str]]] = {}
    for record in records:
        measured = {key: configs[record.id].get(key) for key in keys}
        measured["frames"] = record.n_frames
        measured["fresh episodes"] = len(record.absolute_metric["returns"]) if record.absolute_metric else None
        actions = kind_of_actions(record)
        if actions is not None:
            measured["actions"] = actions
        if not record.config:
            measured["episodes per evaluation"] = len(record.evaluation_returns[-1])
        for key, value in measured.items():
            seen.setdefault(key, {}).setdefault(json.dumps(value), []).append(record.variant)
    return [
        f"{key} differs: " + "; ".join(f"{value} in {', '.join(sorted(set(who)))}" for value, who in values.items())
        for key, values in sorted(seen.items())
        if len(values) > 1
    ]


def kind_of_actions(record: RunRecord) -> str | None:
    """Kind of actions that BenchMARL chose for a run, ``continuous`` or ``discrete``; None if unknown."""
    task, algorithm = task_config_registry.get(record.task), algorithm_config_registry.get(record.algorithm)
    is_preferred = record.config.get("experiment", {}).get("prefer_continuous_actions")
    if task is None or algorithm is None or is_preferred is None:
        return None
    supports_continuous, supports_discrete = _kinds_of_actions(task)
    can_be_continuous = supports_continuous and algorithm.supports_continuous_actions()
    can_be_discrete = supports_discrete and algorithm.supports_discrete_actions()
    return "continuous" if can_be_continuous and (is_preferred or not can_be_discrete) else "discrete"


@cache
def _kinds_of_actions(task: Task) -> tuple[bool, bool]:
    """Whether a task supports continuous, and discrete, actions."""
    options = task.get_from_yaml()
    return options.supports_continuous_actions(), options.supports_discrete_actions()


def find_differences(records: list[RunRecord]) -> tuple[list[str], dict[str, list[str]]]:
    """Find the keys in which configurations of a task differ.

    Returns:
        The variants, and for each differing key the value of each variant as JSON, or :data:`ABSENT`.
    """
    configs = {record.variant: dict(flatten(record.config)) for record in records}
    keys = sorted({key for config in configs.values() for key in config} - set(NOT_COMPARED))
    table = {key: [json.dumps(c[key]) if key in c else ABSENT for c in configs.values()] for key in keys}
    return list(configs), {key: values for key, values in table.items() if len(set(values)) > 1}


def kind_of_control(config: dict[str, Any], control: dict[str, Any]) -> str | None:
    """Kind of control that a configuration is for the goals of another one; None if it is not a control.

    A control is the same configuration with zeros in place of goals, or a single level whose workers have the same
    observations and neighbours.
    """
    own, other = config.get("algorithm", {}), control.get("algorithm", {})
    if not own.get("n_nodes") or "n_nodes" not in other or not own.get("send_goals", True):
        return None
    if _without_names(config, {**own, "send_goals": False}) == _without_names(control, other):
        return "the same networks, zeros in place of goals"
    if not other["n_nodes"] and _worker_inputs(own) == _worker_inputs(other):
        return "flat, the same worker inputs" + (" and the team's mean state" if other["team_state"] else "")
    return None


def _without_names(config: dict[str, Any], algorithm: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the given values of its algorithm, without the name of their file."""
    kept = {key: value for key, value in config.items() if key not in ("choices", *NOT_COMPARED)}
    return {**kept, "algorithm": algorithm}


def _worker_inputs(algorithm: dict[str, Any]) -> list[Any]:
    """Values of an algorithm's options for the workers' observations and neighbours."""
    of_levels = [algorithm.get("observation"), algorithm["neighbours"]]
    of_workers = [value[0] if isinstance(value, list) else value for value in of_levels]
    return [*of_workers, algorithm["n_message_rounds"], algorithm["part_options"].get("neighbours")]


def describe_fingerprints(records: list[RunRecord]) -> list[str]:
    """A sentence on the numerics fingerprints of the variants, if they differ."""
    variants: dict[str, list[str]] = {}
    for record in records:
        if record.fingerprint is not None:
            variants.setdefault(record.fingerprint, []).append(record.variant)
    if len(variants) < 2:
        return []
    known = [f"{name} {len(of)}, of {', '.join(sorted(set(of)))}" for name, of in sorted(variants.items())]
    return [
        f"Numerics fingerprints differ (runs: {'; '.join(known)}): they were made with different versions or on "
        "different processors, and a difference between variants may come from that."
    ]


def find_provenance(records: list[RunRecord]) -> dict[str, str]:
    """Summarise the provenance of runs: one value if all agree, else each value with its number of runs.

    Times and loads are given as ranges; the runs' fingerprints are an additional key.
    """
    ranges, found = ("started", "ended", "load_average"), {}
    keys = sorted({key for record in records for key in record.provenance})
    for key in [key for key in keys if key not in ranges]:
        found[key] = _count([record.provenance.get(key) for record in records])
    if any(record.origin for record in records):
        found["begun from"] = _count([describe_origin(record.origin) for record in records])
    found["fingerprint"] = _count([record.fingerprint for record in records])
    for key in ranges:
        values = sorted(v for record in records if (v := record.provenance.get(key)) is not None)
        if values:
            found[key] = str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
    return found


def _count(values: list[Any]) -> str:
    """Format equal values as one, different values with their counts."""
    texts = ["unknown" if value is None else str(value) for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{text} ({texts.count(text)} runs)" for text in sorted(set(texts)))
