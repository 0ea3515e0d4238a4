"""Who stands below whom, and what pooling makes of nodes without a live worker."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarl_himpo.hierarchy import HierarchyGraph
from benchmarl_himpo.hierarchy.hierarchy_graph import SMALL_PRODUCT, distances, mean_of_members


def _graph(parent_index, n_nodes, alive) -> HierarchyGraph:
    return HierarchyGraph(tuple(torch.tensor(parent) for parent in parent_index), n_nodes, torch.tensor(alive))


def _random_graph(seed: int, n_agents: int, n_nodes: tuple[int, ...], shape: tuple[int, ...]) -> HierarchyGraph:
    generator = torch.Generator().manual_seed(seed)
    parents, below = [], n_agents
    for nodes in n_nodes:
        parents.append(torch.randint(nodes, (*shape, below), generator=generator))
        below = nodes
    return HierarchyGraph(tuple(parents), n_nodes, torch.rand(*shape, n_agents, generator=generator) < 0.7)


FOUR_WORKERS = {"parent_index": ([2, 0, 2, 0], [1, 0, 0]), "n_nodes": (3, 2), "alive": [True, True, False, True]}


def test_ancestors_follow_the_parents_upwards():
    """Workers 0 and 2 stand under sub-manager 2, which stands under 0; 1 and 3 under 0, which stands under 1."""
    graph = _graph(**FOUR_WORKERS)
    assert graph.ancestor_index(0).tolist() == [0, 1, 2, 3]
    assert graph.ancestor_index(1).tolist() == [2, 0, 2, 0]
    assert graph.ancestor_index(2).tolist() == [0, 1, 0, 1]


def test_membership_leaves_dead_workers_out():
    """Worker 2 is dead, so sub-manager 2 has worker 0 alone; sub-manager 1 has nobody."""
    graph = _graph(**FOUR_WORKERS)
    assert graph.membership(1).tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert graph.membership(2).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
    assert graph.n_workers(0).tolist() == [1, 1, 0, 1]
    assert graph.n_workers(1).tolist() == [2, 0, 1]
    assert graph.n_workers(2).tolist() == [1, 2]


def test_membership_is_computed_once_per_graph(monkeypatch):
    """Pooling, counting and asking again follow the parents once per level; a graph with other workers does so anew."""
    graph, follow, followed = _graph(**FOUR_WORKERS), HierarchyGraph.ancestor_index, []
    monkeypatch.setattr(
        HierarchyGraph, "ancestor_index", lambda self, level: (followed.append(level), follow(self, level))[1]
    )
    for _ in range(3):
        for level in (1, 2):
            graph.pool(torch.ones(4, 1), level)
            graph.n_workers(level)
            graph.membership(level)
    assert followed == [1, 2]
    other = replace(graph, alive=torch.tensor([False, True, True, True]))
    assert other.membership(1).tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert graph.membership(1).tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_membership_is_refused_for_the_workers():
    """A worker is a member of itself only: asking is a mistake."""
    with pytest.raises(ValueError, match="level must be 1 or more"):
        _graph(**FOUR_WORKERS).membership(0)


def test_pooling_takes_the_mean_of_live_workers_and_zero_for_an_empty_cluster():
    """Values 1, 2, 100 (dead), 6: sub-managers see (2 + 6) / 2, nothing and 1."""
    graph = _graph(**FOUR_WORKERS)
    x = torch.tensor([[1.0], [2.0], [100.0], [6.0]])
    assert graph.pool(x, 0) is x
    assert graph.pool(x, 1).squeeze(-1).tolist() == [4, 0, 1]
    assert graph.pool(x, 2).squeeze(-1).tolist() == [1, 4]


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_edges_of_workers_become_edges_of_the_nodes_above_them_as_in_a_plain_loop(shape):
    """Two nodes are connected, in one direction, where some live workers below them are."""
    graph = _random_graph(0, 6, (4, 2), shape)
    generator = torch.Generator().manual_seed(1)
    edges = torch.rand(*shape, 6, 6, generator=generator) < 0.15
    assert graph.pool_edges(edges, 0) is edges
    for level, n_nodes in ((1, 4), (2, 2)):
        above, expected = graph.ancestor_index(level), torch.zeros(*shape, n_nodes, n_nodes, dtype=torch.bool)
        for where in product(*map(range, shape)):
            for i, j in product(range(6), repeat=2):
                if edges[where][i, j] and graph.alive[where][i] and graph.alive[where][j]:
                    expected[where][above[where][i], above[where][j]] = True
        assert torch.equal(graph.pool_edges(edges, level), expected)
        assert expected.any()
        assert not expected.all()


@pytest.mark.parametrize("n", [3, 30])
def test_distances_far_from_the_origin_are_as_exact_as_near_it(n):
    """Torch's formula for many rows would be wrong by 0.06."""
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 100
    exact = torch.linalg.vector_norm(x.double().unsqueeze(-2) - x.double().unsqueeze(-3), dim=-1)
    torch.testing.assert_close(distances(x, x).double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize(
    ("n_sets", "n", "features", "is_small"),
    [(3, 3, 2, True), (2, 5, 39, True), (2, 5, 40, False), (7, 7, 32, False)],
)
def test_the_mean_of_members_and_its_gradient_are_those_of_a_plain_loop(n_sets, n, features, is_small, shape):
    """On both sides of where torch turns to BLAS; the first set is empty everywhere."""
    generator = torch.Generator().manual_seed(0)
    is_member = torch.rand(*shape, n_sets, n, generator=generator) < 0.6
    is_member[..., 0, :] = False
    x = torch.randn(*shape, n, features, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(*shape, n_sets, features, dtype=torch.float64, generator=generator)
    assert (n_sets * n * features < SMALL_PRODUCT) == is_small
    expected, gradient = torch.zeros_like(weight), torch.zeros_like(x)
    for index in product(*map(range, shape), range(n_sets)):
        members = is_member[index].nonzero().flatten().tolist()
        for member in members:
            expected[index] += x[(*index[:-1], member)].detach() / len(members)
            gradient[(*index[:-1], member)] += weight[index] / len(members)
    mean = mean_of_members(is_member, x)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad((mean * weight).sum(), x)[0], gradient, rtol=0, atol=1e-12)


def test_an_empty_cluster_gives_no_nan_in_value_or_gradient():
    """Every worker is dead, so every cluster is empty."""
    graph = _graph(([0, 1],), (2,), [False, False])
    x = torch.randn(2, 3, requires_grad=True)
    pooled = graph.pool(x, 1)
    pooled.sum().backward()
    assert (pooled == 0).all()
    assert (x.grad == 0).all()


def test_subordinates_get_what_their_parent_holds():
    """Sub-managers hold 10, 20, 30; workers under 2, 0, 2, 0 read 30, 10, 30, 10, dead or not."""
    graph = _graph(**FOUR_WORKERS)
    x = torch.tensor([[10.0], [20.0], [30.0]])
    assert graph.to_subordinates(x, 1).squeeze(-1).tolist() == [30, 10, 30, 10]
    assert graph.to_subordinates(x[:2], 2).squeeze(-1).tolist() == [20, 10, 10]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 6),
    n_nodes=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_graph_equals_a_plain_loop(seed, n_agents, n_nodes, shape):
    """Ancestors, counts, pooling and hand-down over any batch shape, against one graph at a time."""
    graph = _random_graph(seed, n_agents, n_nodes, shape)
    x = torch.randn(*shape, n_agents, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for level in range(1, len(n_nodes) + 1):
        ancestor, count, pooled = graph.ancestor_index(level), graph.n_workers(level), graph.pool(x, level)
        below = n_agents if level == 1 else n_nodes[level - 2]
        held = torch.randn(*shape, n_nodes[level - 1], 2, generator=torch.Generator().manual_seed(seed))
        handed_down = graph.to_subordinates(held, level)
        assert handed_down.shape == (*shape, below, 2)
        for where in product(*map(range, shape)):
            members = [[] for _ in range(n_nodes[level - 1])]
            for worker in range(n_agents):
                node = worker
                for parent in graph.parent_index[:level]:
                    node = int(parent[where][node])
                assert int(ancestor[where][worker]) == node
                if graph.alive[where][worker]:
                    members[node].append(x[where][worker])
            for node, rows in enumerate(members):
                mean = torch.stack(rows).mean(0) if rows else torch.zeros(2, dtype=torch.float64)
                assert int(count[where][node]) == len(rows)
                torch.testing.assert_close(pooled[where][node], mean)
            for child in range(below):
                assert (handed_down[where][child] == held[where][graph.parent_index[level - 1][where][child]]).all()
