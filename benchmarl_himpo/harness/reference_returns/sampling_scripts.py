"""A heuristic policy for VMAS's ``sampling``, and an upper bound of the return."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.environments.sampling_scenario import SamplingScenario

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (-1, -1), (1, -1), (-1, 1), (1, 1))
"""Offsets of the points whose values are the last eight features of an observation, in their order."""

POINTS_PER_SIDE = 4
"""Points along the side of a cell, including corners, at which the bound evaluates the cell's value."""


def act_greedily(td: TensorDictBase) -> TensorDictBase:
    """Move at full speed to the best of the eight observed points. Writes an action of shape ``[*B, n_agents, 2]``."""
    best = td["agents", "observation"][..., -len(DIRECTIONS) :].argmax(-1)
    return td.set(("agents", "action"), torch.tensor(DIRECTIONS, dtype=torch.float, device=best.device)[best])


def act_greedily_discrete(td: TensorDictBase) -> TensorDictBase:
    """The same policy with discrete actions, one per direction.

    VMAS orders them as none, back and forth along x, and within each along y. Writes an action of shape
    ``[*B, n_agents]``.
    """
    direction = act_greedily(td)["agents", "action"].long()
    along_x, along_y = torch.where(direction < 0, 1, 2 * direction).unbind(-1)
    return td.set(("agents", "action"), 3 * along_x + along_y)


def bound_returns(scenario: SamplingScenario, max_steps: int) -> Tensor:
    """Upper bound of the return per agent: every agent samples one cell per step, and a cell gives its reward once.

    No team's return exceeds the sum of the best ``n_agents * max_steps`` cells, each at its best point. The bound is
    not attainable, because agents cannot jump. With ``shared_rew`` the return of each agent is the whole team's.

    Args:
        scenario: the scenario, with its Gaussians drawn.
        max_steps: length of an episode.

    Returns:
        Shape ``[n_envs]``.
    """
    device = scenario.world.device
    along_x, along_y = (
        torch.arange(n_cells, device=device).unsqueeze(-1) * scenario.grid_spacing
        - reach
        + torch.linspace(0, scenario.grid_spacing, POINTS_PER_SIDE, device=device)
        for n_cells, reach in ((scenario.n_x_cells, scenario.xdim), (scenario.n_y_cells, scenario.ydim))
    )
    points = torch.cartesian_prod(along_x.flatten(), along_y.flatten())
    sums = []
    for locs, max_pdf in zip(torch.stack(scenario.locs, dim=-2), scenario.max_pdf, strict=True):
        squared = (points.unsqueeze(1) - locs).square().sum(-1)  # [n_points, n_gaussians]
        density = (scenario.amplitude * (scenario.exponent * squared).exp()).sum(-1) / max_pdf
        cells = density.view(scenario.n_x_cells, POINTS_PER_SIDE, scenario.n_y_cells, POINTS_PER_SIDE).amax((1, 3))
        best = cells.flatten().sort(descending=True).values[: scenario.n_agents * max_steps]
        sums.append(best.sum())
    return torch.stack(sums) / (1 if scenario.shared_rew else scenario.n_agents)
