"""State of a batch of boards."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    """A batch of boards. Every step creates a new state; tensors are never modified in place."""

    agent_position: Tensor  # [B, n_agents, 2], long: row and column
    agent_level: Tensor  # [B, n_agents], long
    alive: Tensor  # [B, n_agents], bool
    energy: Tensor  # [B, n_agents], float64; above 0 for live agents, 0 for dead ones, 1 without survival
    life: Tensor  # [B, n_agents], long: env steps lived; 0 without survival
    food_position: Tensor  # [B, n_foods, 2], long: row and column
    food_level: Tensor  # [B, n_foods], long; 0 where the slot has no food on the board
    respawn_timer: Tensor  # [B, n_foods], long: env steps until an empty slot may be filled
    spawned: Tensor  # [B], long: sum of the food levels at reset
    step_count: Tensor  # [B], long

    @property
    def is_food(self) -> Tensor:
        """Slots with food on the board. Shape ``[B, n_foods]``, bool."""
        return self.food_level > 0
