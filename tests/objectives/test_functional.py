"""The tensor functions behind every level, on numbers worked by hand and against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plain_loops import interval_bounds
from torch import Tensor

from benchmarl_himpo.objectives.functional import (
    Intervals,
    append_dims,
    check_same_shape,
    clipped_surrogate,
    explained_variance,
    interval_starts,
    masked_mean,
    masked_variance,
    remaining_value_target,
)


def _steps(*values: float) -> Tensor:
    """One environment, one edge."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _flags(*values: int) -> Tensor:
    """One environment."""
    return torch.tensor([values], dtype=torch.bool)


def _random_starts(seed: int, n_envs: int, n_steps: int) -> Tensor:
    return interval_starts(torch.rand(n_envs, n_steps, generator=torch.Generator().manual_seed(seed)) < 0.4)


def test_intervals_of_two_environments():
    """Intervals of 2, 3 and 1 steps, and of 6 steps: the second environment has one interval only."""
    intervals = Intervals(torch.tensor([[1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0]], dtype=torch.bool))
    assert intervals.n_intervals == 3
    assert intervals.index.tolist() == [[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]]
    assert intervals.is_end.tolist() == [[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]
    assert intervals.length.tolist() == [[2, 2, 3, 3, 3, 1], [6] * 6]
    x = torch.tensor([[1.0, 2, 3, 4, 5, 6], [1, 1, 1, 1, 1, 1]])
    assert intervals.sum(x).tolist() == [[3, 12, 6], [6, 0, 0]]
    assert intervals.to_steps(intervals.sum(x)).tolist() == [[3, 3, 12, 12, 12, 6], [6] * 6]
    assert intervals.sum_before(x).tolist() == [[0, 1, 0, 3, 7, 0], [0, 1, 2, 3, 4, 5]]


def test_intervals_start_at_every_decision_and_at_the_first_step():
    """The first step here belongs to an interval of an earlier batch: it starts again, and so do rewards."""
    is_decision = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    assert interval_starts(is_decision).tolist() == [[1, 0, 1, 0], [1, 0, 0, 1]]
    assert is_decision.tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 12),
    features=st.sampled_from([(), (2,), (3, 1)]),
)
def test_intervals_equal_plain_loops(seed, n_envs, n_steps, features):
    """Sums, sums before, lengths, ends and hand-back over any features."""
    is_start = _random_starts(seed, n_envs, n_steps)
    x = torch.randn(n_envs, n_steps, *features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    intervals = Intervals(is_start)
    sums, before, back = intervals.sum(x), intervals.sum_before(x), intervals.to_steps(intervals.sum(x))
    bounds = [interval_bounds(row) for row in is_start.tolist()]
    assert intervals.n_intervals == max(map(len, bounds))
    assert sums.shape == (n_envs, intervals.n_intervals, *features)
    for b in range(n_envs):
        for k, (first, last) in enumerate(bounds[b]):
            total = torch.zeros(features, dtype=torch.float64)
            for t in range(first, last + 1):
                torch.testing.assert_close(before[b, t], total, rtol=0, atol=1e-12)
                total = total + x[b, t]
                assert int(intervals.index[b, t]) == k
                assert int(intervals.length[b, t]) == last - first + 1
                assert bool(intervals.is_end[b, t]) == (t == last)
            torch.testing.assert_close(sums[b, k], total, rtol=0, atol=1e-12)
            torch.testing.assert_close(back[b, first], total, rtol=0, atol=1e-12)
        assert (sums[b, len(bounds[b]) :] == 0).all()


def test_one_step_of_each_interval_is_drawn_and_every_step_as_often_as_any():
    """Intervals of 1, 4 and 3 steps in 4,000 environments: within four standard errors of uniform."""
    n_envs = 4_000
    is_start = torch.tensor([1, 1, 0, 0, 0, 1, 0, 0]).bool().expand(n_envs, -1)
    torch.manual_seed(0)
    intervals = Intervals(is_start)
    drawn = intervals.draw_step()
    assert (intervals.sum(drawn.long()) == 1).all()
    share = torch.tensor([1, *[1 / 4] * 4, *[1 / 3] * 3])
    assert ((drawn.float().mean(0) - share).abs() <= 4 * (share * (1 - share) / n_envs).sqrt()).all()


def test_append_dims_appends_and_never_prepends():
    """A flag per environment and step meets values per edge."""
    assert append_dims(torch.zeros(2, 5), torch.zeros(2, 5, 3, 1)).shape == (2, 5, 1, 1)
    assert append_dims(torch.zeros(2, 5), torch.zeros(2, 5)).shape == (2, 5)


def test_remaining_value_target_is_what_is_left_of_the_interval():
    """Rewards 1, 2, 3 of a target of 20, then 4 of a target of 7: left are 20, 19, 17 and 7."""
    target = remaining_value_target(_steps(20, 20, 20, 7), _steps(1, 2, 3, 4), Intervals(_flags(1, 0, 0, 1)))
    assert target.flatten().tolist() == [20, 19, 17, 7]


def test_masked_mean_takes_what_the_mask_keeps():
    """(1 + 3) / 2; everything without a mask; zero, and no NaN, where nothing is kept."""
    x, mask = torch.tensor([1.0, 5.0, 3.0]), torch.tensor([True, False, True])
    assert masked_mean(x, mask) == 2
    assert masked_mean(x, None) == 3
    assert masked_mean(x, torch.zeros(3, dtype=torch.bool)) == 0
    assert masked_mean(torch.tensor([1.0, math.nan, 3.0]), mask) == 2


def test_masked_variance_takes_what_the_mask_keeps():
    """Of 1 and 3 it is 1, of one number and of none 0."""
    x = torch.tensor([1.0, 5.0, 3.0])
    assert masked_variance(x, torch.tensor([True, False, True])) == 1
    assert masked_variance(x, torch.tensor([False, True, False])) == 0
    assert masked_variance(x, torch.zeros(3, dtype=torch.bool)) == 0


# With ε = 0.2: weights 1.5 and 0.5 leave the range [0.8, 1.2], 1.1 does not.
@pytest.mark.parametrize(
    ("weight", "advantage", "gain", "is_clipped"),
    [(1.5, 2, 2.4, True), (1.5, -2, -3, True), (0.5, 2, 1, True), (0.5, -2, -1.6, True), (1.1, 2, 2.2, False)],
)
def test_clipped_surrogate_is_the_worse_of_weight_and_clipped_weight(weight, advantage, gain, is_clipped):
    """Gains beyond the clip are not counted, losses beyond it are."""
    gains, flags = clipped_surrogate(_steps(math.log(weight)), _steps(advantage), 0.2)
    assert gains.item() == pytest.approx(gain, abs=1e-12)
    assert flags.item() is is_clipped


def test_clipped_surrogate_gives_no_gradient_beyond_the_clip():
    """A weight of 1.5 with a positive advantage has no gradient; with a negative one it has."""
    for advantage, gradient in ((2.0, 0.0), (-2.0, -3.0)):
        log_weight = _steps(math.log(1.5)).requires_grad_()
        clipped_surrogate(log_weight, _steps(advantage), 0.2)[0].sum().backward()
        assert log_weight.grad.item() == pytest.approx(gradient)


def test_explained_variance_of_perfect_half_and_useless_values():
    """Targets 0, 2, 4, 6 have variance 5: exact values explain all of it, values that are 1 off 80 %, zeros nothing."""
    target = _steps(0, 2, 4, 6)
    assert explained_variance(target, target).item() == 1
    assert explained_variance(target, _steps(1, 1, 5, 5)).item() == pytest.approx(0.8)
    assert explained_variance(target, torch.zeros_like(target)).item() == 0
    assert explained_variance(target, target + 100).item() == pytest.approx(1)
    assert explained_variance(target, -target).item() == pytest.approx(-3)


def test_explained_variance_is_zero_where_the_target_does_not_vary():
    """A constant target, one element, and a mask that keeps nothing: no NaN."""
    mask = torch.zeros(1, 3, 1, 1, dtype=torch.bool)
    assert explained_variance(_steps(3, 3, 3), _steps(1, 2, 3)) == 0
    assert explained_variance(_steps(3), _steps(1)) == 0
    assert explained_variance(_steps(1, 2, 3), _steps(1, 2, 3), mask) == 0


def test_explained_variance_counts_only_what_the_mask_keeps():
    """The last target is nonsense and masked."""
    mask = torch.tensor([True, True, True, True, False]).reshape(1, 5, 1, 1)
    assert explained_variance(_steps(0, 2, 4, 6, 1e9), _steps(1, 1, 5, 5, 0), mask).item() == pytest.approx(0.8)


def test_unequal_shapes_are_refused_with_their_names():
    """A flat tensor against one with a trailing 1 would broadcast to a square without a word."""
    with pytest.raises(ValueError, match=r"shapes must be equal, got x \[3\], mask \[3, 1\]"):
        masked_mean(torch.zeros(3), torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"log_weight \[3, 1\], advantage \[3\]"):
        clipped_surrogate(torch.zeros(3, 1), torch.zeros(3), 0.2)
    with pytest.raises(ValueError, match=r"value_target \[3\], state_value \[3, 1\]"):
        explained_variance(torch.zeros(3), torch.zeros(3, 1))
    check_same_shape(a=torch.zeros(2, 1), b=torch.zeros(2, 1))
