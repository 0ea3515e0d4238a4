"""Statistics of categorical goals: how often each is received, and the actions of the workers that receive it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from benchmarl_himpo.hierarchy import Hierarchy


@dataclass(frozen=True)
class GoalChoice:
    """One categorical goal of a level, over the recorded steps."""

    level: int  # level of the sender
    goal: int  # index of the goal
    share: float  # fraction of the steps of all live subordinates with this goal
    action: list[float] | None  # of workers with this goal: mean action, or frequency of each discrete action


class GoalChoices:
    """Counts categorical goals and actions of live workers and nodes during a rollout; nothing for vector goals.

    Args:
        hierarchy: the hierarchy of the policy.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._steps: dict[int, Tensor] = {}  # by level, how often each goal was followed, [goal_dim]
        self._actions = torch.zeros(())  # of the workers, summed by the goal that they followed, [goal_dim, F]

    def watch(self, tensordict: TensorDictBase) -> None:
        """Count one step. ``tensordict``: output of the policy, batch shape ``[*B]``."""
        graph, keys = self.hierarchy.graph(tensordict), self.hierarchy.keys
        for level in range(1, self.hierarchy.layout.n_levels):
            goal = tensordict.get(keys[level].action)
            if goal.is_floating_point():
                return
            follows = goal.double() * (graph.n_workers(level - 1) > 0).unsqueeze(-1)
            self._steps[level] = self._steps.get(level, 0) + follows.flatten(0, -2).sum(0)
            if level == 1:
                self._actions = self._actions + torch.einsum("...ng,...nf->gf", follows, self._action(tensordict))

    def _action(self, tensordict: TensorDictBase) -> Tensor:
        """Action of every worker, one-hot if discrete. Shape ``[*B, n_agents, F]``."""
        group = self.hierarchy.group
        action = tensordict.get((group, "action"))
        if action.is_floating_point():
            return action.double()
        n_actions = tensordict.get((group, "logits")).shape[-1]
        return torch.nn.functional.one_hot(action, n_actions).double()

    def __iter__(self) -> Iterator[GoalChoice]:
        """Every goal of every level, from the workers' goals up, the most frequent first."""
        for level, steps in self._steps.items():
            for goal in steps.argsort(descending=True).tolist():
                is_told = level == 1 and steps[goal] > 0
                action = (self._actions[goal] / steps[goal]).tolist() if is_told else None
                yield GoalChoice(level, goal, (steps[goal] / steps.sum()).item(), action)
