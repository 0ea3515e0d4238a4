"""Clusterings of the workers, on cases worked by hand and under permutations of the agents."""

import math
import re
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parts import ARENA, CLUSTERINGS

from benchmarl_himpo.hierarchy import (
    Clustering,
    KMeansClustering,
    RegionsClustering,
    StaticClustering,
    clustering_registry,
)

KMEANS = KMeansClustering(position_noise=0.0)
SPATIAL = [name for name, clustering in CLUSTERINGS.items() if clustering.needs_position]
TRUE, FALSE = torch.tensor(True), torch.tensor(False)


def _cluster(clustering, position, alive=None, centroids=None, is_fresh=TRUE, n_clusters=2):
    position = torch.as_tensor(position, dtype=torch.float64)
    alive = torch.ones(position.shape[:-1], dtype=torch.bool) if alive is None else torch.as_tensor(alive)
    if centroids is None:
        centroids = torch.zeros(*position.shape[:-2], n_clusters, 2, dtype=torch.float64)
    carried = torch.as_tensor(centroids, dtype=torch.float64)
    index, centroids = clustering(position, alive, carried, is_fresh)
    assert index.dtype == torch.long
    assert index.shape == alive.shape
    assert ((index >= 0) & (index < carried.shape[-2])).all()
    assert centroids.shape == carried.shape
    assert centroids.isfinite().all()
    return index, centroids


def _random_positions(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, 2, dtype=torch.float64, generator=generator) - 1


def test_registry_names_every_clustering():
    """A clustering that is not in the registry cannot be chosen."""
    assert clustering_registry == {
        "static": StaticClustering,
        "regions": RegionsClustering,
        "kmeans": KMeansClustering,
    }


