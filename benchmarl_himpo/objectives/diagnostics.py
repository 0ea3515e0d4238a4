"""Logged diagnostics of each level, computed from a processed batch; they do not affect training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyLayout
from benchmarl_himpo.objectives.functional import append_dims, explained_variance, masked_mean, masked_variance
from benchmarl_himpo.objectives.reward_scheme import LevelTargets, Trajectories


def level_diagnostics(
    layout: HierarchyLayout, trajectories: Trajectories, targets: Sequence[LevelTargets]
) -> dict[str, float]:
    """Compute the diagnostics of every level over one batch.

    Args:
        layout: sizes and clocks.
        trajectories: the batch and its values, batch shape ``[B, T]``.
        targets: training targets of each level, workers first.

    Returns:
        Floats by name. Per level ``l``: ``reward_mean_level_l`` and ``reward_std`` (per decision, return units),
        ``advantage_mean`` and ``advantage_std``, ``explained_variance`` in (-inf, 1], ``decision_share`` of the frames.
        Per upper level also ``goal_norm`` and ``goal_change`` (Euclidean, between successive decisions),
        ``cluster_size_min``, ``_mean``, ``_max`` in live workers per node, and for level 1 ``cluster_churn``, the share
        of workers whose sub-manager changes at a decision.
    """
    out: dict[str, Tensor] = {}
    for level, target in enumerate(targets):
        mask = target.actor_mask
        is_decision = layout.is_due(trajectories.clock, level)
        reward = target.intervals.to_steps(target.intervals.sum(target.reward))
        numbers = {
            "reward_mean": masked_mean(reward, mask),
            "reward_std": masked_variance(reward, mask).sqrt(),
            "advantage_mean": masked_mean(target.advantage, mask),
            "advantage_std": masked_variance(target.advantage, mask).sqrt(),
            "explained_variance": explained_variance(
                target.value_target, trajectories.state_value[level], target.critic_mask
            ),
            "decision_share": is_decision.float().mean(),
        }
        if level > 0:
            numbers |= _goal_numbers(trajectories.goals[level], mask, is_decision & (trajectories.clock > 0))
            numbers |= _cluster_numbers(trajectories, level)
        if level == 1:
            numbers["cluster_churn"] = _churn(trajectories, is_decision & (trajectories.clock > 0))
        out |= {f"{name}_level_{level}": value for name, value in numbers.items()}
    return dict(zip(out, torch.stack([value.double() for value in out.values()]).tolist(), strict=True))


def _goal_numbers(goal: Tensor, mask: Tensor, is_change: Tensor) -> dict[str, Tensor]:
    goal = goal if goal.is_floating_point() else goal.to(torch.get_default_dtype())
    norm = torch.linalg.vector_norm(goal, dim=-1, keepdim=True)
    step = torch.linalg.vector_norm(goal[:, 1:] - goal[:, :-1], dim=-1, keepdim=True)
    return {
        "goal_norm": masked_mean(norm, mask),
        "goal_change": masked_mean(step, append_dims(is_change[:, 1:], step) & mask[:, 1:]),
    }


def _cluster_numbers(trajectories: Trajectories, level: int) -> dict[str, Tensor]:
    size = trajectories.graph.n_workers(level)
    return {"cluster_size_min": size.min(), "cluster_size_mean": size.mean(), "cluster_size_max": size.max()}


def _churn(trajectories: Trajectories, is_change: Tensor) -> Tensor:
    parent = trajectories.graph.parent_index[0]
    moved = (parent[:, 1:] != parent[:, :-1]).float()
    return masked_mean(moved, is_change[:, 1:, None] & trajectories.graph.alive[:, 1:])
