"""The scripted policies tell the difficulties apart: what the survival constants were chosen by."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from support.boards import PLAIN, board, make

from benchmarl_himpo.environments.lbf.rules import EAST, LOAD, NONE, find_choices
from benchmarl_himpo.environments.lbf.scripts import SCRIPTS, scripted_policies
from benchmarl_himpo.harness.evaluation.episodes import read_returns
from benchmarl_himpo.harness.reference_returns.measurement import ReferenceReturn, measure_reference_returns


@cache
def play(task: str, n_envs: int) -> dict[str, ReferenceReturn]:
    return measure_reference_returns([f"task=lbfws/{task}"], n_envs, seed=0)


def return_of(script: str, task: str, n_envs: int) -> float:
    return play(task, n_envs)[script].per_agent.value


N_ENVS = [48, pytest.param(256, marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize("n_envs", N_ENVS)
@pytest.mark.parametrize(
    ("task", "low", "high"), [pytest.param("easy", 0.9, 1.0, marks=pytest.mark.slow), ("hard", 0.1, 0.5)]
)
def test_greed_is_enough_on_easy_and_coordination_is_needed_on_hard(
    task: str, low: float, high: float, n_envs: int
) -> None:
    ratio = return_of("greedy", task, n_envs) / return_of("coalition", task, n_envs)
    assert low < ratio < high


@pytest.mark.parametrize("n_envs", N_ENVS)
def test_several_groups_do_better_than_one_herd_on_hard(n_envs: int) -> None:
    assert return_of("coalition", "hard", n_envs) > 1.3 * return_of("herd", "hard", n_envs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "task", "team_return", "life"),
    [
        ("random", "easy", 1.0, 30),
        ("random", "medium", 0.24, 34),
        ("random", "hard", 0.01, 30),
        ("greedy", "easy", 25.3, 184),
        ("nearest", "medium", 8.3, 132),
        ("greedy", "hard", 1.4, 69),
    ],
)
def test_the_specified_returns(script: str, task: str, team_return: float, life: float) -> None:
    """Rows of the calibration whose scripts leave little open."""
    reference, n_agents = play(task, 256)[script], 6 if task == "hard" else 4
    assert n_agents * reference.per_agent.value == pytest.approx(team_return, rel=0.15, abs=0.05)
    assert reference.metrics["life_mean"].value == pytest.approx(life, rel=0.06)


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts_do_what_may_be_done_and_eat_in_plain_foraging(script: str) -> None:
    env = make(PLAIN, n_envs=64)
    actions = SCRIPTS[script](env.state, env.config, env.generator)
    assert find_choices(env.state, [8, 8]).action_mask.gather(-1, actions.unsqueeze(-1)).all()
    rollout = env.rollout(50, scripted_policies(env)[script], break_when_any_done=False)
    returns = read_returns(rollout, ["agents"])
    assert (returns.team <= 1 + 1e-5).all()
    assert returns.metrics == {}  # nobody dies
    if script.startswith(("herd", "coalition")):
        assert returns.team.mean() > 0.75


def test_each_script_picks_its_food() -> None:
    """Two of level 1 by a food of level 2, one of level 2 by a food of level 1 that lies farther away."""
    state = board(PLAIN, [(2, 1, 1), (2, 3, 1), (6, 5, 2)], [(2, 2, 2), (6, 6, 1)])
    generator = torch.Generator().manual_seed(0)
    chosen = {name: script(state, PLAIN, generator)[0].tolist() for name, script in SCRIPTS.items()}
    assert chosen["coalition"] == chosen["nearest"] == [LOAD, LOAD, LOAD]
    assert chosen["herd"][:2] == [LOAD, LOAD]
    assert chosen["herd"][2] not in (LOAD, NONE)
    assert chosen["greedy"][2] == LOAD
    assert LOAD not in chosen["greedy"][:2]  # they can load the other one alone


def test_what_a_teammate_sees_is_known_and_nothing_else() -> None:
    """Sight of one cell: the first agent sees the food that is farther from both, and nobody the other one."""
    agents, foods = [(2, 1, 1), (2, 5, 1)], [(2, 0, 2), (2, 3, 1)]
    generator = torch.Generator().manual_seed(0)
    config = replace(PLAIN, sight=1)
    state = board(config, agents, foods)
    assert int(SCRIPTS["herd"](state, config, generator)[0, 0]) == EAST
    assert int(SCRIPTS["herd_in_sight"](state, config, generator)[0, 0]) == LOAD
    dead = state._replace(alive=torch.tensor([[False, True]]))
    chosen = {int(SCRIPTS["herd_in_sight"](dead, config, generator)[0, 1]) for _ in range(50)}
    assert chosen == {NONE, *range(1, LOAD)}  # what the dead saw is lost: any valid action
