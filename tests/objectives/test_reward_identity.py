"""The identity of the reward scheme: a worker's intrinsic return over an episode is the team's return less a constant.

With γ = 1 and λ = 0, over every episode or part of one that a batch holds, from its first step s to its last,

    Σ_t r⁰_w,t = Σ_t (1/n) Σ_i r_i,t  +  Σ_levels Σ_t local(t)  +  Σ_levels [V(after the last) - V(s)]

where V after the last step is 0 behind a true end. This holds for any value network, length, clock, number of agents,
for any credit rule that shares out the advantage, and for any clustering that changes at sub-manager decisions only, if
the graph is static or every manager has one value.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parts import SHARING_CREDITS
from support.plain_loops import ancestor, local_reward_of
from support.random_batches import Shapes, cut_steps, episodes, random_trajectories
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives.reward_scheme import LOCAL_REWARDS, LevelTargets, RewardScheme, Trajectories

TOLERANCE = 1e-10

LAYOUTS = st.builds(
    lambda n_agents, levels: HierarchyLayout(n_agents, tuple(n for n, _ in levels), tuple(i for _, i in levels)),
    n_agents=st.integers(1, 5),
    levels=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3),
)
THREE_LEVELS = st.builds(
    lambda n_agents, n_sub_managers, alpha, k: HierarchyLayout(n_agents, (n_sub_managers, 1), (alpha, k)),
    n_agents=st.integers(1, 5),
    n_sub_managers=st.integers(1, 3),
    alpha=st.integers(1, 4),
    k=st.integers(1, 3),
)
SHAPES = st.builds(
    Shapes,
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 16),
    max_episode=st.sampled_from([1, 4, 9, 40]),
    has_dead=st.booleans(),
    start_clock=st.integers(0, 11),
)


def _targets(layout: HierarchyLayout, credit: str, local_reward: str, batch: Trajectories) -> list[LevelTargets]:
    ones, zeros = (1.0,) * layout.n_levels, (0.0,) * layout.n_levels
    return RewardScheme(layout, SHARING_CREDITS[credit], local_reward, False, ones, zeros, "all")(batch)


def _value(values: list[Tensor], batch: Trajectories, b: int, t: int, worker: int, level: int) -> float:
    """The value of the edge of ``level`` above a worker."""
    return float(values[level][b, t, ancestor(batch, b, t, worker, max(level - 1, 0)), 0])


def _bootstrap(batch: Trajectories, b: int, last: int, worker: int, level: int) -> float:
    """V(o_T) of the same edge, as the row before gives it; zero behind a true end."""
    if batch.team_terminated[b, last]:
        return 0.0
    if batch.team_done[b, last] or last + 1 == batch.reward.shape[1]:
        return _value(batch.next_state_value, batch, b, last, worker, level)
    return _value(batch.state_value, batch, b, last + 1, worker, level)


def _team_return(
    layout: HierarchyLayout, local_reward: str, batch: Trajectories, b: int, first: int, last: int, w: int
):
    """The right-hand side of the identity for one worker, from the environment's rewards and the values alone."""
    total = 0.0
    for t in range(first, last + 1):
        total += float(batch.reward[b, t].mean())
        for level in range(1, layout.top):
            total += local_reward_of(batch, local_reward, level, b, t, ancestor(batch, b, t, w, level - 1))
    for level in range(1, layout.n_levels):
        total += _bootstrap(batch, b, last, w, level) - _value(batch.state_value, batch, b, first, w, level)
    return total


def _check_every_part(layout: HierarchyLayout, local_reward: str, batch: Trajectories, targets: list[LevelTargets]):
    for b in range(batch.reward.shape[0]):
        for first, last in episodes(batch, b):
            for worker in range(layout.n_agents):
                given = float(targets[0].reward[b, first : last + 1, worker].sum())
                due = _team_return(layout, local_reward, batch, b, first, last, worker)
                assert given == pytest.approx(due, rel=0, abs=TOLERANCE)


@settings(deadline=None, max_examples=80)
@given(
    layout=THREE_LEVELS,
    shapes=SHAPES,
    credit=st.sampled_from(sorted(SHARING_CREDITS)),
    local_reward=st.sampled_from(LOCAL_REWARDS),
    is_dynamic=st.booleans(),
)
def test_a_workers_intrinsic_return_is_the_teams_return_less_a_constant(
    layout, shapes, credit, local_reward, is_dynamic
):
    """Three levels, one value per manager, static and dynamic graph; several episodes of any end per environment."""
    shapes = replace(shapes, is_dynamic=is_dynamic, one_value_per_manager=True)
    batch = random_trajectories(layout, shapes)
    _check_every_part(layout, local_reward, batch, _targets(layout, credit, local_reward, batch))


