"""Options of SMAX."""

from __future__ import annotations

from dataclasses import dataclass

ATTACK_MODES = ("closest", "random")


@dataclass
class SmaxConfig:
    """Options of SMAX, documented key by key in ``conf/task/base/smax.yaml``.

    Raises:
        ValueError: if an option is out of range.
    """

    see_enemy_actions: bool
    walls_cause_death: bool
    attack_mode: str
    max_steps: int

    def __post_init__(self) -> None:
        if self.attack_mode not in ATTACK_MODES:
            raise ValueError(f"task.attack_mode={self.attack_mode} must be one of {', '.join(ATTACK_MODES)}.")
        if self.max_steps < 1:
            raise ValueError(f"task.max_steps={self.max_steps} must be 1 or more.")
