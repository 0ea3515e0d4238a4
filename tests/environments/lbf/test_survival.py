"""What survival promises, whatever is played: the invariants of the game, and cases worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.boards import PLAIN, SURVIVAL, act, board, likely_actions, make, random_actions
from tensordict import TensorDict
from torch import Tensor

from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.environments.lbf.options import LbfConfig, LbfwsConfig, food_capacity
from benchmarl_himpo.environments.lbf.placement import free_cells
from benchmarl_himpo.environments.lbf.rules import EAST, LOAD, NONE, NORTH, SOUTH, WEST
from benchmarl_himpo.environments.lbf.state import State

ONLY_NONE = torch.tensor([True, False, False, False, False, False])


@st.composite
def configs(draw: st.DrawFn) -> LbfwsConfig:
    n_rows, n_columns = draw(st.integers(4, 9)), draw(st.integers(4, 9))
    energy = draw(st.integers(3, 25))
    return replace(
        SURVIVAL,
        n_agents=draw(st.integers(1, 5)),
        field_size=[n_rows, n_columns],
        n_foods=draw(st.integers(1, min(5, food_capacity(n_rows, n_columns)))),
        sight=draw(st.integers(1, 9)),
        max_agent_level=draw(st.integers(1, 3)),
        max_food_level=draw(st.sampled_from([1, 2, None])),
        force_coop=draw(st.booleans()),
        penalty=draw(st.sampled_from([0.0, 0.1])),
        energy_split=draw(st.sampled_from(["equal", "level"])),
        initial_energy=float(energy),
        max_energy=float(energy + draw(st.integers(0, 20))),
        energy_cost=draw(st.sampled_from([0.1, 0.5, 1.0, 3.0])),
        food_energy=draw(st.sampled_from([0.0, 2.5, 10.0])),
        respawn_interval=draw(st.integers(0, 4)),
        max_steps=draw(st.integers(1, 40)),
    )


def play(config: LbfConfig, seed: int, n_steps: int = 20) -> Iterator[tuple[LbfEnv, State, Tensor, dict]]:
    """Play randomly without resets: environment, the state before, the actions, and what the step gave."""
    env = make(config, n_envs=8, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_steps):
        before = env.state
        action = likely_actions(env, generator)
        yield env, before, action, act(env, action)


def make_without_regrowth(config: LbfwsConfig, n_envs: int, seed: int) -> LbfEnv:
    """Nothing is drawn after the reset: slots stay empty for longer than anybody plays."""
    env = make(replace(config, respawn_interval=100), n_envs=n_envs, seed=seed)
    env.state = env.state._replace(respawn_timer=100 * ~env.state.is_food)
    return env


few = settings(max_examples=10)
seeds = st.integers(0, 10_000)


# Invariants


@few
@given(configs(), seeds)
def test_foods_are_on_the_field_or_on_their_way_and_lie_where_they_may(config: LbfwsConfig, seed: int) -> None:
    for env, before, _, _ in play(config, seed):
        state = env.state
        is_pending = ~state.is_food
        assert (state.respawn_timer[state.is_food] == 0).all()
        assert ((state.respawn_timer >= 0) & (state.respawn_timer <= config.respawn_interval)).all()
        newly = is_pending & before.is_food
        assert (state.respawn_timer[newly] == config.respawn_interval).all()
        counts_down = is_pending & ~before.is_food
        assert torch.equal(state.respawn_timer[counts_down], (before.respawn_timer[counts_down] - 1).clamp(min=0))
        row, column = state.food_position.unbind(-1)
        is_inside = (row > 0) & (row < config.field_size[0] - 1) & (column > 0) & (column < config.field_size[1] - 1)
        assert is_inside[state.is_food].all()
        distance = (state.food_position.unsqueeze(1) - state.food_position.unsqueeze(2)).abs().sum(-1)
        pairs = state.is_food.unsqueeze(1) & state.is_food.unsqueeze(2)
        pairs = pairs & ~torch.eye(config.n_foods, dtype=torch.bool)
        assert (distance[pairs] >= 3).all()
        under = (state.food_position.unsqueeze(1) == state.agent_position.unsqueeze(2)).all(-1)
        under = under & state.is_food.unsqueeze(1) & state.alive.unsqueeze(2)
        assert not under.any()
        if config.max_food_level is not None:
            assert (state.food_level <= config.max_food_level).all()


@few
@given(configs(), seeds)
def test_energy_stays_in_bounds_and_nobody_rises_from_the_dead(config: LbfwsConfig, seed: int) -> None:
    for env, before, _, _ in play(config, seed):
        state = env.state
        assert (state.energy >= 0).all()
        assert (state.energy <= config.max_energy).all()
        assert torch.equal(state.alive, state.energy > 0)
        assert (state.alive <= before.alive).all()


@few
@given(configs(), seeds)
def test_the_dead_get_nothing_see_nothing_and_may_do_nothing(config: LbfwsConfig, seed: int) -> None:
    for env, before, _, out in play(config, seed):
        agents, dead = out["agents"], ~env.state.alive
        assert (agents["observation"][dead] == 0).all()
        assert (agents["action_mask"][dead] == ONLY_NONE).all()
        assert (agents["reward"][~before.alive] == 0).all()
        assert torch.equal(env.state.agent_position[~before.alive], before.agent_position[~before.alive])
        assert agents["terminated"][dead].all()
        assert agents["done"][dead].all()


@few
@given(configs())
def test_whoever_does_nothing_dies_when_the_energy_is_used_up(config: LbfwsConfig) -> None:
    n_steps = math.ceil(config.initial_energy / config.energy_cost)
    env = make(config, max_steps=n_steps + 5)
    for step in range(1, n_steps + 1):
        out = act(env, NONE)
        assert env.state.alive.all() == (step < n_steps)
    assert not env.state.alive.any()
    assert (env.state.life == n_steps).all()
    assert (out["terminated"] & out["done"] & ~out["truncated"]).all()


@few
@given(configs(), seeds)
def test_energy_is_what_was_eaten_less_what_was_spent(config: LbfwsConfig, seed: int) -> None:
    """Unclipped: e(t) = e(0) - cost · t + food_energy · spawned · Σ reward, per agent or, split equally, in sum."""
    config = replace(config, initial_energy=1e4, max_energy=1e9, penalty=0.0)
    torch.set_default_dtype(torch.float64)
    try:
        steps = [(env.state, out["agents", "reward"].squeeze(-1)) for env, _, _, out in play(config, seed)]
    finally:
        torch.set_default_dtype(torch.float32)
    state, earned = steps[-1][0], sum(reward for _, reward in steps)
    spent = config.energy_cost * state.step_count.unsqueeze(-1)
    due = 1e4 - spent + config.food_energy * state.spawned.unsqueeze(-1) * earned
    has, due = (state.energy, due) if config.energy_split == "level" else (state.energy.sum(-1), due.sum(-1))
    torch.testing.assert_close(has, due, rtol=0, atol=1e-8)


@few
@given(configs(), seeds)
def test_a_food_pays_its_share_of_what_lay_there_at_reset(config: LbfwsConfig, seed: int) -> None:
    for _, before, action, out in play(replace(config, penalty=0.0), seed):
        beside = (before.agent_position.unsqueeze(2) - before.food_position.unsqueeze(1)).abs().sum(-1) == 1
        loads = ((action == LOAD) & before.alive).unsqueeze(-1) & beside & before.is_food.unsqueeze(1)
        strength = (loads * before.agent_level.unsqueeze(-1)).sum(1)
        eaten = before.food_level * ((strength >= before.food_level) & before.is_food)
        due = eaten.sum(-1) / before.spawned.clamp(min=1)
        torch.testing.assert_close(out["agents", "reward"].sum((-2, -1)), due.float(), rtol=0, atol=1e-6)


@few
@given(seeds)
def test_plain_foraging_pays_one_at_most(seed: int) -> None:
    returns = sum(out["agents", "reward"].sum((-2, -1)) for *_, out in play(PLAIN, seed))
    assert (returns <= 1 + 1e-5).all()
    assert returns.max() > 0


@few
@given(configs(), seeds)
def test_an_episode_ends_once_by_death_or_by_time(config: LbfwsConfig, seed: int) -> None:
    for env, _, _, out in play(config, seed):
        assert not (out["terminated"] & out["truncated"]).any()
        assert torch.equal(out["done"], out["terminated"] | out["truncated"])
        assert torch.equal(out["terminated"].squeeze(-1), ~env.state.alive.any(-1))
        assert (out["done"].squeeze(-1) >= (env.state.step_count >= config.max_steps)).all()


@few
@given(configs(), seeds, st.data())
def test_renumbered_agents_fare_the_same(config: LbfwsConfig, seed: int, data: st.DataObject) -> None:
    """Everything of an agent but the order in which it lists the others."""
    order = torch.tensor(data.draw(st.permutations(range(config.n_agents))))
    env, other = (make_without_regrowth(config, n_envs=4, seed=seed) for _ in range(2))
    per_agent = {"agent_position", "agent_level", "alive", "energy", "life"}
    state = env.state
    other.state = state._replace(**{name: getattr(state, name)[:, order] for name in per_agent})
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        action = likely_actions(env, generator)
        a, b = act(env, action)["agents"], act(other, action[:, order])["agents"]
        for key in ("reward", "position", "alive", "action_mask", "terminated", "life"):
            torch.testing.assert_close(a[key][:, order], b[key])
        n = 3 * config.n_foods + 3
        assert torch.equal(a["observation"][:, order, :n], b["observation"][..., :n])
        assert torch.equal(env.state.food_level, other.state.food_level)


@few
@given(configs(), seeds)
def test_boards_do_not_know_of_each_other(config: LbfwsConfig, seed: int) -> None:
    env = make_without_regrowth(config, n_envs=3, seed=seed)
    singles = [make(env.config, n_envs=1) for _ in range(3)]
    for i, single in enumerate(singles):
        single.state = State(*(entry[i : i + 1] for entry in env.state))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(10):
        action = random_actions(env, generator)
        together = act(env, action)
        for i, single in enumerate(singles):
            alone = act(single, action[i : i + 1])
            assert (together[i : i + 1] == alone).all()


@few
@given(configs(), seeds)
def test_the_same_seed_plays_the_same_episodes_whatever_else_draws(config: LbfwsConfig, seed: int) -> None:
    rollouts = []
    for other_draws in (False, True):
        env = LbfEnv(config, 4, seed)
        generator = torch.Generator().manual_seed(1)
        td = env.reset()
        rows = []
        for _ in range(15):
            if other_draws:
                torch.rand(3)
            td["agents", "action"] = random_actions(env, generator)
            row, td = env.step_and_maybe_reset(td)
            rows.append(row)
        rollouts.append(torch.stack(rows))
    assert (rollouts[0] == rollouts[1]).all()
    assert not torch.equal(
        LbfEnv(config, 64, seed).state.agent_position, LbfEnv(config, 64, seed + 1).state.agent_position
    )


@few
@given(configs(), seeds)
def test_a_partial_reset_touches_the_masked_boards_alone(config: LbfwsConfig, seed: int) -> None:
    env = make(config, n_envs=5, seed=seed)
    td = act(env, random_actions(env, torch.Generator().manual_seed(seed)))
    before, seen = env.state, td.clone()
    is_reset = torch.tensor([True, False, False, True, False])
    td.set("_reset", is_reset.unsqueeze(-1))
    reset = env.reset(td)
    for old, new in zip(before, env.state, strict=True):
        assert torch.equal(old[~is_reset], new[~is_reset])
    assert (env.state.step_count[is_reset] == 0).all()
    assert env.state.alive[is_reset].all()
    kept = seen.exclude(("agents", "reward"))
    assert (reset.select(*kept.keys(True, True))[~is_reset] == kept[~is_reset]).all()
    assert (reset["agents", "observation"][is_reset] != 0).any()


def reset_some(env: LbfEnv, boards: list[int]) -> list[list[int]]:
    """Reset some boards; where their agents then are."""
    is_reset = torch.zeros(*env.batch_size, 1, dtype=torch.bool)
    is_reset[boards] = True
    env.reset(TensorDict({"_reset": is_reset}, env.batch_size))
    return env.state.agent_position[boards].flatten(1).tolist()


def test_no_board_of_partial_resets_is_dealt_twice() -> None:
    env = make(PLAIN, n_envs=6, field_size=[15, 15])
    dealt = [
        board for boards in ([0], [1, 2], [0, 3], [5], [0, 1, 2, 3], [4], [2]) for board in reset_some(env, boards)
    ]
    assert len({tuple(board) for board in dealt}) == len(dealt) == 12


@pytest.mark.parametrize("mask", [None, torch.ones(6, 1, dtype=torch.bool)])
def test_a_full_reset_goes_on_from_the_generator_alone(mask: Tensor | None) -> None:
    """What had been drawn in advance is forgotten: a resumed run finds the same boards."""
    env, other = make(PLAIN, n_envs=6), make(PLAIN, n_envs=6, seed=1)
    reset_some(env, [0, 1])
    other.generator.set_state(env.generator.get_state())
    for one in (env, other):
        one.reset(None if mask is None else TensorDict({"_reset": mask.clone()}, [6]))
    for boards in ([0, 1, 2], [1], [3, 4, 5]):
        assert reset_some(env, boards) == reset_some(other, boards)
    assert torch.equal(env.state.food_level, other.state.food_level)


# By hand


def alone(**changes: object) -> LbfEnv:
    return make(SURVIVAL, n_envs=1, **changes)


def test_food_eaten_in_the_same_step_saves() -> None:
    env = alone(n_agents=2, n_foods=1)
    env.state = board(env.config, [(3, 3, 1), (0, 0, 1)], [(3, 4, 1)], energy=torch.ones(1, 2, dtype=torch.float64))
    out = act(env, torch.tensor([[LOAD, NONE]]))
    assert env.state.alive.tolist() == [[True, False]]
    assert env.state.energy.tolist() == [[10.0, 0.0]]
    assert out["agents", "terminated"].flatten().tolist() == [False, True]
    assert not out["done"].item()


@pytest.mark.parametrize(("split", "gains"), [("equal", [15.0, 15.0]), ("level", [10.0, 20.0])])
def test_a_food_is_split_equally_or_by_level(split: str, gains: list[float]) -> None:
    env = alone(n_agents=2, n_foods=1, energy_split=split)
    env.state = board(
        env.config, [(3, 3, 1), (3, 5, 2)], [(3, 4, 3)], energy=torch.full((1, 2), 5.0, dtype=torch.float64)
    )
    out = act(env, LOAD)
    assert env.state.energy.tolist() == [[4.0 + gain for gain in gains]]
    torch.testing.assert_close(out["agents", "reward"].flatten(), torch.tensor([1 / 3, 2 / 3]))


def test_a_loaded_food_comes_back_after_its_interval_and_not_under_the_living() -> None:
    env = alone(n_agents=1, n_foods=1, respawn_interval=3)
    env.state = board(env.config, [(3, 3, 1)], [(3, 4, 1)])
    act(env, LOAD)
    timers = []
    while not env.state.is_food.any():
        timers.append(env.state.respawn_timer.item())
        act(env, NONE)
    assert timers == [3, 2, 1]


def test_a_food_without_a_free_cell_tries_again() -> None:
    """Three by three cells have one that is not on the border, and the agent stands there."""
    env = alone(n_agents=1, n_foods=1, field_size=[3, 3])
    env.state = board(env.config, [(1, 1, 1)], [])
    for _ in range(3):
        act(env, NONE)
        assert not env.state.is_food.any()
    act(env, EAST)
    assert env.state.is_food.all()
    assert env.state.food_position.tolist() == [[[1, 1]]]


def test_the_dead_do_not_block_are_not_seen_and_do_not_count() -> None:
    env = alone(n_agents=3, n_foods=1)
    dead = torch.tensor([[True, False, True]])
    state = board(env.config, [(3, 3, 1), (3, 5, 3), (5, 5, 1)], [(3, 4, 2)], alive=dead)
    env.state = state._replace(energy=state.energy * dead)
    seen = env._emit(*torch.zeros(2, 1, dtype=torch.bool))["agents", "observation"][0]
    assert seen[0].tolist() == [3, 4, 2, 3, 3, 1, 5, 5, 1, -1, -1, 0, 0.5]
    assert (seen[1] == 0).all()
    act(env, torch.tensor([[LOAD, LOAD, NORTH]]))
    assert env.state.is_food.all()  # the dead would have been strong enough
    act(env, torch.tensor([[SOUTH, NONE, NORTH]]))
    assert env.state.agent_position[0, 2].tolist() == [3, 5]  # where the dead lies
    bare = env.state._replace(food_level=torch.zeros_like(env.state.food_level))
    free = free_cells(bare, env.config.field_size).view(8, 8)
    assert not free[4, 3]
    assert not free[3, 5]
    assert free.sum() == 36 - 2


def test_swaps_succeed_and_chains_overlap() -> None:
    env = make(PLAIN, n_envs=1)
    env.state = board(PLAIN, [(3, 3, 1), (3, 4, 1), (3, 6, 1)], [])
    act(env, torch.tensor([[EAST, WEST, NONE]]))
    assert env.state.agent_position[0, :2].tolist() == [[3, 4], [3, 3]]
    env.state = board(PLAIN, [(3, 3, 1), (3, 4, 1), (3, 6, 1)], [])
    act(env, torch.tensor([[EAST, EAST, WEST]]))
    assert env.state.agent_position[0].tolist() == [[3, 4], [3, 4], [3, 6]]


@pytest.mark.parametrize("config", [PLAIN, SURVIVAL])
def test_shared_reward_is_the_mean_of_the_team(config: LbfConfig) -> None:
    env = make(config, n_envs=1, n_agents=2, n_foods=1, shared_reward=True)
    env.state = board(env.config, [(3, 3, 1), (0, 0, 1)], [(3, 4, 1)])
    assert act(env, LOAD)["agents", "reward"].flatten().tolist() == [0.5, 0.5]


def test_the_bonus_is_for_those_who_live() -> None:
    env = alone(n_agents=2, survival_bonus=0.25)
    env.state = board(env.config, [(3, 3, 1), (0, 0, 1)], [], energy=torch.tensor([[9.0, 1.0]], dtype=torch.float64))
    assert act(env, NONE)["agents", "reward"].flatten().tolist() == [0.25, 0.0]


def test_positions_are_shares_of_the_field() -> None:
    env = make(PLAIN, n_envs=1, field_size=[5, 9])
    env.state = board(env.config, [(0, 0, 1), (4, 8, 1), (2, 4, 1)], [])
    assert act(env, NONE)["agents", "position"][0].tolist() == [[0, 0], [1, 1], [0.5, 0.5]]
