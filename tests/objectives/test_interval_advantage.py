"""Advantages over decision intervals: by hand, as TorchRL's where intervals are single steps, and as plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plain_loops import advantage_loop
from torchrl.objectives.value.functional import generalized_advantage_estimate

from benchmarl_himpo.objectives.functional import Intervals, interval_starts
from benchmarl_himpo.objectives.interval_advantage import interval_advantage

GAMMA, LMBDA = 0.9, 0.5


def _tolerance(gamma: float, lmbda: float) -> float:
    """TorchRL's vectorised estimator cuts its geometric series at 1e-7; without a series nothing is cut.

    TorchRL also rounds gamma to float32, so the loops are compared with discounts that float32 holds exactly.
    """
    return 1e-12 if gamma * lmbda == 0 else 1e-5


def _one_edge(reward, value, next_value, done, terminated, is_boundary, is_start, lmbda):
    tensors = [torch.tensor(x, dtype=torch.float64).reshape(1, -1, 1, 1) for x in (reward, value, next_value)]
    tensors += [torch.tensor(x, dtype=torch.bool).reshape(1, -1, 1, 1) for x in (done, terminated)]
    flags = [torch.tensor([x], dtype=torch.bool) for x in (is_boundary, is_start)]
    advantage, target = interval_advantage(*tensors, flags[0], Intervals(flags[1]), GAMMA, lmbda)
    return advantage.flatten().tolist(), target.flatten().tolist()


# Two intervals of two steps, rewards 1, 2 | 3, 4, V = 10 and 20 at their starts and 30 after the last.
# δ₁ = 3 + 0.9 * 20 - 10 = 11,   δ₂ = 7 + d * 30 - 20,   A₁ = δ₁ + 0.9 * 0.5 * δ₂ unless the episode ends between them.
@pytest.mark.parametrize(
    ("done", "terminated", "is_boundary", "lmbda", "expected"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 1), 0.0, (11, 14)),  # d = γ
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 1), LMBDA, (11 + 0.45 * 14, 14)),
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0), LMBDA, (11 + 0.45 * 17, 17)),  # d = 1: the batch cuts it
        ((0, 0, 0, 1), (0, 0, 0, 0), (0, 1, 0, 0), LMBDA, (11 + 0.45 * 17, 17)),  # d = 1: a time limit cuts it
        ((0, 0, 0, 1), (0, 0, 0, 1), (0, 1, 0, 0), LMBDA, (11 + 0.45 * -13, -13)),  # d = 0: a true end
        ((0, 0, 0, 1), (0, 0, 0, 1), (0, 1, 0, 1), LMBDA, (11 + 0.45 * -13, -13)),  # also where the clock ends
        ((0, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 1), LMBDA, (13, 14)),  # a time limit between the two: d₁ = 1, no chain
        ((0, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), LMBDA, (-7, 14)),  # a true end between the two: d₁ = 0, no chain
    ],
)
def test_two_intervals_worked_by_hand(done, terminated, is_boundary, lmbda, expected):
    """Every way in which the first or the second interval can end."""
    value, next_value = (10, math.nan, 20, math.nan), (math.nan, 20, math.nan, 30)
    result = _one_edge((1, 2, 3, 4), value, next_value, done, terminated, is_boundary, (1, 0, 1, 0), lmbda)
    first, second = expected
    assert result[0] == pytest.approx([first, first, second, second], abs=1e-5)
    assert result[1] == pytest.approx([first + 10] * 2 + [second + 20] * 2, abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 4),
    n_steps=st.integers(1, 15),
    n_edges=st.integers(1, 3),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    lmbda=st.sampled_from([0.0, 1e-8, 1e-6, 0.5, 0.95, 1.0]),
    end_rate=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_one_step_intervals_are_generalised_advantage_estimation(
    seed, n_envs, n_steps, n_edges, gamma, lmbda, end_rate
):
    """A level that decides at every step, against TorchRL's loop, with true ends and time limits of single agents."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_envs, n_steps, n_edges, 1)
    reward, value, next_value = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3))
    terminated, truncated = (torch.rand(shape, generator=generator) < end_rate for _ in range(2))
    done, every = terminated | truncated, torch.ones(n_envs, n_steps, dtype=torch.bool)
    ours = interval_advantage(reward, value, next_value, done, terminated, every, Intervals(every), gamma, lmbda)
    theirs = generalized_advantage_estimate(gamma, lmbda, value, next_value, reward, done, terminated, time_dim=1)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=_tolerance(gamma, lmbda))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 4),
    n_steps=st.integers(1, 15),
    n_edges=st.integers(1, 3),
    gamma=st.sampled_from([0.0, 0.5, 0.984375, 1.0]),
    lmbda=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    start_rate=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_intervals_equal_a_plain_loop(seed, n_envs, n_steps, n_edges, gamma, lmbda, start_rate):
    """Random starts, another number of intervals per environment, cuts, true ends, time limits, boundaries."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_envs, n_steps, n_edges, 1)
    reward, value, next_value = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3))
    is_start = interval_starts(torch.rand(n_envs, n_steps, generator=generator) < start_rate)
    terminated, truncated = (torch.rand(shape, generator=generator) < 0.3 for _ in range(2))
    is_boundary = torch.rand(n_envs, n_steps, generator=generator) < 0.6
    done = terminated | truncated
    advantage, target = interval_advantage(
        reward, value, next_value, done, terminated, is_boundary, Intervals(is_start), gamma, lmbda
    )
    for b in range(n_envs):
        for e in range(n_edges):
            rows = [x[b, :, e, 0].tolist() for x in (reward, value, next_value, done, terminated)]
            expected = advantage_loop(*rows, is_boundary[b].tolist(), is_start[b].tolist(), gamma, lmbda)
            for ours, loop in zip((advantage, target), expected, strict=True):
                loop = torch.tensor(loop, dtype=torch.float64)
                torch.testing.assert_close(ours[b, :, e, 0], loop, rtol=0, atol=_tolerance(gamma, lmbda))


def test_unequal_shapes_are_refused():
    """A value per node under rewards per edge, and flags without the trailing 1."""
    x, flags = torch.zeros(2, 4, 3, 1), torch.zeros(2, 4, 3, 1, dtype=torch.bool)
    rest = (torch.ones(2, 4, dtype=torch.bool), Intervals(torch.ones(2, 4, dtype=torch.bool)), 0.9, 0.5)
    with pytest.raises(ValueError, match=r"state_value \[2, 4, 1, 1\]"):
        interval_advantage(x, x[:, :, :1], x, flags, flags, *rest)
    with pytest.raises(ValueError, match=r"done \[2, 4, 3\]"):
        interval_advantage(x, x, x, flags.squeeze(-1), flags, *rest)
