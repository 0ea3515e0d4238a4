"""Reward and flags of a group, wherever an environment keeps them."""

from __future__ import annotations

from tensordict import TensorDictBase
from torch import Tensor


def group_entry(batch: TensorDictBase, group: str, name: str) -> Tensor:
    """Get ``("next", group, name)``, taken from the root where an environment gives it for all groups together.

    Args:
        batch: collected data. Shape ``[*B]``.
        group: the agent group.
        name: ``"reward"``, ``"done"`` or ``"terminated"``.

    Returns:
        Shape ``[*B, n_agents, 1]``.
    """
    entry = batch.get(("next", group, name), None)
    if entry is not None:
        return entry
    return batch.get(("next", name)).unsqueeze(-1).expand(*batch.get(group).shape, 1)
