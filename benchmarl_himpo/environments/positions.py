"""Where agents' positions stand in the observations of BenchMARL's tasks, and which tasks observe none.

Measured on VMAS 1.5.2 against the state of its simulation: 19 of BenchMARL's 28 VMAS tasks put the absolute position
first, three behind the velocity, six nowhere. SMACv2 (BenchMARL sets ``obs_own_pos``) puts it before the one-hot of the
three unit types.
"""

from __future__ import annotations

_FIRST = "observation[0:2]"
_BEHIND_VELOCITY = "observation[2:4]"
_POSITIONS: dict[str, str | None] = {
    "vmas/balance": _FIRST,
    "vmas/ball_passage": _FIRST,
    "vmas/ball_trajectory": _FIRST,
    "vmas/buzz_wire": _FIRST,
    "vmas/discovery": _FIRST,
    "vmas/dispersion": _FIRST,
    "vmas/dropout": _FIRST,
    "vmas/flocking": _FIRST,
    "vmas/football": _BEHIND_VELOCITY,
    "vmas/give_way": _FIRST,
    "vmas/joint_passage": _FIRST,
    "vmas/joint_passage_size": _FIRST,
    "vmas/multi_give_way": _FIRST,
    "vmas/navigation": _FIRST,
    "vmas/passage": _FIRST,
    "vmas/reverse_transport": _FIRST,
    "vmas/sampling": _FIRST,
    "vmas/simple_adversary": None,
    "vmas/simple_crypto": None,
    "vmas/simple_push": None,
    "vmas/simple_reference": None,
    "vmas/simple_speaker_listener": None,
    "vmas/simple_spread": _FIRST,
    "vmas/simple_tag": _BEHIND_VELOCITY,
    "vmas/simple_world_comm": _BEHIND_VELOCITY,
    "vmas/transport": _FIRST,
    "vmas/wheel": _FIRST,
    "vmas/wind_flocking": None,
}
_OF_EVERY_TASK = {"smacv2": "observation[-5:-3]"}


def known_position(environment_name: str, task_name: str) -> str | None:
    """Look up where a task's observation holds the position.

    Args:
        environment_name: BenchMARL's name of the environment, lower case.
        task_name: BenchMARL's name of the task, lower case.

    Returns:
        A source that :meth:`~benchmarl_himpo.models.PositionSource.parse` reads; None where none is known.
    """
    return _POSITIONS.get(f"{environment_name}/{task_name}", _OF_EVERY_TASK.get(environment_name))


def observes_no_position(environment_name: str, task_name: str) -> bool:
    """Whether a task is known to keep the positions out of its observation; False where nothing is known of it."""
    name = f"{environment_name}/{task_name}"
    return name in _POSITIONS and _POSITIONS[name] is None
