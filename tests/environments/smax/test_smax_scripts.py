"""Scripted policies: they move where they mean to, attack what they mean to, and win more than random actions do."""

from __future__ import annotations

import pytest
import torch
from support.smax import N_ENVS, make_smax, needs_smax
from tensordict import TensorDict

from benchmarl_himpo.environments.smax.scripts import (
    FIRST_ATTACK,
    MOVES,
    N_OF_SELF,
    N_OF_UNIT,
    SCRIPTS,
    STOP,
    attack_nearest,
    attack_weakest,
    scripted_policies,
)

N_ENEMIES = 5


def see(enemies: dict[int, tuple[float, float, float]], position: tuple[float, float] = (0.5, 0.5)) -> torch.Tensor:
    """What an agent of five sees of enemies, by index: health, x and y. Shape ``[127]``."""
    observation = torch.zeros(4 + N_ENEMIES, N_OF_UNIT)
    for index, features in enemies.items():
        observation[4 + index, :3] = torch.tensor(features)
    return torch.cat([observation.flatten(), torch.tensor([1.0, *position]), torch.zeros(N_OF_SELF - 3)])


def allow(*in_range: int) -> torch.Tensor:
    mask = torch.zeros(FIRST_ATTACK + N_ENEMIES, dtype=torch.bool)
    mask[:FIRST_ATTACK] = True
    mask[[FIRST_ATTACK + index for index in in_range]] = True
    return mask


def test_enemies_in_range_are_attacked_by_distance_or_by_health() -> None:
    seen = see({0: (0.9, 0.1, 0.0), 2: (0.2, 0.0, 0.4), 3: (0.1, 0.6, 0.6)})
    assert attack_nearest(seen, allow(0, 2)) == FIRST_ATTACK
    assert attack_weakest(seen, allow(0, 2)) == FIRST_ATTACK + 2  # the weakest of all is out of range


@pytest.mark.parametrize("script", [attack_nearest, attack_weakest])
def test_without_any_in_range_agents_head_for_the_nearest_in_sight_else_for_the_centre(script) -> None:
    for move, (x, y) in enumerate(MOVES):
        assert script(see({1: (0.1, 0.8 * x, 0.8 * y), 4: (1.0, 0.5 * x, 0.5 * y)}), allow()) == move
        assert script(see({}, position=(0.5 - 0.3 * x, 0.5 - 0.3 * y)), allow()) == move


@pytest.mark.parametrize("script", [attack_nearest, attack_weakest])
def test_the_dead_stop(script) -> None:
    assert script(torch.zeros(127), torch.arange(10) == STOP) == STOP


@needs_smax
def test_moves_lead_where_the_scripts_think() -> None:
    for move, direction in enumerate(MOVES):
        env = make_smax(seed=7)
        before = env.reset()["agents", "position"]
        action = {"agents": TensorDict({"action": torch.full((N_ENVS, 5), move)}, [N_ENVS, 5])}
        after = env.step(TensorDict(action, [N_ENVS]))["next", "agents", "position"]
        assert (((after - before) * torch.tensor(direction)).sum(-1) > 0.01).all()


@needs_smax
def test_scripts_do_what_may_be_done_and_win_more_than_random_actions() -> None:
    win_rate = {}
    for name in ("random", *SCRIPTS):
        env = make_smax(seed=8)
        rollout = env.rollout(300, scripted_policies(env)[name], break_when_any_done=False)
        agents, is_last = rollout["agents"], rollout["next", "done"].squeeze(-1)
        assert agents["action_mask"].gather(-1, agents["action"].unsqueeze(-1)).all()
        win_rate[name] = rollout["next", "agents", "won"][is_last].float().mean().item()
    assert win_rate.pop("random") < 0.2 < min(win_rate.values())
