"""The rules of lbforaging 2.0.0 on batches of boards: what agents may do, where they move, what they load."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import LbfConfig
from benchmarl_himpo.environments.lbf.state import State

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
N_ACTIONS = 6
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""What north, south, west and east add to row and column."""
ROW = 1 << 16
"""Number that stands for a difference of one row where rows and columns are put into one number."""


class Loading(NamedTuple):
    """What became of the loading agents of one step."""

    reward: Tensor  # [B, n_agents], default dtype
    takes: Tensor  # [B, n_agents, n_foods], bool: agent has a share in a food that was loaded
    is_loaded: Tensor  # [B, n_foods], bool


def food_directions(state: State) -> Tensor:
    """Whether a food lies right north, south, west or east of an agent. Shape ``[B, n_agents, n_foods, 4]``, bool."""
    offset = _number(state.food_position).unsqueeze(-2) - _number(state.agent_position).unsqueeze(-1)
    is_there = offset.unsqueeze(-1) == _number(_moves(offset.device)[NORTH:LOAD])
    return is_there & state.is_food[:, None, :, None]


def action_mask(state: State, field_size: list[int]) -> Tensor:
    """What each agent may do: move to a cell without food, load beside a food, or nothing; the dead nothing.

    Agents do not block: whether two collide is seen when they move.

    Args:
        state: the boards.
        field_size: rows and columns.

    Returns:
        The mask. Shape ``[B, n_agents, 6]``, bool.
    """
    is_food = food_directions(state).any(-2)  # [B, n_agents, 4]
    row, column = state.agent_position.unbind(-1)
    n_rows, n_columns = field_size
    is_inside = torch.stack([row > 0, row < n_rows - 1, column > 0, column < n_columns - 1], dim=-1)
    can_act = torch.cat([is_inside & ~is_food, is_food.any(-1, keepdim=True)], dim=-1) & state.alive.unsqueeze(-1)
    return torch.nn.functional.pad(can_act, (1, 0), value=True)


def move(state: State, action: Tensor) -> Tensor:
    """Move all living agents at once; where several head for one cell, staying included, none of them moves.

    So two agents may swap cells, and one may step onto a cell that another fails to leave: they overlap, as in
    lbforaging.

    Args:
        state: the boards.
        action: valid actions. Shape ``[B, n_agents]``, long.

    Returns:
        The new positions. Shape ``[B, n_agents, 2]``, long.
    """
    target = state.agent_position + _moves(action.device)[action]
    nowhere = -1 - torch.arange(action.shape[-1], device=action.device)  # the dead, each by itself
    cell = torch.where(state.alive, _number(target), nowhere)
    is_alone = (cell.unsqueeze(-1) == cell.unsqueeze(-2)).sum(-1) == 1
    return torch.where(is_alone.unsqueeze(-1), target, state.agent_position)


def load(state: State, action: Tensor, config: LbfConfig) -> Loading:
    """Load each food whose loading neighbours are together at least as strong, and pay them by level.

    r_i = level_i · food / (Σ levels of the loaders · Σ food levels at reset), the numerator alone if rewards are not
    normalised; -penalty for those who load a food too strong for them.

    Args:
        state: the boards; loading agents do not move, so before or after moving makes no difference.
        action: valid actions. Shape ``[B, n_agents]``, long.
        config: options of the game.

    Returns:
        What was loaded, and rewards.
    """
    loads = (action == LOAD).unsqueeze(-1) & food_directions(state).any(-1)
    level = state.agent_level.unsqueeze(-1)
    team_level = (loads * level).sum(-2)  # [B, n_foods]
    is_loaded = state.is_food & (team_level >= state.food_level)
    takes = loads & is_loaded.unsqueeze(-2)
    share = (level * state.food_level.unsqueeze(-2) * takes).to(torch.get_default_dtype())
    if config.normalise_reward:
        share = share / (team_level * state.spawned.unsqueeze(-1)).clamp(min=1).unsqueeze(-2)
    fails = (loads & ~takes).any(-1)
    return Loading(share.sum(-1) - config.penalty * fails, takes, is_loaded)


@cache
def _moves(device: torch.device) -> Tensor:
    """What each action adds to a position. Shape ``[6, 2]``, long."""
    return torch.tensor([(0, 0), *MOVES, (0, 0)], device=device)


def _number(position: Tensor) -> Tensor:
    """One number for a place or a difference of places. Takes ``[*, 2]``, gives ``[*]``."""
    return position[..., 0] * ROW + position[..., 1]
