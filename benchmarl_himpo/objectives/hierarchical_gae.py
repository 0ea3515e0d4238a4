"""Advantages and value targets of all levels, as a module that is called on a collected batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from benchmarl_himpo.objectives.goal_gradient import GoalGradient
from benchmarl_himpo.objectives.normalization import LevelNorm
from benchmarl_himpo.objectives.reward_scheme import LevelTargets, RewardScheme, Trajectories
from benchmarl_himpo.objectives.trajectories import read_trajectories

if TYPE_CHECKING:
    from benchmarl_himpo.models import HierarchicalPolicy


class HierarchicalGAE(TensorDictModuleBase):
    """Generalised advantage estimation at every level, with the credit rule between the levels (paper: Eq. 5).

    Replaces TorchRL's ``GAE`` for a hierarchy: call the module, without gradient, once per iteration on the collected
    batch, before the batch is flattened and shuffled. :class:`RewardScheme` defines the rewards, and
    :func:`~benchmarl_himpo.objectives.interval_advantage.interval_advantage` the intervals and bootstraps.

    Args:
        policy: the collection policy; also decides on the next observation where the batch or a truncation cuts an
            interval.
        critics: value networks, workers first.
        scheme: rewards of the levels, with credit rule, discounts and λ.
        goal_gradient: the loss's :class:`GoalGradient`, whose inputs are written here; None for constant goals.
        norms: normalisation of each level's training targets, workers first; None: return units.

    Shapes:
        - input: collected data of batch shape ``[B, T]``, time last, contiguous in time except for resets
        - output: the same, with ``advantage``, ``value_target``, ``actor_mask`` and ``critic_mask`` of every level
          under ``policy.hierarchy.keys``, ``[B, T, E, 1]`` each, detached

    Raises:
        ValueError: if the number of critics or of ``norms`` is not the number of levels, the scheme has another layout,
            or the size of goals is not that of the encodings that the credit rule compares them with.
    """

    def __init__(
        self,
        policy: HierarchicalPolicy,
        critics: Sequence[TensorDictModuleBase],
        scheme: RewardScheme,
        goal_gradient: GoalGradient | None = None,
        norms: Sequence[LevelNorm] | None = None,
    ) -> None:
        super().__init__()
        hierarchy = policy.hierarchy
        unit = [LevelNorm(reward=False, value=False, decay=0.0) for _ in range(hierarchy.layout.n_levels)]
        self.norms = cast("Sequence[LevelNorm]", nn.ModuleList(unit if norms is None else norms))
        self.policy = policy
        self.critics = cast("Sequence[TensorDictModuleBase]", nn.ModuleList(critics))
        self.scheme = scheme
        self.goal_gradient = goal_gradient
        if scheme.layout != hierarchy.layout:
            raise ValueError(f"the scheme has the layout {scheme.layout}, but the policy has {hierarchy.layout}")
        if len(critics) != hierarchy.layout.n_levels:
            raise ValueError(f"needs one critic per level, got {len(critics)} for {hierarchy.layout.n_levels} levels")
        if len(self.norms) != hierarchy.layout.n_levels:
            raise ValueError(f"needs one norm per level, got {len(self.norms)} for {hierarchy.layout.n_levels} levels")
        if scheme.credit.reads_encodings:
            _check_goals_are_encodings(policy, type(scheme.credit).__name__.lower())
        keys = [hierarchy.keys[level] for level in range(hierarchy.layout.n_levels)]
        clock = [hierarchy.keys.clock] if hierarchy.layout.top > 0 else []
        self.in_keys = list(dict.fromkeys([*(key for critic in critics for key in critic.in_keys), *clock, "next"]))
        self.out_keys = [key for k in keys for key in (k.advantage, k.value_target, k.actor_mask, k.critic_mask)]
        self.out_keys += [] if goal_gradient is None else goal_gradient.keys

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the training targets of every level.

        Args:
            tensordict: collected data. Shape ``[B, T]``.

        Returns:
            The same TensorDict.

        Raises:
            FloatingPointError: if a value or an advantage is NaN or infinite, with its level.
        """
        targets = self.targets(tensordict)[1]
        self.update_norms([targets])
        return self.write(tensordict, targets)

    @torch.no_grad()
    def targets(self, tensordict: TensorDictBase) -> tuple[Trajectories, list[LevelTargets]]:
        """Compute the training targets of every level without writing them.

        Args:
            tensordict: collected data. Shape ``[B, T]``.

        Returns:
            The trajectories with their values, and the targets, workers first; both in return units.

        Raises:
            ValueError: if the batch has another number of dimensions.
            FloatingPointError: if a value or an advantage is NaN or infinite, with its level.
        """
        if tensordict.ndim != 2:
            raise ValueError(
                f"the batch has the shape {list(tensordict.shape)} instead of [B, T], environments and time: for a "
                "single environment give tensordict.unsqueeze(0)"
            )
        credit = self.scheme.credit
        all_values = self.scheme.critic_rows != "decisions"
        trajectories = read_trajectories(tensordict, self.policy, self.critics, all_values, credit.reads_encodings)
        trajectories = replace(
            trajectories,
            state_value=self._read(trajectories.state_value),
            next_state_value=self._read(trajectories.next_state_value),
        )
        for level, value in enumerate(trajectories.state_value):
            self._check_finite(level, "state_value", value)
        targets = self.scheme(trajectories)
        for level, target in enumerate(targets):
            self._check_finite(level, "advantage", target.advantage)
        return trajectories, targets

    def update_norms(self, parts: Sequence[Sequence[LevelTargets]]) -> None:
        """Update the running statistics of every level once, with the targets of all parts of a batch."""
        for norm, *targets in zip(self.norms, *parts, strict=True):
            norm.update(targets)

    def write(self, tensordict: TensorDictBase, targets: Sequence[LevelTargets]) -> TensorDictBase:
        """Write the targets into the batch from which they were computed, and return the batch."""
        for level, target in enumerate(targets):
            keys, norm = self.policy.hierarchy.keys[level], self.norms[level]
            tensordict.set(keys.advantage, norm.scale_advantage(target.advantage))
            tensordict.set(keys.value_target, norm.scale_value(target.value_target))
            tensordict.set(keys.actor_mask, target.actor_mask)
            tensordict.set(keys.critic_mask, target.critic_mask)
        if self.goal_gradient is not None:
            self.goal_gradient.remember(tensordict)
        return tensordict

    def _read(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [norm.read_value(value) for norm, value in zip(self.norms, values, strict=True)]

    def _check_finite(self, level: int, name: str, value: Tensor) -> None:
        if not value.isfinite().all():
            raise FloatingPointError(
                f"{name} of group {self.policy.hierarchy.group!r} at level {level} holds NaN or infinity"
            )


def _check_goals_are_encodings(policy: HierarchicalPolicy, rule: str) -> None:
    """Check that goals have the size of the subordinates' encodings."""
    networks = [actor[0] for actor in policy.actors[1:]]
    sizes = {network.hidden_dim for network in networks}
    if len(sizes) > 1:
        raise ValueError(
            f"credit={rule} compares goals with encodings: set hidden_dim of all levels above the workers to the same "
            f"number, and goal_dim to that, instead of {sorted(sizes)}"
        )
    if networks and {network.goal_dim for network in networks} != sizes:
        raise ValueError(
            f"credit={rule} compares goals with encodings: set goal_dim={sizes.pop()}, the hidden_dim of the levels "
            f"above the workers, instead of goal_dim={networks[0].goal_dim}"
        )
