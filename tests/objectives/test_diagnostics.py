"""The numbers that describe every level, worked by hand on one small batch."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyGraph, HierarchyLayout
from benchmarl_himpo.objectives.diagnostics import level_diagnostics
from benchmarl_himpo.objectives.functional import Intervals, interval_starts
from benchmarl_himpo.objectives.reward_scheme import LevelTargets, Trajectories

N_STEPS, N_AGENTS = 6, 3
LAYOUT = HierarchyLayout(n_agents=N_AGENTS, n_nodes=(2, 1), goal_interval=(2, 2))
LEVEL_NUMBERS = {
    "reward_mean",
    "reward_std",
    "advantage_mean",
    "advantage_std",
    "explained_variance",
    "decision_share",
}
UPPER_NUMBERS = {"goal_norm", "goal_change", "cluster_size_min", "cluster_size_mean", "cluster_size_max"}


def _per_edge(*rows: list[float]) -> Tensor:
    """Edge by edge, over time, to ``[1, T, E, 1]``."""
    return torch.tensor(rows, dtype=torch.float64).T[None, :, :, None]


def _batch(clock=(2, 3, 4, 5, 0, 1), parents=None, alive=None) -> Trajectories:
    """One environment that the last batch left at clock 2 and that starts anew at step 4."""
    shape = (1, N_STEPS)
    parents = parents or [[0, 0, 1]] * 2 + [[0, 1, 1]] * 2 + [[1, 1, 1]] * 2
    alive = torch.ones(*shape, N_AGENTS, dtype=torch.bool) if alive is None else torch.tensor([alive]).bool()
    graph = HierarchyGraph((torch.tensor([parents]), torch.zeros(*shape, 2, dtype=torch.long)), (2, 1), alive)
    no_flags = torch.zeros(shape, dtype=torch.bool)
    values = [torch.zeros(*shape, LAYOUT.n_recipients(level), 1, dtype=torch.float64) for level in range(3)]
    values[1] = _per_edge([0, 0, 1, 0, 5, 0], [0, 0, 1, 0, 5, 0], [0, 0, 1, 0, 5, 0])
    return Trajectories(
        reward=torch.zeros(*shape, N_AGENTS, 1, dtype=torch.float64),
        done=no_flags[..., None, None].expand(*shape, N_AGENTS, 1),
        terminated=no_flags[..., None, None].expand(*shape, N_AGENTS, 1),
        team_done=no_flags,
        team_terminated=no_flags,
        clock=torch.tensor([clock]),
        graph=graph,
        state_value=values,
        next_state_value=values,
        goals=_goals(),
    )


def _targets(batch: Trajectories, nobody: bool = False) -> list[LevelTargets]:
    """Rewards 1, 2, 3, ... at every level and edge; advantages are ten times that; targets 0, 0, 2, 0, 4, 0."""
    targets = []
    for level in range(3):
        n_edges = LAYOUT.n_recipients(level)
        ramp = _per_edge(*[list(range(1, N_STEPS + 1))] * n_edges)
        is_decision = LAYOUT.is_due(batch.clock, level)
        mask = is_decision[..., None, None].expand_as(ramp)
        targets.append(
            LevelTargets(
                reward=ramp,
                advantage=10 * ramp,
                value_target=_per_edge(*[[0, 0, 2, 0, 4, 0]] * n_edges),
                actor_mask=mask & (not nobody),
                critic_mask=mask & (not nobody),
                intervals=Intervals(interval_starts(is_decision)),
            )
        )
    return targets


def _goals() -> dict[int, Tensor]:
    """Level 1 sends (3, 4), then (0, 0), then (6, 8) at its three decisions; level 2 sends (1, 0) and then (0, 1)."""
    sub_manager = torch.tensor([[3.0, 4], [3, 4], [0, 0], [0, 0], [6, 8], [6, 8]], dtype=torch.float64)
    manager = torch.tensor([[1.0, 0]] * 2 + [[0, 1]] * 4, dtype=torch.float64)
    by_level = {1: (sub_manager, 3), 2: (manager, 2)}
    return {level: goal[None, :, None].expand(1, N_STEPS, n, 2) for level, (goal, n) in by_level.items()}


def _numbers(**options) -> dict[str, float]:
    batch = _batch(**options)
    return level_diagnostics(LAYOUT, batch, _targets(batch))


def test_rewards_and_advantages_are_described_per_decision():
    """Workers get 1 to 6 a step; sub-managers decide at steps 0, 2, 4 and get 3, 7, 11; the manager gets 7, 11.

    The manager decides at steps 2 and 4: its interval at step 0 began in an earlier batch and counts for nothing.
    """
    numbers = _numbers()
    assert numbers["reward_mean_level_0"] == pytest.approx(3.5)
    assert numbers["reward_std_level_0"] == pytest.approx(math.sqrt(35 / 12))
    assert numbers["reward_mean_level_1"] == pytest.approx(7)
    assert numbers["reward_std_level_1"] == pytest.approx(math.sqrt(32 / 3))
    assert numbers["reward_mean_level_2"] == pytest.approx(9)
    assert numbers["reward_std_level_2"] == pytest.approx(2)
    assert numbers["advantage_mean_level_1"] == pytest.approx(30)
    assert numbers["advantage_std_level_1"] == pytest.approx(10 * math.sqrt(8 / 3))
    assert numbers["advantage_mean_level_2"] == pytest.approx(40)
    assert numbers["advantage_std_level_2"] == pytest.approx(10)


def test_decision_share_is_the_share_of_frames_with_a_decision():
    """All of six, three of six, two of six."""
    numbers = _numbers()
    shares = [numbers[f"decision_share_level_{level}"] for level in range(3)]
    assert shares == pytest.approx([1, 1 / 2, 1 / 3])


def test_explained_variance_compares_values_with_targets_where_the_critic_trains():
    """Level 1: targets 0, 2, 4 with variance 8/3, errors 0, 1, -1 with variance 2/3; zeros explain nothing."""
    numbers = _numbers()
    assert numbers["explained_variance_level_1"] == pytest.approx(1 - (2 / 3) / (8 / 3))
    assert numbers["explained_variance_level_2"] == pytest.approx(0)


def test_goals_are_described_at_decisions_and_change_inside_episodes_only():
    """Level 1: norms 5, 0, 10, and one change of 5 (the goal after the reset follows none); the manager's is √2."""
    numbers = _numbers()
    assert numbers["goal_norm_level_1"] == pytest.approx(5)
    assert numbers["goal_change_level_1"] == pytest.approx(5)
    assert numbers["goal_norm_level_2"] == pytest.approx(1)
    assert numbers["goal_change_level_2"] == pytest.approx(math.sqrt(2))


