"""Undocumented parts of VMAS."""

from __future__ import annotations

import sys
from typing import Any

SIMULATION = ("world", "scenario", "steps")
"""Attributes of VMAS's ``Environment`` that change from step to step; the others are options and spaces.

Needed to save a simulation in the middle of episodes and to continue it. A ``state_dict`` of VMAS's environment would
replace this.
"""

SAMPLING_ATTRIBUTES = (
    "agent_xspawn_range",
    "agent_yspawn_range",
    "covs",
    "grid_spacing",
    "lidar_range",
    "locs",
    "max_pdf",
    "n_agents",
    "n_x_cells",
    "n_y_cells",
    "norm",
    "nomrlize_pdf",  # VMAS's spelling
    "sampled",
    "shared_rew",
    "x_semidim",
    "xdim",
    "y_semidim",
    "ydim",
)
"""Attributes and methods of the scenario ``sampling`` that the accelerated one reads, fills or overrides.

Needed because the accelerated scenario is a subclass, so that options, rendering and ``info`` stay VMAS's own.
Scenarios do not document their attributes. A faster ``sampling`` in VMAS would replace this and the subclass.
"""


def shared_generators() -> list[Any] | None:
    """The random states of PyTorch, NumPy and Python that all VMAS environments share.

    Needed for exact resuming, and so that evaluations do not affect training. The attribute
    ``Environment.vmas_random_state`` is not documented. A separate generator per environment would replace this.

    Returns:
        VMAS's own list of three states, to be read and changed in place; None if VMAS is not in use.
    """
    module = sys.modules.get("vmas.simulator.environment")
    return None if module is None else module.Environment.vmas_random_state


def picture_bounds(environment: Any) -> tuple[float, float, float, float]:
    """Edges of the last picture that a VMAS environment rendered: left, right, bottom and top, in world units.

    Needed to draw over pictures. The attribute ``viewer`` of VMAS's ``Environment`` and its ``bounds`` are not
    documented. A documented camera would replace this.
    """
    left, right, bottom, top = environment.viewer.bounds.tolist()
    return left, right, bottom, top
