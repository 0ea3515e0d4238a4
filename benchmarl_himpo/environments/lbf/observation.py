"""What agents see: the vector of lbforaging 2.0.0, quirks included, with their own energy behind it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.state import State

UNSEEN = 1 << 30
"""Sorts behind everything that is seen."""


def observation_size(config: LbfConfig) -> int:
    """Features of an agent's observation: three per food and agent, one for energy."""
    return 3 * (config.n_foods + config.n_agents) + isinstance(config, LbfwsConfig)


def observe(state: State, config: LbfConfig) -> Tensor:
    """Observe all agents: foods in reading order, oneself, the others in their order, as (row, column, level).

    Rows and columns count from the agent's window, which the border cuts: they are the field's own only if ``sight``
    covers it. What is not seen is (-1, -1, 0), behind what is. Near the upper and left border an agent sees others
    further than foods, as in lbforaging. The dead see nothing, zeros, and nobody sees them.

    Args:
        state: the boards.
        config: options of the game.

    Returns:
        Observations. Shape ``[B, n_agents, 3 * (n_foods + n_agents)]``, with survival one more, default dtype.
    """
    agent, n_foods, sight = state.agent_position, config.n_foods, config.sight
    origin = (agent - sight).clamp(min=0).unsqueeze(-2)  # [B, n_agents, 1, 2]
    place = torch.cat([state.food_position, agent], dim=1).unsqueeze(1) - origin  # [B, n_agents, n_foods + n_agents, 2]
    is_agent = torch.arange(place.shape[2], device=place.device) >= n_foods
    last = torch.where(is_agent.unsqueeze(-1), 2 * sight, agent.unsqueeze(-2) - origin + sight)
    is_there = torch.cat([state.is_food, state.alive], dim=1).unsqueeze(1)
    is_seen = ((place >= 0) & (place <= last)).all(-1) & is_there

    order = torch.where(is_seen, _order(state, config), UNSEEN)
    order = torch.cat([order[..., :n_foods].argsort(-1), order[..., n_foods:].argsort(-1) + n_foods], dim=-1)
    level = torch.cat([state.food_level, state.agent_level], dim=1).unsqueeze(1) * is_seen
    listed = torch.cat([place.masked_fill(~is_seen.unsqueeze(-1), -1), level.unsqueeze(-1)], dim=-1)
    seen = listed.gather(-2, order.unsqueeze(-1).expand_as(listed)).flatten(-2).to(torch.get_default_dtype())
    if isinstance(config, LbfwsConfig):
        seen = torch.cat([seen, (state.energy / config.max_energy).to(seen.dtype).unsqueeze(-1)], dim=-1)
    return seen * state.alive.unsqueeze(-1)


def _order(state: State, config: LbfConfig) -> Tensor:
    """What each agent lists foods and agents by. Shape ``[B, n_agents, n_foods + n_agents]``, long."""
    reading = state.food_position[..., 0] * config.field_size[1] + state.food_position[..., 1]
    shape = (len(reading), config.n_agents, -1)
    return torch.cat([reading.unsqueeze(1).expand(shape), _self_first(config.n_agents, reading.device).expand(shape)], dim=-1)


@cache
def _self_first(n_agents: int, device: torch.device) -> Tensor:
    """Each agent's order of agents: itself, then the others by number. Shape ``[n_agents, n_agents]``, long."""
    number = torch.arange(n_agents, device=device).expand(n_agents, -1)
    return number.masked_fill(torch.eye(n_agents, dtype=torch.bool, device=device), -1)
