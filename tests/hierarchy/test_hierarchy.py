"""The hierarchy of one group: builders per level, the graph in a TensorDict, what is read, held and carried."""

from dataclasses import replace

import pytest
import torch
from support.hierarchy_builders import GROUP, TinyHierarchy
from support.parts import ARENA, CLUSTERINGS, GOAL_DIM, GOALS, NEIGHBOURS
from tensordict import TensorDict
from torchrl.data import Composite
from torchrl.envs import VmasEnv

from benchmarl_himpo.hierarchy import (
    EdgesNeighbours,
    FullNeighbours,
    Hierarchy,
    HierarchyLayout,
    KMeansClustering,
    KnnNeighbours,
    NoNeighbours,
    RadiusNeighbours,
    RegionsClustering,
    StaticClustering,
)

THREE_LEVELS = HierarchyLayout(5, (2, 1), (3, 2))
FLAT = HierarchyLayout(5, (), ())
SIX_UNDER_THREE = HierarchyLayout(6, (3, 1), (3, 2))


def _hierarchy(layout: HierarchyLayout = THREE_LEVELS, **options) -> Hierarchy:
    return replace(TinyHierarchy(layout).hierarchy, **options)


def test_layout_and_keys_are_those_of_the_arguments():
    """Lists, as YAML has them, do as well as tuples."""
    hierarchy = _hierarchy(n_nodes=[2, 1], goal_interval=[3, 2])
    assert hierarchy.layout == THREE_LEVELS
    assert hierarchy.keys.root == f"himppo_{GROUP}"


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_one_builder_is_that_of_the_workers_and_all_above_exchange_unless_it_is_silent(name):
    """The paper's three levels with one builder."""
    builder = NEIGHBOURS[name]
    hierarchy = _hierarchy(neighbours=builder)
    upper = builder if builder.is_silent else FullNeighbours()
    assert [hierarchy.neighbours_at(level) for level in range(3)] == [builder, upper, upper]
    assert [hierarchy.exchanges(level) for level in range(3)] == [not builder.is_silent] * 2 + [False]


@pytest.mark.parametrize("as_sequence", [list, tuple])
def test_a_sequence_has_one_builder_per_level_and_its_last_serves_all_above(as_sequence):
    """Silent workers under sub-managers that exchange messages; one builder for all three levels."""
    builders = as_sequence([NoNeighbours(), FullNeighbours()])
    hierarchy = _hierarchy(HierarchyLayout(6, (3, 2), (3, 2)), neighbours=builders)
    assert [hierarchy.neighbours_at(level) for level in range(3)] == [
        NoNeighbours(),
        FullNeighbours(),
        FullNeighbours(),
    ]
    assert [hierarchy.exchanges(level) for level in range(3)] == [False, True, True]
    everywhere = _hierarchy(HierarchyLayout(6, (3, 2), (3, 2)), neighbours=as_sequence([KnnNeighbours(1)]))
    assert {everywhere.neighbours_at(level) for level in range(3)} == {KnnNeighbours(1)}


@pytest.mark.parametrize("n_builders", [0, 4])
def test_no_builder_and_more_builders_than_levels_are_refused(n_builders):
    """The message names the option, and both numbers."""
    with pytest.raises(ValueError, match=f"^neighbours: {n_builders} entries for 3 levels"):
        _hierarchy(neighbours=[FullNeighbours()] * n_builders)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({"clustering": StaticClustering(), "neighbours": FullNeighbours()}, False),
        ({"clustering": StaticClustering(), "neighbours": RadiusNeighbours(1.0)}, True),
        ({"clustering": StaticClustering(), "neighbours": [NoNeighbours(), KnnNeighbours(1)]}, True),
        ({"clustering": KMeansClustering(position_noise=0.0), "neighbours": NoNeighbours()}, True),
        ({"clustering": RegionsClustering(ARENA), "neighbours": FullNeighbours()}, True),
        (
            {"layout": FLAT, "clustering": KMeansClustering(position_noise=0.0), "neighbours": FullNeighbours()},
            False,
        ),  # nobody to cluster
        ({"layout": FLAT, "clustering": StaticClustering(), "neighbours": KnnNeighbours(1)}, True),
    ],
)
def test_positions_are_read_where_a_builder_needs_them_and_asked_for_before_training(options, needs):
    """Without positions in the task, only hierarchies that need none can be built."""
    hierarchy = _hierarchy(**options)
    assert hierarchy.needs_position == needs
    assert ((GROUP, "position") in hierarchy.inputs.keys) == needs
    if needs:
        with pytest.raises(ValueError, match="set position"):
            replace(hierarchy, position=None)
    else:
        assert not replace(hierarchy, position=None).needs_position


