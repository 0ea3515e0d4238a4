"""Goal intervals that change in the first half of a run (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class IntervalAnnealing(nn.Module):
    """Linear change of the goal intervals from those a run begins with to those it ends with, in whole decisions.

    Counts frames in a buffer, so that checkpoints hold it and copies of the policy on other devices follow. What was
    decided before a change is held until the next step that the new intervals name.

    Args:
        initial: goal intervals at the start, bottom first, at least 1 each.
        final: goal intervals from ``n_frames`` on, bottom first.
        n_frames: length of the change, in frames, at least 1.

    Raises:
        ValueError: if the two differ in length or a value is below 1.
    """

    frames: Tensor
    initial: Tensor
    final: Tensor

    def __init__(self, initial: Sequence[int], final: Sequence[int], n_frames: int) -> None:
        super().__init__()
        if len(initial) != len(final):
            raise ValueError(
                f"initial_goal_interval={list(initial)} must have one entry per upper level, bottom first, as "
                f"goal_interval={list(final)} has: give it {len(final)}"
            )
        if any(value < 1 for value in initial):
            raise ValueError(f"initial_goal_interval={list(initial)} has an entry below 1: give every level 1 or more")
        if n_frames < 1:
            raise ValueError(f"n_frames={n_frames} must be at least 1")
        self.n_frames = n_frames
        self.register_buffer("frames", torch.zeros(1, dtype=torch.long))
        self.register_buffer("initial", torch.tensor(initial, dtype=torch.long), persistent=False)
        self.register_buffer("final", torch.tensor(final, dtype=torch.long), persistent=False)

    def step(self, frames: int) -> None:
        """Count the frames of an iteration."""
        self.frames += frames

    @property
    def periods(self) -> Tensor:
        """Env steps between two decisions of each upper level, in effect. Shape ``[n_levels - 1]``, long."""
        frames = self.frames.clamp(max=self.n_frames)
        # Whole numbers, rounded half up: the same on every processor
        twice = 2 * (self.final - self.initial) * frames + self.n_frames
        return (self.initial + twice.div(2 * self.n_frames, rounding_mode="floor")).cumprod(0)
