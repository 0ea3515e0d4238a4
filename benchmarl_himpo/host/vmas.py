"""What is used of VMAS beyond its documentation."""

from __future__ import annotations

import sys
from typing import Any

SIMULATION = ("world", "scenario", "steps")
"""Attributes of VMAS's ``Environment`` that change from step to step, the others being options and spaces.

Needed to write down a simulation in the middle of episodes and to go on with it. A ``state_dict`` of VMAS's environment
would replace this.
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

Needed because that one is a subclass, so that options, drawing and ``info`` stay VMAS's own. Scenarios document none of
their attributes. A faster ``sampling`` in VMAS would replace this and the subclass.
"""


def shared_generators() -> list[Any] | None:
    """Give the random states of PyTorch, NumPy and Python that all of VMAS's environments share and write to.

    Needed for exact resumption, and to let evaluations draw without changing training. The attribute
    ``Environment.vmas_random_state`` is not documented. A generator of each environment's own would replace this.

    Returns:
        VMAS's own list of three states, to be read and changed in place; None where VMAS is not in use.
    """
    module = sys.modules.get("vmas.simulator.environment")
    return None if module is None else module.Environment.vmas_random_state


def picture_bounds(environment: Any) -> tuple[float, float, float, float]:
    """Give the edges of the picture that VMAS's environment rendered last: left, right, bottom and top, in world units.

    Needed to draw over pictures. The attribute ``viewer`` of VMAS's ``Environment`` is not documented, nor are its
    ``bounds``. A documented camera would replace this.
    """
    left, right, bottom, top = environment.viewer.bounds.tolist()
    return left, right, bottom, top
