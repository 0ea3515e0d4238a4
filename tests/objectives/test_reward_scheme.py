"""Rewards of every level by hand, as plain loops and shielded from single rewards, and the rows that each trains on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.parts import CREDITS
from support.plain_loops import reward_scheme_loop
from support.random_batches import Shapes, random_trajectories
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyGraph, HierarchyLayout
from benchmarl_himpo.objectives.functional import Intervals, interval_starts
from benchmarl_himpo.objectives.reward_scheme import CRITIC_ROWS, LOCAL_REWARDS, RewardScheme, Trajectories

THREE_LEVELS = HierarchyLayout(n_agents=2, n_nodes=(2, 1), goal_interval=(2, 2))


def _scheme(layout: HierarchyLayout, **options) -> RewardScheme:
    defaults = {
        "credit": CREDITS["uniform"],
        "local_reward": "cluster",
        "worker_external_reward": False,
        "gamma": (0.5,) * layout.n_levels,
        "lmbda": (0.0,) * layout.n_levels,
        "critic_rows": "all",
    }
    return RewardScheme(layout, **(defaults | options))


def _one_env(layout: HierarchyLayout, clock, reward, parent_index, values, alive=None) -> Trajectories:
    """One environment that neither ends nor is cut by anything but the batch; V after the last step is zero."""
    n_steps, n_agents = len(clock), layout.n_agents
    no_flags = torch.zeros(1, n_steps, dtype=torch.bool)
    alive = torch.ones(1, n_steps, n_agents, dtype=torch.bool) if alive is None else torch.tensor([alive]).bool()
    parents = [torch.tensor(parent_index).expand(1, n_steps, -1)]
    parents += [layout.static_parent_index(level).expand(1, n_steps, -1) for level in range(2, layout.n_levels)]
    state_values = [torch.as_tensor(v, dtype=torch.float64).reshape(1, n_steps, -1, 1) for v in values]
    return Trajectories(
        reward=torch.tensor([reward], dtype=torch.float64).unsqueeze(-1),
        done=no_flags[..., None, None].expand(1, n_steps, n_agents, 1),
        terminated=no_flags[..., None, None].expand(1, n_steps, n_agents, 1),
        team_done=no_flags,
        team_terminated=no_flags,
        clock=torch.tensor([clock]),
        graph=HierarchyGraph(tuple(parents[: layout.top]), layout.n_nodes, alive),
        state_value=state_values,
        next_state_value=[torch.cat([v[:, 1:], torch.zeros_like(v[:, :1])], dim=1) for v in state_values],
    )


def _numbers(x: Tensor) -> list[list[float]]:
    """Of one environment, edge by edge."""
    return x[0, :, :, 0].T.tolist()


def _hand_worked_batch() -> Trajectories:
    """Four steps of two workers under two sub-managers (worker 0 under 1, worker 1 under 0) under one manager.

    The manager decides at step 0, the sub-managers at 0 and 2. Rewards are 1, 2, 3, 4 for worker 0 and 3, 4, 5, 6 for
    worker 1; the manager's value is 8, those of the sub-managers towards the two are 1, 1, 2, 2 and 3, 3, 4, 4.
    """
    values = [torch.zeros(4, 2), [[1, 3], [1, 3], [2, 4], [2, 4]], torch.full((4, 2), 8.0)]
    return _one_env(THREE_LEVELS, [0, 1, 2, 3], [[1, 3], [2, 4], [3, 5], [4, 6]], [1, 0], values)


# The team's mean rewards are 2, 3, 4, 5 and sum to 14, so A² = 14 + γ 0 - 8 = 6 (γ = 1/2; V after the batch is zero).
@pytest.mark.parametrize(
    ("credit", "from_manager", "worker_0", "worker_1"),
    [
        # A²/4 = 1.5 a step. Towards worker 0: A¹ = (1 + 2 + 3) + 2/2 - 1 = 6 and (3 + 4 + 3) - 2 = 8; halves of each.
        # Towards worker 1: A¹ = (3 + 4 + 3) + 4/2 - 3 = 9 and (5 + 6 + 3) - 4 = 10.
        ("uniform", [1.5] * 4, [3, 3, 4, 4], [4.5, 4.5, 5, 5]),
        # A² at the end alone. Towards worker 0: A¹ = 3 + 1 - 1 = 3 and (7 + 6) - 2 = 11.
        # Towards worker 1: A¹ = 7 + 2 - 3 = 6 and (11 + 6) - 4 = 13.
        ("final", [0, 0, 0, 6], [0, 3, 0, 11], [0, 6, 0, 13]),
        # ρ + V' - V: from the manager come 2, 3, 4 and then 5 - 8. Towards worker 0 the reward is 3, 5, 7, 1, towards
        # worker 1 it is 5, 7, 9, 3; then plus V' (half at a decision, zero after the batch) less V.
        ("telescoped", [2, 3, 4, -3], [3, 5, 7, -1], [5, 6, 9, -1]),
    ],
)
def test_three_levels_worked_by_hand(credit, from_manager, worker_0, worker_1):
    """Manager to sub-managers to workers, with the workers' own rewards as local reward (one worker per cluster)."""
    workers, sub_managers, manager = _scheme(THREE_LEVELS, credit=CREDITS[credit])(_hand_worked_batch())
    assert _numbers(manager.reward) == [[2, 3, 4, 5]] * 2
    assert _numbers(manager.advantage) == [[6] * 4] * 2
    local = ([1, 2, 3, 4], [3, 4, 5, 6])
    expected = [[a + b for a, b in zip(from_manager, row, strict=True)] for row in local]
    assert _numbers(sub_managers.reward) == pytest.approx(torch.tensor(expected).numpy())
    assert _numbers(workers.reward) == pytest.approx(torch.tensor([worker_0, worker_1]).numpy())


