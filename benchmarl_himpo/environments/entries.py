"""Entries of a group: reward and flags, wherever an environment keeps them."""

from __future__ import annotations

GROUP = "agents"
"""The one group of agents of this package's environments."""
