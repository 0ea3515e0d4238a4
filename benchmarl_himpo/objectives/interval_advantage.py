"""Generalised advantage estimation over decision intervals, on TorchRL's estimator."""

from __future__ import annotations

import torch
from torch import Tensor
from torchrl.objectives.value.functional import td0_advantage_estimate, vec_generalized_advantage_estimate

from benchmarl_himpo.host.torchrl import MIN_GAE_DECAY
from benchmarl_himpo.objectives.functional import Intervals, append_dims, check_same_shape


def interval_advantage(
    reward: Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    done: Tensor,
    terminated: Tensor,
    is_boundary: Tensor,
    intervals: Intervals,
    gamma: float,
    lmbda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over the decision sequence of one level.

        r_k = Σ_{t ∈ I_k} reward_t
        δ_k = r_k + d_k V(t_{k+1}) - V(t_k),        A_k = δ_k + γ λ A_{k+1}

    with d_k = γ where the level's own clock ends the interval, 1 where the batch or a truncation cuts it, and 0 after
    ``terminated``. Applying γ once per decision is ours. With one-step intervals this is
    :func:`torchrl.objectives.value.functional.generalized_advantage_estimate`.

    Args:
        reward: reward of the level at each step. Shape ``[B, T, E, 1]``.
        state_value: V at each step; only values at interval starts are used. Shape ``[B, T, E, 1]``.
        next_state_value: V one step later; only values at interval ends are used. Shape ``[B, T, E, 1]``.
        done: end of a trajectory after this step. Shape ``[B, T, E, 1]``, bool.
        terminated: true end of the episode after this step. Shape ``[B, T, E, 1]``, bool.
        is_boundary: the level's clock ends the interval after this step. Shape ``[B, T]``, bool.
        intervals: the level's intervals.
        gamma: discount per decision of the level.
        lmbda: GAE λ of the level.

    Returns:
        Advantage and value target of the interval that contains each step. Shape ``[B, T, E, 1]`` each.

    Raises:
        ValueError: if shapes differ.
    """
    check_same_shape(
        reward=reward, state_value=state_value, next_state_value=next_state_value, done=done, terminated=terminated
    )
    is_start, is_end = (append_dims(flag, reward) for flag in (intervals.is_start, intervals.is_end))
    # The estimator discounts every bootstrap by gamma; for cut intervals the difference is added to the reward.
    is_cut = is_end & ~append_dims(is_boundary, reward) & ~terminated
    reward = reward + torch.where(is_cut, (1 - gamma) * next_state_value, torch.zeros_like(reward))
    at_start = intervals.sum(torch.where(is_start, state_value, torch.zeros_like(reward)))
    at_end = intervals.sum(torch.where(is_end, next_state_value, torch.zeros_like(reward)))
    one_step = (
        at_start,
        at_end,
        intervals.sum(reward),
        intervals.sum((is_end & done).long()).bool(),
        intervals.sum((is_end & terminated).long()).bool(),
    )
    if gamma * lmbda < MIN_GAE_DECAY:
        advantage = td0_advantage_estimate(gamma, *one_step)
        value_target = advantage + at_start
    else:
        advantage, value_target = vec_generalized_advantage_estimate(gamma, lmbda, *one_step, time_dim=1)
    return intervals.to_steps(advantage), intervals.to_steps(value_target)
