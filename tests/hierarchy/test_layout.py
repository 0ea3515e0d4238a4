"""Levels, counted from the bottom, and the clocks that say when each decides."""

import re

import pytest
import torch

from benchmarl_himpo.hierarchy import HierarchyLayout


def test_levels_count_from_the_bottom():
    """Five workers under two sub-managers under one manager: level 0 is the five, the top is level 2."""
    layout = HierarchyLayout(n_agents=5, n_nodes=(2, 1), goal_interval=(5, 2))
    assert (layout.n_levels, layout.top) == (3, 2)
    assert [layout.nodes_at(level) for level in range(3)] == [5, 2, 1]


def test_recipients_are_workers_at_the_bottom_and_the_nodes_below_everywhere_else():
    """Workers act once each; a sub-manager sends a goal to each worker, the manager one to each sub-manager."""
    layout = HierarchyLayout(n_agents=5, n_nodes=(2, 1), goal_interval=(5, 2))
    assert [layout.n_recipients(level) for level in range(3)] == [5, 5, 2]


@pytest.mark.parametrize(
    ("goal_interval", "periods"),
    [((), (1,)), ((5,), (1, 5)), ((5, 2), (1, 5, 10)), ((1, 1), (1, 1, 1)), ((2, 3, 4), (1, 2, 6, 24))],
)
def test_periods_are_products_of_the_intervals_below(goal_interval, periods):
    """A goal of the manager is held for K goals of its sub-managers, that is K times alpha steps."""
    layout = HierarchyLayout(4, tuple(1 for _ in goal_interval), goal_interval)
    assert layout.periods == periods


def test_workers_always_decide_and_upper_levels_at_multiples_of_their_period():
    """With alpha = 2 and K = 3 over steps 0..12, sub-managers decide at even steps and the manager at 0, 6, 12."""
    layout = HierarchyLayout(4, (2, 1), (2, 3))
    clock = torch.arange(13)
    assert layout.is_due(clock, 0).all()
    assert clock[layout.is_due(clock, 1)].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert clock[layout.is_due(clock, 2)].tolist() == [0, 6, 12]


def test_a_level_decides_only_when_every_level_below_does():
    """A goal never changes inside an interval of the level that receives it."""
    layout = HierarchyLayout(4, (3, 2, 1), (2, 3, 2))
    clock = torch.arange(48)
    for level in range(1, layout.n_levels):
        assert not (layout.is_due(clock, level) & ~layout.is_due(clock, level - 1)).any()


def test_phase_is_the_share_of_each_interval_that_has_passed():
    """With periods 2 and 6, step 3 is half-way through both intervals; step 6 starts both afresh."""
    layout = HierarchyLayout(4, (2, 1), (2, 3))
    phase = layout.phase(torch.tensor([[0, 1, 3], [5, 6, 7]]))
    expected = torch.tensor([[[0, 0], [1 / 2, 1 / 6], [1 / 2, 1 / 2]], [[1 / 2, 5 / 6], [0, 0], [1 / 2, 1 / 6]]])
    torch.testing.assert_close(phase, expected)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4)])
def test_phase_and_is_due_take_any_batch_shape(shape):
    """No environment, several, and several over time."""
    layout = HierarchyLayout(4, (2, 1), (5, 2))
    clock = torch.full(shape, 5)
    assert layout.is_due(clock, 1).shape == shape
    assert layout.phase(clock).shape == (*shape, 2)


def test_a_flat_hierarchy_has_no_phase():
    """Depth 1: one level, which decides at every step."""
    layout = HierarchyLayout(4, (), ())
    assert (layout.n_levels, layout.top, layout.periods) == (1, 0, (1,))
    assert layout.phase(torch.arange(3)).shape == (3, 0)


@pytest.mark.parametrize(
    ("n_agents", "n_nodes", "expected"),
    [(5, 2, [0, 0, 0, 1, 1]), (4, 2, [0, 0, 1, 1]), (1, 3, [0]), (2, 3, [0, 1]), (7, 3, [0, 0, 0, 1, 1, 2, 2])],
)
def test_static_parents_are_contiguous_blocks_of_near_equal_size(n_agents, n_nodes, expected):
    """Also with fewer nodes below than above, where some parents stay without children."""
    layout = HierarchyLayout(n_agents, (n_nodes,), (5,))
    assert layout.static_parent_index(1).tolist() == expected


def test_static_parents_of_a_middle_level_are_its_own_nodes():
    """Three sub-managers under two middle managers under one: blocks at every level."""
    layout = HierarchyLayout(6, (3, 2, 1), (2, 2, 2))
    assert [layout.static_parent_index(level).tolist() for level in (1, 2, 3)] == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1],
        [0, 0],
    ]


@pytest.mark.parametrize("value", [0.5, None, "tanh", [1, 2, 3], (1, 2, 3)])
def test_one_value_serves_all_levels_and_a_sequence_gives_each_its_own(value):
    """Workers first; text is one value."""
    layout = HierarchyLayout(4, (2, 1), (5, 2))
    expected = [1, 2, 3] if isinstance(value, list | tuple) else [value] * 3
    assert layout.per_level("option", value) == expected


@pytest.mark.parametrize("values", [[], [1, 2], [1, 2, 3, 4]])
def test_a_sequence_of_another_length_than_there_are_levels_is_refused(values):
    """The message names the option and the number of levels."""
    with pytest.raises(ValueError, match=re.escape(f"option={values}") + ".*give 3 values"):
        HierarchyLayout(4, (2, 1), (5, 2)).per_level("option", values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, (2, 1), (5,)), "same length"),
        ((4, (2,), (5, 2)), "same length"),
        ((4, (0,), (5,)), "^n_nodes="),
        ((4, (2, 1), (5, 0)), "^goal_interval="),
        ((4, (2,), (-1,)), "^goal_interval="),
        ((0, (2,), (5,)), "at least one agent"),
    ],
)
def test_sizes_that_make_no_hierarchy_are_refused(arguments, message):
    """The message names the option to change."""
    with pytest.raises(ValueError, match=message):
        HierarchyLayout(*arguments)
