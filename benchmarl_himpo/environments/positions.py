"""Where agents' positions stand in the observations of BenchMARL's tasks.

Read off the observation functions of VMAS 1.5.2: 19 of its 28 tasks put the absolute position first, three behind the
velocity, six nowhere. SMACv2 (BenchMARL sets ``obs_own_pos``) puts it before the one-hot of the three unit types.
"""

from __future__ import annotations

_VMAS_DEFAULT = "observation[0:2]"
_POSITIONS: dict[str, str | None] = {
    "vmas/football": "observation[2:4]",
    "vmas/simple_tag": "observation[2:4]",
    "vmas/simple_world_comm": "observation[2:4]",
    "vmas/wind_flocking": None,
    "vmas/simple_adversary": None,
    "vmas/simple_crypto": None,
    "vmas/simple_push": None,
    "vmas/simple_reference": None,
    "vmas/simple_speaker_listener": None,
}
_ENVIRONMENT_DEFAULTS: dict[str, str] = {"vmas": _VMAS_DEFAULT, "smacv2": "observation[-5:-3]"}


def known_position(environment_name: str, task_name: str) -> str | None:
    """Look up where a task's observation holds the position.

    Args:
        environment_name: BenchMARL's name of the environment, lower case.
        task_name: BenchMARL's name of the task, lower case.

    Returns:
        A source that :meth:`~benchmarl_himpo.models.PositionSource.parse` reads; None where none is known.
    """
    name = f"{environment_name}/{task_name}"
    return _POSITIONS.get(name, _ENVIRONMENT_DEFAULTS.get(environment_name))
