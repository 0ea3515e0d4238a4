"""The policy that steps the whole hierarchy: clocks, held goals, resets, and who is called when."""

import copy

import pytest
import torch
from support.hierarchy_builders import ACTION_DIM, GROUP, LOGITS, TinyHierarchy, is_reached
from support.parts import CLUSTERINGS, GOALS, NEIGHBOURS, CountedClustering, CountedNeighbours
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from benchmarl_himpo.hierarchy import HierarchyLayout

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
FOUR_LEVELS = HierarchyLayout(6, (3, 2, 1), (2, 2, 2))


def _changes(x: torch.Tensor) -> list[list[int]]:
    """Steps at which a held tensor ``[B, T, ...]`` differs from the step before, per environment."""
    moved = (x[:, 1:] != x[:, :-1]).flatten(2).any(-1)
    return [(row.nonzero().flatten() + 1).tolist() for row in moved]


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_goals_and_clustering_change_at_decisions_only(clustering):
    """alpha = 3, K = 2: sub-managers decide at 0, 3, 6, 9, the manager at 0, 6; agents move all the time."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS[clustering])
    batch = tiny.roll_out(12)
    keys = tiny.keys
    assert batch.get(keys.clock).squeeze(-1).tolist() == [list(range(12))] * 2
    assert _changes(batch.get(keys[1].action)) == [[3, 6, 9]] * 2
    assert _changes(batch.get(keys[2].action)) == [[6]] * 2
    for env_changes in _changes(batch.get(keys.parent_index)) + _changes(batch.get(keys.centroids)):
        assert set(env_changes) <= {3, 6, 9}
    if clustering == "kmeans":
        assert _changes(batch.get(keys.centroids)) == [[3, 6, 9]] * 2
    assert len(set(batch.get(keys[0].action).flatten().tolist())) == 2 * 12 * 5 * ACTION_DIM


def test_every_goal_of_a_decision_is_new():
    """No edge keeps its goal over a decision, and no two edges share one."""
    tiny = TinyHierarchy(THREE_LEVELS)
    goal = tiny.roll_out(4).get(tiny.keys[1].action)
    assert (goal[:, 3] != goal[:, 2]).all()
    assert goal[:, 0].flatten().unique().numel() == goal[:, 0].numel()


@pytest.mark.parametrize("goal", GOALS)
def test_goals_of_any_space_are_held_between_decisions_in_the_type_that_is_carried(goal):
    """alpha = 3, K = 2: the goals in effect are those of the last decision, bit by bit, also over other steps."""
    tiny = TinyHierarchy(THREE_LEVELS, goal=GOALS[goal])
    batch = tiny.roll_out(12)
    zeros = tiny.carried_zeros((2, 12))
    for level, period in ((1, 3), (2, 6)):
        key = tiny.keys[level].action
        sent = batch.get(key)
        assert (sent.dtype, sent.shape) == (zeros[key].dtype, zeros[key].shape)
        assert torch.equal(sent, sent[:, ::period].repeat_interleave(period, dim=1))
        assert sent[:, ::period].flatten(0, 2).unique(dim=0).shape[0] > 1
        if goal == "categorical":
            assert ((sent == 0) | (sent == 1)).all()
            assert (sent.sum(-1) == 1).all()


def test_environments_reset_on_their_own():
    """Environment 1 starts anew at step 4, its clock, goals and clustering with it; environment 0 goes on."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["kmeans"])
    batch = tiny.roll_out(12, resets={4: [1]})
    keys = tiny.keys
    clock = batch.get(keys.clock).squeeze(-1)
    assert clock[0].tolist() == list(range(12))
    assert clock[1].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]
    assert _changes(batch.get(keys[1].action)) == [[3, 6, 9], [3, 4, 7, 10]]
    assert _changes(batch.get(keys[2].action)) == [[6], [4, 10]]
    assert _changes(batch.get(keys.centroids)) == [[3, 6, 9], [3, 4, 7, 10]]
    moves = _changes(batch.get(keys.parent_index))
    assert moves[0]
    assert set(moves[0]) <= {3, 6, 9}
    assert set(moves[1]) <= {3, 4, 7, 10}


