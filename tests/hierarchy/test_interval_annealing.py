"""Goal intervals that change in the first half of a run, counted by hand."""

import copy
import re

import pytest
import torch

from benchmarl_himpo.hierarchy import HierarchyLayout, IntervalAnnealing


@pytest.mark.parametrize(
    ("frames", "periods"),
    [(0, (1, 10, 40)), (10, (1, 10, 40)), (11, (1, 9, 36)), (50, (1, 8, 24)), (99, (1, 5, 10)), (1000, (1, 5, 10))],
)
def test_intervals_change_linearly_in_whole_decisions(frames: int, periods: tuple[int, ...]) -> None:
    """From (10, 4) to (5, 2) in 100 frames: 9.45 and 3.78 after 11, 7.5 and 3 after 50, halves rounded up."""
    annealing = IntervalAnnealing([10, 4], [5, 2], n_frames=100)
    layout = HierarchyLayout(3, (2, 1), (5, 2), annealing)
    annealing.step(frames)
    assert layout.periods == periods
    clock = torch.arange(81)
    for level, period in enumerate(periods):
        assert torch.equal(layout.since_decision(clock, level), clock % period)
        assert torch.equal(layout.is_due(clock, level), clock % period == 0)
    torch.testing.assert_close(layout.phase(clock), torch.stack([(clock % p) / p for p in periods[1:]], dim=-1))


def test_intervals_may_grow() -> None:
    annealing = IntervalAnnealing([2], [6], n_frames=10)
    assert [annealing.periods.item(), annealing.step(5), annealing.periods.item()] == [2, None, 4]


def test_checkpoints_hold_the_count_alone() -> None:
    """A checkpoint read with other options has these options' intervals."""
    annealing = IntervalAnnealing([10], [5], n_frames=100)
    annealing.step(50)
    other = IntervalAnnealing([20], [5], n_frames=100)
    other.load_state_dict(annealing.state_dict())
    assert list(annealing.state_dict()) == ["frames"]
    assert other.periods.tolist() == [13]


def test_a_copy_counts_by_itself() -> None:
    annealing = IntervalAnnealing([10], [5], n_frames=100)
    layout = HierarchyLayout(3, (1,), (5,), annealing)
    copied = copy.deepcopy(layout)
    annealing.step(100)
    assert (layout.periods, copied.periods) == ((1, 5), (1, 10))


@pytest.mark.parametrize(
    ("initial", "n_frames", "named"),
    [
        ([10], 100, "goal_interval=[5, 2]: give 2 entries"),
        ([10, 0], 100, "initial_goal_interval=[10, 0]"),
        ([10, 4], 0, "n_frames=0"),
    ],
)
def test_what_cannot_be_is_refused(initial: list[int], n_frames: int, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        IntervalAnnealing(initial, [5, 2], n_frames)
