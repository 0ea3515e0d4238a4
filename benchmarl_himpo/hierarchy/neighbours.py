"""Builders of the graph along which the nodes of a level exchange messages. Pure batched torch.

A new builder is one small class and one line in ``neighbours_registry``; its options are fields of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy.hierarchy_graph import distances


class Neighbours(ABC):
    """Builder of the edges inside one level.

    Attributes:
        needs_position: whether positions are read.
        needs_edges: whether edges are a subset of the task's edges instead of all pairs of nodes.
        is_silent: whether there is never an edge, so that a level needs no weights for messages.
        is_local: whether every node knows its neighbours without receiving positions; by default every node needs the
            positions of all nodes.
    """

    needs_position: bool = False
    needs_edges: bool = False
    is_silent: bool = False
    is_local: bool = False

    def max_degree(self, n_nodes: int) -> int:
        """Maximum in-degree of a node in a graph of ``n_nodes`` nodes."""
        return n_nodes - 1

    def __call__(self, position: Tensor, alive: Tensor, edges: Tensor | None = None) -> Tensor:
        """Build the adjacency of a batch of graphs.

        Args:
            position: positions of the nodes. Shape ``[*B, n, 2]``, world units; unread unless ``needs_position``.
            alive: live nodes. Shape ``[*B, n]``, bool.
            edges: the task's edges, rows receiving from columns. Shape ``[*B, n, n]``, bool; unread unless
                ``needs_edges``.

        Returns:
            True where row ``i`` (target) receives messages from column ``j`` (source). Shape ``[*B, n, n]``, bool, no
            self-loops, no edge from or to a node that is not alive.

        Raises:
            ValueError: if the edges of the task are needed and missing.
        """
        allowed = alive.unsqueeze(-1) & alive.unsqueeze(-2)
        allowed = allowed & ~torch.eye(alive.shape[-1], dtype=torch.bool, device=alive.device)
        if self.needs_edges:
            if edges is None:
                raise ValueError("neighbours: the edges of the task are needed: give them as edges")
            allowed = allowed & edges
        return self._restrict(position, allowed)

    @abstractmethod
    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        """Keep a subset of the allowed edges. Shapes ``[*B, n, 2]`` and ``[*B, n, n]`` to ``[*B, n, n]``."""


@dataclass(frozen=True)
class FullNeighbours(Neighbours):
    """Complete graph: every node receives messages from every other node."""

    is_local = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return allowed


@dataclass(frozen=True)
class NoNeighbours(Neighbours):
    """Empty graph: no messages inside a level."""

    is_silent = True
    is_local = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return torch.zeros_like(allowed)


@dataclass(frozen=True)
class EdgesNeighbours(Neighbours):
    """The task's own graph, such as the roads between traffic signals.

    A node of an upper level receives messages from another node if a worker below the first receives messages from a
    worker below the second (:meth:`~benchmarl_himpo.hierarchy.HierarchyGraph.pool_edges`).
    """

    needs_edges = True
    is_local = True  # every node knows its own edges

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return allowed


@dataclass(frozen=True)
class RadiusNeighbours(Neighbours):
    """A node receives messages from the nodes within a radius.

    Args:
        radius: distance in world units, positive.

    Raises:
        ValueError: if the radius is not positive.
    """

    radius: float
    needs_position = True
    is_local = True  # the range of a radio gives the neighbours

    def __post_init__(self) -> None:
        """Check the radius."""
        if not self.radius > 0:
            raise ValueError(f"neighbours: radius={self.radius} must be positive")

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return allowed & (distances(position, position) <= self.radius)


@dataclass(frozen=True)
class KnnNeighbours(Neighbours):
    """A node receives messages from its ``k`` nearest nodes, or from all if fewer are alive.

    Args:
        k: number of nearest nodes, at least 1.

    Raises:
        ValueError: if ``k`` is below 1.
    """

    k: int
    needs_position = True

    def __post_init__(self) -> None:
        """Check the number of neighbours."""
        if self.k < 1:
            raise ValueError(f"neighbours: k={self.k} must be 1 or more; for no messages set neighbours=none")

    def max_degree(self, n_nodes: int) -> int:
        """Maximum in-degree of a node in a graph of ``n_nodes`` nodes."""
        return min(self.k, n_nodes - 1)

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        distance = distances(position, position).masked_fill(~allowed, torch.inf)
        nearest = distance.topk(min(self.k, allowed.shape[-1]), largest=False).indices
        return allowed & torch.zeros_like(allowed).scatter(-1, nearest, True)


neighbours_registry: dict[str, type[Neighbours]] = {
    "full": FullNeighbours,
    "radius": RadiusNeighbours,
    "knn": KnnNeighbours,
    "none": NoNeighbours,
    "edges": EdgesNeighbours,
}
"""Every builder of neighbours by its name in ``algorithm.neighbours``."""
