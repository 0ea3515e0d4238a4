"""What a node of an upper level knows of its earlier decisions (ours; the paper's nodes remember nothing).

A new memory is one small class and one line in ``memory_registry``; its options are fields of its own. Every memory has
a window: what the workers saw at the last decisions, observations and not encodings. They are encoded anew by whoever
reads them, so that actor and critic learn what to remember each for itself, over random rows of a batch. What happened
before the window is lost, or stands in a state that the actor left behind when it was collected (R2D2's stored states,
Kapturowski et al. 2019).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class MemoryNetwork(nn.Module, ABC):
    """The part of a level's network that reads a memory.

    Shapes:
        - past: mean encodings of the workers that were below a node, oldest decision first, zero where nobody was.
          ``[*B, nodes, decisions, F]``
        - is_known: decisions that were made, with a live worker below the node. ``[*B, nodes, decisions]``, bool
        - state: what is known of the time before. ``[*B, nodes, state_size]``
        - output: ``[*B, nodes, out_features]``, zero where nothing is known
    """

    @abstractmethod
    def forward(self, past: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        """Say what the node state gains."""

    def absorb(self, x: Tensor, is_known: Tensor, state: Tensor) -> Tensor:
        """The state that a decision leaves when it leaves the window: none where there is no state.

        Args:
            x: mean encodings of the decision. Shape ``[*B, nodes, F]``.
            is_known: as above, of the decision. Shape ``[*B, nodes]``, bool.
            state: what was known before. Shape ``[*B, nodes, state_size]``.

        Returns:
            Shape ``[*B, nodes, state_size]``.
        """
        return state


@dataclass(frozen=True)
class Memory(ABC):
    """Memory of the nodes of a level.

    Args:
        decisions: length of the window, in decisions of the level, at least 1.

    Raises:
        ValueError: if there is no decision to remember.
    """

    decisions: int

    def __post_init__(self) -> None:
        """Refuse an empty window."""
        if self.decisions < 1:
            raise ValueError(f"memory: decisions={self.decisions} must be 1 or more; null is no memory")

    @property
    def state_size(self) -> int:
        """Features of what is known of the time before the window; 0 where that is lost."""
        return 0

    @abstractmethod
    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build what reads it, from the size of an encoding to that of a node state."""


@dataclass(frozen=True)
class WindowMemory(Memory):
    """The last decisions side by side: a linear layer over their encodings. What was before is lost."""

    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build the layer."""
        return _WindowNetwork(self.decisions, in_features, out_features)


@dataclass(frozen=True)
class GruMemory(Memory):
    """A recurrent cell over the decisions, trained by back-propagation through time, cut at the window's length.

    The cell runs over the window again for every row that trains, from the stored state before it, which the actor's
    cell computed when the decision that made it left the window. Critics begin with the actor's state too.

    Args:
        size: features of the cell's state, at least 1.

    Raises:
        ValueError: if there is no decision to remember or no feature to remember it in.
    """

    size: int

    def __post_init__(self) -> None:
        """Refuse an empty window or state."""
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"memory: size={self.size} must be 1 or more")

    @property
    def state_size(self) -> int:
        """The cell's."""
        return self.size

    def network(self, in_features: int, out_features: int) -> MemoryNetwork:
        """Build the cell and the layer that reads its state."""
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