@pytest.mark.parametrize(
    ("neighbours", "needs"),
    [(EdgesNeighbours(), True), ((NoNeighbours(), EdgesNeighbours()), True), (FullNeighbours(), False)],
)
def test_edges_of_the_task_are_read_where_a_builder_needs_them_and_asked_for_before_training(neighbours, needs):
    """Without edges in the task, only hierarchies that need none can be built."""
    hierarchy = _hierarchy(neighbours=neighbours)
    assert hierarchy.needs_edges == needs
    assert ((GROUP, "edges") in hierarchy.inputs.keys) == needs
    if needs:
        with pytest.raises(ValueError, match=r"^neighbours: .*set edges"):
            replace(hierarchy, edges=None)


def test_sizes_that_make_no_hierarchy_are_refused_at_once():
    """The layout's own message, when the hierarchy is built."""
    with pytest.raises(ValueError, match=r"n_nodes=.*goal_interval="):
        _hierarchy(n_nodes=(2,), goal_interval=())


########
# Graph
########


def _team(tiny: TinyHierarchy, x: list[float], parents: list[int]) -> TensorDict:
    """Workers at some x, with their sub-managers."""
    td = tiny.random_inputs()
    td[GROUP, "position"] = torch.stack([torch.tensor(x), torch.zeros(len(x))], dim=-1).double()
    td[tiny.keys.parent_index][:] = torch.tensor(parents)
    return td


def _edges(tiny: TinyHierarchy, td: TensorDict, level: int) -> list[list[int]]:
    adjacency = tiny.hierarchy.graph(tiny.connect(td)).adjacency[level]
    return [row.nonzero().flatten().tolist() for row in adjacency]


def test_sub_managers_exchange_messages_and_workers_follow_their_builder():
    """Workers under sub-managers 0, 1 and 2; worker 1 is dead, so neither it nor sub-manager 1 has neighbours."""
    tiny = TinyHierarchy(HierarchyLayout(3, (3, 1), (5, 2)))
    td = _team(tiny, [0.0, 1.0, 2.0], [0, 1, 2])
    td[GROUP, "alive"][1] = False
    for level in (0, 1):
        assert _edges(tiny, td, level) == [[2], [], [0]]
    assert set(tiny.hierarchy.graph(td).adjacency) == {0, 1}  # the manager is alone


def test_an_upper_level_has_neighbours_where_the_workers_have_none():
    """``neighbours=[none, full]``: edges of level 1 alone are written."""
    tiny = TinyHierarchy(SIX_UNDER_THREE, neighbours=(NoNeighbours(), FullNeighbours()))
    td = _team(tiny, [0.0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2])
    assert _edges(tiny, td, 1) == [[1, 2], [0, 2], [0, 1]]
    assert set(tiny.hierarchy.graph(td).adjacency) == {1}
    assert tiny.policy.edge_keys == [tiny.keys.adjacency(1)]


@pytest.mark.parametrize(
    ("x", "dead", "expected"),
    [
        ([0.0, 10, 8, 10, 13, 21], [], [[1], [0], [1]]),  # means 5, 9 and 17
        ([0.0, 10, 8, 10, 13, 21], [0], [[1], [0], [0]]),  # means 10, 9 and 17
        ([0.0, 10, 8, 10, 11, 13], [], [[1], [2], [1]]),  # means 5, 9 and 12
        ([0.0, 10, 8, 10, 13, 21], [1], [[1], [2], [1]]),  # means 0, 9 and 17
        ([0.0, 10, 8, 10, 13, 21], [2, 3], [[2], [], [0]]),  # sub-manager 1 has nobody
    ],
)
def test_nodes_of_an_upper_level_stand_at_the_mean_position_of_their_live_workers(x, dead, expected):
    """One nearest sub-manager each; pairs of workers under three sub-managers on a line."""
    tiny = TinyHierarchy(SIX_UNDER_THREE, neighbours=(NoNeighbours(), KnnNeighbours(1)))
    td = _team(tiny, x, [0, 0, 1, 1, 2, 2])
    td[GROUP, "alive"][dead] = False
    assert _edges(tiny, td, 1) == expected


