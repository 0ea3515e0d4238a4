"""Heuristic policies for tasks of mpe2 with target landmarks, which use the observations of all agents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.harness.evaluation.episodes import Policy

N_MOVES = 5
"""Components of a movement: nothing, left, right, down, up."""


def _assign(td: TensorDictBase) -> dict[str, Tensor]:
    """Targets for ``simple_spread``: each agent goes to another landmark, with the smallest total distance."""
    landmarks = _landmarks(td, "agent", start=4, n=len(td["agent"]))  # [n_agents, n_landmarks, 2]
    _, chosen = linear_sum_assignment(landmarks.norm(dim=-1).cpu())
    return {"agent": landmarks[torch.arange(len(landmarks)), torch.as_tensor(chosen)]}


def _go_where_the_speaker_sees(td: TensorDictBase) -> dict[str, Tensor]:
    """Target for ``simple_speaker_listener``: the listener goes to the landmark whose colour the speaker sees."""
    landmarks = _landmarks(td, "listener", start=2, n=3)
    return {"listener": landmarks[:, td["speaker", "observation"][0].argmax()]}


def _go_where_the_other_sees(td: TensorDictBase) -> dict[str, Tensor]:
    """Targets for ``simple_reference``: each agent goes to the landmark whose colour the other agent sees."""
    landmarks = _landmarks(td, "agent", start=2, n=3)
    colour = td["agent", "observation"][:, 8:11].argmax(-1).flip(0)
    return {"agent": landmarks[torch.arange(2), colour]}


TARGETS: dict[str, tuple[str, Callable[[TensorDictBase], dict[str, Tensor]]]] = {
    "simple_spread": ("assigned", _assign),
    "simple_speaker_listener": ("informed", _go_where_the_speaker_sees),
    "simple_reference": ("informed", _go_where_the_other_sees),
}
"""For each task, the name of its heuristic, and the targets of each group's agents, relative to the agents."""


def scripted_policies(task: str, random: Policy) -> dict[str, Policy]:
    """Heuristic policies of a task of mpe2, by name; action components without effect on movement are random.

    Args:
        task: name of the task, lower case.
        random: writes random actions.
    """
    if task not in TARGETS:
        return {}
    name, find_targets = TARGETS[task]

    def act(td: TensorDictBase) -> TensorDictBase:
        td = random(td)
        for group, target in find_targets(td).items():
            velocity, action = td[group, "observation"][:, :2], td[group, "action"]
            force = (8 * target - 3 * velocity).clamp(-1, 1)
            if action.is_floating_point():
                action[:, 1:N_MOVES:2], action[:, 2:N_MOVES:2] = (-force).clamp(min=0), force.clamp(min=0)
            else:
                action.copy_(action - action % N_MOVES + _strongest(force))
        return td

    return {name: act}


def _landmarks(td: TensorDictBase, group: str, start: int, n: int) -> Tensor:
    """Positions of landmarks relative to each agent. Shape ``[n_agents, n, 2]``."""
    return td[group, "observation"][:, start : start + 2 * n].unflatten(-1, (n, 2))


def _strongest(force: Tensor) -> Tensor:
    """The movement along the axis where the force is larger, none where it is small. Shape ``[n_agents]``."""
    size, axis = force.abs().max(-1)
    sign = force.gather(-1, axis.unsqueeze(-1)).squeeze(-1) > 0
    return torch.where(size < 0.3, 0, 1 + 2 * axis + sign)
