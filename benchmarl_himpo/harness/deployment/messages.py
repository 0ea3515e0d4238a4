"""What every node has to receive per step if nodes are machines of their own: messages and bytes.

Workers run on the agents, every node of an upper level on a machine of its own (one that shares a machine with another
saves what they tell each other). Each worker runs the encoders of all levels on what it sees and sends encodings up;
nodes pass on, as a mean and a count, what levels above them ask for. The step functions of a bundle compute whole
levels at once: this is what cutting them into nodes takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.hierarchy import Clustering, RadiusNeighbours
from benchmarl_himpo.models import HierarchicalPolicy, LevelNetwork

FLOAT_BYTES, INDEX_BYTES = 4, 8
"""Bytes of a float32 and of an int64, the dtypes of the step functions."""
CENTRE = "centre"
"""Who computes the clustering where it needs all positions."""


@dataclass(frozen=True)
class Flow:
    """Messages of one kind that one node receives.

    Counted are, by the level whose nodes receive, those that ``neighbours``, ``subordinates``, ``others`` (all that
    live) or the ``alive`` (the same to one place) send; None where the number is always the same.
    """

    receiver: str  # name of the kind of node: ``worker``, ``level 1``, ``centre``
    what: str  # what is sent, and by whom
    n_bytes: int  # size of a message
    every: int  # env steps from one exchange to the next
    n_worst: int  # messages per exchange, at most
    counted: tuple[int, str] | None = None


def list_flows(policy: HierarchicalPolicy, goal_dim: int) -> Iterator[Flow]:
    """List all that the nodes of a group's policy receive, the workers' first; ``goal_dim`` is the size of a goal."""
    layout = policy.hierarchy.layout
    for level in range(layout.n_levels):
        yield from _neighbour_flows(policy, level)
        if level > 0:
            yield from _subordinate_flows(policy, level)
        if level < layout.top:
            period = layout.periods[level + 1]
            yield Flow(_name(level), "goal from the superior", FLOAT_BYTES * goal_dim, period, 1)
    if layout.top > 0 and not policy.hierarchy.clustering.is_local:
        period = layout.periods[1]
        yield Flow("worker", "sub-manager's index from the centre", INDEX_BYTES, period, 1)
        yield Flow(CENTRE, "positions of the workers", 2 * FLOAT_BYTES, period, layout.n_agents, (0, "alive"))


def _neighbour_flows(policy: HierarchicalPolicy, level: int) -> Iterator[Flow]:
    network, layout, name = _network(policy, level), policy.hierarchy.layout, _name(level)
    n_others = layout.nodes_at(level) - 1
    every = layout.periods[level]
    if network is None or n_others == 0:
        return
    n_bytes = FLOAT_BYTES * network.hidden_dim
    if network.messages is not None:
        neighbours = policy.hierarchy.neighbours_at(level)
        worst = neighbours.max_degree(layout.nodes_at(level))
        if not neighbours.is_local:
            what = "positions of the others, to know the neighbours"
            yield Flow(name, what, 2 * FLOAT_BYTES, every, n_others, (level, "others"))
        for number in range(1, len(network.messages.convs) + 1):
            yield Flow(name, f"neighbours' states, round {number}", n_bytes, every, worst, (level, "neighbours"))
    if network.team_state:
        yield Flow(name, "states of the team, for their mean", n_bytes, every, n_others, (0, "others"))


def _subordinate_flows(policy: HierarchicalPolicy, level: int) -> Iterator[Flow]:
    """Encodings for the level itself, and those that it passes on to the levels above."""
    layout = policy.hierarchy.layout
    if level == 1 and policy.hierarchy.clustering.is_moving:
        worst = layout.n_agents  # all workers in one cluster
    else:
        worst = int(layout.static_parent_index(level).bincount().max())
    for reader_level in range(level, layout.n_levels):
        network = _network(policy, reader_level)
        assert network is not None  # upper levels have one
        n_numbers = network.hidden_dim + (level > 1)  # a mean over several workers comes with their number
        what = "encodings from subordinates"
        if reader_level > level:
            what += f", to pass on to level {reader_level}"
        n_bytes, every = FLOAT_BYTES * n_numbers, layout.periods[reader_level]
        yield Flow(_name(level), what, n_bytes, every, worst, (level, "subordinates"))


class MessageReport:
    """Counts, while a policy plays, what its nodes receive.

    Args:
        policy: the policy of one group.
        goal_dim: size of a goal.
    """

    def __init__(self, policy: HierarchicalPolicy, goal_dim: int) -> None:
        self.policy = policy
        self.flows = list(list_flows(policy, goal_dim))
        self._sums = torch.zeros(len(self.flows), dtype=torch.double)
        self._nodes = torch.zeros(len(self.flows), dtype=torch.double)

    def watch(self, tensordict: TensorDictBase) -> None:
        """Count what one step takes. ``tensordict``: what the policy wrote, batch shape ``[B]``."""
        hierarchy = self.policy.hierarchy
        counts: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        clock = tensordict.get(hierarchy.keys.clock).squeeze(-1) if hierarchy.layout.top > 0 else None
        for number, flow in enumerate(self.flows):
            if flow.counted is None:
                continue
            if flow.counted not in counts:
                counts[flow.counted] = self._count(tensordict, *flow.counted)
            received, is_there = counts[flow.counted]
            if clock is not None:
                is_there = is_there & (clock % flow.every == 0).unsqueeze(-1)
            self._sums[number] += received[is_there].sum()
            self._nodes[number] += is_there.sum()

    def _count(self, tensordict: TensorDictBase, level: int, kind: str) -> tuple[Tensor, Tensor]:
        """Messages at the nodes of a level, and which nodes are there: the living, and all of upper levels."""
        graph = self.policy.hierarchy.graph(tensordict)
        if kind == "alive":
            return graph.alive.sum(-1, keepdim=True), torch.ones_like(graph.alive[..., :1])
        if kind == "others":
            present = graph.n_workers(level) > 0
            return (present.sum(-1, keepdim=True) - 1).expand_as(present), present
        is_there = graph.alive if level == 0 else torch.ones_like(graph.n_workers(level), dtype=torch.bool)
        if kind == "neighbours":
            return graph.adjacency[level].sum(-1), is_there
        sends = (graph.n_workers(level - 1) > 0).long()
        received = torch.zeros_like(is_there, dtype=torch.long).scatter_add(-1, graph.parent_index[level - 1], sends)
        return received, is_there

    def rows(self) -> list[dict[str, Any]]:
        """One row per flow: worst case, and the mean over the nodes and decisions that were watched."""
        return [
            {
                "receiver": flow.receiver,
                "what": flow.what,
                "bytes_per_message": flow.n_bytes,
                "every_n_steps": flow.every,
                "messages_worst": flow.n_worst,
                "messages_mean": (mean := self._mean(number)),
                "bytes_per_step_worst": flow.n_worst * flow.n_bytes / flow.every,
                "bytes_per_step_mean": mean * flow.n_bytes / flow.every,
            }
            for number, flow in enumerate(self.flows)
        ]

    def totals(self) -> list[dict[str, Any]]:
        """One row per kind of node, with ``bytes_peak``: what the worst case brings in one step where all decide."""
        rows = self.rows()
        totals = []
        for receiver in dict.fromkeys(
            [*map(_name, range(self.policy.hierarchy.layout.n_levels)), *(r["receiver"] for r in rows)]
        ):
            own = [row for row in rows if row["receiver"] == receiver]
            totals.append(
                {
                    "receiver": receiver,
                    "messages_per_step_worst": sum(row["messages_worst"] / row["every_n_steps"] for row in own),
                    "messages_per_step_mean": sum(row["messages_mean"] / row["every_n_steps"] for row in own),
                    "bytes_per_step_worst": sum(row["bytes_per_step_worst"] for row in own),
                    "bytes_per_step_mean": sum(row["bytes_per_step_mean"] for row in own),
                    "bytes_peak": sum(row["messages_worst"] * row["bytes_per_message"] for row in own),
                }
            )
        return totals

    def notes(self) -> list[str]:
        """What has to be known about the graph, and who has to know it."""
        policy, notes = self.policy, []
        if policy.hierarchy.layout.top > 0:
            notes.append("All nodes keep the same clock and restart it together; no message does that here.")
            notes.append(_describe_clustering(policy.hierarchy.clustering))
        for level in policy.remembering:
            memory = policy.hierarchy.memory_at(level)
            assert memory is not None
            notes.append(
                f"Nodes of {_name(level)} keep the mean encodings of their last {memory.decisions} decisions, which "
                "takes no message; the step functions hold the observations instead, and encode them again."
            )
        neighbours = policy.hierarchy.neighbours_at(0)
        if isinstance(neighbours, RadiusNeighbours):
            notes.append("Neighbours are those within a radius: a radio's range does that, without knowing positions.")
        if not neighbours.is_local:
            notes.append(
                "Neighbours follow from positions: every worker has to know those of all others, or to measure them."
            )
        notes.append("A worker that is not alive sends nothing, which has to be told from a message that is lost.")
        return notes

    def _mean(self, number: int) -> float:
        flow = self.flows[number]
        if flow.counted is None:
            return float(flow.n_worst)
        return float(self._sums[number] / self._nodes[number].clamp(min=1))


def _describe_clustering(clustering: Clustering) -> str:
    if not clustering.is_moving:
        return "The clustering is static: every worker knows its sub-manager from the start, and nothing is central."
    if clustering.is_local:
        return "The clustering is local: every worker finds its sub-manager from what it observes itself."
    return (
        "The clustering is central in this implementation: one place receives the positions of all workers whenever "
        "sub-managers decide, keeps the centroids and tells each worker its sub-manager."
    )


def _network(policy: HierarchicalPolicy, level: int) -> LevelNetwork | None:
    """The network of a level; None where workers are the plain model, which receives no messages."""
    return next((module for module in policy.actors[level].modules() if isinstance(module, LevelNetwork)), None)


def _name(level: int) -> str:
    return "worker" if level == 0 else f"level {level}"
