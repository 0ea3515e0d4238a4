"""Reads and updates the memory of one level, which is stored in the TensorDict."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import expand_as_right
from torch import Tensor, nn

from benchmarl_himpo.hierarchy import Hierarchy, Memory
from benchmarl_himpo.hierarchy.hierarchy_graph import mean_of_members

Encode = Callable[[TensorDictBase], Tensor]
"""From the group's entries to encodings ``[*B, n_agents, hidden_dim]``."""


class LevelMemory(nn.Module):
    """Memory of the nodes of one level (ours).

    The memory belongs to a node and not to its cluster: the node keeps the mean encodings that it received at its
    decisions, even when other workers are assigned to it later. Remembering needs no additional message. The TensorDict
    stores the observations instead of their encodings, so that they can be encoded with the present parameters.

    Args:
        level: an upper level.
        hierarchy: the hierarchy.
        memory: the level's memory.
        hidden_dim: size of encodings and node states.
    """

    def __init__(self, level: int, hierarchy: Hierarchy, memory: Memory, hidden_dim: int) -> None:
        super().__init__()
        self.level = level
        self.hierarchy = hierarchy
        self.n_decisions = memory.decisions
        self.has_state = memory.state_size > 0
        self.network = memory.network(hidden_dim, hidden_dim)

    def forward(self, tensordict: TensorDictBase, encode: Encode) -> Tensor:
        """Compute the term that the memory adds to every node state.

        Args:
            tensordict: of batch shape ``[*B]``, with the memory before the decision.
            encode: the level's encoder.

        Returns:
            Shape ``[*B, nodes, hidden_dim]``, zero for an empty memory.
        """
        past, is_known = self._encode_past(tensordict, encode, self.n_decisions)
        return self.network(past, is_known, self._state(tensordict, past))

    def remember(self, tensordict: TensorDictBase, encode: Encode, is_due: Tensor) -> dict[tuple[str, str], Tensor]:
        """Update the memory where the level decides: append this decision and drop the oldest one.

        Args:
            tensordict: of batch shape ``[*B]``, with the clustering in effect and the memory before the decision.
            encode: the level's encoder.
            is_due: where the level decides. Shape ``[*B]``, bool.

        Returns:
            The updated entries by key.
        """
        hierarchy, keys, dim = self.hierarchy, self.hierarchy.keys, tensordict.ndim
        seen = tensordict.get(hierarchy.inputs.group)
        newest = {keys.seen(self.level, entry): seen.get(entry) for entry in hierarchy.inputs.entries_of(self.level)}
        graph = hierarchy.graph(tensordict)
        newest[keys.seen_by(self.level)] = torch.where(graph.alive, graph.ancestor_index(self.level) + 1, 0)
        renewed = {}
        for key, value in newest.items():
            kept = tensordict.get(key).narrow(dim, 1, self.n_decisions - 1)
            renewed[key] = torch.cat([kept, value.unsqueeze(dim)], dim)
        if self.has_state:
            oldest, is_known = self._encode_past(tensordict, encode, 1)
            state = self.network.absorb(oldest[..., 0, :], is_known[..., 0], self._state(tensordict, oldest))
            renewed[keys.memory_state(self.level)] = state.detach()
        return {key: torch.where(expand_as_right(is_due, x), x, tensordict.get(key)) for key, x in renewed.items()}

    def _encode_past(self, tensordict: TensorDictBase, encode: Encode, n: int) -> tuple[Tensor, Tensor]:
        """Mean encodings below every node at the ``n`` oldest decisions, and whether it had a live worker then."""
        hierarchy, keys, dim = self.hierarchy, self.hierarchy.keys, tensordict.ndim
        held = {entry: keys.seen(self.level, entry) for entry in hierarchy.inputs.entries_of(self.level)}
        seen = {entry: tensordict.get(key).narrow(dim, 0, n) for entry, key in held.items()}
        by = tensordict.get(keys.seen_by(self.level)).narrow(dim, 0, n)  # [*B, n, n_agents]
        past = TensorDict({hierarchy.inputs.group: TensorDict(seen, by.shape)}, by.shape[:-1])
        nodes = torch.arange(hierarchy.layout.nodes_at(self.level), device=by.device).unsqueeze(-1)
        is_member = by.unsqueeze(-2) == nodes + 1  # [*B, n, nodes, n_agents]
        x = mean_of_members(is_member, encode(past))
        return x.transpose(-3, -2), is_member.any(-1).transpose(-2, -1)

    def _state(self, tensordict: TensorDictBase, like: Tensor) -> Tensor:
        if self.has_state:
            return tensordict.get(self.hierarchy.keys.memory_state(self.level))
        return like.new_zeros(*like.shape[:-2], 0)
