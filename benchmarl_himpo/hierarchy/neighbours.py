"""Who exchanges messages with whom inside one level. Pure batched torch.

A new builder is one small class here and one line in ``neighbours_registry``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Neighbours(ABC):
    """Neighbour builder.

    Args:
        n_neighbours: nearest neighbours each node listens to (used by ``knn``).
        radius: distance in world units within which nodes hear each other (used by ``radius``).

    Attributes:
        needs_position: whether positions are read.
        is_local: whether nodes find their neighbours without being told where the others are.
    """

    n_neighbours: int
    radius: float
    needs_position = False
    is_local = False

    def __call__(self, position: Tensor, alive: Tensor) -> Tensor:
        """Build the adjacency of a batch of graphs.

        Args:
            position: positions of the nodes. Shape ``[*B, n, 2]``, world units; unread unless ``needs_position``.
            alive: nodes that take part. Shape ``[*B, n]``, bool.

        Returns:
            True where row ``i`` (target) hears column ``j`` (source). Shape ``[*B, n, n]``, bool, no self-loops, no
            edge from or to a node that is not alive.
        """
        allowed = alive.unsqueeze(-1) & alive.unsqueeze(-2)
        allowed = allowed & ~torch.eye(alive.shape[-1], dtype=torch.bool, device=alive.device)
        return self._restrict(position, allowed)

    @abstractmethod
    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        """Keep a subset of the allowed edges. Shapes ``[*B, n, 2]`` and ``[*B, n, n]`` to ``[*B, n, n]``."""


class FullNeighbours(Neighbours):
    """Every node hears every other."""

    is_local = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return allowed


class NoNeighbours(Neighbours):
    """Nobody hears anybody: no messages inside a level."""

    is_local = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return torch.zeros_like(allowed)


class RadiusNeighbours(Neighbours):
    """A node hears the nodes within ``radius`` of it, as a radio's range decides."""

    needs_position = True
    is_local = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        return allowed & (torch.cdist(position, position) <= self.radius)


class KnnNeighbours(Neighbours):
    """A node hears its ``n_neighbours`` nearest nodes, fewer where fewer are alive."""

    needs_position = True

    def _restrict(self, position: Tensor, allowed: Tensor) -> Tensor:
        distance = torch.cdist(position, position).masked_fill(~allowed, torch.inf)
        nearest = distance.topk(min(self.n_neighbours, allowed.shape[-1]), largest=False).indices
        return allowed & torch.zeros_like(allowed).scatter(-1, nearest, True)


neighbours_registry: dict[str, type[Neighbours]] = {
    "full": FullNeighbours,
    "radius": RadiusNeighbours,
    "knn": KnnNeighbours,
    "none": NoNeighbours,
}
