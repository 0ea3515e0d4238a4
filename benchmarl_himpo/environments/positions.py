"""Where BenchMARL's tasks tell the positions of agents and which agents live, and which tasks observe no positions.

Measured on VMAS 1.5.2 against the state of its simulation: 19 of BenchMARL's 28 VMAS tasks put the absolute position
first, three behind the velocity, six nowhere.
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
    """Look up where a task's observation holds the position.

    Takes BenchMARL's names, lower case, and the task's options. Gives a source as ``algorithm.position`` takes it; None
    where none is known.
    """
    if environment_name == "smacv2":
        return smacv2.position_source(options)
    return _POSITIONS.get(f"{environment_name}/{task_name}")


def known_alive(environment_name: str) -> str | None:
    """Look up where the tasks of an environment say which agents take part, other than in an entry ``alive``.

    Gives a source as ``algorithm.alive`` takes it; None where none is known.
    """
    return smacv2.ALIVE if environment_name == "smacv2" else None


def observes_no_position(environment_name: str, task_name: str) -> bool:
    """Whether a task is known to keep the positions out of its observation; False where nothing is known of it."""
    name = f"{environment_name}/{task_name}"
    return name in _POSITIONS and _POSITIONS[name] is None
