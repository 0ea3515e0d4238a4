"""What the environment shows of itself, and where its agents stand in that picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.runs import ResumableExperiment

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top edge of a picture, in the units of the agents' positions."""


@dataclass(frozen=True)
class Scene:
    """The first environment at one moment.

    Args:
        picture: what the environment draws. Shape ``[height, width, 3]``, uint8.
        extent: where its edges are; None where that is not known.
        positions: of each group's agents, in the units of the extent. Shape ``[n_agents, 2]`` each; empty where the
            extent is not known.
    """

    picture: np.ndarray
    extent: Extent | None
    positions: dict[str, Tensor]


def draw_scene(experiment: ResumableExperiment, env: Any, data: TensorDictBase) -> Scene:
    """Draw the first environment as its task draws it for BenchMARL's videos.

    Args:
        experiment: the experiment whose task is drawn.
        env: the environment.
        data: the step that was just made.

    Returns:
        The scene; agents are placed in it on VMAS tasks.
    """
    picture = experiment.task.__class__.render_callback(experiment, env, data)
    picture = np.ascontiguousarray(picture.cpu().numpy() if isinstance(picture, Tensor) else picture)
    if experiment.environment_name != "vmas":
        return Scene(picture, None, {})
    simulator = env.base_env._env
    left, right, bottom, top = simulator.viewer.bounds.tolist()
    position = {agent.name: agent.state.pos[0] for agent in simulator.agents}
    groups = experiment.group_map.items()
    positions = {group: torch.stack([position[name] for name in names]).cpu() for group, names in groups}
    return Scene(picture, (left, right, bottom, top), positions)
