"""Step by step the numbers of lbforaging 2.0.0: its boards are copied, both play the same actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lbforaging.foraging.environment import Action, ForagingEnv
from support.boards import PLAIN, act, board, make

from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig

LAYOUTS = [
    # agents, rows, columns, foods, sight
    (2, 8, 8, 1, 8),
    (2, 5, 5, 2, 1),
    (3, 10, 8, 3, 2),
    (4, 15, 15, 5, 15),
    (5, 7, 11, 4, 3),
    (6, 6, 6, 2, 6),
    (7, 9, 9, 4, 1),
    (8, 6, 7, 3, 2),
]
VARIANTS = [
    # cooperation forced, penalty, highest food level, rewards normalised
    (False, 0.0, None, True),
    (True, 0.1, None, True),
    (False, 0.1, 3, False),
]
CASES = list(product(LAYOUTS, VARIANTS))


def configs_of(layout: tuple[int, ...], variant: tuple[bool, float, int | None, bool]) -> LbfConfig:
    n_agents, n_rows, n_columns, n_foods, sight = layout
    force_coop, penalty, max_food_level, normalise = variant
    return LbfConfig(
        **vars(PLAIN)
        | {
            "n_agents": n_agents,
            "field_size": [n_rows, n_columns],
            "n_foods": n_foods,
            "sight": sight,
            "max_agent_level": 3,
            "force_coop": force_coop,
            "penalty": penalty,
            "max_food_level": max_food_level,
            "normalise_reward": normalise,
        }
    )


def reference_of(config: LbfConfig) -> ForagingEnv:
    return ForagingEnv(
        players=config.n_agents,
        min_player_level=config.min_agent_level,
        max_player_level=config.max_agent_level,
        min_food_level=config.min_food_level,
        max_food_level=config.max_food_level,
        field_size=tuple(config.field_size),
        max_num_food=config.n_foods,
        sight=config.sight,
        max_episode_steps=config.max_steps,
        force_coop=config.force_coop,
        normalize_reward=config.normalise_reward,
        penalty=config.penalty,
    )


def _is_refused(make: Callable[[], object], error: type[Exception]) -> bool:
    try:
        make()
    except error:
        return True
    return False


@pytest.mark.parametrize("force_coop", [False, True])
def test_levels_that_lbforaging_refuses_are_refused(force_coop: bool) -> None:
    """And no others, but those with which it cannot draw a food: a lowest level that the team may not reach."""
    n_refused = 0
    for low, high, agent_low, agent_high in product((1, 2, 3), (None, 1, 2, 3), (1, 2), (1, 2)):
        levels = {"min_food_level": low, "max_food_level": high, "force_coop": force_coop}
        options = SimpleNamespace(
            **vars(PLAIN) | levels | {"min_agent_level": agent_low, "max_agent_level": agent_high, "n_agents": 2}
        )
        ours = _is_refused(lambda options=options: LbfConfig(**vars(options)), ValueError)
        theirs = _is_refused(lambda options=options: reference_of(options), AssertionError)
        is_out_of_reach = high is None and not force_coop and low > 2 * agent_low
        assert ours == (theirs or is_out_of_reach), vars(options)
        n_refused += theirs
    assert 0 < n_refused < 48


def copy_state(reference: ForagingEnv, env: LbfEnv) -> None:
    agents = [(*map(int, player.position), int(player.level)) for player in reference.players]
    foods = [(int(r), int(c), int(reference.field[r, c])) for r, c in zip(*reference.field.nonzero(), strict=True)]
    env.state = board(env.config, agents, foods, spawned=torch.tensor([int(reference._food_spawned)]))


def field_of(env: LbfEnv) -> np.ndarray:
    field = np.zeros(env.config.field_size, dtype=np.int64)
    state = env.state
    for (row, column), level in zip(state.food_position[0].tolist(), state.food_level[0].tolist(), strict=True):
        if level > 0:
            assert field[row, column] == 0
            field[row, column] = level
    return field


def masks_of(reference: ForagingEnv) -> list[list[bool]]:
    return [[action in reference._valid_actions[player] for action in Action] for player in reference.players]


def play(config: LbfConfig, n_episodes: int, seed: int) -> Iterator[dict[str, int]]:
    """Play episodes in both, compare after every step, and tell of each step what rare things it had."""
    reference, env = reference_of(config), make(config, n_envs=1)
    random = np.random.default_rng(seed)
    for episode in range(n_episodes):
        observations, _ = reference.reset(seed=seed * 1000 + episode)
        copy_state(reference, env)
        agents = env._emit(*torch.zeros(2, 1, dtype=torch.bool))["agents"]
        assert np.array_equal(agents["observation"][0].numpy(), np.stack(observations))
        done = False
        while not done:
            masks = np.array(masks_of(reference))
            assert np.array_equal(agents["action_mask"][0].numpy(), masks)
            actions = random.integers(6, size=config.n_agents)
            can_load = masks[:, Action.LOAD.value] & (random.random(config.n_agents) < 0.5)
            actions[can_load] = Action.LOAD.value
            observations, rewards, done, _, _ = reference.step(actions.tolist())
            out = act(env, torch.as_tensor(actions)[None])
            agents = out["agents"]
            assert np.array_equal(agents["observation"][0].numpy(), np.stack(observations))
            assert np.array_equal(agents["reward"][0, :, 0].numpy(), np.float32(rewards))
            assert np.array_equal(field_of(env), reference.field)
            assert env.state.agent_position[0].tolist() == [list(player.position) for player in reference.players]
            assert out["done"].item() == done == (out["terminated"] ^ out["truncated"]).item()
            assert out["terminated"].item() == (reference.field.sum() == 0)
            places = {tuple(player.position) for player in reference.players}
            yield {
                "steps": 1,
                "with overlapping players": len(places) < config.n_agents,
                "with a loaded food": max(rewards) > 0,
                "with a penalty": min(rewards) < 0,
            }


def total(cases: list[tuple], n_episodes: int, seed: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for number, (layout, variant) in enumerate(cases):
        for step in play(configs_of(layout, variant), n_episodes, seed + number):
            counts = {name: counts.get(name, 0) + int(happened) for name, happened in step.items()}
    return counts


def test_hundreds_of_steps_are_the_same() -> None:
    counts = total(CASES, n_episodes=1, seed=1)
    assert counts["steps"] > 500
    assert min(counts.values()) > 0


@pytest.mark.slow
def test_ten_thousand_steps_are_the_same() -> None:
    counts = total(CASES, n_episodes=30, seed=100)
    print(counts)
    assert counts["steps"] > 10_000
    assert counts["with overlapping players"] > 100
    assert counts["with a loaded food"] > 100
    assert counts["with a penalty"] > 100


def test_boards_are_drawn_like_theirs() -> None:
    """Levels, number of foods and where they lie, over many boards of a field that gets fewer foods than wanted."""
    config = configs_of((3, 5, 6, 2, 1), (False, 0.0, None, True))
    reference = reference_of(config)
    n = 4_000
    fields, players = np.zeros(config.field_size), np.zeros(config.field_size)
    counts, levels = [], []
    for seed in range(n):
        reference.reset(seed=seed)
        fields += reference.field > 0
        counts.append((reference.field > 0).sum())
        levels.append(reference.field[reference.field > 0].mean())
        for player in reference.players:
            players[player.position] += 1
    state = make(config, n_envs=n).state
    ours, standing = np.zeros(config.field_size), np.zeros(config.field_size)
    food, agents = state.food_position[state.is_food], state.agent_position.flatten(0, 1)
    np.add.at(ours, tuple(food.T.numpy()), 1)
    np.add.at(standing, tuple(agents.T.numpy()), 1)
    assert np.abs(ours - fields).max() / n < 0.04
    assert np.abs(standing - players).max() / n < 0.04
    assert abs(state.is_food.sum(-1).double().mean() - np.mean(counts)) < 0.04
    mean_level = state.food_level.sum(-1) / state.is_food.sum(-1).clamp(min=1)
    assert abs(mean_level.mean() - np.mean(levels)) < 0.1
