"""Name of the agent group in the environments of this package."""

from __future__ import annotations

GROUP = "agents"
"""The one group of agents of this package's environments."""
