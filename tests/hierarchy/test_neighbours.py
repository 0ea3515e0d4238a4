"""Builders of the edges inside a level, on cases worked by hand and under permutations of the agents."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parts import NEIGHBOURS

from benchmarl_himpo.hierarchy import (
    EdgesNeighbours,
    FullNeighbours,
    KnnNeighbours,
    Neighbours,
    NoNeighbours,
    RadiusNeighbours,
    neighbours_registry,
)

LINE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
ALL = torch.ones(4, dtype=torch.bool)
EDGES = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
"""Those of a task: 0 receives from 1 and from itself, 1 from 2, 2 from 0, 3 from nobody."""


def _edges(adjacency: torch.Tensor) -> list[list[int]]:
    """Whom every node receives messages from."""
    return [row.nonzero().flatten().tolist() for row in adjacency]


def test_registry_names_every_builder():
    """A builder that is not in the registry cannot be chosen."""
    assert neighbours_registry == {
        "full": FullNeighbours,
        "radius": RadiusNeighbours,
        "knn": KnnNeighbours,
        "none": NoNeighbours,
        "edges": EdgesNeighbours,
    }


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (FullNeighbours(), [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
        (NoNeighbours(), [[], [], [], []]),
        (RadiusNeighbours(2.5), [[1], [0, 2], [1], []]),
        (RadiusNeighbours(2.0), [[1], [0, 2], [1], []]),  # a node exactly at the radius counts
        (RadiusNeighbours(0.5), [[], [], [], []]),
        (KnnNeighbours(1), [[1], [0], [1], [2]]),
        (KnnNeighbours(2), [[1, 2], [0, 2], [0, 1], [1, 2]]),
        (KnnNeighbours(9), [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
        (EdgesNeighbours(), [[1], [2], [0], []]),
    ],
)
def test_four_agents_on_a_line(builder, expected):
    """Agents at x = 0, 1, 3 and 7."""
    adjacency = builder(LINE, ALL, EDGES)
    assert _edges(adjacency) == expected
    assert max(map(len, expected)) <= builder.max_degree(4)


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (FullNeighbours(), [[2, 3], [], [0, 3], [0, 2]]),
        (NoNeighbours(), [[], [], [], []]),
        (RadiusNeighbours(3.0), [[2], [], [0], []]),
        (KnnNeighbours(1), [[2], [], [0], [2]]),
        (EdgesNeighbours(), [[], [], [0], []]),
    ],
)
def test_a_dead_agent_neither_sends_nor_receives_messages(builder, expected):
    """Agent 1 is dead: its neighbours look past it."""
    alive = torch.tensor([True, False, True, True])
    assert _edges(builder(LINE, alive, EDGES)) == expected


def test_a_builder_that_needs_the_edges_of_the_task_is_refused_without_them():
    """Nothing else would do."""
    with pytest.raises(ValueError, match="neighbours: the edges of the task are needed"):
        EdgesNeighbours()(LINE, ALL)


def test_a_builder_of_ones_own_may_choose_among_the_edges_of_the_task():
    """The first of them, one for each node."""

    class First(EdgesNeighbours):
        def _restrict(self, position, allowed):
            return allowed & (allowed.cumsum(-1) == 1)

    edges = EDGES.clone()
    edges[1] = True
    assert _edges(First()(LINE, ALL, edges)) == [[1], [0], [0], []]


def test_knn_gives_fewer_neighbours_where_fewer_are_alive():
    """Two live agents and two neighbours asked for: each has the other only."""
    alive = torch.tensor([True, False, False, True])
    assert _edges(KnnNeighbours(2)(LINE, alive)) == [[3], [], [], [0]]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_one_agent_has_no_neighbours(name):
    """There are no self-loops, also for an agent alone."""
    alone = torch.ones(1, dtype=torch.bool)
    adjacency = NEIGHBOURS[name](torch.zeros(1, 2), alone, alone.unsqueeze(0))
    assert adjacency.tolist() == [[False]]


@pytest.mark.parametrize("name", [name for name, builder in NEIGHBOURS.items() if not builder.is_silent])
def test_two_agents_at_one_point_are_neighbours_and_not_their_own(name):
    """Distance zero is no self-loop."""
    position = torch.tensor([[0.5, 0.5], [0.5, 0.5], [9.0, 9.0]])
    adjacency = NEIGHBOURS[name](position, torch.ones(3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool))
    assert adjacency[0, 1]
    assert adjacency[1, 0]
    assert not adjacency.diagonal().any()


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_any_batch_shape_gives_what_each_environment_gives_alone(name, shape):
    """No batch, environments, environments over time."""
    generator = torch.Generator().manual_seed(0)
    builder = NEIGHBOURS[name]
    position = torch.randn(*shape, 5, 2, dtype=torch.float64, generator=generator)
    alive = torch.rand(*shape, 5, generator=generator) < 0.8
    edges = torch.rand(*shape, 5, 5, generator=generator) < 0.5
    adjacency = builder(position, alive, edges)
    assert adjacency.shape == (*shape, 5, 5)
    assert adjacency.dtype == torch.bool
    for where in product(*map(range, shape)):
        assert (adjacency[where] == builder(position[where], alive[where], edges[where])).all()


@pytest.mark.parametrize("name", [name for name, builder in NEIGHBOURS.items() if not builder.needs_position])
def test_builders_without_geometry_read_no_position(name):
    """A task without a known position can use them."""
    nowhere = torch.full((4, 2), torch.nan)
    assert torch.equal(NEIGHBOURS[name](nowhere, ALL, EDGES), NEIGHBOURS[name](LINE, ALL, EDGES))


@pytest.mark.parametrize("name", [name for name, builder in NEIGHBOURS.items() if not builder.needs_edges])
def test_other_builders_read_no_edges(name):
    """A task without edges can use them."""
    assert torch.equal(NEIGHBOURS[name](LINE, ALL), NEIGHBOURS[name](LINE, ALL, EDGES))


def test_builders_say_what_they_need_and_who_knows_it():
    """The nearest k are known to nobody without everybody's positions; a radius is a radio's range."""
    says = {
        name: (part.needs_position, part.needs_edges, part.is_silent, part.is_local)
        for name, part in NEIGHBOURS.items()
    }
    assert says == {
        "full": (False, False, False, True),
        "radius": (True, False, False, True),
        "knn": (True, False, False, False),
        "none": (False, False, True, True),
        "edges": (False, True, False, True),
    }


def test_a_builder_that_says_nothing_may_connect_all_and_needs_everybodys_positions():
    """The cautious values: whoever deploys a policy relies on them."""

    class Unknown(Neighbours):
        def _restrict(self, position, allowed):
            return allowed

    assert not Unknown().is_local
    assert not Unknown().is_silent
    assert Unknown().max_degree(5) == 4


@pytest.mark.parametrize(("k", "expected"), [(1, 1), (3, 3), (9, 4)])
def test_knn_says_how_many_neighbours_there_may_be(k, expected):
    """Of five nodes, a node has at most the other four."""
    assert KnnNeighbours(k).max_degree(5) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KnnNeighbours(0), "neighbours: k=0 must be 1 or more"),
        (lambda: RadiusNeighbours(0.0), "neighbours: radius=0.0 must be positive"),
        (lambda: RadiusNeighbours(math.nan), "neighbours: radius=nan must be positive"),
        (lambda: RadiusNeighbours(-1.0), "neighbours: radius=-1.0 must be positive"),
    ],
)
def test_values_that_give_no_neighbours_are_refused(make, message):
    """The message names the option and the field."""
    with pytest.raises(ValueError, match=message):
        make()


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(NEIGHBOURS)),
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 8),
    k=st.integers(1, 4),
    data=st.data(),
)
def test_permuting_agents_permutes_the_edges(name, seed, n_agents, k, data):
    """Agents at random places, so without ties, with some dead; every rule of the adjacency holds as well."""
    order = torch.tensor(data.draw(st.permutations(range(n_agents))))
    alive = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n_agents, max_size=n_agents)))
    generator = torch.Generator().manual_seed(seed)
    position = torch.randn(n_agents, 2, dtype=torch.float64, generator=generator)
    edges = torch.rand(n_agents, n_agents, generator=generator) < 0.5
    builder = KnnNeighbours(k) if name == "knn" else NEIGHBOURS[name]
    adjacency = builder(position, alive, edges)
    assert (builder(position[order], alive[order], edges[order][:, order]) == adjacency[order][:, order]).all()
    assert not adjacency.diagonal().any()
    assert not adjacency[~alive].any()
    assert not adjacency[:, ~alive].any()
    assert int(adjacency.sum(-1).max()) <= builder.max_degree(n_agents)
    if name == "knn":
        degree = max(min(k, int(alive.sum()) - 1), 0)
        assert (adjacency.sum(-1)[alive] == degree).all()