def test_what_is_carried_is_what_was_in_effect_with_the_clock_one_further():
    """The next step finds this step's goals, clustering and centroids."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["kmeans"])
    batch = tiny.roll_out(5)
    for key in tiny.policy.held_keys:
        carried, held = batch.get(("next", *tiny.keys.carried(key))), batch.get(key)
        assert torch.equal(carried, held + 1 if key == tiny.keys.clock else held)


def _count_calls(tiny: TinyHierarchy) -> list[list[int]]:
    """Rows of every call of every upper actor, filled while the policy steps."""
    calls: list[list[int]] = [[] for _ in tiny.actors]
    for level, actor in enumerate(tiny.policy.actors):
        actor.register_forward_hook(lambda _, args, __, level=level: calls[level].append(args[0].batch_size.numel()))
    return calls


def test_upper_actors_are_called_when_they_decide_and_never_else():
    """Twelve steps: 12 calls of the workers, 4 of the sub-managers, 2 of the manager, each on both environments."""
    tiny = TinyHierarchy(THREE_LEVELS)
    calls = _count_calls(tiny)
    tiny.roll_out(12)
    assert calls == [[2] * 12, [2] * 4, [2] * 2]


def test_upper_actors_see_the_environments_that_are_due_and_no_others():
    """Three environments at clocks 0, 1 and 2: one of them is due at every step, the manager at steps 0, 4 and 5."""
    tiny = TinyHierarchy(THREE_LEVELS)
    calls = _count_calls(tiny)
    batch = tiny.roll_out(6, n_envs=3, clocks=[0, 1, 2])
    assert calls == [[3] * 6, [1] * 6, [1] * 3]
    assert _changes(batch.get(tiny.keys[1].action)) == [[3], [2, 5], [1, 4]]
    assert _changes(batch.get(tiny.keys[2].action)) == [[], [5], [4]]


@pytest.mark.parametrize("goal", GOALS)
def test_log_probabilities_are_stored_where_goals_were_sent_and_can_be_computed_again(goal):
    """At decisions each level's actor gives the stored number for the stored goal, elsewhere it is zero."""
    options = {"clustering": CLUSTERINGS["kmeans"], "neighbours": NEIGHBOURS["radius"], "goal": GOALS[goal]}
    tiny = TinyHierarchy(THREE_LEVELS, **options)
    batch = tiny.roll_out(12, resets={4: [1]})
    clock = batch.get(tiny.keys.clock).squeeze(-1)
    for level, actor in enumerate(tiny.actors):
        keys, is_due = tiny.keys[level], THREE_LEVELS.is_due(clock, level)
        stored = batch.get(keys.log_prob)
        rows = batch.select(*actor.in_keys, keys.action)[is_due]
        again = actor.get_dist(rows).log_prob(rows.get(keys.action))
        torch.testing.assert_close(stored[is_due], again, rtol=0, atol=1e-12)
        assert (stored[~is_due] == 0).all()
        assert (stored[is_due] != 0).all()


def test_the_graph_is_built_once_per_step_and_the_clustering_once_per_decision():
    """Twelve steps of actor calls at three levels: edges of two levels 12 times each, clusters at 0, 3, 6 and 9."""
    clustering, neighbours = CountedClustering(position_noise=0.0), (CountedNeighbours(), CountedNeighbours())
    tiny = TinyHierarchy(THREE_LEVELS, clustering=clustering, neighbours=neighbours)
    batch = tiny.roll_out(12)
    assert clustering.calls == [(2, 5)] * 4
    assert [builder.calls for builder in neighbours] == [[(2, 5)] * 12, [(2, 2)] * 12]
    for level, size in ((0, 5), (1, 2)):
        adjacency = batch.get(tiny.keys.adjacency(level))
        assert (adjacency.dtype, adjacency.shape) == (torch.bool, (2, 12, size, size))


