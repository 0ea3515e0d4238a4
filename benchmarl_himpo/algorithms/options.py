"""Turns options of an algorithm into builders and sources, or into one sentence that names the option and the fix."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TypeVar

from benchmarl.models import GnnConfig, SequenceModelConfig
from benchmarl.models.common import ModelConfig
from torchrl.data import Composite

from benchmarl_himpo.environments import known_position, observes_no_position
from benchmarl_himpo.hierarchy import Assignment, Neighbours, assignment_registry, neighbours_registry
from benchmarl_himpo.models import PositionSource

Builder = TypeVar("Builder")

WITHOUT_POSITIONS = {"assignment": "static", "neighbours": "full"}
"""Options that may need positions, and the value that a message advises instead."""


def build_neighbours(name: str, n_neighbours: int, radius: float) -> Neighbours:
    """Build ``algorithm.neighbours``.

    Args:
        name: a key of ``neighbours_registry``.
        n_neighbours: neighbours of the ``knn`` builder.
        radius: radius of the ``radius`` builder, in world units.

    Returns:
        The builder.

    Raises:
        ValueError: if the name is unknown.
    """
    return _look_up("neighbours", name, neighbours_registry)(n_neighbours, radius)


def build_assignment(name: str, n_clusters: int, arena: Sequence[float]) -> Assignment:
    """Build ``algorithm.assignment``.

    Args:
        name: a key of ``assignment_registry``.
        n_clusters: number of sub-managers.
        arena: lower and upper end of both position coordinates, in world units.

    Returns:
        The builder.

    Raises:
        ValueError: if the name is unknown.
    """
    low, high = arena
    return _look_up("assignment", name, assignment_registry)(n_clusters, (low, high))


def _look_up(option: str, name: str, registry: Mapping[str, type[Builder]]) -> type[Builder]:
    if name not in registry:
        raise ValueError(f"algorithm.{option}={name} is unknown: choose one of {', '.join(registry)}")
    return registry[name]


def find_position(
    position: str | None, task: str, entries: Composite, needed_by: Mapping[str, str]
) -> PositionSource | None:
    """Find where the agents of a group have their positions.

    Args:
        position: ``algorithm.position``; ``"auto"`` takes the entry ``position`` if there is one, else looks up the
            task.
        task: name of the task, such as ``"vmas/sampling"``.
        entries: what the environment emits for the group. Shape ``[n_agents]``.
        needed_by: values of the options that need positions, such as ``{"assignment": "kmeans"}``.

    Returns:
        The source; None where nothing needs positions.

    Raises:
        ValueError: if no position is known or the group has no such entry.
    """
    if not needed_by:
        return None
    names = {".".join(key) if isinstance(key, tuple) else key: key for key in entries.keys(True, True)}
    found = position
    if position == "auto":
        found = "position" if "position" in names else known_position(*task.split("/", 1))
    if found is None:
        raise ValueError(_describe_missing_position(position, task, needed_by))
    source = PositionSource.parse(found)
    if source.key not in names:
        raise ValueError(
            f"algorithm.position={position} names no entry of the agents of task {task}, which have {', '.join(names)}"
            ": name one of these"
        )
    if position != "auto" and source.key == "observation" and observes_no_position(*task.split("/", 1)):
        warnings.warn(
            f"algorithm.position={position} is no position, because agents of task {task} do not observe theirs: "
            f"{_join(needed_by)} follow two other features; {_without_positions(needed_by)} needs no position",
            stacklevel=2,
        )
    return source


def _describe_missing_position(position: str | None, task: str, needed_by: Mapping[str, str]) -> str:
    """Say which options need positions that are not there, and what to set."""
    needs, instead = f"positions are needed by {_join(needed_by)}", _without_positions(needed_by)
    if position is None:
        return f"{needs}, and algorithm.position=null gives none: leave algorithm.position out or set {instead}"
    if observes_no_position(*task.split("/", 1)):
        return f"{needs}, and agents of task {task} do not observe theirs: set {instead}"
    return (
        f"{needs}, and where those of task {task} stand is not known: set algorithm.position to the two features that "
        f"hold them, such as \"algorithm.position='observation[0:2]'\" with both quotes, or set {instead}"
    )


def _without_positions(needed_by: Mapping[str, str]) -> str:
    return _join({option: WITHOUT_POSITIONS[option] for option in needed_by})


def _join(options: Mapping[str, str]) -> str:
    return " and ".join(f"algorithm.{option}={value}" for option, value in options.items())


def find_alive_key(alive: str | None, entries: Composite) -> str | None:
    """Find the entry that says which agents of a group take part.

    Args:
        alive: ``algorithm.alive``; ``"auto"`` takes the entry ``alive`` if there is one, None takes all agents.
        entries: what the environment emits for the group. Shape ``[n_agents]``.

    Returns:
        The key, None where all agents always take part.

    Raises:
        ValueError: if the group has no such entry.
    """
    if alive == "auto":
        return "alive" if "alive" in entries.keys() else None
    if alive is not None and alive not in entries.keys():
        raise ValueError(
            f"algorithm.alive={alive} names no entry of the agents, which have {', '.join(map(str, entries.keys()))}"
            ": name one of these, or set algorithm.alive=null"
        )
    return alive


def check_model(option: str, config: ModelConfig) -> None:
    """Refuse models that would break the hierarchy's clocks or widen every agent's reach.

    Args:
        option: ``"model"`` or ``"critic_model"``, for the message.
        config: its configuration.

    Raises:
        ValueError: if the model is recurrent or a GNN.
    """
    if config.is_rnn:
        raise ValueError(
            f"{option} is recurrent, which HiMPPO does not support: choose a feed-forward {option} such as layers/mlp"
        )
    layers = config.model_configs if isinstance(config, SequenceModelConfig) else [config]
    if any(isinstance(layer, GnnConfig) for layer in layers):
        raise ValueError(
            f"{option} is a GNN, which would let every agent see beyond its neighbours in the hierarchy: choose a "
            f"{option} such as layers/mlp and set the message passing with algorithm.neighbours and algorithm.gnn_class"
        )
