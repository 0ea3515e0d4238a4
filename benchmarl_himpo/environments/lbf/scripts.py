"""Heuristic policies for reference returns, which see the whole board or what their team sees.

Each policy is a batched, memoryless function from boards to actions. The policies use distances alone and break ties at
random. They are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig
from benchmarl_himpo.environments.lbf.rules import LOAD, MOVES, NONE, find_choices
from benchmarl_himpo.environments.lbf.state import State

FAR = 1 << 20
"""Distance, in steps, to an empty slot."""

Script = Callable[[State, LbfConfig, torch.Generator], Tensor]
"""Takes boards, the options of the game and a generator; returns actions, ``[B, n_agents]``, long."""


def random(state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Random policy over the valid actions."""
    mask = find_choices(state, config.field_size).action_mask
    return torch.multinomial(mask.flatten(0, 1).float(), 1, generator=generator).view(mask.shape[:-1])


def greedy(state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Every agent goes to the nearest food that it can load alone, or to the nearest food if there is none."""
    distance = food_distance(state)
    is_light = state.agent_level.unsqueeze(-1) >= state.food_level.unsqueeze(-2)
    return head_for((distance + (FAR // 4) * ~is_light).argmin(-1), state, config, generator)


def nearest(state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Every agent goes to the nearest food, to load it or to wait there for others."""
    return head_for(food_distance(state).argmin(-1), state, config, generator)


def herd(state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """The whole team goes to one food: the one with the smallest total distance to the live agents."""
    total = (food_distance(state) * state.alive.unsqueeze(-1)).sum(-2)
    target = total.argmin(-1, keepdim=True).expand_as(state.agent_level)
    return head_for(target, state, config, generator)


def coalition(state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Forms coalitions, each just strong enough for its food; the coalition that can load soonest is formed first.

    The coalition of a food consists of the nearest free agents; remaining agents go to the nearest food.
    """
    distance = food_distance(state)
    target = distance.argmin(-1)
    is_free, is_open = state.alive, state.is_food
    for _ in range(state.food_level.shape[-1]):
        reach = distance.masked_fill(~is_free.unsqueeze(-1), 2 * FAR)
        order = reach.argsort(dim=-2, stable=True)  # [B, n_agents, n_foods]
        level = (state.agent_level * is_free).unsqueeze(-1).expand_as(order).gather(-2, order)
        strength = level.cumsum(-2)
        is_needed = (strength - level < state.food_level.unsqueeze(-2)) & (level > 0)
        is_enough = (strength[:, -1] >= state.food_level) & is_open
        time = torch.where(is_needed, reach.gather(-2, order), 0).amax(-2).masked_fill(~is_enough, FAR)
        best = time.argmin(-1, keepdim=True)  # [B, 1]
        member = torch.zeros_like(is_needed).scatter(-2, order, is_needed)
        member = member.gather(-1, best.unsqueeze(-2).expand(-1, member.shape[-2], 1)).squeeze(-1)
        member = member & is_enough.gather(-1, best)
        target = torch.where(member, best, target)
        is_free = is_free & ~member
        is_open = is_open & ~torch.zeros_like(is_open).scatter(-1, best, True)
    return head_for(target, state, config, generator)


def in_sight(script: Script, state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Run a script with only the foods that some teammate sees; random valid actions if there are none."""
    away = (state.agent_position.unsqueeze(-2) - state.food_position.unsqueeze(-3)).abs().amax(-1)
    is_seen = ((away <= config.sight) & state.alive.unsqueeze(-1)).any(-2)  # [B, n_foods]
    seen = state._replace(food_level=state.food_level * is_seen)
    is_lost = ~seen.is_food.any(-1, keepdim=True)
    return torch.where(is_lost, random(state, config, generator), script(seen, config, generator))


SCRIPTS: dict[str, Script] = {
    "random": random,
    "greedy": greedy,
    "nearest": nearest,
    "herd": herd,
    "coalition": coalition,
    "herd_in_sight": partial(in_sight, herd),
    "coalition_in_sight": partial(in_sight, coalition),
}
"""Every script by name."""


def food_distance(state: State) -> Tensor:
    """Steps from each agent to each food. Shape ``[B, n_agents, n_foods]``, long; FAR for empty slots."""
    distance = (state.agent_position.unsqueeze(-2) - state.food_position.unsqueeze(-3)).abs().sum(-1)
    return distance.masked_fill(~state.is_food.unsqueeze(-2), FAR)


def head_for(target: Tensor, state: State, config: LbfConfig, generator: torch.Generator) -> Tensor:
    """Load the target if the agent is beside it, else step towards the nearest free cell beside the target.

    Takes the target food of each agent, ``[B, n_agents]``, long, and returns actions of the same shape; ties are broken
    by the generator.
    """
    index = target.unsqueeze(-1)
    food = state.food_position.gather(1, index.expand(-1, -1, 2)).unsqueeze(-2)  # [B, n_agents, 1, 2]
    moves = torch.tensor(MOVES, device=target.device)
    beside, place = food + moves, state.agent_position.unsqueeze(-2) + moves  # [B, n_agents, 4, 2]
    steps = (place.unsqueeze(-2) - beside.unsqueeze(-3)).abs().sum(-1) + FAR * _is_taken(beside, state).unsqueeze(-2)
    cost = steps.amin(-1) + torch.rand(place.shape[:-1], generator=generator, device=target.device)
    choices = find_choices(state, config.field_size)
    can_go = choices.action_mask[..., 1:LOAD] & ~_is_taken(place, state)
    step = (cost + 2 * FAR * ~can_go).argmin(-1) + 1
    is_there = choices.is_beside.gather(-1, index).squeeze(-1)
    has_aim = state.is_food.gather(-1, target) & state.alive
    return torch.where(is_there, LOAD, torch.where(has_aim & can_go.any(-1), step, NONE))


def _is_taken(cell: Tensor, state: State) -> Tensor:
    """Whether a live agent is on a cell. Shape ``[B, n_agents, K, 2]`` to ``[B, n_agents, K]``, bool."""
    is_on = (cell.unsqueeze(-2) == state.agent_position[:, None, None]).all(-1)
    return (is_on & state.alive[:, None, None]).any(-1)


def scripted_policies(env: LbfEnv) -> dict[str, Callable[[TensorDictBase], TensorDictBase]]:
    """Build the heuristic policies of an environment, by name; each one writes the action into its input.

    The policies read the environment's boards and draw from its generator.
    """

    def act(script: Script, td: TensorDictBase) -> TensorDictBase:
        return td.set((GROUP, "action"), script(env.state, env.config, env.generator))

    return {name: partial(act, script) for name, script in SCRIPTS.items()}
