"""Where agents' positions stand in the observations of BenchMARL's tasks, and which tasks observe none.

Measured on VMAS 1.5.2 against the state of its simulation: 19 of BenchMARL's 28 VMAS tasks put the absolute position
first, three behind the velocity, six nowhere. SMACv2 (BenchMARL sets ``obs_own_pos``) puts it before the one-hot of the
three unit types.
"""

from __future__ import annotations

_OF_VMAS = {
    "observation[0:2]": """
        balance ball_passage ball_trajectory buzz_wire discovery dispersion dropout flocking give_way joint_passage
        joint_passage_size multi_give_way navigation passage reverse_transport sampling simple_spread transport wheel
    """,
    "observation[2:4]": "football simple_tag simple_world_comm",
    None: "simple_adversary simple_crypto simple_push simple_reference simple_speaker_listener wind_flocking",
}
_POSITIONS = {f"vmas/{task}": source for source, tasks in _OF_VMAS.items() for task in tasks.split()}
_OF_EVERY_TASK = {"smacv2": "observation[-5:-3]"}


def known_position(environment_name: str, task_name: str) -> str | None:
    """Look up where a task's observation holds the position.

    Takes BenchMARL's names, lower case. Gives a source as ``algorithm.position`` takes it; None where none is known.
    """
    return _POSITIONS.get(f"{environment_name}/{task_name}", _OF_EVERY_TASK.get(environment_name))


def observes_no_position(environment_name: str, task_name: str) -> bool:
    """Whether a task is known to keep the positions out of its observation; False where nothing is known of it."""
    name = f"{environment_name}/{task_name}"
    return name in _POSITIONS and _POSITIONS[name] is None
