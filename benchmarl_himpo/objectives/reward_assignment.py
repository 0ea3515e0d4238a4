"""Who is paid with what: from the external reward to reward, advantage and value target of every level (paper: Eq. 5).

    manager       r²_k    = Σ_{t ∈ I_k} (1/n) Σ_i r_{i,t}
    sub-manager   r¹_e,k  = Σ_{t ∈ I_k} local_e(t) + share of A²(k')
    worker        r⁰_w,t  = share of A¹_e(k)

One loop from the top down serves any depth; at depth 1 the workers keep the external reward (flat PPO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyGraph, HierarchyLayout
from benchmarl_himpo.objectives.functional import (
    CREDITS,
    CRITIC_ROWS,
    Credit,
    CriticRows,
    Intervals,
    append_dims,
    interval_starts,
    pay_down,
    remaining_value_target,
)
from benchmarl_himpo.objectives.interval_advantage import interval_advantage

LocalReward = Literal["cluster", "own", "none"]
LOCAL_REWARDS: tuple[str, ...] = get_args(LocalReward)


@dataclass(frozen=True)
class Trajectories:
    """What a batch says about the environment, and each level's values."""

    reward: Tensor  # [B, T, n_agents, 1] external reward, 0 for the dead
    done: Tensor  # [B, T, n_agents, 1] bool, the worker's own end, its death or the team's end
    terminated: Tensor  # [B, T, n_agents, 1] bool
    team_done: Tensor  # [B, T] bool, the whole environment
    team_terminated: Tensor  # [B, T] bool
    clock: Tensor  # [B, T] long, steps since reset
    graph: HierarchyGraph  # batch shape [B, T]
    state_value: Sequence[Tensor]  # per level, [B, T, E, 1]
    next_state_value: Sequence[Tensor]  # per level, [B, T, E, 1], V one step later


@dataclass(frozen=True)
class LevelTargets:
    """What one level trains on. ``E`` is its edges."""

    reward: Tensor  # [B, T, E, 1] reward of each step
    advantage: Tensor  # [B, T, E, 1] advantage of the interval that holds the step
    value_target: Tensor  # [B, T, E, 1]
    actor_mask: Tensor  # [B, T, E, 1] bool
    critic_mask: Tensor  # [B, T, E, 1] bool
    intervals: Intervals