def test_intrinsic_rewards_are_those_of_the_edge_to_a_worker_and_of_a_sub_managers_own_node():
    """Credit goes down the clustering: a sub-manager's is that of its node, whichever worker it is found above."""
    layout = HierarchyLayout(3, (2, 1), (1, 1))
    values = [torch.zeros(1, 3), torch.zeros(1, 3), [[10.0, 20.0]]]
    batch = _one_env(layout, [0], [[0.0, 0.0, 0.0]], [1, 0, 1], values)
    workers, sub_managers, manager = _scheme(layout, local_reward="none")(batch)
    assert _numbers(manager.advantage) == [[-10], [-20]]
    assert _numbers(sub_managers.reward) == [[-20], [-10], [-20]]
    assert _numbers(workers.reward) == [[-20], [-10], [-20]]


@pytest.mark.parametrize(
    ("worker_external_reward", "expected"), [(False, [[0.5, -0.5], [0.3, 0]]), (True, [[1.5, 1.5], [3.3, 4]])]
)
def test_cosine_rewards_a_worker_for_the_goal_towards_it(worker_external_reward, expected):
    """Two workers under one manager, weight 1/2: along and against, cosine 3/5 and across; then plus 1, 2 and 3, 4."""
    layout = HierarchyLayout(2, (1,), (2,))
    batch = _one_env(layout, [0, 1], [[1.0, 3.0], [2.0, 4.0]], [0, 0], [torch.zeros(2, 2), torch.zeros(2, 2)])
    goals = torch.tensor([[[1.0, 0], [0, 2]]] * 2).double()
    changes = torch.tensor([[[9.0, 0], [4, 3]], [[-1, 0], [1, 0]]]).double()
    batch = replace(batch, goals={1: goals[None]}, encoding_changes={1: changes[None]})
    options = {"credit": CREDITS["cosine"], "worker_external_reward": worker_external_reward}
    workers, manager = _scheme(layout, **options)(batch)
    torch.testing.assert_close(workers.reward[0, :, :, 0].T, torch.tensor(expected).double(), rtol=0, atol=1e-7)
    assert _numbers(manager.reward) == [[2, 3]] * 2


@pytest.mark.parametrize(
    ("local_reward", "expected"), [("cluster", [1.5, 7, 1.5, 1.5]), ("own", [1, 7, 2, 9]), ("none", [0, 0, 0, 0])]
)
def test_local_rewards_of_a_sub_manager(local_reward, expected):
    """Workers 0, 2 and the dead 3 under one sub-manager, worker 1 under the other; rewards 1, 7, 2 and 9."""
    layout = HierarchyLayout(4, (2, 1), (1, 1))
    values = [torch.zeros(1, 4), torch.zeros(1, 4), [[19 / 4, 19 / 4]]]
    batch = _one_env(layout, [0], [[1.0, 7.0, 2.0, 9.0]], [0, 1, 0, 0], values, alive=[[1, 1, 1, 0]])
    sub_managers = _scheme(layout, local_reward=local_reward)(batch)[1]
    assert sub_managers.reward.flatten().tolist() == expected