@pytest.mark.parametrize(
    ("parents", "dead", "workers", "sub_managers"),
    [
        ([0, 0, 1, 1, 2, 2], [], [[1], [2], [3], [4], [5], [0]], [[1], [2], [0]]),
        ([0, 1, 2, 0, 1, 2], [], [[1], [2], [3], [4], [5], [0]], [[1], [2], [0]]),
        ([0, 0, 0, 1, 1, 2], [], [[1], [2], [3], [4], [5], [0]], [[1], [2], [0]]),
        ([2, 1, 0, 0, 0, 0], [], [[1], [2], [3], [4], [5], [0]], [[2], [0], [1]]),
        ([0, 0, 1, 1, 2, 2], [2], [[1], [], [], [4], [5], [0]], [[], [2], [0]]),
    ],
)
def test_messages_go_along_the_edges_of_the_task_at_every_level(parents, dead, workers, sub_managers):
    """Each of six workers in a ring receives from the next; sub-managers do where some of their live workers do."""
    tiny = TinyHierarchy(SIX_UNDER_THREE, neighbours=(EdgesNeighbours(),))
    td = _team(tiny, [0.0] * 6, parents)
    td[GROUP, "alive"][dead] = False
    assert _edges(tiny, td, 0) == workers
    assert _edges(tiny, td, 1) == sub_managers
    one = TinyHierarchy(SIX_UNDER_THREE, neighbours=EdgesNeighbours())  # that of the workers
    td = _team(one, [0.0] * 6, parents)
    assert _edges(one, td, 1) == [[1, 2], [0, 2], [0, 1]]


def test_edges_follow_the_clustering_in_effect():
    """The same positions with workers 0 and 5 exchanged: means 13, 9 and 6.5 instead of 5, 9 and 14.5."""
    tiny = TinyHierarchy(SIX_UNDER_THREE, neighbours=(NoNeighbours(), RadiusNeighbours(3.0)))
    x = [0.0, 10, 8, 10, 13, 16]
    assert _edges(tiny, _team(tiny, x, [0, 0, 1, 1, 2, 2]), 1) == [[], [], []]
    assert _edges(tiny, _team(tiny, x, [2, 0, 1, 1, 2, 0]), 1) == [[], [2], [1]]


@pytest.mark.parametrize("neighbours", [NoNeighbours(), (NoNeighbours(), FullNeighbours())])
def test_a_silent_or_lonely_hierarchy_writes_no_edges(neighbours):
    """Nobody exchanges messages: under one manager, or anywhere."""
    tiny = TinyHierarchy(HierarchyLayout(5, (1,), (3,)), neighbours=neighbours)
    td = tiny.random_inputs((2,))
    assert not any(str(key[-1]).startswith("adjacency") for key in td.keys(True, True) if isinstance(key, tuple))
    assert tiny.hierarchy.graph(td).adjacency == {}


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_a_clustering_is_written_where_it_is_due_and_held_elsewhere(name):
    """Two environments at one clock, of which one is said to be due."""
    tiny = TinyHierarchy(THREE_LEVELS, clustering=CLUSTERINGS[name])
    td = tiny.random_inputs((2,))
    td[tiny.keys.parent_index][:] = torch.tensor([1, 0, 1, 0, 1])
    before = td.clone()
    tiny.hierarchy.cluster(td, torch.tensor([3, 3]), torch.tensor([True, False]))
    position, alive = td[GROUP, "position"], td[GROUP, "alive"]
    index, centroids = tiny.clustering(position, alive, before[tiny.keys.centroids], torch.tensor([False, False]))
    assert torch.equal(td[tiny.keys.parent_index][0], index[0])
    assert torch.equal(td[tiny.keys.centroids][0], centroids[0])
    for key in (tiny.keys.parent_index, tiny.keys.centroids):
        assert torch.equal(td[key][1], before[key][1])


def test_centroids_start_afresh_where_the_level_above_decides():
    """Clock 6 is the manager's, clock 3 the sub-managers' alone; with two levels every decision is fresh."""
    position = torch.tensor([[[-1.0, 0], [-0.9, 0], [1, 0], [0.9, 0], [0.8, 0]]] * 2).double()
    for layout, expected in ((THREE_LEVELS, [0, 1]), (HierarchyLayout(5, (2,), (3,)), [0, 0])):
        tiny = TinyHierarchy(layout, clustering=KMeansClustering(position_noise=0.0))
        td = tiny.random_inputs((2,))
        td[GROUP, "position"][:] = position
        td[tiny.keys.centroids][:] = torch.tensor([[1.0, 0], [-1, 0]])  # cluster 0 is carried on the right
        tiny.hierarchy.cluster(td, torch.tensor([6, 3]), torch.tensor([True, True]))
        assert td[tiny.keys.parent_index][:, 0].tolist() == expected


