"""What stands in a batch of BenchMARL's collector: goals, clocks, clusterings, log-probabilities, and values at its
cuts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.experiment import Experiment
from support.toy_task import ToyTask
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy import Hierarchy
from benchmarl_himpo.hierarchy.keys import HierarchyKeys
from benchmarl_himpo.objectives.reward_scheme import Trajectories
from benchmarl_himpo.objectives.trajectories import read_trajectories

KEYS = HierarchyKeys("agents")
PERIODS = (1, 5, 10)

MakeAlgorithm = Callable[..., AlgorithmConfig]


def collect(experiment: Experiment, n_batches: int = 2) -> TensorDictBase:
    """The first batches, joined along time. Shape ``[n_envs, T]``."""
    torch.manual_seed(0)
    iterator = iter(experiment.collector)
    return torch.cat([next(iterator).clone() for _ in range(n_batches)], dim=1)


def previous(x: Tensor) -> Tensor:
    """The entry one step before; the first step's is its own."""
    return torch.cat([x[:, :1], x[:, :-1]], dim=1)


def starts_episode(batch: TensorDictBase) -> Tensor:
    """Whether an episode starts at a step. Shape ``[n_envs, T]``, bool."""
    is_start = previous(batch.get(("next", "done")).squeeze(-1)).clone()
    is_start[:, 0] = True
    return is_start


@pytest.fixture
def experiment(tiny_experiment: Any) -> Experiment:
    """Default HiMPPO where every environment ends at its own times; two batches of 24 steps."""
    experiment: Experiment = tiny_experiment(
        task=ToyTask(n_agents=4, truncated_share=0.5), on_policy_collected_frames_per_batch=96, max_n_iters=3
    )
    return experiment


@pytest.fixture
def batch(experiment: Experiment) -> TensorDictBase:
    """48 steps of 4 environments."""
    batch = collect(experiment)
    starts = starts_episode(batch)
    assert len({tuple(row.tolist()) for row in starts}) == 4, "environments must end at different times"
    assert starts.sum(1).min() > 3
    return batch


# Clocks, goals, clusterings


def test_the_clock_counts_the_steps_of_each_environment_since_its_reset(batch: TensorDictBase) -> None:
    clock = batch.get(KEYS.clock).squeeze(-1)
    starts = starts_episode(batch)
    expected = torch.where(starts, 0, previous(clock) + 1)
    assert torch.equal(clock, expected)


def test_a_reset_clears_what_is_carried_in_its_environment_alone(batch: TensorDictBase) -> None:
    starts = starts_episode(batch)
    held = {KEYS.parent_index, KEYS.centroids, KEYS[1].action, KEYS[2].action}
    for key in held:
        carried, last = batch.get(KEYS.carried(key)), previous(batch.get(key))
        assert not carried[starts].any()
        goes_on = ~starts
        assert torch.equal(carried[goes_on], last[goes_on])


@pytest.mark.parametrize("level", [1, 2])
def test_a_goal_is_constant_inside_an_interval_and_new_at_every_decision(level: int, batch: TensorDictBase) -> None:
    clock = batch.get(KEYS.clock).squeeze(-1)
    is_due = clock % PERIODS[level] == 0
    goal = batch.get(KEYS[level].action)
    is_new = (goal != previous(goal)).any(-1)  # [n_envs, T, E]
    is_new[:, 0] = True
    assert torch.equal(is_new, is_due.unsqueeze(-1).expand_as(is_new))
    assert is_due[:, 1:].any(), "some decisions must come after the first step"


def test_goals_differ_between_environments_and_edges(batch: TensorDictBase) -> None:
    for level in (1, 2):
        goals = batch.get(KEYS[level].action)[:, 0].flatten(0, 1)  # [n_envs * E, goal_dim]
        assert len(goals.unique(dim=0)) == len(goals)


def test_workers_are_assigned_anew_exactly_when_sub_managers_decide(batch: TensorDictBase) -> None:
    clock = batch.get(KEYS.clock).squeeze(-1)
    parent, centroids = batch.get(KEYS.parent_index), batch.get(KEYS.centroids)
    is_due = clock % PERIODS[1] == 0
    moved = (parent != previous(parent)).any(-1)
    assert not (moved & ~is_due).any()
    assert (moved & is_due & (clock > 0)).any(), "no worker ever changed hands: the test sees nothing"
    assert not ((centroids != previous(centroids)).flatten(2).any(-1) & ~is_due).any()
    # At a decision, every worker belongs to the nearest centroid
    nearest = torch.cdist(batch.get(("agents", "position")), centroids).argmin(-1)
    assert torch.equal(parent[is_due], nearest[is_due])