@dataclass(frozen=True)
class RewardAssignment:
    """The reward scheme of a hierarchy.

    Args:
        layout: sizes and clocks.
        credit: how an interval's advantage is spread over the steps of the level below, see
            :func:`~benchmarl_himpo.objectives.functional.pay_down`. Applied wherever a level pays another.
        local_reward: what a sub-manager earns on the edge to a subordinate beside its superior's advantage:
            ``"cluster"``, the mean external reward of all live workers below the sub-manager; ``"own"``, of the live
            workers below the subordinate (at level 1 the worker itself); ``"none"``, nothing (the paper's NL). The
            formula is our choice.
        worker_external_reward: pay workers the external reward on top (the paper's FL).
        gamma: discount per decision of each level, workers first.
        lmbda: GAE λ of each level, workers first (paper: 0.95 for workers, 0 above).
        critic_rows: rows that upper critics train on: ``"decisions"``; ``"sampled"``, one row of each interval drawn
            anew for every batch; or ``"all"`` (our choice).

    Raises:
        ValueError: if an option is unknown, a list has the wrong length, or ``telescoped`` meets options that break it.
    """

    layout: HierarchyLayout
    credit: Credit
    local_reward: LocalReward
    worker_external_reward: bool
    gamma: tuple[float, ...]
    lmbda: tuple[float, ...]
    critic_rows: CriticRows

    def __post_init__(self) -> None:
        """Refuse schemes that are not defined."""
        if self.credit not in CREDITS:
            raise ValueError(f"algorithm.credit={self.credit!r} is unknown: choose one of {', '.join(CREDITS)}")
        if self.local_reward not in LOCAL_REWARDS:
            raise ValueError(
                f"algorithm.local_reward={self.local_reward!r} is unknown: choose one of {', '.join(LOCAL_REWARDS)}"
            )
        if self.critic_rows not in CRITIC_ROWS:
            raise ValueError(
                f"algorithm.critic_rows={self.critic_rows!r} is unknown: choose one of {', '.join(CRITIC_ROWS)}"
            )
        for name, values in (("gamma", self.gamma), ("lmbda", self.lmbda)):
            if len(values) != self.layout.n_levels:
                raise ValueError(
                    f"algorithm.{name}={list(values)} must have one entry per level, workers first: "
                    f"give it {self.layout.n_levels}"
                )
            if any(not 0 <= value <= 1 for value in values):
                raise ValueError(f"algorithm.{name}={list(values)} must lie in [0, 1]")
        if self.credit == "telescoped" and self.layout.n_levels > 1:
            if self.critic_rows == "decisions":
                raise ValueError(
                    "algorithm.credit=telescoped reads the value of every row: set algorithm.critic_rows=sampled or all"
                )
            if any(self.lmbda[1:]):
                raise ValueError(
                    "algorithm.credit=telescoped spreads the one-step advantage: set algorithm.lmbda to 0 above the "
                    f"workers, got {list(self.lmbda)}"
                )

    def has_edge_value(self, level: int) -> bool:
        """Whether the reward of a level differs from edge to edge below one node, so that its value must too."""
        return 0 < level < self.layout.top and self.local_reward == "own"

    def __call__(self, batch: Trajectories) -> list[LevelTargets]:
        """Pay every level, from the top down.

        Args:
            batch: the trajectories and values.

        Returns:
            The targets of every level, workers first.
        """
        targets: list[LevelTargets] = []
        payment: Tensor | None = None  # of each node of the level, [B, T, nodes, 1]
        for level in reversed(range(self.layout.n_levels)):
            target, payment = self._pay_level(level, payment, batch)
            targets.insert(0, target)
        return targets

    def _pay_level(self, level: int, payment: Tensor | None, batch: Trajectories) -> tuple[LevelTargets, Tensor]:
        reward = self._step_reward(level, payment, batch)
        is_decision = self.layout.is_due(batch.clock, level)
        is_boundary = self.layout.is_due(batch.clock + 1, level)
        intervals = Intervals(interval_starts(is_decision))
        done, terminated = self._flags(level, reward, batch)
        value, next_value = batch.state_value[level], batch.next_state_value[level]
        gamma = self.gamma[level]
        advantage, interval_target = interval_advantage(
            reward, value, next_value, done, terminated, is_boundary, intervals, gamma, self.lmbda[level]
        )
        served = self._served(level, batch.graph, intervals)
        is_decision = append_dims(is_decision, reward).expand_as(reward)
        trains_critic = is_decision if level == 0 else self._upper_critic_rows(intervals, is_decision)
        target = LevelTargets(
            reward=reward,
            advantage=advantage,
            value_target=remaining_value_target(interval_target, reward, intervals),
            actor_mask=is_decision & served,
            critic_mask=trains_critic & served if level == 0 else trains_critic,
            intervals=intervals,
        )
        payment = pay_down(self.credit, advantage, reward, value, next_value, terminated, is_boundary, intervals, gamma)
        return target, payment

    def _upper_critic_rows(self, intervals: Intervals, is_decision: Tensor) -> Tensor:
        """Rows that train the critic of an upper level. Shape ``[B, T, E, 1]``, bool, as ``is_decision``."""
        if self.critic_rows == "decisions":
            return is_decision
        if self.critic_rows == "sampled":
            return append_dims(intervals.draw_step(), is_decision).expand_as(is_decision)
        return torch.ones_like(is_decision)

    def _step_reward(self, level: int, payment: Tensor | None, batch: Trajectories) -> Tensor:
        """Reward of a level at each step. Shape ``[B, T, E, 1]``."""
        external = batch.reward
        if level == 0:
            if payment is None:
                return external
            return payment + external if self.worker_external_reward else payment
        if payment is None:
            return external.mean(-2, keepdim=True).expand(*external.shape[:2], self.layout.edges_at(level), 1)
        return batch.graph.to_subordinates(payment, level) + self._local_reward(level, batch)

    def _local_reward(self, level: int, batch: Trajectories) -> Tensor | float:
        if self.local_reward == "cluster":
            return batch.graph.to_subordinates(batch.graph.pool(batch.reward, level), level)
        if self.local_reward == "own":
            return batch.graph.pool(batch.reward, level - 1)
        return 0.0

    @staticmethod
    def _flags(level: int, reward: Tensor, batch: Trajectories) -> tuple[Tensor, Tensor]:
        """End flags of the edges of a level: a worker's own, the team's above. Shape ``[B, T, E, 1]`` each, bool."""
        if level == 0:
            return batch.done | batch.terminated, batch.terminated
        done, terminated = batch.team_done | batch.team_terminated, batch.team_terminated
        return append_dims(done, reward).expand_as(reward), append_dims(terminated, reward).expand_as(reward)

    @staticmethod
    def _served(level: int, graph: HierarchyGraph, intervals: Intervals) -> Tensor:
        """Edges that served a live worker somewhere in the interval. Shape ``[B, T, E, 1]``, bool."""
        n_workers = graph.n_workers(max(level - 1, 0)).unsqueeze(-1)
        return intervals.to_steps(intervals.sum(n_workers)) > 0
