"""The rules of lbforaging 2.0.0 on batches of boards: allowed actions, moves and loading."""

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
"""Change of row and column for north, south, west and east."""
ROW = 1 << 16
"""Factor of the row where row and column are encoded as one integer."""


class Choices(NamedTuple):
    """Allowed actions of the agents."""

    action_mask: Tensor  # [B, n_agents, 6], bool
    is_beside: Tensor  # [B, n_agents, n_foods], bool: the food lies right north, south, west or east of the agent


class Loading(NamedTuple):
    """Result of the loading actions of one step."""

    reward: Tensor  # [B, n_agents], default dtype
    takes: Tensor  # [B, n_agents, n_foods], bool: agent has a share in a food that was loaded
    is_loaded: Tensor  # [B, n_foods], bool


def find_choices(state: State, field_size: list[int]) -> Choices:
    """Find the allowed actions: move to a cell without food, load beside a food, or do nothing; dead agents do nothing.

    Other agents do not restrict the actions; collisions are resolved when agents move.
    """
    device = state.agent_position.device
    offset = _number(state.food_position).unsqueeze(-2) - _number(state.agent_position).unsqueeze(-1)
    is_there = (offset.unsqueeze(-1) == _neighbours(device)) & state.is_food[:, None, :, None]
    is_beside = is_there.any(-1)  # [B, n_agents, n_foods]
    row, column = state.agent_position.unbind(-1)
    can_move = _exits(*field_size, device)[row, column] & ~is_there.any(-2)
    can_act = torch.cat([can_move, is_beside.any(-1, keepdim=True)], dim=-1) & state.alive.unsqueeze(-1)
    return Choices(torch.nn.functional.pad(can_act, (1, 0), value=True), is_beside)


def move(state: State, action: Tensor) -> Tensor:
    """Move all live agents at once; if several choose the same cell (staying included), none of them moves.

    Two agents may thus swap cells, and an agent may enter a cell that another one fails to leave, so that they overlap,
    as in lbforaging. Takes valid actions, ``[B, n_agents]``, returns new positions, ``[B, n_agents, 2]``, long.
    """
    target = state.agent_position + _moves(action.device)[action]
    cell = _number(target)
    is_same = (cell.unsqueeze(-1) == cell.unsqueeze(-2)) & state.alive.unsqueeze(-2)  # dead agents do not block
    return torch.where(is_same.sum(-1, keepdim=True) > 1, state.agent_position, target)


def load(state: State, action: Tensor, is_beside: Tensor, config: LbfConfig) -> Loading:
    """Load each food whose level is at most the total level of the agents that load it, and reward them by level.

    r_i = level_i · food / (Σ levels of the loaders · Σ food levels at reset), the numerator alone if rewards are not
    normalised; -penalty for a failed attempt. Loading agents do not move, so boards before or after moving give the
    same result.

    Args:
        state: the boards.
        action: valid actions. Shape ``[B, n_agents]``, long.
        is_beside: foods beside each agent. Shape ``[B, n_agents, n_foods]``, bool.
        config: options of the game.
    """
    loads = (action == LOAD).unsqueeze(-1) & is_beside
    level = state.agent_level.unsqueeze(-1)
    team_level = (loads * level).sum(-2)  # [B, n_foods]
    is_loaded = state.is_food & (team_level >= state.food_level)
    takes = loads & is_loaded.unsqueeze(-2)
    share = (level * state.food_level.unsqueeze(-2) * takes).to(torch.get_default_dtype())
    if config.normalise_reward:
        whole = team_level.clamp(min=1) * state.spawned.clamp(min=1).unsqueeze(-1)
        share = share / whole.unsqueeze(-2)
    reward = share.sum(-1)
    if config.penalty > 0:
        reward = reward - config.penalty * (loads & ~takes).any(-1)
    return Loading(reward, takes, is_loaded)


@cache
def _moves(device: torch.device) -> Tensor:
    """Change of the position for each action. Shape ``[6, 2]``, long."""
    return torch.tensor([(0, 0), *MOVES, (0, 0)], device=device)


@cache
def _neighbours(device: torch.device) -> Tensor:
    """Encoded changes of the position for north, south, west and east. Shape ``[4]``, long."""
    return _number(torch.tensor(MOVES, device=device))


@cache
def _exits(n_rows: int, n_columns: int, device: torch.device) -> Tensor:
    """Whether a cell has a neighbour north, south, west and east. Shape ``[n_rows, n_columns, 4]``, bool."""
    row, column = torch.meshgrid(
        torch.arange(n_rows, device=device), torch.arange(n_columns, device=device), indexing="ij"
    )
    return torch.stack([row > 0, row < n_rows - 1, column > 0, column < n_columns - 1], dim=-1)


def _number(position: Tensor) -> Tensor:
    """Encode a position or a difference of positions as one integer. Shape ``[*, 2]`` to ``[*]``."""
    return position[..., 0] * ROW + position[..., 1]
