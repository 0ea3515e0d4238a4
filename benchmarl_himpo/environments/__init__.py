"""Tasks and simulations of this package, and what it knows about tasks of BenchMARL, such as sources of positions."""

from benchmarl_himpo.environments.accelerated import accelerate, is_accelerated
from benchmarl_himpo.environments.own_task import OwnTask, OwnTaskClass
from benchmarl_himpo.environments.positions import known_alive, known_position, observes_no_position

__all__ = [
    "OwnTask",
    "OwnTaskClass",
    "accelerate",
    "is_accelerated",
    "known_alive",
    "known_position",
    "observes_no_position",
]
