"""Observations: the vector of lbforaging 2.0.0, quirks included, followed by the agent's own energy."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.state import State

AGENTS = 1 << 30
"""Sorts agents behind all foods."""


class Listing(NamedTuple):
    """How an agent lists foods, then agents; ``K = n_foods + n_agents``."""

    reach: Tensor  # [K], long: how far beyond its window's first cell agents are seen; 0 for foods
    order: Tensor  # [n_agents, K], long: itself, then the others by number; 0 for foods
    unseen: Tensor  # [K], long: sorts behind what is seen of the same kind


def observation_size(config: LbfConfig) -> int:
    """Features of an agent's observation: three per food and agent, one for energy."""
    return 3 * (config.n_foods + config.n_agents) + isinstance(config, LbfwsConfig)


def observe(state: State, config: LbfConfig) -> Tensor:
    """Observation of all agents: foods in reading order, the agent, the other agents in order, as (row, column, level).

    Rows and columns are relative to the agent's window, which is cut at the border; they are absolute only if ``sight``
    covers the field. Unseen objects are (-1, -1, 0), after the seen ones. Near the upper and left border an agent sees
    other agents farther than foods, as in lbforaging. Dead agents observe zeros and are not visible.

    Shape ``[B, n_agents, 3 * (n_foods + n_agents)]``, with survival one more, default dtype.
    """
    listing = _listing(config.n_foods, config.n_agents, config.sight, state.agent_position.device)
    row, row_is_in = _count(state, 0, listing, config.sight)
    column, column_is_in = _count(state, 1, listing, config.sight)
    is_seen = row_is_in & column_is_in & torch.cat([state.is_food, state.alive], dim=1).unsqueeze(1)
    level = torch.cat([state.food_level, state.agent_level], dim=1).unsqueeze(1)

    reading = state.food_position[..., 0] * config.field_size[1] + state.food_position[..., 1]
    order = listing.order + torch.nn.functional.pad(reading, (0, config.n_agents)).unsqueeze(1)
    order = torch.where(is_seen, order, listing.unseen).argsort(-1)
    entries = (torch.where(is_seen, row, -1), torch.where(is_seen, column, -1), level * is_seen)
    seen = torch.stack([entry.gather(-1, order) for entry in entries], dim=-1)
    seen = seen.flatten(-2).to(torch.get_default_dtype())
    if isinstance(config, LbfwsConfig):
        seen = torch.cat([seen, (state.energy / config.max_energy).to(seen.dtype).unsqueeze(-1)], dim=-1)
        seen = seen * state.alive.unsqueeze(-1)
    return seen


def _count(state: State, axis: int, listing: Listing, sight: int) -> tuple[Tensor, Tensor]:
    """Rows or columns of foods and agents, from the first one of each agent's window, and whether they are in it.

    One axis at a time: kernels are slow on tensors whose last dimension is as small as two.
    """
    agent = state.agent_position[..., axis]
    first = (agent - sight).clamp(min=0)
    place = torch.cat([state.food_position[..., axis], agent], dim=1).unsqueeze(1) - first.unsqueeze(2)
    last = torch.maximum(listing.reach, (agent - first + sight).unsqueeze(2))
    return place, (place >= 0) & (place <= last)  # [B, n_agents, K]


@cache
def _listing(n_foods: int, n_agents: int, sight: int, device: torch.device) -> Listing:
    is_agent = torch.arange(n_foods + n_agents, device=device) >= n_foods
    number = torch.arange(n_agents, device=device).expand(n_agents, -1) + AGENTS
    self_first = number.masked_fill(torch.eye(n_agents, dtype=torch.bool, device=device), AGENTS - 1)
    return Listing(
        reach=2 * sight * is_agent,
        order=torch.nn.functional.pad(self_first, (n_foods, 0)),
        unseen=torch.where(is_agent, 2 * AGENTS, AGENTS - 2),
    )
