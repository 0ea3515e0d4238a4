"""Counts the messages that every node of a policy receives at execution.

The step functions of a bundle compute whole levels at once; the counts are for a deployment with separate nodes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.harness.communication import count_per_agent, list_flows, name_of
from benchmarl_himpo.hierarchy import Clustering, RadiusNeighbours
from benchmarl_himpo.models import HierarchicalPolicy


class MessageReport:
    """Counts the messages that a policy's nodes receive during a rollout.

    Args:
        policy: the policy of one group.
        goal_dim: size of a goal.
    """

    def __init__(self, policy: HierarchicalPolicy, goal_dim: int) -> None:
        self.policy = policy
        self.flows = list(list_flows(policy, goal_dim))
        self._sums = torch.zeros(len(self.flows), dtype=torch.double)
        self._nodes = torch.zeros(len(self.flows), dtype=torch.double)
        self._exchanges = torch.zeros(len(self.flows), dtype=torch.double)

    def watch(self, tensordict: TensorDictBase) -> None:
        """Count the messages of one step. ``tensordict``: output of the policy, batch shape ``[B]``."""
        hierarchy = self.policy.hierarchy
        counts: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        clock = tensordict.get(hierarchy.keys.clock).squeeze(-1) if hierarchy.layout.top > 0 else None
        for number, flow in enumerate(self.flows):
            if flow.counted is None:
                continue
            if flow.counted not in counts:
                counts[flow.counted] = self._count(tensordict, *flow.counted)
            received, is_there = counts[flow.counted]
            is_due = torch.ones_like(is_there[..., :1]) if clock is None else (clock % flow.every == 0).unsqueeze(-1)
            is_there = is_there & is_due
            self._sums[number] += received[is_there].sum()
            self._nodes[number] += is_there.sum()
            self._exchanges[number] += is_due.sum()

    def _count(self, tensordict: TensorDictBase, level: int, kind: str) -> tuple[Tensor, Tensor]:
        """Messages at the nodes of a level, and which nodes exist: live workers, or all nodes of an upper level."""
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
        """One row per flow: worst case, and mean over the recorded nodes and decisions."""
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
        """One row per kind of node, with ``bytes_peak``: the worst case in a step at which all levels decide."""
        rows = self.rows()
        totals = []
        for receiver in dict.fromkeys(
            [*map(name_of, range(self.policy.hierarchy.layout.n_levels)), *(r["receiver"] for r in rows)]
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

    def per_agent(self) -> dict[str, float]:
        """Messages and bytes of all nodes per env step and agent: maximum, and mean over the recorded steps."""
        n_agents = self.policy.hierarchy.layout.n_agents
        watched = [
            flow
            if flow.counted is None
            else replace(flow, n_all=float(self._sums[n] / self._exchanges[n].clamp(min=1)))
            for n, flow in enumerate(self.flows)
        ]
        worst, mean = count_per_agent(self.flows, n_agents), count_per_agent(watched, n_agents)
        return {
            f"{name}_per_step_{kind}": of[name] for name in worst for kind, of in (("worst", worst), ("mean", mean))
        }

    def notes(self) -> list[str]:
        """Notes on the information that nodes need about graph, clock and deaths."""
        policy, notes = self.policy, []
        if policy.hierarchy.layout.top > 0 and not policy.hierarchy.send_goals:
            notes.append(
                "Subordinates receive no goals: upper levels are unused at execution, and no message is sent to them."
            )
        elif policy.hierarchy.layout.top > 0:
            if policy.hierarchy.level_observation is not None:
                notes.append(
                    "The encodings that agents send up contain what only upper levels use of the observations."
                )
            notes.append("All nodes share a clock and restart it together; its synchronisation is not counted.")
            notes.append(_describe_clustering(policy.hierarchy.clustering))
        for level in policy.remembering:
            memory = policy.hierarchy.memory_at(level)
            assert memory is not None
            notes.append(
                f"Nodes of {name_of(level)} store the mean encodings of their last {memory.decisions} decisions, "
                "without messages; the step functions store the observations instead, and encode them again."
            )
        neighbours = policy.hierarchy.neighbours_at(0)
        if isinstance(neighbours, RadiusNeighbours):
            notes.append(
                "Neighbours are those within a radius: the range of a radio suffices, no positions are needed."
            )
        if not neighbours.is_local:
            notes.append("Neighbours depend on positions: every worker has to know or measure those of all others.")
        notes.append("A dead worker sends nothing; receivers have to distinguish a death from a lost message.")
        return notes

    def _mean(self, number: int) -> float:
        flow = self.flows[number]
        if flow.counted is None:
            return float(flow.n_worst)
        return float(self._sums[number] / self._nodes[number].clamp(min=1))


def _describe_clustering(clustering: Clustering) -> str:
    if not clustering.is_moving:
        return (
            "The clustering is static: every worker knows its sub-manager from the start, and nothing is centralised."
        )
    if clustering.is_local:
        return "The clustering is local: every worker finds its sub-manager from what it observes itself."
    return (
        "The clustering is centralised in this implementation: one node receives the positions of all workers whenever "
        "sub-managers decide, stores the centroids and sends each worker its sub-manager."
    )
