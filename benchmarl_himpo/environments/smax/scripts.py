"""Heuristic policies of SMAX for reference returns, which see the agents' observations.

Each policy is a batched, memoryless function from observations and masks to actions. The policies are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.smax.environment import SmaxEnv

STOP, FIRST_ATTACK = 4, 5
"""Indices of actions: the four moves come first, then stop, then one attack per enemy."""
MOVES = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))
"""Directions of the moves, in their order."""
N_OF_UNIT, N_OF_SELF = 13, 10
"""Features of each other unit in an observation, teammates before enemies, and of the agent itself, at the end."""


def attack_nearest(observation: Tensor, action_mask: Tensor) -> Tensor:
    """Attack the nearest enemy in range; else go to the nearest enemy in sight, or to the centre of the map."""
    _, offset = _enemies(observation, action_mask)
    return _attack(offset.norm(dim=-1), observation, action_mask)


def attack_weakest(observation: Tensor, action_mask: Tensor) -> Tensor:
    """Attack the enemy in range with the smallest fraction of health left; else as :func:`attack_nearest`."""
    health, _ = _enemies(observation, action_mask)
    return _attack(health, observation, action_mask)


SCRIPTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"nearest": attack_nearest, "weakest": attack_weakest}
"""Every script by name."""


def scripted_policies(env: SmaxEnv) -> dict[str, Callable[[TensorDictBase], TensorDictBase]]:
    """Build the heuristic policies and the random policy, by name; each one writes the action into its input.

    The random policy is uniform over the allowed actions and draws from the environment's generator.
    """

    def act(script: Callable[[Tensor, Tensor], Tensor], td: TensorDictBase) -> TensorDictBase:
        agents = td.get(GROUP)
        return td.set((GROUP, "action"), script(agents["observation"], agents["action_mask"]))

    def act_randomly(observation: Tensor, action_mask: Tensor) -> Tensor:
        weights = action_mask.flatten(0, -2).float()
        return torch.multinomial(weights, 1, generator=env.generator).view(action_mask.shape[:-1])

    return {name: partial(act, script) for name, script in {"random": act_randomly, **SCRIPTS}.items()}


def _enemies(observation: Tensor, action_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Health and offsets of the enemies, 0 out of sight. Shapes ``[*B, n_enemies]`` and ``[*B, n_enemies, 2]``."""
    n_enemies = action_mask.shape[-1] - FIRST_ATTACK
    units = observation[..., -N_OF_SELF - n_enemies * N_OF_UNIT : -N_OF_SELF].unflatten(-1, (n_enemies, N_OF_UNIT))
    return units[..., 0], units[..., 1:3]


def _attack(cost: Tensor, observation: Tensor, action_mask: Tensor) -> Tensor:
    """Attack the enemy in range of least ``cost``, ``[*B, n_enemies]``, or approach enemies. Returns ``[*B]``, long."""
    health, offset = _enemies(observation, action_mask)
    in_range = action_mask[..., FIRST_ATTACK:]
    attack = FIRST_ATTACK + cost.masked_fill(~in_range, torch.inf).argmin(-1)
    is_seen = health > 0
    nearest = offset.norm(dim=-1).masked_fill(~is_seen, torch.inf).argmin(-1)
    chase = offset.gather(-2, nearest[..., None, None].expand(*nearest.shape, 1, 2)).squeeze(-2)
    own = observation[..., -N_OF_SELF:]
    aim = torch.where(is_seen.any(-1, keepdim=True), chase, 0.5 - own[..., 1:3])
    move = (aim @ aim.new_tensor(MOVES).T).argmax(-1)
    action = torch.where(in_range.any(-1), attack, move)
    return torch.where(own[..., 0] > 0, action, STOP)