def test_a_static_clustering_never_moves(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    batch = collect(tiny_experiment(make_algorithm("himppo_sg"), ToyTask(n_agents=5)))
    expected = torch.tensor([0, 0, 0, 1, 1])
    assert torch.equal(batch.get(KEYS.parent_index), expected.expand(*batch.shape, 5))


# Log-probabilities


@pytest.mark.parametrize("kind", ["continuous", "discrete", "masked", "mortal"])
def test_the_stored_log_prob_is_the_one_the_networks_give_before_the_first_update(
    kind: str, tiny_experiment: Any
) -> None:
    task = ToyTask(n_agents=4, has_mask=kind == "masked", has_alive=kind == "mortal", truncated_share=0.5)
    experiment = tiny_experiment(task=task, prefer_continuous_actions=kind in ("continuous", "mortal"))
    batch = collect(experiment)
    policy = experiment.policy[0]
    clock = batch.get(KEYS.clock).squeeze(-1)
    for level, actor in enumerate(policy.actors):
        keys = KEYS[level]
        is_due = clock % PERIODS[level] == 0
        rows = batch[is_due]
        with torch.no_grad():
            expected = actor.get_dist(rows.clone()).log_prob(rows.get(keys.action))
        torch.testing.assert_close(rows.get(keys.log_prob), expected, rtol=1e-5, atol=1e-5)
        assert not batch.get(keys.log_prob)[~is_due].any()
        # Step by step, as collected, nothing is rounded otherwise
        if level > 0 or kind in ("discrete", "masked"):
            for step in range(batch.shape[1]):
                due = is_due[:, step]
                if due.any():
                    rows = batch[:, step][due]
                    with torch.no_grad():
                        expected = actor.get_dist(rows.clone()).log_prob(rows.get(keys.action))
                    assert torch.equal(rows.get(keys.log_prob), expected)


def test_before_the_first_update_no_level_sees_a_changed_policy(experiment: Experiment, batch: TensorDictBase) -> None:
    minibatch = experiment.algorithm.process_batch("agents", batch).reshape(-1)
    loss = experiment.losses["agents"](minibatch)
    for level in range(3):
        assert abs(loss[f"kl_approx_level_{level}"]) < 1e-5
        assert loss[f"clip_fraction_level_{level}"] == 0


def test_the_log_prob_of_actions_no_longer_fits_once_parameters_moved(
    experiment: Experiment, batch: TensorDictBase
) -> None:
    minibatch = experiment.algorithm.process_batch("agents", batch).reshape(-1)
    with torch.no_grad():
        for parameter in chain.from_iterable(experiment.losses["agents"].actor_params()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    loss = experiment.losses["agents"](minibatch)
    for level in range(3):
        assert abs(loss[f"kl_approx_level_{level}"]) > 1e-4


def test_goals_that_are_not_received_are_zeros_in_acting_and_in_training(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goals are sent and trained as ever; what encoders and nodes are given of them is zero, and the ratio is 1."""
    received: list[Tensor | None] = []
    received_goal = Hierarchy.received_goal

    def listen(self: Hierarchy, tensordict: TensorDictBase, level: int) -> Tensor | None:
        received.append(received_goal(self, tensordict, level))
        return received[-1]

    monkeypatch.setattr(Hierarchy, "received_goal", listen)
    experiment = tiny_experiment(make_algorithm("himppo_nogoal"), ToyTask(n_agents=4, truncated_share=0.5))
    batch = collect(experiment)
    n_collected = sum(goal is not None for goal in received)
    minibatch = experiment.algorithm.process_batch("agents", batch).reshape(-1)
    loss = experiment.losses["agents"](minibatch)
    assert 0 < n_collected < sum(goal is not None for goal in received)
    assert not any(goal.any() for goal in received if goal is not None)
    for level in range(3):
        assert abs(loss[f"kl_approx_level_{level}"]) < 1e-5
        assert loss[f"clip_fraction_level_{level}"] == 0
        if level > 0:
            assert batch.get(KEYS[level].action).any(-1).all()
            assert minibatch.get(KEYS[level].actor_mask).any()


# Memories


@pytest.mark.parametrize("is_continuous", [False, True])
@pytest.mark.parametrize("memory", ["window", {"name": "gru", "decisions": 1, "size": 3}], ids=str)
def test_memories_are_carried_cleared_by_resets_and_give_the_same_policy_to_the_loss(
    memory: Any, is_continuous: bool, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    """Agents die, and environments end at their own times: batches as the collector gives them."""
    experiment = tiny_experiment(
        make_algorithm("himppo", memory=memory),
        ToyTask(n_agents=4, truncated_share=0.5, has_alive=True),
        on_policy_collected_frames_per_batch=96,
        prefer_continuous_actions=is_continuous,
    )
    batch = collect(experiment)
    starts, hierarchy = starts_episode(batch), experiment.algorithm.hierarchies["agents"]
    keys = [key for level in (1, 2) for key in hierarchy.memory_keys(level)]
    assert len(keys) == 4 + 2 * (memory != "window")
    for key in keys:
        carried, held, left = (batch.get(k) for k in (KEYS.carried(key), key, ("next", *KEYS.carried(key))))
        assert torch.equal(carried, held)
        assert not held[starts].any()
        assert torch.equal(held[~starts], previous(left)[~starts])
        assert held.any() or key == KEYS.memory_state(2)  # no episode has three decisions of the manager
    minibatch = experiment.algorithm.process_batch("agents", batch).reshape(-1)
    loss = experiment.losses["agents"](minibatch)
    for level in range(3):
        assert abs(loss[f"kl_approx_level_{level}"]) < 1e-5
        assert loss[f"clip_fraction_level_{level}"] == 0


# Masks


def test_every_level_trains_its_actor_where_it_decided_and_nowhere_else(
    experiment: Experiment, batch: TensorDictBase
) -> None:
    clock = batch.get(KEYS.clock).squeeze(-1)
    processed = experiment.algorithm.process_batch("agents", batch.clone())
    for level, period in enumerate(PERIODS):
        mask = processed.get(KEYS[level].actor_mask).squeeze(-1)
        is_due = (clock % period == 0).unsqueeze(-1).expand_as(mask)
        assert not (mask & ~is_due).any()
        if level < 2:  # every worker is alive, so that every edge to a worker serves
            assert torch.equal(mask, is_due)
    # The manager's edges serve only where a sub-manager has workers
    n_workers = torch.stack([(batch.get(KEYS.parent_index) == node).sum(-1) for node in range(2)], -1)
    manager_mask = processed.get(KEYS[2].actor_mask).squeeze(-1)
    assert manager_mask[(clock % 10 == 0).unsqueeze(-1) & (n_workers > 0)].all()


@pytest.mark.parametrize("critic_rows", ["decisions", "all"])
def test_an_interval_that_began_in_the_batch_before_trains_no_upper_actor(
    critic_rows: str, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    task = ToyTask(min_steps=100, max_steps=100)
    experiment = tiny_experiment(make_algorithm("himppo_paper", critic_rows=critic_rows), task)  # batches of 16 steps
    torch.manual_seed(0)
    iterator = iter(experiment.collector)
    next(iterator)
    second = next(iterator).clone()
    assert (second.get(KEYS.clock)[:, 0] == 16).all()
    processed = experiment.algorithm.process_batch("agents", second)
    for level in (1, 2):
        assert not processed.get(KEYS[level].actor_mask)[:, 0].any()
        assert processed.get(KEYS[level].critic_mask)[:, 0].all() == (critic_rows == "all")
        # The workers receive the intrinsic reward of the cut interval all the same
        assert processed.get(KEYS[level].advantage)[:, 0].any()
    assert processed.get(KEYS[0].actor_mask).all()
    assert processed.get(KEYS[0].advantage)[:, 0].any()


# Values at cuts


def step_by_step(experiment: Experiment, n_steps: int) -> TensorDictBase:
    """A rollout where step t draws with seed t. Shape ``[n_envs, n_steps]``."""
    env = experiment.env_func()
    td, steps = env.reset(), []
    for step in range(n_steps):
        torch.manual_seed(step)
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            td, after = env.step_and_maybe_reset(experiment.policy(td))
        steps.append(td)
        td = after
    return torch.stack(steps, dim=1)


def test_values_do_not_depend_on_how_many_rows_a_critic_sees_at_once(
    experiment: Experiment, batch: TensorDictBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(experiment, batch, seed=0)
    monkeypatch.setattr("benchmarl_himpo.objectives.trajectories.ROWS_AT_ONCE", 7)  # 192 rows: the last part is short
    for together, in_parts in zip(whole.state_value, read(experiment, batch, seed=0).state_value, strict=True):
        torch.testing.assert_close(together, in_parts)


def read(experiment: Experiment, batch: TensorDictBase, seed: int) -> Trajectories:
    """Read a batch whose goals after the cut draw with a seed."""
    algorithm = experiment.algorithm
    torch.manual_seed(seed)
    with torch.no_grad():
        return read_trajectories(
            batch.clone(),
            algorithm.get_policy_for_loss("agents"),
            algorithm.advantage("agents").critics,
            all_values=True,
            encodings=False,
        )


@pytest.mark.parametrize("cut", [5, 7, 10], ids=["sub_managers_due", "nobody_due", "everybody_due"])
@pytest.mark.parametrize("name", ["himppo", "himppo_paper", "himppo_flat"])
def test_a_batch_cut_bootstraps_from_the_value_that_stepping_on_gives(
    name: str, cut: int, tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    # With the draws of the next step, deciding after the cut gives the next step's own goals, clustering and values
    experiment = tiny_experiment(make_algorithm(name), ToyTask(n_agents=4, min_steps=100, max_steps=100))
    batch = step_by_step(experiment, 16)
    whole = read(experiment, batch, seed=16)
    first, second = read(experiment, batch[:, :cut], seed=cut), read(experiment, batch[:, cut:], seed=16)
    for level in range(len(experiment.losses["agents"].level_losses)):
        torch.testing.assert_close(first.next_state_value[level][:, -1], whole.state_value[level][:, cut])
        torch.testing.assert_close(first.next_state_value[level][:, -1], second.state_value[level][:, 0])
        together = torch.cat([first.next_state_value[level], second.next_state_value[level]], dim=1)
        torch.testing.assert_close(together, whole.next_state_value[level])
        assert len(whole.state_value[level].unique()) > 16, "a constant value shows nothing"


@pytest.mark.parametrize("length", [5, 7, 10], ids=["sub_managers_due", "nobody_due", "everybody_due"])
def test_a_truncation_bootstraps_from_what_the_hierarchy_would_decide_there(length: int, tiny_experiment: Any) -> None:
    # The same steps, once cut by a truncation at `length`, once going on: same bootstrap, and the next episode starts
    # anew
    cut_task = ToyTask(n_agents=4, min_steps=length, max_steps=length, truncated_share=1.0)
    long_task = ToyTask(n_agents=4, min_steps=100, max_steps=100, truncated_share=1.0)
    cut_experiment, long_experiment = tiny_experiment(task=cut_task), tiny_experiment(task=long_task)
    cut_batch, long_batch = (step_by_step(x, length + 2) for x in (cut_experiment, long_experiment))
    assert cut_batch.get(("next", "truncated"))[:, length - 1].all()
    assert torch.equal(cut_batch.get(KEYS.clock)[0].flatten(), torch.tensor([*range(length), 0, 1]))
    for key in (KEYS[0].action, KEYS[1].action, KEYS[2].action):
        assert torch.equal(cut_batch.get(key)[:, :length], long_batch.get(key)[:, :length])
    cut, going_on = read(cut_experiment, cut_batch, seed=length), read(long_experiment, long_batch, seed=0)
    for level in range(3):
        torch.testing.assert_close(cut.next_state_value[level][:, length - 1], going_on.state_value[level][:, length])
        assert not torch.allclose(cut.next_state_value[level][:, length - 1], cut.state_value[level][:, length])


def test_a_true_end_bootstraps_nothing_and_a_cut_bootstraps_undiscounted(
    tiny_experiment: Any, make_algorithm: MakeAlgorithm
) -> None:
    # The manager's one-step advantage by hand, in episodes of 7 steps that end truly, and in a batch cut after 3 more
    algorithm = make_algorithm("himppo_paper", gamma=[None, None, 0.5])
    experiment = tiny_experiment(algorithm, ToyTask(min_steps=7, max_steps=7))
    batch = step_by_step(experiment, 10)
    trajectories = read(experiment, batch, seed=10)
    torch.manual_seed(10)
    processed = experiment.algorithm.process_batch("agents", batch.clone())
    team_reward = batch.get(("next", "agents", "reward")).mean(-2)  # [n_envs, T, 1]
    value, after = trajectories.state_value[2][:, :, 0], trajectories.next_state_value[2][:, :, 0]
    ended = team_reward[:, :7].sum(1) - value[:, 0]
    was_cut = team_reward[:, 7:].sum(1) + after[:, 9] - value[:, 7]
    advantage = processed.get(KEYS[2].advantage)[:, :, 0]
    torch.testing.assert_close(advantage[:, 0], ended)
    torch.testing.assert_close(advantage[:, 7], was_cut)


def test_the_managers_own_boundary_is_discounted_once(tiny_experiment: Any, make_algorithm: MakeAlgorithm) -> None:
    algorithm = make_algorithm("himppo_paper", gamma=[None, None, 0.5])
    experiment = tiny_experiment(algorithm, ToyTask(min_steps=100, max_steps=100))
    batch = step_by_step(experiment, 10)
    trajectories = read(experiment, batch, seed=10)
    torch.manual_seed(10)
    processed = experiment.algorithm.process_batch("agents", batch.clone())
    team_reward = batch.get(("next", "agents", "reward")).mean(-2)
    value, after = trajectories.state_value[2][:, 0, 0], trajectories.next_state_value[2][:, 9, 0]
    expected = team_reward.sum(1) + 0.5 * after - value
    torch.testing.assert_close(processed.get(KEYS[2].advantage)[:, 0, 0], expected)
