"""Survival on top of Level-Based Foraging: energy, death and new food. Rules and constants are our reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarl_himpo.environments.lbf.options import LbfwsConfig
from benchmarl_himpo.environments.lbf.placement import spawn_foods
from benchmarl_himpo.environments.lbf.rules import Loading
from benchmarl_himpo.environments.lbf.state import State

ROUNDING = 1e-6
"""Fraction of a step's cost below which energy counts as zero: tolerance for rounding errors of the summed costs."""


def live(state: State, loading: Loading, config: LbfwsConfig) -> tuple[Tensor, Tensor]:
    """Subtract the cost of a step from live agents, add the energy of loaded food; agents without energy die.

        e_i <- min(E_max, e_i - cost + gain_i). A food of level l gives food_energy · l in total.

    Takes the boards before the step. Returns ``energy``, float64, and ``alive``, bool, ``[B, n_agents]`` each.
    """
    weight = loading.takes.double()
    if config.energy_split == "level":
        weight = weight * state.agent_level.unsqueeze(-1)
    share = weight / weight.sum(-2, keepdim=True).clamp(min=1.0)
    gain = config.food_energy * (share * state.food_level.unsqueeze(-2)).sum(-1)
    energy = (state.energy - config.energy_cost + gain).clamp(max=config.max_energy)
    alive = state.alive & (energy > ROUNDING * config.energy_cost)
    return energy * alive, alive


def regrow(
    state: State, is_loaded: Tensor, config: LbfwsConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Clear loaded slots, count down timers, and fill the slots that are due; slots without a free cell stay due.

    Args:
        state: the boards, agents after the step and foods before it.
        is_loaded: foods that were loaded in the step. Shape ``[B, n_foods]``, bool.
        config: options of the game.
        generator: random number generator.

    Returns:
        Positions, levels and timers of all foods. Shapes ``[B, n_foods, 2]`` and twice ``[B, n_foods]``, long.
    """
    timer = (state.respawn_timer - 1).clamp(min=0).masked_fill(is_loaded, config.respawn_interval)
    level = state.food_level.masked_fill(is_loaded, 0)
    is_due = (level == 0) & (timer == 0)
    boards = is_due.any(-1).nonzero().squeeze(-1)
    if len(boards) == 0:
        return state.food_position, level, timer
    rows = State(*(entry[boards] for entry in state._replace(food_level=level)))
    position, spawned = spawn_foods(rows, is_due[boards], config, generator)
    return state.food_position.index_put((boards,), position), level.index_put((boards,), spawned), timer
