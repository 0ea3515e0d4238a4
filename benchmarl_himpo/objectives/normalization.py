"""Running statistics that put what a level learns on a scale of its own (ours)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarl_himpo.objectives.reward_scheme import LevelTargets

MIN_VARIANCE = 1e-8
"""Smallest variance that is divided by, so that what hardly varies stays finite."""


class RunningNorm(nn.Module):
    """Exponential moving mean and standard deviation of a quantity, with the methods of TorchRL's value norms.

    Both are debiased, as in PopArt (https://arxiv.org/abs/1809.04474) without its change of the output layer. Before
    the first update nothing is changed. The statistics are buffers, so that checkpoints hold them.

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
        if not 0 <= decay < 1:
            raise ValueError(f"norm_decay={decay} must be at least 0 and below 1")
        self.decay = decay
        for name in ("mean", "mean_square", "weight"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take values in, of any shape; none at all change nothing."""
        if x.numel() == 0:
            return
        for past, now in ((self.mean, x.mean()), (self.mean_square, x.square().mean()), (self.weight, 1.0)):
            past.mul_(self.decay).add_((1 - self.decay) * now)

    @property
    def location(self) -> Tensor:
        """The mean, 0 before the first update. A scalar."""
        return torch.where(self.weight > 0, self.mean / self.weight, 0.0)

    @property
    def deviation(self) -> Tensor:
        """The standard deviation, 1 before the first update. A scalar."""
        variance = self.mean_square / self.weight - self.location.square()
        return torch.where(self.weight > 0, variance.clamp(min=MIN_VARIANCE).sqrt(), 1.0)

    def normalize(self, x: Tensor) -> Tensor:
        """To mean 0 and standard deviation 1."""
        return (x - self.location) / self.deviation

    def denormalize(self, x: Tensor) -> Tensor:
        """Back to the quantity's own scale."""
        return self.location + self.deviation * x


class LevelNorm(nn.Module):
    """The scale of what one level learns. What it hands down, and what others read of it, stays in return units.

    Dividing a level's rewards by their deviation divides its values and advantages by the same number, which is done
    here, so that an external reward and one from above are added in the same unit.

    Args:
        reward: whether rewards are divided by their standard deviation per decision.
        value: whether the critic learns values of mean 0 and standard deviation 1.
        decay: weight of the past at each update, in [0, 1).
    """

    def __init__(self, *, reward: bool, value: bool, decay: float) -> None:
        super().__init__()
        self.reward = RunningNorm(decay) if reward else None
        self.value = RunningNorm(decay) if value else None

    def update(self, target: LevelTargets) -> None:
        """Take in what the level trains on, in return units."""
        if self.reward is not None:
            self.reward.update(target.intervals.to_steps(target.intervals.sum(target.reward))[target.actor_mask])
        if self.value is not None:
            self.value.update(target.value_target[target.critic_mask])

    def scale_advantage(self, advantage: Tensor) -> Tensor:
        """An advantage in return units, for the actor."""
        return advantage if self.reward is None else advantage / self.reward.deviation

    def scale_value(self, value: Tensor) -> Tensor:
        """A value in return units, for the critic."""
        return self.scale_advantage(value) if self.value is None else self.value.normalize(value)

    def read_value(self, value: Tensor) -> Tensor:
        """What the critic says, in return units."""
        if self.value is not None:
            return self.value.denormalize(value)
        return value if self.reward is None else value * self.reward.deviation
