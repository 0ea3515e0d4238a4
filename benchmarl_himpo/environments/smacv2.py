"""What the package knows of BenchMARL's SMACv2 tasks: where positions and deaths are told, and what must be installed.

Read from the sources of SMACv2 1.0.0 and PySC2 4.0.0. Importing this file imports neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALIVE = "not action_mask[0]"
"""Who takes part: the first action, to do nothing, is allowed to the dead and to nobody else."""
_N_UNIT_TYPES = 3
_GAME = "https://github.com/Blizzard/s2client-proto#downloads"
_MAPS = "https://github.com/oxwhirl/smacv2/releases/tag/maps"
_MAP = "32x32_flat.SC2Map"


def position_source(options: Mapping[str, Any]) -> str | None:
    """Say where the observation of a SMACv2 task has the position, in shares of the map.

    An agent's own features end with its position, the direction it looks in where its view is a cone, and the one-hot
    of the unit types that a generated team has; the time comes last.

    Args:
        options: of the task; what is left out has SMACv2's own default.

    Returns:
        The source; None where the task does not observe the position, or plays no generated teams.
    """
    if not options.get("obs_own_pos") or not options.get("map_name", "").startswith("10gen_"):
        return None
    behind = _N_UNIT_TYPES + 2 * bool(options.get("conic_fov")) + bool(options.get("obs_timestep_number"))
    return f"observation[{-behind - 2}:{-behind}]"


def missing_game() -> dict[str, str]:
    """Look for StarCraft II and the map of SMACv2's tasks where PySC2 does.

    Returns:
        What is missing, and what to do about it.
    """
    folder = os.environ.get("SC2PATH") or ("~/StarCraftII" if sys.platform == "linux" else None)
    if folder is None:  # PySC2 asks the game's launcher
        return {}
    path, missing = Path(folder).expanduser(), {}
    if not [*path.glob("Versions/Base*")]:
        missing[f"StarCraft II (not in {path})"] = f"unpack the game from {_GAME} and let SC2PATH name its folder"
    if not (path / "Maps" / "SMAC_Maps" / _MAP).is_file():
        missing[f"the map {_MAP} (not in {path / 'Maps' / 'SMAC_Maps'})"] = f"unpack SMAC_Maps.zip from {_MAPS} there"
    return missing
