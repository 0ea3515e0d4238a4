"""Finds what a hierarchy reads of a task beside observations: positions, liveness and edges of a group's agents."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from tensordict.utils import NestedKey, unravel_key
from torchrl.data import Composite

from benchmarl_himpo.environments import known_alive, known_position, observes_no_position
from benchmarl_himpo.hierarchy.group_inputs import AliveSource, PositionSource
from benchmarl_himpo.hierarchy.keys import dotted

WITHOUT_POSITIONS = {"clustering": "static", "neighbours": "full"}
"""Options that may need positions, each with an alternative value for error messages."""


def find_position(
    position: str | None, task: str, task_options: Mapping[str, Any], entries: Composite, needed_by: Mapping[str, Any]
) -> str | None:
    """Find the source of the positions of a group's agents.

    Args:
        position: ``algorithm.position``; ``"auto"`` takes the entry ``position`` if there is one, else looks up the
            task.
        task: name of the task, such as ``"vmas/sampling"``.
        task_options: options of the task.
        entries: the environment's specs of the group. Shape ``[n_agents]``.
        needed_by: values of the options that need positions, such as ``{"clustering": "kmeans"}``.

    Returns:
        The source, as :class:`Hierarchy` takes it; None if no option needs positions.

    Raises:
        ValueError: if no source is known or the group has no such entry.
    """
    if not needed_by:
        return None
    names, found = _names_of(entries), position
    if position == "auto":
        environment_name, _, task_name = task.partition("/")
        found = "position" if "position" in names else known_position(environment_name, task_name, task_options)
    if found is None:
        raise ValueError(_describe_missing_position(position, task, needed_by))
    source = PositionSource.parse(found)
    if source.key not in names:
        raise ValueError(
            f"algorithm.position={position} names no entry of the agents of task {task}, which have {', '.join(names)}"
            ": name one of these"
        )
    n_features = entries[names[source.key]].shape[-1]
    if found == source.key and n_features != 2:
        raise ValueError(
            f"algorithm.position={position}: {source.key} has {n_features} features instead of the two coordinates: "
            f"choose two such as '{source.key}[0:2]'"
        )
    if len(range(n_features)[source.start : source.start + 2 or None]) != 2:
        raise ValueError(
            f"algorithm.position={position} is out of range, because {source.key} has {n_features} features: choose "
            f"two such as '{source.key}[0:2]'"
        )
    if position != "auto" and source.key == "observation" and observes_no_position(*task.split("/", 1)):
        warnings.warn(
            f"algorithm.position={position} is not a position, because agents of task {task} do not observe theirs: "
            f"{_join(needed_by)} will use two other features; {_without_positions(needed_by)} needs no position",
            stacklevel=2,
        )
    return found


def _describe_missing_position(position: str | None, task: str, needed_by: Mapping[str, Any]) -> str:
    """Error message for options that need positions which are missing."""
    needs, instead = f"positions are needed by {_join(needed_by)}", _without_positions(needed_by)
    if position is None:
        return f"{needs}, but algorithm.position=null gives none: leave algorithm.position out or set {instead}"
    if observes_no_position(*task.split("/", 1)):
        return f"{needs}, but agents of task {task} do not observe theirs: set {instead}"
    return (
        f"{needs}, but their source in task {task} is unknown: set algorithm.position to the two features that hold "
        f"them, such as \"algorithm.position='observation[0:2]'\" with both quotes, or set {instead}"
    )


def _without_positions(needed_by: Mapping[str, Any]) -> str:
    return _join({option: WITHOUT_POSITIONS[option] for option in needed_by})


def _join(options: Mapping[str, Any]) -> str:
    return " and ".join(f"algorithm.{option}={value}" for option, value in options.items())


def find_alive(alive: str | None, task: str, entries: Composite) -> str | None:
    """Find the source of the flag of a group's live agents.

    Args:
        alive: ``algorithm.alive``; ``"auto"`` takes the entry ``alive`` if there is one, else looks up the task; None
            takes all agents.
        task: name of the task, such as ``"vmas/sampling"``.
        entries: the environment's specs of the group. Shape ``[n_agents]``.

    Returns:
        The source, as :class:`Hierarchy` takes it; None if all agents are always alive.

    Raises:
        ValueError: if the group has no such entry, or the entry no such feature.
    """
    names, found = _names_of(entries), alive
    if alive == "auto":
        found = "alive" if "alive" in names else known_alive(task.partition("/")[0])
    if found is None:
        return None
    source = AliveSource.parse(found)
    if source.key not in names:
        raise ValueError(
            f"algorithm.alive={alive} names no entry of the agents, which have {', '.join(names)}: name one of these, "
            "or set algorithm.alive=null"
        )
    shape, feature = entries[names[source.key]].shape[len(entries.shape) :], source.feature
    if shape.numel() != 1 if feature is None else len(shape) != 1 or not -shape[0] <= feature < shape[0]:
        raise ValueError(
            f"algorithm.alive={alive} must be one number per agent, but {source.key} has the shape {[*shape]}: choose "
            f"a feature such as '{source.key}[0]', or set algorithm.alive=null"
        )
    return found


def _names_of(entries: Composite) -> dict[str, NestedKey]:
    """Keys of a group's entries by name, dots for nesting; without ``info``, which BenchMARL drops from batches."""
    return {dotted(key): key for key in entries.keys(True, True) if unravel_key(key)[0] != "info"}


def find_edges_key(task: str, entries: Composite) -> str:
    """Find the entry with the task's edges, ``edges``.

    Args:
        task: name of the task, such as ``"traffic/grid4x4"``.
        entries: the environment's specs of the group. Shape ``[n_agents]``.

    Returns:
        The key.

    Raises:
        ValueError: if the group has no such entry, or its shape is not ``[n_agents, n_agents]``.
    """
    n_agents = entries.shape[-1]
    if "edges" not in entries.keys():
        raise ValueError(
            f"algorithm.neighbours=edges takes the graph of the task, but agents of task {task} have no entry edges of "
            f"shape [{n_agents}, {n_agents}]: set algorithm.neighbours=full or another builder"
        )
    if entries["edges"].shape != (n_agents, n_agents):
        raise ValueError(
            f"algorithm.neighbours=edges needs an entry edges of shape [{n_agents}, {n_agents}], but in {task} it has "
            f"{list(entries['edges'].shape)}: let the environment emit one row per agent, True for its neighbours"
        )
    return "edges"
