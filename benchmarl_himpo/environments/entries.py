"""Entries of a group: reward and flags, wherever an environment keeps them, and lives where it tells them."""

from __future__ import annotations

from tensordict import TensorDictBase
from torch import Tensor

GROUP = "agents"
"""The one group of agents of this package's environments."""
LIFE_KEY = "life"
"""Entry of a group in which an environment tells how many env steps each agent has lived. Shape ``[*B, n_agents]``."""


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
