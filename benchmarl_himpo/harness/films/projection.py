"""Goals in two dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_components(goals: Tensor) -> tuple[Tensor, float]:
    """Project the goals of a level, ``[T, E, goal_dim]``, on the two directions in which they vary most.

    Returns:
        The projections, shape ``[T, E, 2]``, the second of them zero for goals of one number; and the share of the
        variance that they keep, in [0, 1], 1 where nothing varies.
    """
    centred = (goals - goals.mean((0, 1))).double()
    _, scale, directions = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    points = centred @ directions[:2].T
    total = scale.square().sum()
    share = (scale[:2].square().sum() / total).item() if total > 0 else 1.0
    return torch.nn.functional.pad(points, (0, 2 - points.shape[-1])).to(goals.dtype), share
