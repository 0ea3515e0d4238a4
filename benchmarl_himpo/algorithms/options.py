"""Builds a hierarchy from an algorithm's options; errors name the option and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from benchmarl.models import GnnConfig, SequenceModelConfig
from benchmarl.models.common import ModelConfig
from tensordict.utils import NestedKey
from torchrl.data import Composite

from benchmarl_himpo.algorithms.sources import find_alive, find_edges_key, find_position
from benchmarl_himpo.hierarchy import (
    Clustering,
    GoalSpace,
    Hierarchy,
    HierarchyLayout,
    IntervalAnnealing,
    Memory,
    Neighbours,
    build_part,
    clustering_registry,
    goal_registry,
    memory_registry,
    neighbours_registry,
)
from benchmarl_himpo.hierarchy.group_inputs import AliveSource, PositionSource
from benchmarl_himpo.models.message_passing import find_convolution
from benchmarl_himpo.objectives import RewardScheme, credit_registry
from benchmarl_himpo.objectives.goal_gradient import check_weight
from benchmarl_himpo.objectives.normalization import check_decay

PARTS: dict[str, Mapping[str, type]] = {
    "goal": goal_registry,
    "credit": credit_registry,
    "clustering": clustering_registry,
    "neighbours": neighbours_registry,
    "memory": memory_registry,
}
"""Options that choose a part by name, each with its registry."""


@contextmanager
def as_options(config: type) -> Iterator[None]:
    """Rewrite errors of the library with option names of the command line: ``algorithm.n_nodes=`` for ``n_nodes=``.

    The argument ``level_observation`` of :class:`Hierarchy` is the option ``observation``.

    Args:
        config: dataclass of the algorithm's options.

    Yields:
        Nothing.

    Raises:
        ValueError: the error of the block, with a rewritten message.
    """
    names = "|".join(field.name for field in fields(config))
    try:
        yield
    except ValueError as error:
        message = re.sub(rf"(?<![\w.])(?:level_(?=observation))?({names})(?==|: )", r"algorithm.\1", str(error))
        raise ValueError(message) from error


def check_options(options: Any) -> None:
    """Check the options of an algorithm that depend on no task: parts, intervals, reward scheme.

    Args:
        options: what has the options of :class:`~benchmarl_himpo.algorithms.Himppo` as attributes: an algorithm or
            its configuration.

    Raises:
        ValueError: if an option is unknown, out of range, or incompatible with another one.
    """
    check_part_options(options.part_options)
    layout = HierarchyLayout(1, tuple(options.n_nodes), tuple(options.goal_interval))
    if options.initial_goal_interval is not None:
        IntervalAnnealing(options.initial_goal_interval, options.goal_interval, n_frames=1)
    build_goal_space(options)
    _build_clustering(options.clustering, options.part_options)
    _build_neighbours(options.neighbours, options.part_options)
    _build_memory(options.memory, options.part_options)
    for name in ("hidden_dim", "objective_coef", "lr", "entropy_coef", "n_epochs"):
        layout.per_level(name, getattr(options, name))
    if any(rate is not None and rate < 0 for rate in layout.per_level("lr", options.lr)):
        raise ValueError(f"lr={options.lr} must be 0 or more")
    if options.gnn_class is None and options.gnn_kwargs:
        raise ValueError(
            f"gnn_kwargs={options.gnn_kwargs} are arguments of a PyG convolution: set gnn_class=GATv2Conv, "
            "or another one, or leave them out"
        )
    if options.gnn_class is not None:
        find_convolution(options.gnn_class)
    if options.goal_gradient != 0:
        check_weight(options.goal_gradient)
    if options.position not in (None, "auto"):
        PositionSource.parse(options.position)
    if options.alive not in (None, "auto"):
        AliveSource.parse(options.alive)
    if options.listening_coef > 0 and not options.send_goals:
        raise ValueError(f"listening_coef={options.listening_coef} needs goals that are received: set send_goals=true")
    check_decay(options.norm_decay)
    build_reward_scheme(options, layout, gamma=1.0)


def build_goal_space(options: Any) -> GoalSpace:
    """Build the goal space from the options of an algorithm, or of its configuration."""
    fields_of = options.part_options.get("goal")
    space: GoalSpace = build_part("goal", options.goal, goal_registry, fields_of, dim=options.goal_dim)
    return space


def build_reward_scheme(options: Any, layout: HierarchyLayout, gamma: float) -> RewardScheme:
    """Build the reward scheme from the options of an algorithm, or of its configuration.

    Args:
        options: what has the options of :class:`~benchmarl_himpo.algorithms.Himppo` as attributes.
        layout: sizes and clocks of the hierarchy.
        gamma: discount per decision of levels for which the option ``gamma`` has None.

    Returns:
        The reward scheme.

    Raises:
        ValueError: as :class:`RewardScheme`, or if the credit rule is unknown.
    """
    return RewardScheme(
        layout=layout,
        credit=build_part("credit", options.credit, credit_registry, options.part_options.get("credit")),
        local_reward=options.local_reward,
        worker_external_reward=options.worker_external_reward,
        gamma=tuple(gamma if value is None else value for value in options.gamma),
        lmbda=tuple(options.lmbda),
        critic_rows=options.critic_rows,
    )


def check_part_options(part_options: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that options, parts and fields of ``part_options`` exist.

    Args:
        part_options: fields by option and part.

    Raises:
        ValueError: if an option, a part or a field is unknown, or a value is not a mapping.
    """
    for option, parts in part_options.items():
        if option not in PARTS:
            raise ValueError(f"part_options: {option} does not choose a part: give one of {', '.join(PARTS)}")
        for name, given in _mapping(option, parts).items():
            if name not in PARTS[option]:
                raise ValueError(f"part_options: {option}.{name} is unknown: {option} has {', '.join(PARTS[option])}")
            known = [field.name for field in fields(PARTS[option][name])]
            if unknown := _mapping(f"{option}.{name}", given).keys() - set(known):
                has = ", ".join(known) or "none"
                raise ValueError(f"part_options: {option}.{name} has no field {min(unknown)}: {name} has {has}")


