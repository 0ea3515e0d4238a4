"""The hierarchical graph G*_t of one moment, for a whole batch of environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

SMALL_PRODUCT = 400
"""Number of multiplications below which torch on a CPU multiplies batched matrices in a plain loop, without BLAS."""


def mean_of_members(is_member: Tensor, x: Tensor) -> Tensor:
    """Mean of features over the members of each set; zero for an empty set.

    Args:
        is_member: True or one for the elements of each set. Shape ``[*B, n_sets, n]``.
        x: features of the elements. Shape ``[*B, n, F]``.

    Returns:
        Shape ``[*B, n_sets, F]``.
    """
    weight = is_member.to(x.dtype)
    share = weight / weight.sum(-1, keepdim=True).clamp(min=1)
    if share.shape[-2] * share.shape[-1] * x.shape[-1] < SMALL_PRODUCT:
        return (share.unsqueeze(-1) * x.unsqueeze(-3)).sum(-2)
    return share @ x


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances between the rows of two sets. Shapes ``[*B, n, F]``, ``[*B, m, F]`` to ``[*B, n, m]``.

    Always from differences: torch's faster formula for more than 25 rows is wrong in the third digit already at a
    distance of ten from the origin.
    """
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class HierarchyGraph:
    """Parent of every node, and the edges along which nodes of a level exchange messages.

    Args:
        parent_index: for each upper level, bottom first, the parent of every node one level down. Entry ``l - 1`` has
            shape ``[*B, nodes_at(l - 1)]``, long.
        n_nodes: nodes of each upper level, bottom first.
        alive: live workers. Shape ``[*B, n_agents]``, bool.
        adjacency: for each level that exchanges messages, True where the row's node (target) receives messages from the
            column's node (source). Shape ``[*B, nodes, nodes]``, bool.
    """

    parent_index: tuple[Tensor, ...]  # ([*B, n_agents], [*B, n_nodes[0]], ...)
    n_nodes: tuple[int, ...]
    alive: Tensor  # [*B, n_agents]
    adjacency: Mapping[int, Tensor] = field(default_factory=dict)  # by level, [*B, nodes, nodes]

    @cached_property
    def _memberships(self) -> dict[int, Tensor]:
        """Cache of :meth:`membership`."""
        return {}

    def ancestor_index(self, level: int) -> Tensor:
        """The node of ``level`` above each worker; at level 0 the worker itself. Shape ``[*B, n_agents]``, long."""
        index = torch.arange(self.alive.shape[-1], device=self.alive.device).expand_as(self.alive)
        for parent in self.parent_index[:level]:
            index = parent.gather(-1, index)
        return index

    def membership(self, level: int) -> Tensor:
        """One where a live worker is below a node, cached. Shape ``[*B, n_nodes_of_level, n_agents]``, float32.

        Raises:
            ValueError: for level 0, whose nodes are the workers.
        """
        if level < 1:
            raise ValueError("membership is defined for upper levels: level must be 1 or more")
        if level not in self._memberships:
            nodes = torch.arange(self.n_nodes[level - 1], device=self.alive.device)
            below = self.ancestor_index(level).unsqueeze(-2) == nodes.unsqueeze(-1)
            self._memberships[level] = (below & self.alive.unsqueeze(-2)).float()
        return self._memberships[level]

    def n_workers(self, level: int) -> Tensor:
        """Live workers below each node of a level. Shape ``[*B, n_nodes_of_level]``, float32."""
        return self.alive.float() if level == 0 else self.membership(level).sum(-1)

    def pool(self, x: Tensor, level: int) -> Tensor:
        """Mean over the live workers below each node; zero for a node without live workers.

        Args:
            x: features of the workers. Shape ``[*B, n_agents, F]``.
            level: the level to pool to; 0 returns ``x``.

        Returns:
            Shape ``[*B, n_nodes_of_level, F]``.
        """
        if level == 0:
            return x
        return mean_of_members(self.membership(level), x)

    def pool_edges(self, edges: Tensor, level: int) -> Tensor:
        """Edges between the nodes of a level: two nodes are connected if live workers below them are.

        Args:
            edges: edges between the workers, rows receiving from columns. Shape ``[*B, n_agents, n_agents]``, bool.
            level: the level to pool to; 0 returns ``edges``.

        Returns:
            Shape ``[*B, n_nodes_of_level, n_nodes_of_level]``, bool; nodes whose workers are connected have self-loops.
        """
        if level == 0:
            return edges
        below = self.membership(level)
        return below @ edges.to(below.dtype) @ below.mT > 0

    def to_subordinates(self, x: Tensor, level: int) -> Tensor:
        """Copy the features of each parent at ``level`` to its subordinates at ``level - 1``.

        Args:
            x: features of the parents. Shape ``[*B, n_nodes_of_level, F]``.
            level: the level of the parents, 1 or more.

        Returns:
            Shape ``[*B, nodes_at(level - 1), F]``.
        """
        index = self.parent_index[level - 1].unsqueeze(-1)
        return x.gather(-2, index.expand(*index.shape[:-1], x.shape[-1]))
