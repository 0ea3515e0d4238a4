"""Sources of positions and of the flag of live agents in BenchMARL's tasks, and tasks without observed positions.

Measured on VMAS 1.5.2 against the state of its simulation: in 19 of BenchMARL's 28 VMAS tasks the observation begins
with the absolute position, in three the position follows the velocity, in six the position is not observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarl_himpo.environments import smacv2

_OF_VMAS = {
    "observation[0:2]": """
        balance ball_passage ball_trajectory buzz_wire discovery dispersion dropout flocking give_way joint_passage
        joint_passage_size multi_give_way navigation passage reverse_transport sampling simple_spread transport wheel
    """,
    "observation[2:4]": "football simple_tag simple_world_comm",
    None: "simple_adversary simple_crypto simple_push simple_reference simple_speaker_listener wind_flocking",
}
_POSITIONS = {f"vmas/{task}": source for source, tasks in _OF_VMAS.items() for task in tasks.split()}


def known_position(environment_name: str, task_name: str, options: Mapping[str, Any]) -> str | None:
    """Look up the source of positions in a task's observation.

    Takes BenchMARL's names, lower case, and the task's options. Returns a value for ``algorithm.position``; None if no
    source is known.
    """
    if environment_name == "smacv2":
        return smacv2.position_source(options)
    return _POSITIONS.get(f"{environment_name}/{task_name}")


def known_alive(environment_name: str) -> str | None:
    """Look up the source of the flag of live agents in an environment's tasks, other than an entry ``alive``.

    Returns a value for ``algorithm.alive``; None if no source is known.
    """
    return smacv2.ALIVE if environment_name == "smacv2" else None


def observes_no_position(environment_name: str, task_name: str) -> bool:
    """Whether a task is known not to observe positions; False for unknown tasks."""
    name = f"{environment_name}/{task_name}"
    return name in _POSITIONS and _POSITIONS[name] is None
