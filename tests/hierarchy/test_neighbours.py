"""Builders of the edges inside a level, on cases worked by hand and under permutations of the agents."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarl_himpo.hierarchy import (
    FullNeighbours,
    KnnNeighbours,
    NoNeighbours,
    RadiusNeighbours,
    neighbours_registry,
)

LINE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
ALL = torch.ones(4, dtype=torch.bool)


def _edges(adjacency: torch.Tensor) -> list[list[int]]:
    """Whom every node hears."""
    return [row.nonzero().flatten().tolist() for row in adjacency]


def test_registry_names_every_builder():
    """A builder that is not in the registry cannot be chosen."""
    assert neighbours_registry == {
        "full": FullNeighbours,
        "radius": RadiusNeighbours,
        "knn": KnnNeighbours,
        "none": NoNeighbours,
    }


@pytest.mark.parametrize(
    ("name", "n_neighbours", "radius", "expected"),
    [
        ("full", 1, 1.0, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
        ("none", 1, 1.0, [[], [], [], []]),
        ("radius", 1, 2.5, [[1], [0, 2], [1], []]),
        ("radius", 1, 2.0, [[1], [0, 2], [1], []]),  # a node exactly at the radius is heard
        ("radius", 1, 0.5, [[], [], [], []]),
        ("knn", 1, 1.0, [[1], [0], [1], [2]]),
        ("knn", 2, 1.0, [[1, 2], [0, 2], [0, 1], [1, 2]]),
        ("knn", 9, 1.0, [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]),
    ],
)
def test_four_agents_on_a_line(name, n_neighbours, radius, expected):
    """Agents at x = 0, 1, 3 and 7."""
    adjacency = neighbours_registry[name](n_neighbours, radius)(LINE, ALL)
    assert _edges(adjacency) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full", [[2, 3], [], [0, 3], [0, 2]]),
        ("none", [[], [], [], []]),
        ("radius", [[2], [], [0], []]),
        ("knn", [[2], [], [0], [2]]),
    ],
)
def test_a_dead_agent_neither_hears_nor_is_heard(name, expected):
    """Agent 1 is dead: its neighbours look past it."""
    alive = torch.tensor([True, False, True, True])
    assert _edges(neighbours_registry[name](1, 3.0)(LINE, alive)) == expected


def test_knn_hears_fewer_where_fewer_are_alive():
    """Two live agents and two neighbours asked for: each hears the other only."""
    alive = torch.tensor([True, False, False, True])
    assert _edges(KnnNeighbours(2, 1.0)(LINE, alive)) == [[3], [], [], [0]]


@pytest.mark.parametrize("name", neighbours_registry)
def test_one_agent_hears_nobody(name):
    """There are no self-loops, also for an agent alone."""
    adjacency = neighbours_registry[name](3, 5.0)(torch.zeros(1, 2), torch.ones(1, dtype=torch.bool))
    assert adjacency.tolist() == [[False]]


@pytest.mark.parametrize("name", ["full", "radius", "knn"])
def test_two_agents_at_one_point_hear_each_other_and_not_themselves(name):
    """Distance zero is no self-loop."""
    position = torch.tensor([[0.5, 0.5], [0.5, 0.5], [9.0, 9.0]])
    adjacency = neighbours_registry[name](1, 1.0)(position, torch.ones(3, dtype=torch.bool))
    assert adjacency[0, 1]
    assert adjacency[1, 0]
    assert not adjacency.diagonal().any()


@pytest.mark.parametrize("name", neighbours_registry)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_any_batch_shape_gives_what_each_environment_gives_alone(name, shape):
    """No batch, environments, environments over time."""
    generator = torch.Generator().manual_seed(0)
    builder = neighbours_registry[name](2, 0.8)
    position = torch.randn(*shape, 5, 2, dtype=torch.float64, generator=generator)
    alive = torch.rand(*shape, 5, generator=generator) < 0.8
    adjacency = builder(position, alive)
    assert adjacency.shape == (*shape, 5, 5)
    assert adjacency.dtype == torch.bool
    for where in product(*map(range, shape)):
        assert (adjacency[where] == builder(position[where], alive[where])).all()


@pytest.mark.parametrize("name", ["full", "none"])
def test_builders_without_geometry_need_no_position(name):
    """A task without a known position can use them."""
    assert not neighbours_registry[name].needs_position
    nowhere = torch.full((4, 2), torch.nan)
    expected = neighbours_registry[name](1, 1.0)(LINE, ALL)
    assert torch.equal(neighbours_registry[name](1, 1.0)(nowhere, ALL), expected)


@pytest.mark.parametrize("name", ["radius", "knn"])
def test_builders_with_geometry_say_that_they_need_positions(name):
    """The algorithm refuses a task without a known position on this flag."""
    assert neighbours_registry[name].needs_position


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(neighbours_registry)),
    seed=st.integers(0, 2**31),
    n_agents=st.integers(1, 8),
    n_neighbours=st.integers(1, 4),
    data=st.data(),
)
def test_permuting_agents_permutes_the_edges(name, seed, n_agents, n_neighbours, data):
    """Agents at random places, so without ties, with some dead; every rule of the adjacency holds as well."""
    order = torch.tensor(data.draw(st.permutations(range(n_agents))))
    alive = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n_agents, max_size=n_agents)))
    position = torch.randn(n_agents, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    builder = neighbours_registry[name](n_neighbours, 1.0)
    adjacency = builder(position, alive)
    assert (builder(position[order], alive[order]) == adjacency[order][:, order]).all()
    assert not adjacency.diagonal().any()
    assert not adjacency[~alive].any()
    assert not adjacency[:, ~alive].any()
    if name == "knn":
        n_heard = max(min(n_neighbours, int(alive.sum()) - 1), 0)
        assert (adjacency.sum(-1)[alive] == n_heard).all()
