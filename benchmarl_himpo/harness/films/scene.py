"""Rendering of the environment, and positions of the agents in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.lbf.environment import LbfEnv
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.host.torchrl import vmas_environment
from benchmarl_himpo.host.vmas import picture_bounds

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top edge of a picture, in the units of the agents' positions."""

CORNER = (0.8, 0.2)
"""Position of a foraging agent's marker in its cell, from the upper left corner, which keeps its level visible."""


@dataclass(frozen=True)
class Scene:
    """The first environment at one moment."""

    picture: np.ndarray  # [height, width, 3], uint8: rendering of the environment
    extent: Extent | None  # edges of the picture; None if unknown
    positions: dict[str, Tensor]  # [n_agents, 2] each, of each group, in the extent's units; empty where none is known


def draw_scene(experiment: ResumableExperiment, env: Any, data: TensorDictBase) -> Scene:
    """Render the first environment as in BenchMARL's videos; agents are located on VMAS and foraging tasks."""
    picture = experiment.task.__class__.render_callback(experiment, env, data)
    picture = np.ascontiguousarray(picture.cpu().numpy() if isinstance(picture, Tensor) else picture)
    placed = _place_agents(experiment, env.base_env)
    if placed is None:
        return Scene(picture, None, {})
    extent, position = placed
    groups = experiment.group_map.items()
    return Scene(
        picture, extent, {group: torch.stack([position[name] for name in names]).cpu() for group, names in groups}
    )


def _place_agents(experiment: ResumableExperiment, env: EnvBase) -> tuple[Extent, dict[str, Tensor]] | None:
    """Edges of a picture, and positions of each group's agents; None on other tasks."""
    if isinstance(env, LbfEnv):
        n_rows, n_columns = env.config.field_size
        cell = env.state.agent_position[0].flip(-1)  # column first
        beside_level = cell + torch.tensor(CORNER, device=cell.device)
        return (0.0, n_columns, n_rows, 0.0), dict(zip(experiment.group_map[GROUP], beside_level, strict=True))
    if experiment.environment_name == "vmas":
        simulator = vmas_environment(env)
        return picture_bounds(simulator), {agent.name: agent.state.pos[0] for agent in simulator.agents}
    return None
