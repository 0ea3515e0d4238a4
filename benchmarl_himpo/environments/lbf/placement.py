"""Placement of agents and foods with the distributions of lbforaging 2.0.0, without its rejection sampling."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import N_LOWEST, LbfConfig
from benchmarl_himpo.environments.lbf.state import State

SPACING = 2
"""Steps around a food within which no other food is placed, so that every cell has at most one food beside it."""


class Cells(NamedTuple):
    """The cells of a field, numbered row by row."""

    position: Tensor  # [n_cells, 2], long: row and column
    is_interior: Tensor  # [n_cells], bool: off the border
    is_near: Tensor  # [n_cells, n_cells], bool: at most SPACING steps apart
    to_number: Tensor  # [2], long: times a position, summed, is the cell's number


def new_boards(n: int, config: LbfConfig, generator: torch.Generator) -> State:
    """Draw boards: agents on any cells, then foods on the remaining cells.

    All agents are alive, with ``energy`` 1. Boards are on the device of the generator.
    """
    device = generator.device
    cells = _cells(*config.field_size, device)
    agent_cell = torch.rand(n, len(cells.position), generator=generator, device=device).topk(config.n_agents).indices
    agent_level = torch.randint(
        config.min_agent_level, config.max_agent_level + 1, agent_cell.shape, generator=generator, device=device
    )
    alive = torch.ones_like(agent_level, dtype=torch.bool)
    nothing = agent_level.new_zeros(n, config.n_foods)
    state = State(
        agent_position=cells.position[agent_cell],
        agent_level=agent_level,
        alive=alive,
        energy=alive.double(),
        life=torch.zeros_like(agent_level),
        food_position=nothing.unsqueeze(-1).expand(-1, -1, 2),
        food_level=nothing,
        respawn_timer=nothing,
        spawned=nothing[:, 0],
        step_count=nothing[:, 0],
    )
    food_position, food_level = spawn_foods(state, ~state.is_food, config, generator)
    return state._replace(food_position=food_position, food_level=food_level, spawned=food_level.sum(-1))


def spawn_foods(state: State, is_due: Tensor, config: LbfConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Fill slots in slot order, each on a uniformly drawn free cell; slots without a free cell stay empty.

    A food reduces the free cells of the next ones, so foods are placed in rounds, one food per board and round. Takes
    the empty slots to fill, ``[B, n_foods]``, bool, and returns positions and levels of all foods.
    """
    cells = _cells(*config.field_size, generator.device)
    food_position, food_level = state.food_position, state.food_level
    is_free = free_cells(state, config.field_size)
    level = _draw_levels(is_due.shape, state.agent_level, config, generator)
    turn = is_due.cumsum(-1) * is_due
    for number in range(1, int(turn.max()) + 1 if len(turn) else 1):
        draw = torch.rand(is_free.shape, generator=generator, device=generator.device)
        best, cell = draw.masked_fill(~is_free, -1.0).max(-1, keepdim=True)
        is_placed = (turn == number) & (best >= 0)
        food_position = torch.where(is_placed.unsqueeze(-1), cells.position[cell], food_position)
        food_level = torch.where(is_placed, level, food_level)
        is_free = is_free & ~(cells.is_near[cell.squeeze(-1)] & is_placed.any(-1, keepdim=True))
    return food_position, food_level


def free_cells(state: State, field_size: list[int]) -> Tensor:
    """Cells that a food may be placed on: off the border, away from other foods, and not under a living agent.

    Row by row. Shape ``[B, n_rows * n_columns]``, bool.
    """
    cells = _cells(*field_size, state.food_position.device)
    food_cell = (state.food_position * cells.to_number).sum(-1)
    agent_cell = (state.agent_position * cells.to_number).sum(-1)
    is_taken = (cells.is_near[food_cell] & state.is_food.unsqueeze(-1)).any(-2)
    is_taken = is_taken.scatter_add(-1, agent_cell, state.alive)  # for bool: or
    return cells.is_interior & ~is_taken


def _draw_levels(shape: torch.Size, agent_level: Tensor, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Draw a level for every slot, filled or not. Shape ``[B, n_foods]``, long."""
    if config.max_food_level is None:
        high = agent_level.sort(-1).values[..., :N_LOWEST].sum(-1, keepdim=True)
    else:
        high = torch.full_like(agent_level[..., :1], config.max_food_level)
    if config.force_coop:
        return high.expand(shape)
    n_levels = high - config.min_food_level + 1
    share = torch.rand(shape, generator=generator, device=generator.device)
    # The product of a float just below 1 and an integer may round up to the integer
    return config.min_food_level + (share * n_levels).long().minimum(n_levels - 1)


@cache
def _cells(n_rows: int, n_columns: int, device: torch.device) -> Cells:
    row, column = torch.arange(n_rows, device=device), torch.arange(n_columns, device=device)
    position = torch.cartesian_prod(row, column)
    last = torch.tensor([n_rows, n_columns], device=device) - 1
    distance = (position.unsqueeze(0) - position.unsqueeze(1)).abs().sum(-1)
    is_interior = ((position > 0) & (position < last)).all(-1)
    return Cells(position, is_interior, distance <= SPACING, torch.tensor([n_columns, 1], device=device))