def _mapping(place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"part_options: {place} must be a mapping, such as {place}.<name>=..., got {value}")
    return value


def build_hierarchy(
    *,
    group: str,
    n_agents: int,
    n_nodes: Sequence[int],
    goal_interval: Sequence[int],
    clustering: Any,
    neighbours: Any,
    memory: Any,
    part_options: Mapping[str, Mapping[str, Any]],
    observed: tuple[NestedKey, ...],
    observation: Sequence[Sequence[str] | None] | None,
    position: str | None,
    alive: str | None,
    send_goals: bool,
    task: str,
    task_options: Mapping[str, Any],
    entries: Composite,
    annealing: IntervalAnnealing | None = None,
) -> Hierarchy:
    """Build the hierarchy of a group from an algorithm's options.

    Args:
        group: the agent group.
        n_agents: number of agents of the group.
        n_nodes: nodes of each upper level, bottom first.
        goal_interval: duration of a goal, in decisions of the level below, bottom first.
        clustering: the option, a name or a mapping.
        neighbours: the option, a name, a mapping, or a list of these.
        memory: the option, a name, a mapping, None, or a list of these.
        part_options: the option, fields of parts that are chosen by name.
        observed: entries of the group that make up the observation.
        observation: the option, view of the observation at each level.
        position: the option; ``"auto"`` looks positions up if a builder needs them.
        alive: the option; ``"auto"`` takes the entry ``alive`` if there is one, else looks up the task.
        send_goals: the option.
        task: name of the task, such as ``"vmas/sampling"``.
        task_options: options of the task.
        entries: the environment's specs of the group. Shape ``[n_agents]``.
        annealing: schedule of the goal intervals.

    Returns:
        The hierarchy.

    Raises:
        ValueError: if an option is unknown or out of range, or a builder needs positions or edges that are missing.
    """
    if n_agents < 1:
        raise ValueError(f"group {group!r} has no agents, but a hierarchy needs at least one: raise task.n_agents")
    cluster = _build_clustering(clustering, part_options)
    built = _build_neighbours(neighbours, part_options)
    builders = built if isinstance(built, list) else [built]
    needed_by = {}
    if n_nodes and cluster.needs_position:
        needed_by["clustering"] = clustering
    if any(builder.needs_position for builder in builders):
        needed_by["neighbours"] = neighbours
    return Hierarchy(
        group=group,
        n_agents=n_agents,
        n_nodes=tuple(n_nodes),
        goal_interval=tuple(goal_interval),
        clustering=cluster,
        neighbours=built,
        observation=observed,
        position=find_position(position, task, task_options, entries, needed_by),
        alive=find_alive(alive, task, entries),
        edges=find_edges_key(task, entries) if any(builder.needs_edges for builder in builders) else None,
        level_observation=observation,
        send_goals=send_goals,
        memory=_build_memory(memory, part_options),
        annealing=annealing,
    )


def _build_clustering(clustering: Any, part_options: Mapping[str, Mapping[str, Any]]) -> Clustering:
    return build_part("clustering", clustering, clustering_registry, part_options.get("clustering"))


def _build_neighbours(neighbours: Any, part_options: Mapping[str, Mapping[str, Any]]) -> Neighbours | list[Neighbours]:
    """One builder, or a list with one per level, as the option has it."""
    if isinstance(neighbours, Sequence) and not isinstance(neighbours, str):
        return [
            build_part("neighbours", part, neighbours_registry, part_options.get("neighbours")) for part in neighbours
        ]
    return build_part("neighbours", neighbours, neighbours_registry, part_options.get("neighbours"))


def _build_memory(memory: Any, part_options: Mapping[str, Mapping[str, Any]]) -> Memory | list[Memory | None] | None:
    """One memory, or a list with one per level, as the option has it; None for none."""
    if memory is None:
        return None
    fields_of = part_options.get("memory")
    if isinstance(memory, Sequence) and not isinstance(memory, str):
        return [None if part is None else build_part("memory", part, memory_registry, fields_of) for part in memory]
    return build_part("memory", memory, memory_registry, fields_of)


def check_model(option: str, config: ModelConfig) -> None:
    """Reject recurrent models, which ignore the hierarchy's clocks, and GNNs, which pass messages past its graph.

    Args:
        option: ``"model"`` or ``"critic_model"``, for the message.
        config: the model's configuration.

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
            f"{option} is a GNN, which would pass messages outside the graph of the hierarchy: choose a "
            f"{option} such as layers/mlp and set the message passing with algorithm.neighbours and algorithm.gnn_class"
        )