def test_the_edges_that_networks_read_are_those_of_the_step():
    """What the policy wrote is what the builders give again; a rollout with dynamic clusters."""
    builders = (NEIGHBOURS["radius"], NEIGHBOURS["knn"])
    tiny = TinyHierarchy(FOUR_LEVELS, clustering=CLUSTERINGS["kmeans"], neighbours=builders)
    batch = tiny.roll_out(8)
    again = tiny.connect(batch.clone())
    assert tiny.policy.edge_keys == [tiny.keys.adjacency(level) for level in range(3)]
    for key in tiny.policy.edge_keys:
        assert torch.equal(batch.get(key), again.get(key))
        assert batch.get(key).any()


def test_an_agent_that_leaves_its_cluster_keeps_its_sub_manager_until_the_next_decision():
    """Regions: agent 0 crosses to the right at step 1, and belongs to the right from step 3 on."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["regions"])
    carried, parents = tiny.carried_zeros((1,)), []
    for t in range(4):
        td = tiny.observe((1,), seed=t)
        td[GROUP, "position"] = torch.tensor([[0.5 if t >= 1 else -0.5, 0], [-0.5, 0], [-0.6, 0], [0.5, 0], [0.6, 0]])[
            None
        ]
        for key, value in carried.items():
            td.set(tiny.keys.carried(key), value)
        tiny.policy(td)
        parents.append(td.get(tiny.keys.parent_index)[0].tolist())
        carried = {key: td.get(("next", *tiny.keys.carried(key))).detach() for key in carried}
    assert parents == [[0, 0, 0, 1, 1]] * 3 + [[1, 0, 0, 1, 1]]


def _step_with(tiny: TinyHierarchy, clock: int) -> TensorDict:
    """A step at some clock, random goals held, agents on a line: 0, 1, 2 under sub-manager 0, the others under 1."""
    td = tiny.observe((), seed=0)
    inputs = tiny.random_inputs((), clock=clock)
    for key in tiny.policy.held_keys:
        td.set(tiny.keys.carried(key), inputs.get(key))
    td[tiny.keys.carried(tiny.keys.parent_index)][:] = torch.tensor([0, 0, 0, 1, 1])
    td[GROUP, "position"] = torch.stack([0.9 * torch.arange(5.0), torch.zeros(5)], dim=-1).double()
    td[GROUP, "observation"].requires_grad_()
    return td


EVERYBODY = [[0, 1, 2, 3, 4]] * 5
NEXT_ON_THE_LINE = [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4]]
OWN_CLUSTER = [[0, 1, 2]] * 3 + [[3, 4]] * 2
NOBODY_ELSE = [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("neighbours", "clock", "expected"),
    [
        ("radius", 1, NEXT_ON_THE_LINE),  # nobody above decides
        ("radius", 5, NEXT_ON_THE_LINE),
        ("radius", 3, EVERYBODY),  # sub-managers decide, and exchange messages
        ("radius", 0, EVERYBODY),  # the manager decides
        ("none", 1, NOBODY_ELSE),
        ("none", 3, OWN_CLUSTER),  # sub-managers decide, each from its own workers
        ("none", 0, EVERYBODY),  # all workers reach the manager
    ],
)
def test_observations_reach_others_through_neighbours_and_at_decisions_through_superiors(neighbours, clock, expected):
    """Agents on a line, the graph held fixed: the workers' logits by whose observations they depend on."""
    tiny = TinyHierarchy(THREE_LEVELS, neighbours=NEIGHBOURS[neighbours])
    td = _step_with(tiny, clock)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        logits = tiny.policy(td.copy()).get(LOGITS)
    assert [[j for j in range(5) if row[j]] for row in is_reached(logits, td)] == expected


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_the_policy_takes_any_batch_shape(shape):
    """No batch, environments, environments over time."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["kmeans"])
    td = tiny.observe(shape, seed=0)
    for key, value in tiny.carried_zeros(shape).items():
        td.set(tiny.keys.carried(key), value)
    tiny.policy(td)
    for key, zeros in tiny.carried_zeros(shape).items():
        assert td.get(key).shape == zeros.shape
        assert td.get(key).dtype == zeros.dtype
    assert td.get(tiny.keys[0].action).shape == (*shape, 5, ACTION_DIM)
    assert (td.get(tiny.keys[2].action) != 0).all()


def test_four_levels_step_as_three_do():
    """Every level at its own period, over the contiguous blocks of the middle levels."""
    tiny = TinyHierarchy(FOUR_LEVELS, clustering=CLUSTERINGS["kmeans"])
    calls = _count_calls(tiny)
    batch = tiny.roll_out(16)
    expected = {1: [2, 4, 6, 8, 10, 12, 14], 2: [4, 8, 12], 3: [8]}
    for level, steps in expected.items():
        assert _changes(batch.get(tiny.keys[level].action)) == [steps] * 2
        assert batch.get(tiny.keys[level].action).shape[2] == FOUR_LEVELS.n_recipients(level)
    assert [len(level_calls) for level_calls in calls] == [16, 8, 4, 2]


def test_a_goal_reaches_the_level_below_at_the_step_it_is_sent():
    """Decisions go top-down in one step: another manager network changes the workers' answer at step 0 alone."""
    for clock, expected in ((0, True), (1, False), (3, False)):
        answers = []
        for scale in (1.0, 3.0):
            tiny = TinyHierarchy(THREE_LEVELS)
            with torch.no_grad():
                for param in tiny.actors[2].parameters():
                    param *= scale
            with set_exploration_type(ExplorationType.DETERMINISTIC):
                answers.append(tiny.policy(_step_with(tiny, clock)).get(LOGITS))
        assert (not torch.equal(*answers)) == expected


