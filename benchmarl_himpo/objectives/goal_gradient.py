"""Differentiable goals: the workers' loss trains the goal actors end to end, in addition to PPO or alone (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictParams
from tensordict.utils import NestedKey

from benchmarl_himpo.hierarchy import GoalSpace
from benchmarl_himpo.objectives.functional import interval_starts
from benchmarl_himpo.objectives.trajectories import evaluate

if TYPE_CHECKING:
    from benchmarl_himpo.models import HierarchicalPolicy


def check_weight(weight: float) -> None:
    """Check the weight of a goal gradient: ValueError unless above 0 and at most 1."""
    if not 0 < weight <= 1:
        raise ValueError(f"goal_gradient={weight} must be above 0 and at most 1, or 0 for none")


class GoalGradient:
    """Lets the workers' loss train the goal actors of all upper levels through the goals they sent (ours).

    A goal is recomputed from the sender's input at its decision and with the noise of its sample::

        goal = goal_sent + weight * change + (1 - weight) * detach(change)
        change = (mu - mu_sent) + (sigma - sigma_sent) * noise

    so the recomputed goal equals the sent one until a parameter changes, and the workers' PPO ratio starts at 1. The
    goal that a sender had received is recomputed too, from the top down, so the gradient reaches all levels, multiplied
    by the weight at each one. Goals decided before the batch began are constants.

    :meth:`remember` writes the necessary inputs into every step of a batch; :meth:`__call__` reads them.

    Args:
        policy: the collection policy.
        goal: the policy's goal space.
        weight: factor of the workers' gradient with respect to goals, in (0, 1].

    Raises:
        ValueError: if the weight is out of range, there is only one level, goals are not received, or the goal space is
            not differentiable.
    """

    def __init__(self, policy: HierarchicalPolicy, goal: GoalSpace, weight: float) -> None:
        check_weight(weight)
        if policy.hierarchy.layout.top == 0:
            raise ValueError(f"goal_gradient={weight} needs goals, but there is only one level: set goal_gradient=0")
        if not policy.hierarchy.send_goals:
            raise ValueError(f"goal_gradient={weight} needs goals that are received: set send_goals=true")
        if not goal.is_differentiable:
            raise ValueError(f"goal_gradient={weight} needs goals that can be differentiated, such as goal=normal")
        self.policy = policy
        self.goal = goal
        self.weight = weight
        self.levels = range(1, policy.hierarchy.layout.n_levels)

    @property
    def keys(self) -> list[NestedKey]:
        """Entries that :meth:`remember` writes."""
        return [
            key
            for level in self.levels
            for key in (
                *(_join(self._seen(level), read) for read in self._read(level)),
                self._sent(level),
                self._known(level),
            )
        ]

    @torch.no_grad()
    def remember(self, batch: TensorDictBase) -> None:
        """Write into every step the inputs and the distribution parameters of the senders of its goals.

        Args:
            batch: collected data, before the first update. Shape ``[B, T]``.
        """
        hierarchy = self.policy.hierarchy
        clock = batch.get(hierarchy.keys.clock).squeeze(-1)
        env, step = (torch.arange(n, device=clock.device) for n in clock.shape)
        for level in self.levels:
            decided = step - hierarchy.layout.since_decision(clock, level)
            index = (env[:, None], decided.clamp(min=0))
            batch.set(self._seen(level), batch.select(*self._read(level))[index])
            network = self.policy.actors[level][0]
            is_start = interval_starts(hierarchy.layout.is_due(clock, level))
            batch.set(self._sent(level), evaluate(network, batch, is_start)[index])
            batch.set(self._known(level), (decided >= 0)[..., None])

    def __call__(self, rows: TensorDictBase, params: Sequence[TensorDictParams]) -> TensorDictBase:
        """Recompute the goals of a minibatch.

        Args:
            rows: steps of a batch. Shape ``[n_rows]``.
            params: parameters of every level's actor, workers first.

        Returns:
            The same steps with differentiable goals, for the workers' actor.
        """
        keys, goals = self.policy.hierarchy.keys, rows.copy()
        for level in reversed(self.levels):
            seen = rows.get(self._seen(level)).copy()
            if level < self.levels[-1]:
                seen.set(keys[level + 1].action, goals.get(keys[level + 1].action))
            network = self.policy.actors[level]
            with params[level].to_module(network):
                parameters = network[0](seen).get(network[0].out_keys[0])
            sent = rows.get(keys[level].action)
            change = self.goal.change(sent, rows.get(self._sent(level)), parameters)
            change = torch.where(rows.get(self._known(level))[..., None], change, 0)
            goals.set(keys[level].action, sent + self.weight * change + (1 - self.weight) * change.detach())
        return goals

    def _read(self, level: int) -> list[NestedKey]:
        """Inputs of a goal actor except the goal that it received, which every step has already."""
        hierarchy = self.policy.hierarchy
        received = [hierarchy.keys[level + 1].action] if level < hierarchy.layout.top else []
        return [key for key in hierarchy.keys_read(level) if key not in received]

    def _seen(self, level: int) -> tuple[str, str]:
        """Key of the sender's inputs when the goal of a step was decided."""
        return (self.policy.hierarchy.keys.root, f"decision_{level}")

    def _sent(self, level: int) -> tuple[str, str]:
        """Key of the parameters of the distribution from which the goal of a step was drawn."""
        return (self.policy.hierarchy.keys.root, f"goal_parameters_{level}")

    def _known(self, level: int) -> tuple[str, str]:
        """Key of the flag whether the goal of a step was decided in the same batch."""
        return (self.policy.hierarchy.keys.root, f"goal_known_{level}")


def _join(root: tuple[str, str], key: NestedKey) -> tuple[str, ...]:
    return (*root, key) if isinstance(key, str) else (*root, *key)
