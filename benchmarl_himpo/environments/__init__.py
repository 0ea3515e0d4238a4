"""What the package knows about tasks, and tasks of its own."""

from benchmarl_himpo.environments.positions import known_position

__all__ = ["known_position"]