def test_own_reward_of_a_middle_level_is_the_mean_below_the_subordinate():
    """Depth 4: the middle manager gets, towards each sub-manager, the mean of the live workers below that one."""
    layout = HierarchyLayout(4, (2, 1, 1), (1, 1, 1))
    values = [torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 2), torch.full((1, 1), 4.0)]
    batch = _one_env(layout, [0], [[1.0, 3.0, 5.0, 7.0]], [0, 0, 1, 1], values, alive=[[1, 1, 1, 0]])
    assert _scheme(layout, local_reward="own")(batch)[2].reward.flatten().tolist() == [2, 5]
    assert _scheme(layout, local_reward="cluster")(batch)[2].reward.flatten().tolist() == [3, 3]


def test_flat_workers_keep_the_external_reward():
    """Depth 1 is PPO on the external reward."""
    layout = HierarchyLayout(2, (), ())
    batch = _one_env(layout, [0, 0], [[1.0, 2.0], [3.0, 4.0]], [0, 0], [torch.zeros(2, 2)])
    (workers,) = _scheme(layout)(batch)
    assert (workers.reward == batch.reward).all()
    assert workers.actor_mask.all()


def test_fl_adds_the_external_reward_to_that_of_workers_only():
    """The paper's FL."""
    batch = _hand_worked_batch()
    shielded = _scheme(THREE_LEVELS)(batch)
    flooded = _scheme(THREE_LEVELS, worker_external_reward=True)(batch)
    assert (flooded[0].reward == shielded[0].reward + batch.reward).all()
    for level in (1, 2):
        assert (flooded[level].reward == shielded[level].reward).all()


@settings(deadline=None, max_examples=40)
@given(
    n_agents=st.integers(1, 4),
    levels=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=3),
    shapes=st.builds(
        Shapes,
        seed=st.integers(0, 2**31),
        n_steps=st.integers(1, 9),
        is_dynamic=st.booleans(),
        has_dead=st.booleans(),
        start_clock=st.integers(0, 5),
    ),
    credit=st.sampled_from(sorted(CREDITS)),
    local_reward=st.sampled_from(LOCAL_REWARDS),
    worker_external_reward=st.booleans(),
    critic_rows=st.sampled_from(CRITIC_ROWS),
    gamma=st.sampled_from([0.0, 0.5, 0.984375, 1.0]),
    lmbda=st.sampled_from([0.0, 0.95]),
)
def test_every_scheme_equals_plain_loops(
    n_agents, levels, shapes, credit, local_reward, worker_external_reward, critic_rows, gamma, lmbda
):
    """Rewards, advantages, value targets and masks of depth 1 to 4, with another discount at every level.

    Which rows were drawn for ``critic_rows=sampled`` is drawn again from the same seed, from the top down.
    """
    layout = HierarchyLayout(n_agents, tuple(n for n, _ in levels), tuple(i for _, i in levels))
    rule = CREDITS[credit]
    assume(not (rule.reads_values and critic_rows == "decisions" and layout.n_levels > 1))
    options = {
        "credit": rule,
        "local_reward": local_reward,
        "worker_external_reward": worker_external_reward,
        "gamma": (gamma, 0.75, 0.5, 1.0)[: layout.n_levels],
        "lmbda": (lmbda, 0.0, 0.0, 0.0)[: layout.n_levels],
        "critic_rows": critic_rows,
    }
    batch = random_trajectories(layout, shapes)
    torch.manual_seed(shapes.seed)
    targets = RewardScheme(layout, **options)(batch)
    torch.manual_seed(shapes.seed)
    drawn = {level: _intervals(layout, batch, level).draw_step() for level in range(layout.top, 0, -1)}
    expected = reward_scheme_loop(layout, batch=batch, drawn=drawn, **options)
    assert len(targets) == layout.n_levels
    for level, (target, loop) in enumerate(zip(targets, expected, strict=True)):
        tolerance = 1e-5 if level == 0 and gamma * lmbda > 0 else 1e-10
        torch.testing.assert_close(target.reward, loop.reward, rtol=0, atol=1e-10)
        torch.testing.assert_close(target.advantage, loop.advantage, rtol=0, atol=tolerance)
        torch.testing.assert_close(target.value_target, loop.value_target, rtol=0, atol=tolerance)
        assert (target.actor_mask == loop.actor_mask).all()
        assert (target.critic_mask == loop.critic_mask).all()
        assert target.advantage.shape == (*batch.clock.shape, layout.n_recipients(level), 1)


