"""Options of traffic signal control, and their checks."""

from __future__ import annotations

from dataclasses import dataclass

REWARDS = ("queue", "diff-waiting-time", "average-speed", "pressure")
"""Reward functions of sumo-rl."""


@dataclass
class TrafficConfig:
    """Options of a task, documented key by key in ``conf/task/traffic/grid4x4.yaml``.

    Raises:
        ValueError: if an option is out of range; the message names the option and the fix.
    """

    delta_seconds: int
    yellow_seconds: int
    min_green_seconds: int
    episode_seconds: int
    reward: str

    def __post_init__(self) -> None:
        for option in ("delta_seconds", "yellow_seconds", "min_green_seconds", "episode_seconds"):
            if getattr(self, option) < 1:
                raise ValueError(f"task.{option}={getattr(self, option)} must be 1 or more")
        if self.delta_seconds <= self.yellow_seconds:
            raise ValueError(
                f"task.delta_seconds={self.delta_seconds} must be above task.yellow_seconds={self.yellow_seconds}: an "
                "action that changes the green begins with yellow"
            )
        if self.episode_seconds % self.delta_seconds:
            raise ValueError(
                f"task.episode_seconds={self.episode_seconds} must be a multiple of "
                f"task.delta_seconds={self.delta_seconds}: an episode is a whole number of actions"
            )
        if self.reward not in REWARDS:
            raise ValueError(f"task.reward={self.reward} is unknown: choose one of {', '.join(REWARDS)}")

    @property
    def max_steps(self) -> int:
        """Length of an episode, in env steps."""
        return self.episode_seconds // self.delta_seconds
