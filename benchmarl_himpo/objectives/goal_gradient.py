"""Goals with a gradient: end-to-end communication on a slow clock, beside PPO of the upper levels or alone (ours)."""

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


class GoalGradient:
    """Lets the workers' loss train the goal actors of all levels above, through the goals that they sent (ours).

    A goal is computed again where it was decided, from what its sender saw there and with the noise of its sample::

        goal = goal_sent + weight * change + (1 - weight) * detach(change)
        change = (mu - mu_sent) + (sigma - sigma_sent) * noise

    so that it is what was sent until a parameter changes, and PPO's ratio of the workers starts at 1. A goal that its
    sender had received is computed again too, from the top down: the gradient climbs, times the weight per level. Where
    a goal was decided before the batch began it is data, as everywhere without this class.

    :meth:`remember` writes what the loss needs beside every step of a batch, :meth:`__call__` reads it.

    Args:
        policy: the policy that collects.
        goal: its space of goals.
        weight: share of the workers' gradient that goes on through goals, in (0, 1].

    Raises:
        ValueError: if the weight is out of range, there is one level, or goals are not received or cannot be
            differentiated.
    """

    def __init__(self, policy: HierarchicalPolicy, goal: GoalSpace, weight: float) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"goal_gradient={weight} must be above 0 and at most 1, or 0 for none")
        if policy.hierarchy.layout.top == 0:
            raise ValueError(f"goal_gradient={weight} needs goals, and there is one level: set goal_gradient=0")
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
        """Write beside every step what the senders of its goals saw and decided.

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
        """Compute the goals of a minibatch again.

        Args:
            rows: steps of a batch. Shape ``[n_rows]``.
            params: parameters of every level's actor, workers first.

        Returns:
            The same steps with these goals, for the workers' actor.
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
        """What a goal actor reads beside the goal that it received, which stands beside every step already."""
        hierarchy = self.policy.hierarchy
        received = [hierarchy.keys[level + 1].action] if level < hierarchy.layout.top else []
        return [key for key in hierarchy.keys_read(level) if key not in received]

    def _seen(self, level: int) -> tuple[str, str]:
        """Where a step has what was seen when its goal was decided."""
        return (self.policy.hierarchy.keys.root, f"decision_{level}")

    def _sent(self, level: int) -> tuple[str, str]:
        """Where a step has the parameters of the distribution that its goal was drawn from."""
        return (self.policy.hierarchy.keys.root, f"goal_parameters_{level}")

    def _known(self, level: int) -> tuple[str, str]:
        """Where a step says whether its goal was decided in the same batch."""
        return (self.policy.hierarchy.keys.root, f"goal_known_{level}")


def _join(root: tuple[str, str], key: NestedKey) -> tuple[str, ...]:
    return (*root, key) if isinstance(key, str) else (*root, *key)
