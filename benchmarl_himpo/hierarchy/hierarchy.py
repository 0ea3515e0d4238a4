"""Hierarchy of one agent group: sizes, clocks, graph builders, and the TensorDict keys of its state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.data import Composite, Unbounded
from torchrl.envs import EnvBase, TensorDictPrimer

from benchmarl_himpo.hierarchy.clustering import Clustering
from benchmarl_himpo.hierarchy.goals import GoalSpace
from benchmarl_himpo.hierarchy.group_inputs import AliveSource, GroupInputs, PositionSource, parse_view
from benchmarl_himpo.hierarchy.hierarchy_graph import HierarchyGraph
from benchmarl_himpo.hierarchy.interval_annealing import IntervalAnnealing
from benchmarl_himpo.hierarchy.keys import HierarchyKeys, dotted
from benchmarl_himpo.hierarchy.layout import HierarchyLayout
from benchmarl_himpo.hierarchy.memory import Memory
from benchmarl_himpo.hierarchy.neighbours import FullNeighbours, Neighbours


@dataclass(frozen=True)
class Hierarchy:
    """The hierarchy of one agent group. Its state from step to step is kept in the TensorDict.

    The policy builds the graph once per step (:meth:`cluster`, :meth:`connect`) and writes the graph into the
    TensorDict, from which the networks read it (:meth:`graph`).

    Args:
        group: the agent group.
        n_agents: number of workers.
        n_nodes: nodes of each upper level, bottom first: ``(2, 1)`` is two sub-managers under one manager.
        goal_interval: duration of a goal, in decisions of the level below, bottom first (paper: alpha, K).
        clustering: assigns every worker to a sub-manager; upper levels keep contiguous blocks (ours).
        neighbours: builder of the edges along which messages are passed. A single builder is used for the workers, and
            the graphs of upper levels are complete, or empty if the builder is silent. A sequence has one builder per
            level, workers first; its last one serves all levels above. The position of an upper node is the mean
            position of its workers.
        observation: entries of the group that the networks see.
        position: source of two-dimensional positions, such as ``"observation[0:2]"``; None if no builder needs them.
        alive: source of the flag of live agents, such as ``"alive"`` or ``"not action_mask[0]"``; None: all are alive.
        edges: entry of the group with the task's edges, ``[*B, n_agents, n_agents]``, rows receiving from columns; None
            if no builder needs them.
        level_observation: observation of each level, workers first: None for the whole observation, or a list of
            entries and of features of these, such as ``["observation[0:4]"]``. The last one serves all levels above.
            None instead of a list: every level sees the whole observation. Each level encodes the observations of all
            workers below it with an encoder of its own, so a superior may see features that its workers do not.
        send_goals: whether goals are received; False: subordinates receive zeros instead of goals.
        memory: memory of the upper nodes, one for all upper levels or a sequence with one per level, workers first.
            Workers have no memory, so the first entry of a sequence is None.
        annealing: schedule that ends at ``goal_interval`` in the course of a run; None: ``goal_interval`` is constant.

    Raises:
        ValueError: if sizes or intervals define no hierarchy, there are more builders or observations than levels, an
            observation is unknown or empty, a builder needs positions or edges that are missing, or workers are given
            a memory.
    """

    group: str
    n_agents: int
    n_nodes: tuple[int, ...]
    goal_interval: tuple[int, ...]
    clustering: Clustering
    neighbours: Neighbours | Sequence[Neighbours]
    observation: tuple[NestedKey, ...]
    position: str | None = None
    alive: str | None = None
    edges: str | None = None
    level_observation: Sequence[Sequence[str] | None] | None = None
    send_goals: bool = True
    memory: Memory | Sequence[Memory | None] | None = None
    annealing: IntervalAnnealing | None = None

    def __post_init__(self) -> None:
        """Check the arguments against each other."""
        n_levels = self.layout.n_levels
        if not isinstance(self.neighbours, Neighbours) and not 0 < len(self.neighbours) <= n_levels:
            raise ValueError(
                f"neighbours: {len(self.neighbours)} entries for {n_levels} levels: give one per level, workers first"
            )
        seen = [None] if self.level_observation is None else self.level_observation
        if isinstance(seen, str) or not 0 < len(seen) <= n_levels:
            raise ValueError(
                f"level_observation={seen} must have one entry per level, workers first, or fewer: give it 1 to "
                f"{n_levels}, each null or a list such as [{self.observation[0]}], or give null to show all"
            )
        if self.needs_position and self.position is None:
            raise ValueError("clustering or neighbours need positions: set position to the entry that holds them")
        if self.needs_edges and self.edges is None:
            raise ValueError("neighbours: the edges of the task are needed: set edges to the entry that holds them")
        _ = self.inputs  # raises if a source is malformed
        has_worker_memory = isinstance(self.memory, Sequence) and self.layout.per_level("memory", self.memory)[0]
        if has_worker_memory or (self.memory is not None and n_levels == 1):
            raise ValueError(
                "memory: not available for workers: set memory=null, or [null, ...] for upper levels alone"
            )

    @cached_property
    def layout(self) -> HierarchyLayout:
        """Sizes and clocks."""
        return HierarchyLayout(self.n_agents, tuple(self.n_nodes), tuple(self.goal_interval), self.annealing)

    @cached_property
    def keys(self) -> HierarchyKeys:
        """TensorDict keys of the hierarchy's data."""
        return HierarchyKeys(self.group)

    @cached_property
    def inputs(self) -> GroupInputs:
        """Reader of the group's entries."""
        source = PositionSource.parse(self.position) if self.position and self.needs_position else None
        entries = tuple(self.observation)
        seen = (None,) if self.level_observation is None else self.level_observation
        views = tuple(None if sources is None else parse_view(sources, entries) for sources in seen)
        alive = None if self.alive is None else AliveSource.parse(self.alive)
        edges = self.edges if self.needs_edges else None
        return GroupInputs(self.group, entries, source, alive, views, edges)

    @property
    def needs_position(self) -> bool:
        """Whether a graph builder reads positions."""
        clusters = self.layout.top > 0 and self.clustering.needs_position
        return clusters or any(self.neighbours_at(level).needs_position for level in range(self.layout.n_levels))

    @property
    def needs_edges(self) -> bool:
        """Whether a graph builder reads the edges of the task."""
        return any(self.neighbours_at(level).needs_edges for level in range(self.layout.n_levels))

    def neighbours_at(self, level: int) -> Neighbours:
        """The builder of the edges inside a level."""
        if not isinstance(self.neighbours, Neighbours):
            return self.neighbours[min(level, len(self.neighbours) - 1)]
        return self.neighbours if level == 0 or self.neighbours.is_silent else FullNeighbours()

    def memory_at(self, level: int) -> Memory | None:
        """The memory of a level; None for a level without memory."""
        return None if level == 0 else self.layout.per_level("memory", self.memory)[level]

    def memory_keys(self, level: int) -> list[tuple[str, str]]:
        """TensorDict keys of the memory of a level."""
        memory = self.memory_at(level)
        if memory is None:
            return []
        seen = [*(self.keys.seen(level, entry) for entry in self.inputs.entries_of(level)), self.keys.seen_by(level)]
        return [*seen, self.keys.memory_state(level)] if memory.state_size else seen

    def exchanges(self, level: int) -> bool:
        """Whether nodes of a level exchange messages."""
        return self.layout.nodes_at(level) > 1 and not self.neighbours_at(level).is_silent

    ########
    # Graph
    ########

    def cluster(self, tensordict: TensorDictBase, clock: Tensor, is_due: Tensor) -> None:
        """Write a new clustering where sub-managers decide; centroids start anew where the level above decides too.

        Args:
            tensordict: of batch shape ``[*B]``, with the clustering and centroids in effect.
            clock: steps since reset. Shape ``[*B]``, long.
            is_due: where sub-managers decide. Shape ``[*B]``, bool.
        """
        centroids, held = tensordict.get(self.keys.centroids), tensordict.get(self.keys.parent_index)
        is_fresh = self.layout.is_due(clock, min(2, self.layout.top))
        position, alive = self.inputs.position(tensordict), self.inputs.alive(tensordict)
        index, new_centroids = self.clustering(position, alive, centroids, is_fresh)
        tensordict.set(self.keys.parent_index, torch.where(is_due[..., None], index, held))
        tensordict.set(self.keys.centroids, torch.where(is_due[..., None, None], new_centroids, centroids))

    def connect(self, tensordict: TensorDictBase, levels: Iterable[int] | None = None) -> None:
        """Write the adjacency of each level, under the clustering in effect.

        Nodes without a live worker have no edges.

        Args:
            tensordict: of batch shape ``[*B]``, with the clustering.
            levels: the levels to connect; None: all.
        """
        chosen = range(self.layout.n_levels) if levels is None else levels
        exchanging = [level for level in chosen if self.exchanges(level)]
        if not exchanging:
            return
        graph, position, edges = self.graph(tensordict), self.inputs.position(tensordict), self.inputs.edges(tensordict)
        for level in exchanging:
            builder, present = self.neighbours_at(level), graph.n_workers(level) > 0
            given = graph.pool_edges(edges, level) if edges is not None and builder.needs_edges else None
            tensordict.set(self.keys.adjacency(level), builder(graph.pool(position, level), present, given))

    def graph(self, tensordict: TensorDictBase) -> HierarchyGraph:
        """The graph in effect, with the adjacencies that the TensorDict has. Batch shape ``[*B]``."""
        alive = self.inputs.alive(tensordict)
        parents: list[Tensor] = []
        for level in range(1, self.layout.n_levels):
            if level == 1:
                parents.append(tensordict.get(self.keys.parent_index))
            else:
                index = self.layout.static_parent_index(level, alive.device)
                parents.append(index.expand(*alive.shape[:-1], -1))
        edges = {level: tensordict.get(self.keys.adjacency(level), None) for level in range(self.layout.n_levels)}
        adjacency = {level: edge for level, edge in edges.items() if edge is not None}
        return HierarchyGraph(tuple(parents), self.layout.n_nodes, alive, adjacency)

    ##################
    # Network inputs
    ##################

    def received_goal(self, tensordict: TensorDictBase, level: int) -> Tensor | None:
        """Goals that the nodes of a level receive, as floats. Shape ``[*B, nodes, goal_dim]``; None at the top."""
        if level == self.layout.top:
            return None
        goal = tensordict.get(self.keys[level + 1].action)
        goal = goal if goal.is_floating_point() else goal.to(torch.get_default_dtype())
        return goal if self.send_goals else torch.zeros(goal.shape, dtype=goal.dtype, device=goal.device)

    def phase(self, tensordict: TensorDictBase) -> Tensor:
        """Phases of all upper clocks. Shape ``[*B, n_levels - 1]``, in [0, 1)."""
        return self.layout.phase(tensordict.get(self.keys.clock).squeeze(-1))

    def keys_read(self, level: int, with_phase: bool = False) -> list[NestedKey]:
        """Keys that a network of ``level`` reads."""
        keys: list[NestedKey] = self.inputs.keys_of(level)
        if level > 0:
            keys.append(self.keys.parent_index)
        if level < self.layout.top:
            keys.append(self.keys[level + 1].action)
        if self.exchanges(level):
            keys.append(self.keys.adjacency(level))
        keys += self.memory_keys(level)
        if with_phase and self.layout.top > 0:
            keys.append(self.keys.clock)
        return keys

    ################
    # Carried state
    ################

    @property
    def held_keys(self) -> list[tuple[str, str]]:
        """Keys of the state carried from step to step: clock, clustering, centroids, goals, memories; none if flat."""
        upper = range(1, self.layout.n_levels)
        if not upper:
            return []
        goals, memories = (self.keys[i].action for i in upper), (key for i in upper for key in self.memory_keys(i))
        return [self.keys.clock, self.keys.parent_index, self.keys.centroids, *goals, *memories]

    def primer(self, env: EnvBase, goal: GoalSpace) -> TensorDictPrimer | None:
        """Build the transform that lets an environment carry the hierarchy's state, which is zero after each reset.

        Args:
            env: the environment that the transform will be appended to.
            goal: the goal space.

        Returns:
            The transform; None for a flat hierarchy, which has no state.

        Raises:
            ValueError: if the environment has no ``done`` entry at its root.
        """
        if not self.held_keys:
            return None
        if "_reset" not in env.reset_keys:
            raise ValueError(
                f"the environment has {', '.join(map(dotted, env.reset_keys))} and no flag of the team, by which the "
                "state of the hierarchy is reset: give it a done entry at the root"
            )
        layout, keys, default = self.layout, self.keys, torch.get_default_dtype()
        entries = {
            keys.clock: ((1,), torch.long),
            keys.parent_index: ((layout.n_agents,), torch.long),
            keys.centroids: ((layout.nodes_at(1), 2), default),
            **{
                keys[level].action: ((layout.n_recipients(level), goal.dim), goal.dtype)
                for level in range(1, layout.n_levels)
            },
        }
        for level in range(1, layout.n_levels):
            entries |= self._memory_entries(env, level)
        specs = Composite(device=env.device)
        zeros = {}
        for key in self.held_keys:
            shape, dtype = entries[key]
            specs[keys.carried(key)] = Unbounded(shape=shape, dtype=dtype, device=env.device)
            # A callable, because TorchRL's primer ignores the dtype of a number
            zeros[keys.carried(key)] = partial(torch.zeros, (*env.batch_size, *shape), dtype=dtype, device=env.device)
        return TensorDictPrimer(specs, default_value=zeros, reset_key="_reset", expand_specs=True)

    def _memory_entries(self, env: EnvBase, level: int) -> dict[tuple[str, str], tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of the entries of a level's memory, without batch."""
        memory, keys, layout = self.memory_at(level), self.keys, self.layout
        if memory is None:
            return {}
        observed = env.full_observation_spec_unbatched[self.group]
        specs = {keys.seen(level, entry): observed[entry] for entry in self.inputs.entries_of(level)}
        return {
            **{key: ((memory.decisions, *spec.shape), spec.dtype) for key, spec in specs.items()},
            keys.seen_by(level): ((memory.decisions, layout.n_agents), torch.long),
            keys.memory_state(level): ((layout.nodes_at(level), memory.state_size), torch.get_default_dtype()),
        }
