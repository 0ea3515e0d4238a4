"""Running statistics that normalise the rewards and values of each level (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarl_himpo.objectives.reward_scheme import LevelTargets

MIN_VARIANCE = 1e-4
"""Variance below which a quantity counts as constant and is not scaled: 0.01 squared."""


def check_decay(decay: float) -> None:
    """Check the weight of the past in running statistics.

    Raises:
        ValueError: if it is outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"norm_decay={decay} must be at least 0 and below 1")


class RunningNorm(nn.Module):
    """Exponential moving mean and standard deviation of a quantity, with the methods of TorchRL's value norms.

    Both are debiased, as in PopArt (https://arxiv.org/abs/1809.04474), but without its correction of the output layer.
    Before the first update, and while the quantity is constant, its scale is unchanged. The statistics are buffers, so
    checkpoints include them, in float64, because the variance is a difference of large numbers.

    Args:
        decay: weight of the past at each update, in [0, 1).

    Raises:
        ValueError: if the decay is out of range.
    """

    mean: Tensor
    mean_square: Tensor
    weight: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        check_decay(decay)
        self.decay = decay
        for name in ("mean", "mean_square", "weight"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Update the statistics with values of any shape; an empty tensor changes nothing."""
        if x.numel() == 0:
            return
        x = x.double()
        for past, now in ((self.mean, x.mean()), (self.mean_square, x.square().mean()), (self.weight, 1.0)):
            past.mul_(self.decay).add_((1 - self.decay) * now)

    @property
    def location(self) -> Tensor:
        """The mean, 0 before the first update. A scalar."""
        return torch.where(self.weight > 0, self.mean / self.weight, 0.0)

    @property
    def deviation(self) -> Tensor:
        """The standard deviation; 1 before the first update and below 0.01. A scalar."""
        variance = self.mean_square / self.weight - self.location.square()
        return torch.where(variance > MIN_VARIANCE, variance.sqrt(), 1.0)

    def normalize(self, x: Tensor) -> Tensor:
        """Scale to mean 0 and standard deviation 1."""
        return (x - self.location) / self.deviation

    def denormalize(self, x: Tensor) -> Tensor:
        """Scale back to the units of the quantity."""
        return self.location + self.deviation * x


class LevelNorm(nn.Module):
    """Normalisation of the training targets of one level. Intrinsic rewards and values read elsewhere are unscaled.

    Dividing rewards by their deviation is equivalent to dividing values and advantages by it. The latter is done here,
    so that external and intrinsic reward are added in the same unit.

    Args:
        reward: whether rewards are divided by their standard deviation per decision.
        value: whether the critic learns values of mean 0 and standard deviation 1.
        decay: weight of the past at each update, in [0, 1).
    """

    def __init__(self, *, reward: bool, value: bool, decay: float) -> None:
        super().__init__()
        self.reward = RunningNorm(decay) if reward else None
        self.value = RunningNorm(decay) if value else None

    def update(self, targets: Sequence[LevelTargets]) -> None:
        """Update the statistics once with the level's targets, in return units, of all parts of a batch."""
        if self.reward is not None:
            sums = (target.intervals.to_steps(target.intervals.sum(target.reward)) for target in targets)
            self.reward.update(torch.cat([x[target.actor_mask] for x, target in zip(sums, targets, strict=True)]))
        if self.value is not None:
            self.value.update(torch.cat([target.value_target[target.critic_mask] for target in targets]))

    def scale_advantage(self, advantage: Tensor) -> Tensor:
        """Normalise an advantage, given in return units, for the actor."""
        return advantage if self.reward is None else advantage / self.reward.deviation

    def scale_value(self, value: Tensor) -> Tensor:
        """Normalise a value, given in return units, for the critic."""
        return self.scale_advantage(value) if self.value is None else self.value.normalize(value)

    def read_value(self, value: Tensor) -> Tensor:
        """Convert a critic's output to return units."""
        if self.value is not None:
            return self.value.denormalize(value)
        return value if self.reward is None else value * self.reward.deviation