def test_goals_of_whole_numbers_are_described_as_vectors():
    """One-hot goals 0, 0, 2 at level 1: norm 1, no change inside the episode; then 0, 2, 2, a change of √2."""
    batch = _batch()
    choice = torch.tensor([0, 0, 0, 0, 2, 2])
    goal = torch.nn.functional.one_hot(choice, 3)[None, :, None].expand(1, N_STEPS, 3, 3)
    numbers = level_diagnostics(LAYOUT, replace(batch, goals={**batch.goals, 1: goal}), _targets(batch))
    assert numbers["goal_norm_level_1"] == pytest.approx(1)
    assert numbers["goal_change_level_1"] == pytest.approx(0)
    moved = torch.nn.functional.one_hot(torch.tensor([0, 0, 2, 2, 2, 2]), 3)[None, :, None].expand(1, N_STEPS, 3, 3)
    numbers = level_diagnostics(LAYOUT, replace(batch, goals={**batch.goals, 1: moved}), _targets(batch))
    assert numbers["goal_change_level_1"] == pytest.approx(math.sqrt(2))


def test_cluster_sizes_count_live_workers():
    """Sub-managers have 2 and 1, then 1 and 2, then 0 and 3 workers; with worker 2 dead at the end 0 and 2."""
    numbers = _numbers()
    assert numbers["cluster_size_min_level_1"] == 0
    assert numbers["cluster_size_max_level_1"] == 3
    assert numbers["cluster_size_mean_level_1"] == pytest.approx(1.5)
    assert numbers["cluster_size_mean_level_2"] == pytest.approx(3)
    numbers = _numbers(alive=[[1, 1, 1]] * 4 + [[1, 1, 0]] * 2)
    assert numbers["cluster_size_max_level_1"] == 2
    assert numbers["cluster_size_min_level_2"] == 2
    assert numbers["cluster_size_mean_level_1"] == pytest.approx((4 * 3 + 2 * 2) / 12)


def test_churn_is_the_share_of_live_workers_that_change_sub_managers_at_a_decision():
    """At step 2 one of three moves; at step 4 another, but an episode starts there. With worker 1 dead nobody moves."""
    assert _numbers()["cluster_churn_level_1"] == pytest.approx(1 / 3)
    assert _numbers(alive=[[1, 0, 1]] * N_STEPS)["cluster_churn_level_1"] == 0
    still = _numbers(parents=[[0, 1, 1]] * N_STEPS)
    assert still["cluster_churn_level_1"] == 0


def test_every_number_is_there_and_finite_whoever_trains():
    """A batch in which nobody trains has the same keys, and no NaN."""
    batch = _batch()
    expected = {f"{name}_level_{level}" for name in LEVEL_NUMBERS for level in range(3)}
    expected |= {f"{name}_level_{level}" for name in UPPER_NUMBERS for level in (1, 2)} | {"cluster_churn_level_1"}
    for nobody in (False, True):
        numbers = level_diagnostics(LAYOUT, batch, _targets(batch, nobody))
        assert set(numbers) == expected
        assert all(isinstance(value, float) and math.isfinite(value) for value in numbers.values())


def test_flat_ppo_has_the_numbers_of_its_one_level():
    """Depth 1: no goals, no clusters."""
    layout = HierarchyLayout(N_AGENTS, (), ())
    batch = _batch()
    flat = Trajectories(**{**vars(batch), "graph": HierarchyGraph((), (), batch.graph.alive), "goals": {}})
    numbers = level_diagnostics(layout, flat, _targets(batch)[:1])
    assert set(numbers) == {f"{name}_level_0" for name in LEVEL_NUMBERS}