@settings(deadline=None, max_examples=60)
@given(
    layout=LAYOUTS,
    shapes=SHAPES,
    credit=st.sampled_from(sorted(SHARING_CREDITS)),
    local_reward=st.sampled_from(LOCAL_REWARDS),
)
def test_the_identity_holds_at_any_depth_on_a_static_graph(layout, shapes, credit, local_reward):
    """Depth 2, 3 and 4, several nodes at the top, another value on every edge."""
    batch = random_trajectories(layout, replace(shapes, is_dynamic=False))
    _check_every_part(layout, local_reward, batch, _targets(layout, credit, local_reward, batch))


@settings(deadline=None, max_examples=60)
@given(
    layout=LAYOUTS,
    shapes=SHAPES,
    credit=st.sampled_from(sorted(SHARING_CREDITS)),
    local_reward=st.sampled_from(LOCAL_REWARDS),
)
def test_the_return_of_a_level_is_that_of_the_level_above_less_its_value(layout, shapes, credit, local_reward):
    """Σ r⁰ = Σ r¹ - V¹(o_0) for every worker along its own edge, with any graph and any value on every edge."""
    batch = random_trajectories(layout, shapes)
    workers, above = _targets(layout, credit, local_reward, batch)[:2]
    for b in range(shapes.n_envs):
        for first, last in episodes(batch, b):
            for w in range(layout.n_agents):
                given = float(workers.reward[b, first : last + 1, w].sum())
                above_return = float(above.reward[b, first : last + 1, w].sum())
                change = _bootstrap(batch, b, last, w, 1) - _value(batch.state_value, batch, b, first, w, 1)
                assert given == pytest.approx(above_return + change, rel=0, abs=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(layout=LAYOUTS, shapes=SHAPES)
def test_the_tops_advantages_sum_to_the_teams_return_less_its_value(layout, shapes):
    """Σ_k A_k = Σ_k r_k - V(o_0) on every edge of the top level."""
    batch = random_trajectories(layout, shapes)
    top = _targets(layout, "uniform", "none", batch)[layout.top]
    for b in range(shapes.n_envs):
        for first, last in episodes(batch, b):
            is_start = top.intervals.is_start[b, first : last + 1]
            for edge in range(layout.n_recipients(layout.top)):
                total = float(top.advantage[b, first : last + 1, edge][is_start].sum())
                value = float(batch.state_value[layout.top][b, first, edge])
                after = 0.0
                if not batch.team_terminated[b, last]:
                    after = float(batch.next_state_value[layout.top][b, last, edge])
                due = float(batch.reward[b, first : last + 1].mean(1).sum()) - value + after
                assert total == pytest.approx(due, rel=0, abs=TOLERANCE)


@settings(deadline=None, max_examples=60)
@given(
    layout=THREE_LEVELS,
    shapes=SHAPES,
    credit=st.sampled_from(sorted(SHARING_CREDITS)),
    local_reward=st.sampled_from(LOCAL_REWARDS),
    data=st.data(),
)
def test_a_batch_end_in_the_middle_of_an_interval_changes_no_workers_sum(layout, shapes, credit, local_reward, data):
    """The same trajectories in one batch and in two: the intrinsic return of a worker over an episode is the same.

    The second batch begins in the middle of intervals wherever the cut is not at a decision.
    """
    shapes = replace(shapes, n_steps=shapes.n_steps + 1, one_value_per_manager=True)
    cut = data.draw(st.integers(1, shapes.n_steps - 1))
    batch = random_trajectories(layout, shapes)
    parts = [cut_steps(batch, 0, cut), cut_steps(batch, cut, shapes.n_steps)]
    targets = [_targets(layout, credit, local_reward, part) for part in parts]
    for part, target in zip(parts, targets, strict=True):
        _check_every_part(layout, local_reward, part, target)
    whole = _targets(layout, credit, local_reward, batch)[0].reward
    pieces = torch.cat([target[0].reward for target in targets], dim=1)
    for b in range(shapes.n_envs):
        for first, last in episodes(batch, b):
            sums = [x[b, first : last + 1].sum(0) for x in (whole, pieces)]
            torch.testing.assert_close(*sums, rtol=0, atol=TOLERANCE)