def _intervals(layout: HierarchyLayout, batch: Trajectories, level: int) -> Intervals:
    return Intervals(interval_starts(layout.is_due(batch.clock, level)))


@pytest.mark.parametrize("credit", CREDITS)
def test_intrinsic_rewards_are_data_without_gradient(credit):
    """No gradient of a lower level reaches a critic or the advantage of the level above."""
    layout = HierarchyLayout(3, (2, 1), (2, 2))
    batch = random_trajectories(layout, Shapes(seed=0))
    values = [value.requires_grad_() for value in batch.state_value]
    targets = _scheme(layout, credit=CREDITS[credit])(replace(batch, state_value=values))
    assert all(target.advantage.requires_grad for target in targets)
    assert not any(target.reward.requires_grad for target in targets)


def test_upper_levels_may_chain_advantages_where_the_credit_allows_it():
    """λ above the workers is an option of uniform and final: the manager's advantages are those of GAE."""
    layout = HierarchyLayout(2, (1,), (2,))
    shapes = Shapes(seed=3, n_steps=12, max_episode=9)
    options = {
        "credit": CREDITS["final"],
        "local_reward": "cluster",
        "worker_external_reward": False,
        "gamma": (0.5, 0.5),
        "lmbda": (0.5, 0.5),
        "critic_rows": "decisions",
    }
    batch = random_trajectories(layout, shapes)
    targets = RewardScheme(layout, **options)(batch)
    expected = reward_scheme_loop(layout, batch=batch, drawn={}, **options)
    for target, loop in zip(targets, expected, strict=True):
        torch.testing.assert_close(target.advantage, loop.advantage, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    credit=st.sampled_from([name for name, rule in CREDITS.items() if not rule.reads_values]),
    local_reward=st.sampled_from(LOCAL_REWARDS),
    seed=st.integers(0, 2**31),
)
def test_values_inside_an_interval_are_read_by_rules_that_say_so_only(credit, local_reward, seed):
    """Where upper critics run on decisions alone, the other rows may hold anything, NaN included."""
    layout = HierarchyLayout(3, (2, 1), (3, 2))
    batch = random_trajectories(layout, Shapes(seed=seed, n_steps=14, max_episode=11, start_clock=2))
    scheme = _scheme(layout, credit=CREDITS[credit], local_reward=local_reward, critic_rows="decisions")
    values, next_values = list(batch.state_value), list(batch.next_state_value)
    for level in (1, 2):
        intervals = Intervals(interval_starts(layout.is_due(batch.clock, level)))
        values[level] = values[level].where(intervals.is_start[..., None, None], torch.nan)
        next_values[level] = next_values[level].where(intervals.is_end[..., None, None], torch.nan)
    sparse = replace(batch, state_value=values, next_state_value=next_values)
    for target, expected in zip(scheme(sparse), scheme(batch), strict=True):
        assert (target.reward == expected.reward).all()
        assert (target.advantage == expected.advantage).all()
        assert (target.value_target == expected.value_target).all()


def _shuffle_inside_intervals(batch: Trajectories, layout: HierarchyLayout, seed: int) -> Trajectories:
    """Each worker's external rewards in another order inside every sub-manager interval, another order per worker."""
    generator = torch.Generator().manual_seed(seed)
    intervals = Intervals(interval_starts(layout.is_due(batch.clock, 1)))
    reward = batch.reward.clone()
    for b in range(reward.shape[0]):
        for k in range(int(intervals.index[b].max()) + 1):
            steps = (intervals.index[b] == k).nonzero().flatten()
            for worker in range(layout.n_agents):
                order = steps[torch.randperm(len(steps), generator=generator)]
                reward[b, steps, worker] = batch.reward[b, order, worker]
    return replace(batch, reward=reward)


