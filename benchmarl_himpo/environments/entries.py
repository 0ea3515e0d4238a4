"""Entries of a group: reward and flags, wherever an environment keeps them, and lives where it tells them."""

from __future__ import annotations

GROUP = "agents"
"""The one group of agents of this package's environments."""
LIFE_KEY = "life"
"""Entry of a group in which an environment tells how many env steps each agent has lived. Shape ``[*B, n_agents]``."""