def test_deciding_again_writes_no_action_and_moves_no_clock():
    """What a cut needs: the goals and clustering that would be in effect, without a step."""
    tiny = TinyHierarchy(THREE_LEVELS)
    td = _step_with(tiny, clock=6)
    held = td.get(tiny.keys.carried(tiny.keys[2].action)).clone()
    tiny.policy.decide(td)
    assert tiny.keys[0].action not in td.keys(True)
    assert "next" not in td.keys()
    assert td.get(tiny.keys.clock).item() == 6
    assert (td.get(tiny.keys[2].action) != held).all()
    assert torch.equal(td.get(tiny.keys.carried(tiny.keys[2].action)), held)


def test_a_flat_policy_carries_nothing():
    """Depth 1: no clock, no goals; in the root entry stand the workers' edges alone, if there are any."""
    for neighbours, root in (("full", ["adjacency_0"]), ("none", [])):
        tiny = TinyHierarchy(HierarchyLayout(5, (), ()), neighbours=NEIGHBOURS[neighbours])
        assert tiny.policy.held_keys == []
        td = tiny.policy(tiny.observe((2,), seed=0))
        assert td.get(tiny.keys[0].action).shape == (2, 5, ACTION_DIM)
        assert list(td.get(tiny.keys.root, {}).keys()) == root
        assert "next" not in td.keys()


def test_the_policy_reads_and_writes_what_it_says():
    """In-keys suffice, and out-keys are there: collectors and primers go by them."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS["kmeans"], neighbours=NEIGHBOURS["knn"])
    td = _step_with(tiny, clock=0)
    assert tiny.keys.adjacency(0) not in tiny.policy.in_keys
    td = tiny.policy(td.select(*tiny.policy.in_keys))
    assert all(key in td.keys(True) for key in tiny.policy.out_keys)
    assert len(set(tiny.policy.in_keys)) == len(tiny.policy.in_keys)


def test_the_policy_can_be_copied_to_another_device():
    """Collectors copy the policy when devices differ: a copy steps alike."""
    tiny = TinyHierarchy(THREE_LEVELS)
    clone = copy.deepcopy(tiny.policy)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        ours, theirs = tiny.policy(_step_with(tiny, 0)), clone(_step_with(tiny, 0))
    assert torch.equal(ours.get(LOGITS), theirs.get(LOGITS))
