"""Goal intervals that change in the first half of a run (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class IntervalAnnealing(nn.Module):
    """Linear change of the goal intervals from initial to final values, rounded to whole decisions.

    The frame count is a buffer, so checkpoints and copies of the policy on other devices include it. A goal sent before
    a change stays in effect until the next decision under the new intervals.

    Args:
        initial: goal intervals at the start, bottom first, at least 1 each.
        final: goal intervals from ``n_frames`` on, bottom first.
        n_frames: length of the change, in frames, at least 1.

    Raises:
        ValueError: if ``initial`` and ``final`` differ in length or a value is below 1.
    """

    frames: Tensor
    initial: Tensor
    final: Tensor

    def __init__(self, initial: Sequence[int], final: Sequence[int], n_frames: int) -> None:
        super().__init__()
        if len(initial) != len(final):
            raise ValueError(
                f"initial_goal_interval={list(initial)} must have one entry per upper level, bottom first, like "
                f"goal_interval={list(final)}: give {len(final)} entries"
            )
        if any(not isinstance(value, int) or value < 1 for value in initial):
            raise ValueError(
                f"initial_goal_interval={list(initial)} has an entry that is no whole number, or below 1: give every "
                "level a whole number of 1 or more"
            )
        if n_frames < 1:
            raise ValueError(f"n_frames={n_frames} must be at least 1")
        self.n_frames = n_frames
        self.register_buffer("frames", torch.zeros(1, dtype=torch.long))
        self.register_buffer("initial", torch.tensor(initial, dtype=torch.long), persistent=False)
        self.register_buffer("final", torch.tensor(final, dtype=torch.long), persistent=False)

    def step(self, frames: int) -> None:
        """Add the frames of an iteration to the count."""
        self.frames += frames

    @property
    def periods(self) -> Tensor:
        """Env steps between two decisions of each upper level, in effect. Shape ``[n_levels - 1]``, long."""
        frames = self.frames.clamp(max=self.n_frames)
        # Integer arithmetic, rounded half up: the same result on every device
        twice = 2 * (self.final - self.initial) * frames + self.n_frames
        return (self.initial + twice.div(2 * self.n_frames, rounding_mode="floor")).cumprod(0)