##############
# What is read
##############


def test_a_level_receives_the_goals_of_the_one_above_and_the_top_none():
    """Workers those of level 1, sub-managers those of level 2."""
    tiny = TinyHierarchy(THREE_LEVELS)
    td = tiny.random_inputs((2,))
    assert tiny.hierarchy.received_goal(td, 0) is td[tiny.keys[1].action]
    assert tiny.hierarchy.received_goal(td, 1) is td[tiny.keys[2].action]
    assert tiny.hierarchy.received_goal(td, 2) is None


def test_goals_of_whole_numbers_are_received_as_floats():
    """One-hot goals reach networks as numbers that they can multiply."""
    tiny = TinyHierarchy(THREE_LEVELS, goal=GOALS["categorical"])
    td = tiny.random_inputs((2,))
    goal = tiny.hierarchy.received_goal(td, 0)
    assert goal.dtype == torch.get_default_dtype()
    assert torch.equal(goal.long(), td[tiny.keys[1].action])


def test_the_phase_is_that_of_the_clock_in_effect():
    """Clock 4 under periods 3 and 6."""
    tiny = TinyHierarchy(THREE_LEVELS)
    phase = tiny.hierarchy.phase(tiny.random_inputs((2,), clock=4))
    torch.testing.assert_close(phase, torch.tensor([[1 / 3, 2 / 3]] * 2))


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, ["goal_1", "adjacency_0", "clock"]),
        (1, ["parent_index", "goal_2", "adjacency_1", "clock"]),
        (2, ["parent_index", "clock"]),
    ],
)
def test_a_level_reads_its_clusters_goal_and_neighbours(level, expected):
    """Beside the entries of the group; the clock for the phase alone."""
    hierarchy = _hierarchy()
    keys = [*hierarchy.inputs.keys, *((hierarchy.keys.root, name) for name in expected)]
    assert hierarchy.keys_read(level, with_phase=True) == keys
    assert hierarchy.keys_read(level) == keys[:-1]


##############
# What is held
##############


@pytest.mark.parametrize("name", GOALS)
@pytest.mark.parametrize("layout", [THREE_LEVELS, HierarchyLayout(5, (2,), (3,))])
def test_an_environment_carries_zeros_of_the_right_shapes_and_types_after_a_reset(name, layout):
    """A real environment of three: clock, clustering and choices are whole numbers, the rest are floats."""
    env = VmasEnv("balance", num_envs=3, n_agents=5, seed=0)
    tiny = TinyHierarchy(layout, goal=GOALS[name])
    hierarchy, keys = tiny.hierarchy, tiny.keys
    env = env.append_transform(hierarchy.primer(env, tiny.goal))
    td = env.reset()
    default, long = torch.get_default_dtype(), torch.long
    expected = {keys.clock: ((3, 1), long), keys.parent_index: ((3, 5), long), keys.centroids: ((3, 2, 2), default)}
    for level in range(1, layout.n_levels):
        size = (3, layout.n_recipients(level), GOAL_DIM)
        expected[keys[level].action] = (size, default if name == "normal" else long)
    assert hierarchy.held_keys == list(expected)
    for key, (shape, dtype) in expected.items():
        carried = td[keys.carried(key)]
        assert (tuple(carried.shape), carried.dtype) == (shape, dtype)
        assert (carried == 0).all()
        assert env.full_observation_spec[keys.carried(key)].shape == shape


def test_an_environment_without_a_flag_of_the_team_is_refused():
    """Nothing would reset the clock there."""
    env, tiny = VmasEnv("balance", num_envs=1, n_agents=5, seed=0), TinyHierarchy(THREE_LEVELS)
    env.done_spec = Composite({GROUP: env.full_done_spec.clone()}, shape=env.batch_size)
    with pytest.raises(ValueError, match=r"no flag of the team, .*: give it a done entry at the root"):
        tiny.hierarchy.primer(env, tiny.goal)


def test_a_flat_hierarchy_holds_and_carries_nothing():
    """Depth 1: no transform."""
    hierarchy = _hierarchy(FLAT)
    assert hierarchy.held_keys == []
    assert hierarchy.primer(VmasEnv("balance", num_envs=1, n_agents=5, seed=0), GOALS["normal"]) is None
