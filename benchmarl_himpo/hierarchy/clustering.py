"""Clustering of the workers: assigns every worker to a sub-manager. Pure batched torch.

A new clustering is one small class and one line in ``clustering_registry``; its options are fields of its own. Every
clustering receives the previous centroids and returns the new ones, so a stateful clustering needs no other hook.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy.hierarchy_graph import distances
from benchmarl_himpo.hierarchy.layout import contiguous_blocks


class Clustering(ABC):
    """Clustering of the workers under their sub-managers.

    Attributes:
        needs_position: whether positions are read.
        is_moving: whether a worker's sub-manager may change (the default).
        is_local: whether every worker can compute its sub-manager from its own observation; by default the positions of
            all workers are needed in one place.
    """

    needs_position: bool = False
    is_moving: bool = True
    is_local: bool = False

    @property
    def is_random(self) -> bool:
        """Whether the clustering draws random numbers, so that the same positions may give different clusters."""
        return False

    @abstractmethod
    def __call__(self, position: Tensor, alive: Tensor, centroids: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Assign every worker to a sub-manager.

        Args:
            position: positions of the workers. Shape ``[*B, n_agents, 2]``, world units; read if ``needs_position``.
            alive: live workers. Shape ``[*B, n_agents]``, bool. Dead workers get an index too, which is unused.
            centroids: centroids of the last decision, one per sub-manager. Shape ``[*B, n_clusters, 2]``, world units.
            is_fresh: where these centroids must be ignored (reset, or the level above decides). Shape ``[*B]``, bool.

        Returns:
            The parent of every worker, shape ``[*B, n_agents]``, long, and the centroids for the next decision.
        """


@dataclass(frozen=True)
class StaticClustering(Clustering):
    """Contiguous blocks of near-equal size that never change (the paper's SG ablation; the blocks are ours)."""

    is_moving = False
    is_local = True

    def __call__(self, position: Tensor, alive: Tensor, centroids: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks by agent index; positions are unused and centroids unchanged."""
        index = contiguous_blocks(alive.shape[-1], centroids.shape[-2], alive.device)
        return index.expand_as(alive), centroids


@dataclass(frozen=True)
class RegionsClustering(Clustering):
    """A fixed grid over the arena, one cell per sub-manager (ours).

    The grid has the most square factorisation of the number of sub-managers, wider than high. Positions outside the
    arena belong to the nearest cell.

    Args:
        arena: lower and upper end of both position coordinates, in world units.

    Raises:
        ValueError: if the lower end is not below the upper one, or an end is not finite.
    """

    arena: tuple[float, float]
    needs_position = True
    is_local = True

    def __post_init__(self) -> None:
        """Refuse an empty arena."""
        ends = self.arena if isinstance(self.arena, Sequence) else ()
        are_finite = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
        if len(ends) != 2 or not are_finite or not ends[0] < ends[1]:
            shown = list(ends) or self.arena
            raise ValueError(f"clustering: arena={shown} must be two numbers [low, high], finite, with low below high")

    def __call__(self, position: Tensor, alive: Tensor, centroids: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Cell of the arena by position; centroids are unchanged."""
        n_clusters = centroids.shape[-2]
        n_rows = max(d for d in range(1, math.isqrt(n_clusters) + 1) if n_clusters % d == 0)
        n_columns = n_clusters // n_rows
        low, high = self.arena
        share = (position - low) / (high - low)  # [*B, n_agents, 2], in [0, 1] inside the arena
        column = (share[..., 0] * n_columns).floor().clamp(0, n_columns - 1)
        row = (share[..., 1] * n_rows).floor().clamp(0, n_rows - 1)
        return (row * n_columns + column).long(), centroids


@dataclass(frozen=True)
class KMeansClustering(Clustering):
    """A few Lloyd steps on the positions (the paper states dynamic spatial clusters; k-means is ours).

    Fresh centroids are initialised by farthest-point sampling: the worker farthest from the team's mean, then the
    worker farthest from all chosen ones. They are sorted by their x coordinate at the end, so that a label means a
    place and not an agent. Otherwise Lloyd starts from the previous centroids, so that labels do not swap while a goal
    is in effect. An empty cluster keeps its centroid.

    Args:
        position_noise: standard deviation of the Gaussian noise added to the positions for the clustering alone, drawn
            anew for every clustering, in units of the positions; 0: no noise, and no random number is drawn.

    Raises:
        ValueError: if the noise is negative or not finite.
    """

    position_noise: float
    needs_position = True
    n_lloyd_steps = 3

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        if not 0 <= self.position_noise < math.inf:
            raise ValueError(f"clustering: position_noise={self.position_noise} must be finite and 0 or more")

    @property
    def is_random(self) -> bool:
        """Whether there is noise."""
        return self.position_noise > 0

    def __call__(self, position: Tensor, alive: Tensor, centroids: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest centroid after a few Lloyd steps."""
        if self.is_random:
            position = position + self.position_noise * torch.randn_like(position)
        is_fresh = is_fresh[..., None, None]
        start = torch.where(is_fresh, self._spread_centroids(position, alive, centroids.shape[-2]), centroids)
        for _ in range(self.n_lloyd_steps):
            start = self._lloyd_step(position, alive, start)
        order = start[..., 0].argsort(dim=-1, stable=True).unsqueeze(-1).expand_as(start)
        start = torch.where(is_fresh, start.gather(-2, order), start)
        return self._nearest(position, start), start

    @staticmethod
    def _nearest(position: Tensor, centroids: Tensor) -> Tensor:
        """Index of the nearest centroid. Shapes ``[*B, n, 2]``, ``[*B, k, 2]`` to ``[*B, n]``."""
        return distances(position, centroids).argmin(-1)

    def _lloyd_step(self, position: Tensor, alive: Tensor, centroids: Tensor) -> Tensor:
        nearest = self._nearest(position, centroids).unsqueeze(-2)  # [*B, 1, n]
        cluster = torch.arange(centroids.shape[-2], device=position.device).unsqueeze(-1)
        member = ((nearest == cluster) & alive.unsqueeze(-2)).to(position.dtype)  # [*B, k, n]
        count = member.sum(-1, keepdim=True)
        return torch.where(count > 0, member @ position / count.clamp(min=1), centroids)

    @staticmethod
    def _spread_centroids(position: Tensor, alive: Tensor, n_clusters: int) -> Tensor:
        weight = alive.unsqueeze(-1).to(position.dtype)
        mean = (position * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
        distance = torch.linalg.vector_norm(position - mean, dim=-1)  # [*B, n]
        chosen: list[Tensor] = []
        for _ in range(n_clusters):
            farthest = distance.masked_fill(~alive, -1.0).argmax(-1, keepdim=True).unsqueeze(-1)  # [*B, 1, 1]
            centroid = position.gather(-2, farthest.expand(*farthest.shape[:-1], 2))  # [*B, 1, 2]
            to_chosen = torch.linalg.vector_norm(position - centroid, dim=-1)
            distance = torch.minimum(distance, to_chosen) if chosen else to_chosen
            chosen.append(centroid)
        return torch.cat(chosen, dim=-2)


clustering_registry: dict[str, type[Clustering]] = {
    "static": StaticClustering,
    "regions": RegionsClustering,
    "kmeans": KMeansClustering,
}
"""Every clustering by its name in ``algorithm.clustering``."""