@settings(deadline=None, max_examples=40)
@given(
    credit=st.sampled_from([name for name, rule in CREDITS.items() if not rule.reads_values]),
    local_reward=st.sampled_from(LOCAL_REWARDS),
    seed=st.integers(0, 2**31),
)
def test_the_order_of_rewards_inside_an_interval_reaches_no_worker(credit, local_reward, seed):
    """Workers are shielded: only the sum of an interval counts, per worker and for the manager."""
    layout = HierarchyLayout(4, (2, 1), (4, 2))
    batch = random_trajectories(layout, Shapes(seed=seed, n_steps=18, max_episode=15, start_clock=1))
    shuffled = _shuffle_inside_intervals(batch, layout, seed)
    assume(not torch.equal(batch.reward, shuffled.reward))
    shielded = _scheme(layout, credit=CREDITS[credit], local_reward=local_reward)
    before, after = shielded(batch)[0].reward, shielded(shuffled)[0].reward
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("credit", "worker_external_reward"), [("uniform", True), ("final", True), ("telescoped", False)]
)
@pytest.mark.parametrize("local_reward", LOCAL_REWARDS)
def test_the_order_of_rewards_reaches_workers_under_fl_and_telescoped(credit, worker_external_reward, local_reward):
    """FL adds rewards as they come; telescoped shields an interval's sum only, which stays what it was."""
    layout = HierarchyLayout(4, (2, 1), (4, 2))
    batch = random_trajectories(layout, Shapes(seed=1, n_steps=18, max_episode=15))
    shuffled = _shuffle_inside_intervals(batch, layout, seed=1)
    options = {"worker_external_reward": worker_external_reward, "local_reward": local_reward}
    scheme = _scheme(layout, credit=CREDITS[credit], **options)
    before, after = scheme(batch)[0].reward, scheme(shuffled)[0].reward
    assert (after - before).abs().max() > 0.1
    intervals = Intervals(interval_starts(layout.is_due(batch.clock, 1)))
    if credit == "telescoped":
        # the manager's residuals reach a sub-manager's interval step by step as well, all inside it
        torch.testing.assert_close(intervals.sum(after), intervals.sum(before), rtol=0, atol=1e-10)


def test_an_interval_of_an_earlier_batch_rewards_workers_and_trains_no_upper_actor():
    """The batch begins at clock 3: the sub-managers decide at step 1 (clock 4), the manager nowhere here."""
    layout = HierarchyLayout(2, (2, 1), (2, 5))
    values = [torch.zeros(3, 2), torch.ones(3, 2), torch.ones(3, 2)]
    batch = _one_env(layout, [3, 4, 5], [[1.0, 1.0]] * 3, [0, 1], values)
    workers, sub_managers, manager = _scheme(layout, critic_rows="decisions")(batch)
    assert workers.actor_mask.all()
    assert workers.critic_mask.all()
    assert _numbers(sub_managers.actor_mask) == [[False, True, False]] * 2
    assert _numbers(sub_managers.critic_mask) == [[False, True, False]] * 2
    assert not manager.actor_mask.any()
    assert not manager.critic_mask.any()
    assert sub_managers.intervals.is_start.tolist() == [[True, True, False]]
    assert (workers.reward[:, 0] != 0).all()


def test_critics_train_on_all_rows_where_asked_and_actors_never_do():
    """The same batch with ``critic_rows=all``: the interval that began earlier trains the critics."""
    layout = HierarchyLayout(2, (2, 1), (2, 5))
    values = [torch.zeros(3, 2), torch.ones(3, 2), torch.ones(3, 2)]
    batch = _one_env(layout, [3, 4, 5], [[1.0, 1.0]] * 3, [0, 1], values)
    _, sub_managers, manager = _scheme(layout, critic_rows="all")(batch)
    assert sub_managers.critic_mask.all()
    assert manager.critic_mask.all()
    assert _numbers(sub_managers.actor_mask) == [[False, True, False]] * 2
    assert not manager.actor_mask.any()


def test_critics_train_on_one_row_of_each_interval_where_asked():
    """Every interval of three levels trains one row, the same for all edges, and workers train all."""
    layout = HierarchyLayout(3, (2, 1), (5, 2))
    batch = random_trajectories(layout, Shapes(seed=0, n_envs=4, n_steps=40, max_episode=40))
    workers, *upper = _scheme(layout, critic_rows="sampled")(batch)
    assert workers.critic_mask.all()
    for target in upper:
        rows = target.critic_mask[:, :, 0, 0]
        assert (target.critic_mask == target.critic_mask[:, :, :1]).all()
        assert torch.equal(target.intervals.sum(rows.long()), target.intervals.sum(target.intervals.is_start.long()))
        assert not torch.equal(rows, target.intervals.is_start)


