"""What the package knows about tasks, and what it adds to environments."""

from benchmarl_himpo.environments.carry import carry_hierarchy
from benchmarl_himpo.environments.positions import known_position

__all__ = ["carry_hierarchy", "known_position"]
