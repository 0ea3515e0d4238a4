"""Memory of the upper nodes over their earlier decisions (ours; the paper's nodes are memoryless).

A new memory is one small class and one line in ``memory_registry``; its options are fields of its own. Every memory has
a window with the workers' observations (not encodings) at the last decisions. Actor and critic each encode the window
anew, so both learn what to remember from random rows of a batch. Decisions before the window are lost, or summarised in
a recurrent state that the actor stored during collection (R2D2's stored states, Kapturowski et al. 2019).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class MemoryNetwork(nn.Module, ABC):
    """The part of a level's network that reads a memory.

    Shapes:
        - past: mean encodings of the live workers that were below a node, oldest decision first, zero for a node
          without workers. ``[*B, nodes, decisions, F]``
        - is_known: decisions that were made, with a live worker below the node. ``[*B, nodes, decisions]``, bool
        - state: recurrent state before the window. ``[*B, nodes, state_size]``
        - output: ``[*B, nodes, out_features]``, zero without any known decision
    """

    @abstractmethod
    def forward(self, past: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        """Compute the term that is added to the node state."""

    def absorb(self, x: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        """Update the recurrent state with a decision that leaves the window; no change for memories without state.

        Args:
            x: mean encodings of the decision. Shape ``[*B, nodes, F]``.
            is_known: whether the decision was made, with a live worker below. Shape ``[*B, nodes]``, bool.
            state: recurrent state before the decision. Shape ``[*B, nodes, state_size]``.

        Returns:
            The new state. Shape ``[*B, nodes, state_size]``.
        """
        return state


@dataclass(frozen=True)
class Memory(ABC):
    """Memory of the nodes of a level.

    Args:
        decisions: length of the window, in decisions of the level, at least 1.

    Raises:
        ValueError: if ``decisions`` is below 1.
    """

    decisions: int

    def __post_init__(self) -> None:
        """Check the length of the window."""
        if self.decisions < 1:
            raise ValueError(f"memory: decisions={self.decisions} must be 1 or more; for no memory set memory=null")

    @property
    def state_size(self) -> int:
        """Features of the recurrent state; 0 for a memory without state."""
        return 0

    @abstractmethod
    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build the network that reads the memory, from encodings of ``in_features`` to node states."""


@dataclass(frozen=True)
class WindowMemory(Memory):
    """A linear layer over the concatenated encodings of the last decisions. Earlier decisions are lost."""

    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build the linear layer."""
        return _WindowNetwork(self.decisions, in_features, out_features)


@dataclass(frozen=True)
class GruMemory(Memory):
    """A GRU over the decisions, trained by back-propagation through time truncated to the window.

    For every row that trains, the GRU runs over the window again, from the state before the window. The actor's GRU
    computed and stored that state during collection; critics start from the actor's state too.

    Args:
        size: features of the recurrent state, at least 1.

    Raises:
        ValueError: if ``decisions`` or ``size`` is below 1.
    """

    size: int

    def __post_init__(self) -> None:
        """Check the sizes of window and state."""
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"memory: size={self.size} must be 1 or more")

    @property
    def state_size(self) -> int:
        """Features of the GRU's state."""
        return self.size

    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build the GRU and the layer that reads its state."""
        return _GruNetwork(in_features, self.size, out_features)


class _WindowNetwork(MemoryNetwork):
    def __init__(self, decisions: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.read = nn.Linear(decisions * in_features, out_features, bias=False)

    def forward(self, past: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        return self.read(past.flatten(-2))


class _GruNetwork(MemoryNetwork):
    def __init__(self, in_features: int, size: int, out_features: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(in_features, size)
        self.read = nn.Linear(size, out_features, bias=False)

    def forward(self, past: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        for x, known in zip(past.unbind(-2), is_known.unbind(-1), strict=True):
            state = self.absorb(x, known, state)
        return self.read(state)

    def absorb(self, x: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        renewed = self.cell(x.flatten(0, -2), state.flatten(0, -2)).unflatten(0, state.shape[:-1])
        return torch.where(is_known.unsqueeze(-1), renewed, state)


memory_registry: dict[str, type[Memory]] = {"window": WindowMemory, "gru": GruMemory}
"""Every memory by its name in ``algorithm.memory``."""