def test_edges_that_served_no_live_worker_train_no_actor():
    """Worker 1 dies after the first step, worker 2 was never there; sub-manager 1 has worker 2 alone.

    The sub-managers decide at steps 0 and 2, the manager at step 0. Worker 1 trains on step 0, the edge towards it on
    the first interval, in which it lived for a step.
    """
    layout = HierarchyLayout(3, (2, 1), (2, 2))
    alive = [[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    values = [torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4, 2)]
    batch = _one_env(layout, [0, 1, 2, 3], [[1.0, 1.0, 0.0]] * 4, [0, 0, 1], values, alive)
    workers, sub_managers, manager = _scheme(layout)(batch)
    assert _numbers(workers.actor_mask) == [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert _numbers(workers.critic_mask) == [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert _numbers(sub_managers.actor_mask) == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert _numbers(manager.actor_mask) == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert sub_managers.critic_mask.all()
    assert manager.critic_mask.all()


def test_a_workers_own_end_stops_its_bootstrap_and_nobody_elses():
    """Worker 0 ends at step 0, the team goes on: the worker's target is its reward, the manager bootstraps as ever."""
    layout = HierarchyLayout(2, (1,), (2,))
    values = [torch.full((2, 2), 5.0), torch.full((2, 2), 7.0)]
    batch = _one_env(layout, [0, 1], [[1.0, 1.0], [0.0, 1.0]], [0, 0], values)
    own_end = torch.zeros(1, 2, 2, 1, dtype=torch.bool)
    own_end[0, 0, 0] = True
    scheme = _scheme(layout)
    before = scheme(batch)
    after = scheme(replace(batch, done=own_end, terminated=own_end))
    assert (after[1].advantage == before[1].advantage).all()
    difference = (after[0].value_target - before[0].value_target)[0, :, :, 0]
    assert difference.tolist() == [[-2.5, 0], [0, 0]]


def test_which_levels_need_a_value_per_edge():
    """Only a middle level whose reward is the subordinate's own: the manager's reward is the same on all its edges."""
    layout = HierarchyLayout(4, (2, 1), (5, 2))
    own, cluster = _scheme(layout, local_reward="own"), _scheme(layout, local_reward="cluster")
    assert own.edge_values == [1]
    assert cluster.edge_values == []
    assert _scheme(HierarchyLayout(4, (1,), (5,)), local_reward="own").edge_values == []
    assert _scheme(HierarchyLayout(4, (3, 2, 1), (5, 2, 2)), local_reward="own").edge_values == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_reward": "team"}, r"local_reward='team' is unknown: choose one of cluster, own, none"),
        (
            {"gamma": (0.9, 0.9)},
            r"gamma=\[0.9, 0.9\] must have one entry per level, workers first: give 3 entries",
        ),
        ({"lmbda": (0.95,)}, r"lmbda=\[0.95\] must have one entry per level"),
        ({"gamma": (0.9, 0.9, 1.1)}, r"gamma=.* must lie in \[0, 1\]"),
        ({"lmbda": (0.9, -0.1, 0.0)}, r"lmbda=.* must lie in \[0, 1\]"),
        ({"critic_rows": "some"}, r"choose one of decisions, sampled, all"),
        (
            {"credit": CREDITS["telescoped"], "critic_rows": "decisions"},
            r"credit=telescoped reads .*: set critic_rows=sampled",
        ),
        (
            {"credit": CREDITS["telescoped"], "lmbda": (0.9, 0.5, 0.0)},
            r"credit=telescoped .*: set lmbda to 0 above the workers",
        ),
    ],
)
def test_schemes_that_are_not_defined_are_refused(options, message):
    """The message names the option and the way out."""
    with pytest.raises(ValueError, match=message):
        _scheme(THREE_LEVELS, **options)


def test_telescoped_needs_nothing_special_at_depth_one():
    """Nobody has a superior, so the credit rule does not matter."""
    layout = HierarchyLayout(2, (), ())
    batch = random_trajectories(layout, Shapes(seed=0))
    (target,) = _scheme(layout, credit=CREDITS["telescoped"], critic_rows="decisions", lmbda=(0.95,))(batch)
    assert target.reward.equal(batch.reward)
