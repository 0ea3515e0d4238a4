"""How many nodes each level has and when each level decides (paper: levels, alpha and K).

Levels count from the bottom: 0 is the workers, ``n_levels - 1`` the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy.interval_annealing import IntervalAnnealing


@dataclass(frozen=True)
class HierarchyLayout:
    """Sizes and clocks of one hierarchy.

    Args:
        n_agents: number of workers.
        n_nodes: nodes of each upper level, bottom first: ``(2, 1)`` is two sub-managers under one manager, ``()`` is
            flat.
        goal_interval: duration of a goal, in decisions of the level below, bottom first. ``(5, 2)`` is the paper's
            (alpha, K): sub-managers decide every 5 steps, the manager every 10.
        annealing: schedule that ends at ``goal_interval`` in the course of a run; None: ``goal_interval`` is constant.

    Raises:
        ValueError: if the two tuples differ in length, or a size or an interval is no whole number or below 1.
    """

    n_agents: int
    n_nodes: tuple[int, ...]
    goal_interval: tuple[int, ...]
    annealing: IntervalAnnealing | None = None

    def __post_init__(self) -> None:
        """Check sizes and intervals."""
        if self.n_agents < 1:
            raise ValueError(f"a hierarchy needs at least one agent, got n_agents={self.n_agents}")
        if len(self.n_nodes) != len(self.goal_interval):
            raise ValueError(
                f"n_nodes={list(self.n_nodes)} and goal_interval={list(self.goal_interval)} must "
                "both have one entry per upper level, bottom first: give them the same length"
            )
        for name, values in (("n_nodes", self.n_nodes), ("goal_interval", self.goal_interval)):
            if any(not isinstance(value, int) or value < 1 for value in values):
                raise ValueError(f"{name}={list(values)}: every entry must be a whole number of 1 or more")

    @property
    def n_levels(self) -> int:
        """Number of levels, workers included."""
        return 1 + len(self.n_nodes)

    @property
    def top(self) -> int:
        """The highest level."""
        return self.n_levels - 1

    def nodes_at(self, level: int) -> int:
        """Number of nodes of a level."""
        return self.n_agents if level == 0 else self.n_nodes[level - 1]

    def n_recipients(self, level: int) -> int:
        """Number of actions of a level: one per worker, and at an upper level one goal per node of the level below."""
        return self.nodes_at(max(level - 1, 0))

    def per_level(self, name: str, value: Any) -> list[Any]:
        """Expand an option to one value per level, workers first.

        Args:
            name: name of the option, for error messages.
            value: one value for all levels, or a sequence with one value per level.

        Returns:
            The values of the levels.

        Raises:
            ValueError: if the length of the sequence is not the number of levels.
        """
        if not isinstance(value, Sequence) or isinstance(value, str):
            return [value] * self.n_levels
        if len(value) != self.n_levels:
            raise ValueError(
                f"{name}={list(value)} must be one value, or one per level, workers first: give {self.n_levels} values"
            )
        return list(value)

    @property
    def periods(self) -> tuple[int, ...]:
        """Env steps between two decisions of each level, in effect: ``(1, alpha, alpha * K, ...)``."""
        return (1, *map(int, self._upper_periods))

    @property
    def _upper_periods(self) -> tuple[int, ...] | Tensor:
        """Periods of the upper levels; a tensor if they change, so that no value is read back from a device."""
        return tuple(accumulate(self.goal_interval, mul)) if self.annealing is None else self.annealing.periods

    def since_decision(self, clock: Tensor, level: int) -> Tensor:
        """Env steps since the last decision of a level.

        Args:
            clock: env steps since reset. Any shape, long.
            level: number of the level.

        Returns:
            Tensor of the same shape, long.
        """
        return clock % self._upper_periods[level - 1] if level > 0 else torch.zeros_like(clock)

    def is_due(self, clock: Tensor, level: int) -> Tensor:
        """Whether a level decides at this step.

        Args:
            clock: env steps since reset. Any shape, long.
            level: number of the level.

        Returns:
            Bool tensor of the same shape.
        """
        return self.since_decision(clock, level) == 0

    def phase(self, clock: Tensor) -> Tensor:
        """Elapsed fraction of the current interval of every upper level, (t - t_k) / period.

        Args:
            clock: env steps since reset. Shape ``[*B]``, long.

        Returns:
            Phases in [0, 1). Shape ``[*B, n_levels - 1]``, bottom first.
        """
        periods = torch.as_tensor(self._upper_periods, device=clock.device)
        return clock.unsqueeze(-1).remainder(periods) / periods

    def static_parent_index(self, level: int, device: torch.device | str | None = None) -> Tensor:
        """Assign the nodes below a level to its nodes in contiguous blocks of near-equal size (ours).

        Args:
            level: an upper level.
            device: device of the tensor.

        Returns:
            Parent of each node of ``level - 1``. Shape ``[nodes_at(level - 1)]``, long.
        """
        return contiguous_blocks(self.nodes_at(level - 1), self.nodes_at(level), device)


def contiguous_blocks(n_below: int, n_above: int, device: torch.device | str | None = None) -> Tensor:
    """Partition nodes by their index into blocks of near-equal size (ours).

    Args:
        n_below: number of nodes.
        n_above: number of parents, one per block.
        device: device of the tensor.

    Returns:
        Parent of each node. Shape ``[n_below]``, long.
    """
    return torch.arange(n_below, device=device) * n_above // n_below
