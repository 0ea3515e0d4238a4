"""Pure tensor functions behind HiMPPO: intervals, masked statistics, the clipped objective. Torch only.

Dimension letters, here and in every docstring of the package: ``*B`` batch, ``B`` environments, ``T`` env steps of a
batch, ``E`` recipients of a level (the workers at level 0, otherwise the nodes one level down, each of which receives a
goal), ``N`` intervals, ``F`` features.

Source: "Hierarchical Message-Passing Policies for Multi-Agent Reinforcement Learning", Marzi, Alippi, Cini
(https://arxiv.org/abs/2507.23604), called "the paper". "Ours" marks choices that the paper does not state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def is_recorded() -> bool:
    """Whether a CUDA graph is being captured: no value may be read back, and no shape may depend on values."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError with the tensors' names unless all shapes agree; a silent broadcast would mix environments."""
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must be equal, got {shapes}")


@dataclass(frozen=True)
class Intervals:
    """The steps of a batch grouped into decision intervals of one level.

    Args:
        is_start: first step of an interval inside this batch. Shape ``[B, T]``, bool, True at the first step.
    """

    is_start: Tensor  # [B, T]

    @cached_property
    def index(self) -> Tensor:
        """Index of the interval of each step, from 0 in every environment. Shape ``[B, T]``, long."""
        return self.is_start.long().cumsum(1) - 1

    @cached_property
    def is_end(self) -> Tensor:
        """Last step of an interval inside this batch. Shape ``[B, T]``, bool."""
        return torch.cat([self.is_start[:, 1:], torch.ones_like(self.is_start[:, :1])], dim=1)

    @cached_property
    def n_intervals(self) -> int:
        """Largest number of intervals of any environment (N)."""
        return int(self.is_start.sum(1).max())

    @cached_property
    def length(self) -> Tensor:
        """Number of steps inside this batch of the interval of each step (τ). Shape ``[B, T]``, long."""
        return self.to_steps(self.sum(torch.ones_like(self.index)))

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the steps of each interval. Shape ``[B, T, *F]`` to ``[B, N, *F]``; padded with zeros."""
        return x.new_zeros(x.shape[0], self.n_intervals, *x.shape[2:]).scatter_add(1, self._index_for(x), x)

    def to_steps(self, x: Tensor) -> Tensor:
        """Copy the value of each interval to its steps. Shape ``[B, N, *F]`` to ``[B, T, *F]``."""
        return x.gather(1, self._index_for(x))

    def draw_step(self) -> Tensor:
        """One step of each interval, drawn uniformly. Shape ``[B, T]``, bool."""
        drawn = torch.rand(self.index.shape[0], self.n_intervals, device=self.index.device)
        return self.sum_before(torch.ones_like(self.index)) == (self.to_steps(drawn) * self.length).long()

    def sum_before(self, x: Tensor) -> Tensor:
        """Sum over the earlier steps of the same interval. Shape ``[B, T, *F]`` to the same."""
        before = x.cumsum(1) - x
        at_start = torch.where(append_dims(self.is_start, x), before, torch.zeros_like(x))
        return before - self.to_steps(self.sum(at_start))

    def _index_for(self, x: Tensor) -> Tensor:
        """The index expanded over the features of ``x``. Shape ``[B, T, *F]``."""
        return append_dims(self.index, x).expand(*self.index.shape, *x.shape[2:])


def append_dims(x: Tensor, like: Tensor) -> Tensor:
    """Append singleton dimensions to ``x`` until it has as many dimensions as ``like``."""
    return x.reshape(*x.shape, *[1] * (like.ndim - x.ndim))


def interval_starts(is_decision: Tensor) -> Tensor:
    """Mark the starts of intervals inside a batch: every decision and the first step.

    An interval that began in an earlier batch starts again at the first step, so that the level below still receives
    intrinsic reward.

    Args:
        is_decision: steps at which the level decided. Shape ``[B, T]``, bool.

    Returns:
        Shape ``[B, T]``, bool.
    """
    is_start = is_decision.clone()
    is_start[:, 0] = True
    return is_start


def remaining_value_target(value_target: Tensor, reward: Tensor, intervals: Intervals) -> Tensor:
    """Value target of every step: the interval's target less the rewards of its earlier steps (ours).

        target_t = target_k - Σ_{t_k ≤ s < t} reward_s

    Equal to ``value_target`` at interval starts. With these targets a critic can train on all rows.

    Args:
        value_target: target of the interval that contains each step. Shape ``[B, T, E, 1]``.
        reward: reward of the level at each step. Shape ``[B, T, E, 1]``.
        intervals: the level's intervals.

    Returns:
        Shape ``[B, T, E, 1]``.
    """
    return value_target - intervals.sum_before(reward)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``x`` where ``mask`` is True; zero where it is True nowhere.

    Args:
        x: any shape.
        mask: same shape, bool; None takes every element.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: if shapes differ.
    """
    if mask is None:
        return x.mean()
    check_same_shape(x=x, mask=mask)
    return torch.where(mask, x, torch.zeros_like(x)).sum() / mask.sum().clamp(min=1)


def clipped_surrogate(log_weight: Tensor, advantage: Tensor, clip_epsilon: float | Tensor) -> tuple[Tensor, Tensor]:
    """PPO's clipped surrogate objective, to be maximised (https://arxiv.org/abs/1707.06347, Eq. 7).

        min(w A, clip(w, 1 - ε, 1 + ε) A),        w = exp(log_weight)

    Args:
        log_weight: log π(a) - log π_old(a). Shape ``[*B, E, 1]``.
        advantage: shape ``[*B, E, 1]``.
        clip_epsilon: ε, in (0, 1].

    Returns:
        Objective per element, and whether the ratio was clipped (bool). Shape ``[*B, E, 1]`` each.

    Raises:
        ValueError: if shapes differ.
    """
    check_same_shape(log_weight=log_weight, advantage=advantage)
    epsilon = torch.as_tensor(clip_epsilon, dtype=log_weight.dtype, device=log_weight.device)
    clipped = log_weight.clamp((-epsilon).log1p(), epsilon.log1p())
    gain = torch.minimum(log_weight.exp() * advantage, clipped.exp() * advantage)
    return gain, clipped != log_weight


def explained_variance(value_target: Tensor, state_value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Explained variance of the critic, 1 - Var(target - V) / Var(target).

    Args:
        value_target: any shape.
        state_value: same shape.
        mask: elements to use, same shape, bool; None takes all.

    Returns:
        A scalar; 0 if the target is constant.

    Raises:
        ValueError: if shapes differ.
    """
    check_same_shape(value_target=value_target, state_value=state_value)
    total = masked_variance(value_target, mask)
    rest = masked_variance(value_target - state_value, mask)
    return torch.where(total > 0, 1 - rest / total.clamp(min=torch.finfo(total.dtype).tiny), torch.zeros_like(total))


def masked_variance(x: Tensor, mask: Tensor | None) -> Tensor:
    """Population variance of ``x`` where ``mask`` is True; zero where it is True nowhere. A scalar tensor."""
    return masked_mean((x - masked_mean(x, mask)).square(), mask)
