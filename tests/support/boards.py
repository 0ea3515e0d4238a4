"""Options, random play and injected states for the tests of Level-Based Foraging."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig
from benchmarl_himpo.environments.lbf.rules import find_choices
from benchmarl_himpo.environments.lbf.state import State

PLAIN = LbfConfig(
    n_agents=3,
    field_size=[8, 8],
    n_foods=3,
    sight=8,
    min_agent_level=1,
    max_agent_level=2,
    min_food_level=1,
    max_food_level=None,
    force_coop=False,
    normalise_reward=True,
    penalty=0.0,
    shared_reward=False,
    max_steps=50,
)
SURVIVAL = LbfwsConfig(
    **vars(PLAIN),
    initial_energy=20.0,
    max_energy=40.0,
    energy_cost=1.0,
    food_energy=10.0,
    energy_split="equal",
    respawn_interval=3,
    survival_bonus=0.0,
)


def make(config: LbfConfig = PLAIN, n_envs: int = 4, seed: int = 0, **changes: Any) -> LbfEnv:
    """An environment of some options, already reset."""
    env = LbfEnv(replace(config, **changes), n_envs, seed)
    env.reset()
    return env


def act(env: LbfEnv, action: Tensor | int) -> TensorDictBase:
    """Play one step; what came of it. An int is everybody's action."""
    shape = (*env.batch_size, env.config.n_agents)
    action = torch.full(shape, action) if isinstance(action, int) else action
    td = TensorDict({"agents": TensorDict({"action": action}, shape)}, env.batch_size)
    return env.step(td)["next"]


def random_actions(env: LbfEnv, generator: torch.Generator) -> Tensor:
    """Any actions, valid or not."""
    return torch.randint(6, (*env.batch_size, env.config.n_agents), generator=generator)


def likely_actions(env: LbfEnv, generator: torch.Generator) -> Tensor:
    """Random valid actions; whoever can load mostly does, so that something happens."""
    mask = find_choices(env.state, env.config.field_size).action_mask.double()
    mask[..., 5] *= 10
    return torch.multinomial(mask.flatten(0, 1), 1, generator=generator).view(mask.shape[:-1])


def board(
    config: LbfConfig, agents: list[tuple[int, int, int]], foods: list[tuple[int, int, int]], **entries: Any
) -> State:
    """One board with agents and foods at (row, column, level); empty food slots behind."""
    agent, food = torch.tensor([agents]), torch.tensor([foods + [(0, 0, 0)] * (config.n_foods - len(foods))])
    alive = torch.ones(1, len(agents), dtype=torch.bool)
    state = State(
        agent_position=agent[..., :2],
        agent_level=agent[..., 2],
        alive=alive,
        energy=alive.double() * getattr(config, "initial_energy", 1.0),
        life=torch.zeros(1, len(agents), dtype=torch.long),
        food_position=food[..., :2],
        food_level=food[..., 2],
        respawn_timer=torch.zeros_like(food[..., 2]),
        spawned=food[..., 2].sum(-1),
        step_count=torch.zeros(1, dtype=torch.long),
    )
    return state._replace(**entries)
