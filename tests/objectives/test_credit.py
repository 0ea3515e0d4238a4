"""Credit rules: each worked by hand, and as plain loops over environments, steps and edges."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parts import CREDITS, SHARING_CREDITS
from support.plain_loops import advantage_loop, credit_loop, target_loop
from torch import Tensor

from benchmarl_himpo.objectives import Cosine, Final, Telescoped, Uniform, credit_registry
from benchmarl_himpo.objectives.credit import CreditRule, IntervalData
from benchmarl_himpo.objectives.functional import Intervals, interval_starts, remaining_value_target


def _steps(*values: float) -> Tensor:
    """One environment, one edge."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _vectors(*values: tuple[float, ...]) -> Tensor:
    """A vector per step of one environment and one edge."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, len(values), 1, -1)


def _one_interval(total: float = 7.7, is_boundary: bool = True, terminated: bool = False, **entries) -> IntervalData:
    """Three steps: rewards 1, 2, 3, values 10, 11, 12, then 13."""
    data = IntervalData(
        advantage=_steps(total, total, total),
        reward=_steps(1, 2, 3),
        state_value=_steps(10, 11, 12),
        next_state_value=_steps(11, 12, 13),
        terminated=torch.tensor([False, False, terminated]).reshape(1, 3, 1, 1),
        is_boundary=torch.tensor([[False, False, is_boundary]]),
        intervals=Intervals(torch.tensor([[True, False, False]])),
        gamma=0.9,
        goal=_vectors((1, 0), (1, 0), (1, 0)),
        encoding_change=_vectors((1, 0), (0, 1), (-1, 0)),
    )
    return replace(data, **entries)


def test_registry_names_every_rule():
    """A rule that is not in the registry cannot be chosen."""
    assert credit_registry == {"uniform": Uniform, "final": Final, "telescoped": Telescoped, "cosine": Cosine}


def test_rules_say_what_they_read_beside_the_advantage():
    """Values at every step, and changes of encodings, are computed for the rules that ask for them."""
    says = {name: (rule.reads_values, rule.reads_encodings) for name, rule in CREDITS.items()}
    assert says == {
        "uniform": (False, False),
        "final": (False, False),
        "telescoped": (True, False),
        "cosine": (False, True),
    }
    assert (CreditRule.reads_values, CreditRule.reads_encodings) == (False, False)


def test_a_worker_that_dies_within_an_interval_is_paid_at_its_last_step():
    """What stands at the end of the interval would be paid to nobody: rows of the dead are masked."""
    dies = torch.tensor([False, True, False]).reshape(1, 3, 1, 1)
    assert Final()(_one_interval(7.0, dies=dies))[:, :2].flatten().tolist() == [0.0, 7.0]


# A = 1 + 2 + 3 + d 13 - 10 with d at the interval's end.
@pytest.mark.parametrize(
    ("is_boundary", "terminated", "total", "telescoped"),
    [
        (True, False, 7.7, (2, 3, 2.7)),  # d = γ = 0.9: the clock ends the interval
        (False, False, 9, (2, 3, 4)),  # d = 1: the batch or a time limit cuts it
        (True, True, -4, (2, 3, -9)),  # d = 0: a true end, also where the clock ends
        (False, True, -4, (2, 3, -9)),
    ],
)
@pytest.mark.parametrize("credit", SHARING_CREDITS)
def test_rules_that_share_out_the_advantage_as_worked_by_hand(credit, is_boundary, terminated, total, telescoped):
    """Uniform gives a third each, final all at the end, telescoped the residual of each step; the sum is A."""
    intrinsic = CREDITS[credit](_one_interval(total, is_boundary, terminated))
    expected = {"uniform": (total / 3,) * 3, "final": (0, 0, total), "telescoped": telescoped}[credit]
    torch.testing.assert_close(intrinsic, _steps(*expected), rtol=0, atol=1e-12)
    assert float(intrinsic.sum()) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("goal", "encoding_change", "expected"),
    [
        ((1, 0), (1, 0), 2),  # the way the goal points
        ((1, 0), (-3, 0), -2),  # the other way
        ((1, 0), (0, 5), 0),  # neither
        ((3, 4), (4, 3), 2 * 24 / 25),  # norms 5 and 5
        ((1, 1), (0.01, 0), 2 * math.sqrt(0.5)),  # however short the step
        ((0, 0), (1, 2), 0),  # no goal
        ((1, 2), (0, 0), 0),  # no change
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.long])
def test_cosine_worked_by_hand(goal, encoding_change, expected, dtype):
    """Weight 2; goals of whole numbers, as one-hot ones are, do as well. What the interval gained does not matter."""
    for total in (7.7, -100.0):
        data = _one_interval(total, goal=_vectors(goal).to(dtype), encoding_change=_vectors(encoding_change))
        intrinsic = Cosine(weight=2.0)(data)
        torch.testing.assert_close(intrinsic, _steps(expected), rtol=0, atol=1e-12)


def test_cosine_compares_each_step_with_the_goal_in_effect():
    """Three steps along, across and against one goal."""
    assert Cosine(weight=0.5)(_one_interval()).flatten().tolist() == [0.5, 0, -0.5]


@settings(deadline=None, max_examples=80)
@given(
    credit=st.sampled_from(sorted(CREDITS)),
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 9),
    n_edges=st.integers(1, 3),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_every_rule_and_the_remaining_target_equal_plain_loops(credit, seed, n_envs, n_steps, n_edges, gamma):
    """Random intervals, ends and boundaries; inside an interval V' is the next V, so that telescoped sums to A."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_envs, n_steps, n_edges, 1)
    intervals = Intervals(interval_starts(torch.rand(n_envs, n_steps, generator=generator) < 0.4))
    reward, value, after = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3))
    goal, change = (torch.randn(*shape[:3], 3, dtype=torch.float64, generator=generator) for _ in range(2))
    goal, change = (x * (torch.rand(shape, generator=generator) < 0.8) for x in (goal, change))
    is_end = intervals.is_end[..., None, None]
    next_value = torch.where(is_end, after, value.roll(-1, dims=1))
    terminated = is_end & (torch.rand(shape, generator=generator) < 0.4)
    is_boundary = intervals.is_end & (torch.rand(n_envs, n_steps, generator=generator) < 0.6)
    advantage, target, expected, expected_target = (torch.zeros(shape, dtype=torch.float64) for _ in range(4))
    for b in range(n_envs):
        for e in range(n_edges):
            rows = [x[b, :, e, 0].tolist() for x in (reward, value, next_value, terminated)]
            flags = (is_boundary[b].tolist(), intervals.is_start[b].tolist())
            vectors = [x[b, :, e].tolist() for x in (goal, change)]
            a, v = advantage_loop(*rows[:3], rows[3], rows[3], *flags, gamma, 0.0)
            loops = (
                a,
                v,
                credit_loop(CREDITS[credit], a, *rows, *flags, gamma, *vectors),
                target_loop(v, rows[0], flags[1]),
            )
            for tensor, loop in zip((advantage, target, expected, expected_target), loops, strict=True):
                tensor[b, :, e, 0] = torch.tensor(loop, dtype=torch.float64)
    ends = (terminated, is_boundary, intervals)
    intrinsic = CREDITS[credit](IntervalData(advantage, reward, value, next_value, *ends, gamma, goal, change))
    assert intrinsic.shape == shape
    torch.testing.assert_close(intrinsic, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(remaining_value_target(target, reward, intervals), expected_target, rtol=0, atol=1e-10)
    if credit in SHARING_CREDITS:
        sums = intervals.to_steps(intervals.sum(intrinsic))
        torch.testing.assert_close(sums, advantage, rtol=0, atol=1e-10)


@pytest.mark.parametrize("credit", [name for name, rule in CREDITS.items() if not rule.reads_encodings])
def test_rules_that_read_no_encodings_need_none(credit):
    """Goals and changes may be missing."""
    with_them, without = _one_interval(), _one_interval(goal=None, encoding_change=None)
    assert torch.equal(CREDITS[credit](with_them), CREDITS[credit](without))


@pytest.mark.parametrize("credit", [name for name, rule in CREDITS.items() if not rule.reads_values])
def test_rules_that_read_no_values_see_none(credit):
    """The values inside and outside of the interval may hold anything, NaN included."""
    nothing = _steps(*[math.nan] * 3)
    hidden = _one_interval(state_value=nothing, next_state_value=nothing)
    assert torch.equal(CREDITS[credit](hidden), CREDITS[credit](_one_interval()))


@pytest.mark.parametrize(
    ("credit", "entries"),
    [
        ("telescoped", {"state_value": _steps(10, 11, 12).expand(1, 3, 2, 1)}),
        ("telescoped", {"next_state_value": _steps(11, 12, 13).squeeze(-1)}),
        ("telescoped", {"reward": _steps(1, 2, 3).squeeze(-1)}),
        ("cosine", {"goal": _vectors((1, 0, 0), (1, 0, 0), (1, 0, 0))}),
        ("cosine", {"encoding_change": _vectors((1, 0), (0, 1), (-1, 0)).expand(1, 3, 2, 2)}),
    ],
)
def test_unequal_shapes_are_refused_with_their_names(credit, entries):
    """Values per node under rewards per edge, or goals of another size than encodings, would broadcast silently."""
    with pytest.raises(ValueError, match=f"shapes must be equal.*{next(iter(entries))}"):
        CREDITS[credit](_one_interval(**entries))