@pytest.mark.parametrize("name", CLUSTERINGS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_any_batch_shape_gives_what_each_environment_gives_alone(name, shape):
    """No batch, environments, environments over time; fresh here and carried there."""
    clustering = CLUSTERINGS[name]
    position = _random_positions(0, *shape, 5)
    alive = torch.rand(*shape, 5, generator=torch.Generator().manual_seed(1)) < 0.8
    centroids = _random_positions(2, *shape, 2)
    is_fresh = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    index, carried = _cluster(clustering, position, alive, centroids, is_fresh)
    for where in product(*map(range, shape)):
        alone = _cluster(clustering, position[where], alive[where], centroids[where], is_fresh[where])
        assert (index[where] == alone[0]).all()
        torch.testing.assert_close(carried[where], alone[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_one_agent_or_fewer_agents_than_sub_managers(name):
    """One agent under three sub-managers, then two: valid labels, finite centroids."""
    _cluster(CLUSTERINGS[name], [[0.3, -0.2]], n_clusters=3)
    index, _ = _cluster(CLUSTERINGS[name], [[-0.9, 0.0], [0.9, 0.0]], n_clusters=3)
    assert index[0] != index[1]


@pytest.mark.parametrize("name", SPATIAL)
def test_agents_at_one_point_share_a_sub_manager(name):
    """Two agents at one point beside a third, then the whole team at one point."""
    clustering = CLUSTERINGS[name]
    index, _ = _cluster(clustering, [[0.5, 0.5], [0.5, 0.5], [-0.5, -0.5]])
    assert index.tolist() == [1, 1, 0]
    index, _ = _cluster(clustering, [[0.5, 0.5]] * 3)
    assert index.unique().numel() == 1


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_nobody_alive_is_no_error(name):
    """Every agent is dead: labels mean nothing, but are valid."""
    _cluster(CLUSTERINGS[name], [[0.5, 0.5], [-0.5, 0.5]], alive=[False, False])


def test_static_needs_no_position_and_carries_centroids_through():
    """Five agents in blocks of three and two, whatever else happens."""
    alive, centroids = torch.tensor([[True, False, True, True, True]]), torch.randn(1, 2, 2)
    nowhere = torch.full((1, 5, 2), torch.nan)
    assert not StaticClustering.needs_position
    index, carried = StaticClustering()(nowhere, alive, centroids, torch.tensor([True]))
    assert index.tolist() == [[0, 0, 0, 1, 1]]
    assert carried is centroids


@pytest.mark.parametrize(("n_agents", "expected"), [(4, [0, 0, 1, 1]), (3, [0, 0, 1]), (1, [0])])
def test_static_blocks_have_near_equal_size(n_agents, expected):
    """Two sub-managers over four, three and one agents."""
    index, _ = _cluster(StaticClustering(), torch.zeros(n_agents, 2))
    assert index.tolist() == expected


def test_regions_of_two_split_the_arena_at_its_middle_column():
    """Left and right half; a point on the border counts for the right."""
    index, _ = _cluster(RegionsClustering(ARENA), [[-0.1, 0.9], [0.0, -0.9], [0.1, 0.9]])
    assert index.tolist() == [0, 1, 1]


def test_regions_of_six_are_two_rows_of_three_columns():
    """One agent in the middle of every cell, numbered row by row from below."""
    x, y = [-2.0, 0.0, 2.0], [-1.5, 1.5]
    index, _ = _cluster(RegionsClustering((-3.0, 3.0)), [[a, b] for b in y for a in x], n_clusters=6)
    assert index.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("n_clusters", "expected"), [(1, [0, 0]), (3, [0, 2]), (4, [0, 3]), (5, [0, 4])])
def test_regions_take_the_most_square_grid(n_clusters, expected):
    """The lower left and upper right corner are the first and last cell of 1x1, 1x3, 2x2 and 1x5 grids."""
    index, _ = _cluster(RegionsClustering(ARENA), [[-1.0, -1.0], [1.0, 1.0]], n_clusters=n_clusters)
    assert index.tolist() == expected


def test_regions_count_positions_outside_for_the_nearest_cell():
    """Far left, far right, far above, on the upper corner of a 2x2 grid."""
    position = [[-9.0, -0.5], [9.0, -0.5], [-0.5, 9.0], [1.0, 1.0]]
    index, _ = _cluster(RegionsClustering(ARENA), position, n_clusters=4)
    assert index.tolist() == [0, 1, 2, 3]


def test_clusterings_say_what_they_need_and_who_knows_it():
    """Static blocks never change; an agent finds its own block or cell itself, but not its k-means cluster."""
    says = {name: (part.needs_position, part.is_moving, part.is_local) for name, part in CLUSTERINGS.items()}
    assert says == {"static": (False, False, True), "regions": (True, True, True), "kmeans": (True, True, False)}


def test_a_clustering_that_says_nothing_may_change_and_needs_everybodys_positions():
    """The cautious values: whoever deploys a policy relies on them."""

    class Unknown(Clustering):
        def __call__(self, position, alive, centroids, is_fresh):
            return torch.zeros_like(alive, dtype=torch.long), centroids

    assert Unknown().is_moving
    assert not Unknown().is_local


@pytest.mark.parametrize("arena", [(1.0, 1.0), (1.0, -1.0), (0.0,), (-1.0, 0.0, 1.0)])
def test_an_arena_without_an_inside_is_refused(arena):
    """The message shows the arena as the option has it."""
    with pytest.raises(ValueError, match=re.escape(f"clustering: arena={list(arena)}")):
        RegionsClustering(arena)


@pytest.mark.parametrize("arena", [5, (-math.inf, 1.0), (0.0, math.nan)])
def test_an_arena_of_other_than_two_finite_numbers_is_refused(arena):
    with pytest.raises(ValueError, match=r"clustering: arena=.* must be two numbers .low, high., finite"):
        RegionsClustering(arena)


def test_regions_may_leave_a_cell_empty():
    """Everybody is on the left, so the right sub-manager has nobody."""
    index, _ = _cluster(RegionsClustering(ARENA), [[-0.5, 0.5], [-0.4, 0.1]])
    assert index.tolist() == [0, 0]


def test_kmeans_finds_two_groups_and_numbers_them_from_the_left():
    """Means (-0.9, 0) and (0.95, 0); the order of the agents does not matter."""
    position = torch.tensor([[0.9, 0.0], [-1.0, 0.0], [1.0, 0.0], [-0.8, 0.0]])
    index, centroids = _cluster(KMEANS, position)
    assert index.tolist() == [1, 0, 1, 0]
    torch.testing.assert_close(centroids, torch.tensor([[-0.9, 0.0], [0.95, 0.0]], dtype=torch.float64))


def test_kmeans_starts_at_the_agent_farthest_from_the_mean_and_then_the_farthest_from_that():
    """The mean is (2.75, 1.75), so the start is (1, 4) and then (5, 1); from the first agent it would be 3 and 1."""
    index, centroids = _cluster(KMEANS, [[3.0, 0.0], [2.0, 2.0], [5.0, 1.0], [1.0, 4.0]])
    assert index.tolist() == [1, 0, 1, 0]
    assert centroids.tolist() == [[1.5, 3], [4, 0.5]]


def test_kmeans_takes_a_lloyd_step_from_the_carried_centroids():
    """Carried centroids at x = 0 and 10; agents at 1, 2 and 8 move them to 1.5 and 8."""
    index, centroids = _cluster(KMEANS, [[1.0, 0], [2.0, 0], [8.0, 0]], centroids=[[0.0, 0], [10.0, 0]], is_fresh=FALSE)
    assert index.tolist() == [0, 0, 1]
    assert centroids.tolist() == [[1.5, 0], [8, 0]]


def test_kmeans_leaves_an_empty_centroid_where_it_was():
    """The second centroid is far away: it keeps its place, and nobody joins it."""
    index, centroids = _cluster(KMEANS, [[0.0, 0], [1.0, 0]], centroids=[[0.0, 0], [50.0, 50.0]], is_fresh=FALSE)
    assert index.tolist() == [0, 0]
    assert centroids.tolist() == [[0.5, 0], [50, 50]]


def test_kmeans_keeps_labels_under_a_held_goal_until_a_fresh_start():
    """Two groups change sides in small steps; only the fresh start numbers them from the left again."""
    clustering = KMEANS
    team = torch.tensor([[-1.0, 0.0], [-0.9, 0.1], [1.0, 0.0], [0.9, -0.1]], dtype=torch.float64)
    index, centroids = _cluster(clustering, team)
    assert index.tolist() == [0, 0, 1, 1]
    for angle in torch.linspace(0, torch.pi, 9, dtype=torch.float64):
        rotation = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
        position = team @ rotation
        index, centroids = _cluster(clustering, position, centroids=centroids, is_fresh=FALSE)
        assert index.tolist() == [0, 0, 1, 1]
    assert (position[:2, 0] > 0).all()
    index, _ = _cluster(clustering, position, centroids=centroids)
    assert index.tolist() == [1, 1, 0, 0]


def test_kmeans_ignores_carried_centroids_at_a_fresh_start():
    """Where the manager decides, what was carried changes nothing."""
    position = _random_positions(0, 5)
    first = _cluster(KMEANS, position, centroids=_random_positions(1, 2))
    second = _cluster(KMEANS, position, centroids=_random_positions(2, 2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_kmeans_without_noise_draws_no_random_number():
    """The generator stands where it stood, and nothing is random about it."""
    before = torch.get_rng_state()
    _cluster(KMEANS, _random_positions(0, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert not KMEANS.is_random
    assert KMeansClustering(position_noise=0.1).is_random


@pytest.mark.parametrize("is_fresh", [TRUE, FALSE])
def test_noise_on_positions_makes_more_workers_change_their_sub_manager(is_fresh):
    """Five agents in 500 teams stand still and are clustered twice: more move with more noise, up to about half."""
    torch.manual_seed(0)
    position = _random_positions(0, 500, 5)
    seen = position.clone()
    shares = []
    for noise in (0.0, 0.1, 0.4, 10.0):
        clustering = KMeansClustering(position_noise=noise)
        first, centroids = _cluster(clustering, position)
        second, _ = _cluster(clustering, position, centroids=centroids, is_fresh=is_fresh)
        shares.append((first != second).double().mean().item())
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[1] > 0.01
    assert 0.4 < shares[-1] < 0.55
    assert torch.equal(position, seen)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_noise_that_is_no_standard_deviation_is_refused(noise):
    """The message shows the value as the option has it."""
    with pytest.raises(ValueError, match=f"clustering: position_noise={noise} must be finite and 0 or more"):
        KMeansClustering(position_noise=noise)


@pytest.mark.parametrize("is_fresh", [TRUE, FALSE])
def test_a_dead_agent_moves_no_centroid(is_fresh):
    """Wherever the dead agent lies, the others' labels and the centroids stay."""
    alive = [True, True, True, True, False]
    results = []
    for x in (-5.0, 0.0, 7.0):
        position = torch.tensor([[-1.0, 0.0], [-0.8, 0.1], [0.9, 0.0], [1.0, 0.2], [x, x]])
        results.append(_cluster(KMEANS, position, alive, [[-1.0, 0.0], [1.0, 0.0]], is_fresh))
    for index, centroids in results:
        assert index[:4].tolist() == [0, 0, 1, 1]
        torch.testing.assert_close(centroids, results[0][1], rtol=0, atol=0)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(SPATIAL),
    seed=st.integers(0, 2**31),
    n_clusters=st.integers(1, 4),
    n_agents=st.integers(4, 9),
    is_fresh=st.booleans(),
    data=st.data(),
)
def test_permuting_agents_permutes_their_labels(name, seed, n_clusters, n_agents, is_fresh, data):
    """Agents at random places, so without ties, some dead: a label belongs to a place, not to an agent's number."""
    order = torch.tensor(data.draw(st.permutations(range(n_agents))))
    alive = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n_agents, max_size=n_agents)))
    alive[: max(n_clusters, 3)] = True  # two live agents are equally far from their mean, which is a tie
    clustering = CLUSTERINGS[name]
    position, centroids = _random_positions(seed, n_agents), _random_positions(seed + 1, n_clusters)
    is_fresh = torch.tensor(is_fresh)
    index, carried = _cluster(clustering, position, alive, centroids, is_fresh)
    permuted, permuted_carried = _cluster(clustering, position[order], alive[order], centroids, is_fresh)
    assert (permuted == index[order]).all()
    torch.testing.assert_close(permuted_carried, carried, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), n_clusters=st.integers(1, 4), n_agents=st.integers(1, 7))
def test_kmeans_equals_a_plain_loop(seed, n_clusters, n_agents):
    """Lloyd's algorithm from carried centroids, one agent and one cluster at a time."""
    position, carried = _random_positions(seed, n_agents), _random_positions(seed + 1, n_clusters)
    alive = torch.rand(n_agents, generator=torch.Generator().manual_seed(seed)) < 0.8
    index, centroids = _cluster(KMEANS, position, alive, carried, FALSE)

    def nearest(point):
        distances = [float((point - centroid).norm()) for centroid in expected]
        return distances.index(min(distances))

    expected = list(carried)
    for _ in range(KMeansClustering.n_lloyd_steps):
        labels = [nearest(point) for point in position]
        for cluster in range(n_clusters):
            members = [position[i] for i in range(n_agents) if labels[i] == cluster and alive[i]]
            if members:
                expected[cluster] = torch.stack(members).mean(0)
    torch.testing.assert_close(centroids, torch.stack(expected), rtol=0, atol=1e-12)
    assert index.tolist() == [nearest(point) for point in position]
