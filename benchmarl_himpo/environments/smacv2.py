"""Sources of positions and deaths in BenchMARL's SMACv2 tasks, and the tasks' requirements.

Taken from the sources of SMACv2 1.0.0 and PySC2 4.0.0. Importing this file imports neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALIVE = "not action_mask[0]"
"""Flag of live agents: the first action, to do nothing, is allowed only for dead agents."""
_N_UNIT_TYPES = 3
_GAME = "https://github.com/Blizzard/s2client-proto#downloads"
_MAPS = "https://github.com/oxwhirl/smacv2/releases/tag/maps"
_MAP = "32x32_flat.SC2Map"


def position_source(options: Mapping[str, Any]) -> str | None:
    """Source of the position, as a fraction of the map size, in the observation of a SMACv2 task.

    An agent's own features end with its position, its viewing direction (if its view is a cone) and the one-hot of the
    unit types of a generated team; the time step comes last.

    Args:
        options: options of the task; missing options have SMACv2's defaults.

    Returns:
        The source; None if the task does not observe the position or has no generated teams.
    """
    if not options.get("obs_own_pos") or not options.get("map_name", "").startswith("10gen_"):
        return None
    behind = _N_UNIT_TYPES + 2 * bool(options.get("conic_fov")) + bool(options.get("obs_timestep_number"))
    return f"observation[{-behind - 2}:{-behind}]"


def missing_game() -> dict[str, str]:
    """Look for StarCraft II and the map of SMACv2's tasks in the folders that PySC2 uses.

    Returns:
        The missing components, each with the fix.
    """
    folder = os.environ.get("SC2PATH") or ("~/StarCraftII" if sys.platform == "linux" else None)
    if folder is None:  # PySC2 reads the path from the game's launcher
        return {}
    path, missing = Path(folder).expanduser(), {}
    if not [*path.glob("Versions/Base*")]:
        missing[f"StarCraft II (not in {path})"] = f"unpack the game from {_GAME} and let SC2PATH name its folder"
    if not (path / "Maps" / "SMAC_Maps" / _MAP).is_file():
        missing[f"the map {_MAP} (not in {path / 'Maps' / 'SMAC_Maps'})"] = f"unpack SMAC_Maps.zip from {_MAPS} there"
    return missing
