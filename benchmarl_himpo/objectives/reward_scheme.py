"""Computes reward, advantage and value target of every level from the external reward (paper: Eq. 5).

    manager       r²_k    = Σ_{t ∈ I_k} (1/n) Σ_i r_{i,t}
    sub-manager   r¹_e,k  = Σ_{t ∈ I_k} local_e(t) + share of A²(k')
    worker        r⁰_w,t  = share of A¹_e(k)

One loop from the top down handles any depth; at depth 1 the workers receive the external reward (flat PPO).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import HierarchyGraph, HierarchyLayout
from benchmarl_himpo.objectives.credit import CreditRule, IntervalData
from benchmarl_himpo.objectives.functional import (
    Intervals,
    append_dims,
    interval_starts,
    remaining_value_target,
)
from benchmarl_himpo.objectives.interval_advantage import interval_advantage

LocalReward = Literal["cluster", "own", "none"]
LOCAL_REWARDS: tuple[str, ...] = get_args(LocalReward)
CriticRows = Literal["decisions", "sampled", "all"]
CRITIC_ROWS: tuple[str, ...] = get_args(CriticRows)


@dataclass(frozen=True)
class Trajectories:
    """Rewards, flags and graph of a collected batch, and the values of each level."""

    reward: Tensor  # [B, T, n_agents, 1] external reward, 0 for dead agents
    done: Tensor  # [B, T, n_agents, 1] bool, end of the worker's episode: its own flag, its death or the team's end
    terminated: Tensor  # [B, T, n_agents, 1] bool
    team_done: Tensor  # [B, T] bool, the whole environment
    team_terminated: Tensor  # [B, T] bool
    clock: Tensor  # [B, T] long, steps since reset
    graph: HierarchyGraph  # batch shape [B, T]
    state_value: Sequence[Tensor]  # per level, [B, T, E, 1]
    next_state_value: Sequence[Tensor]  # per level, [B, T, E, 1], V one step later
    goals: Mapping[int, Tensor] = field(default_factory=dict)  # by upper level, [B, T, E, goal_dim] in effect
    encoding_changes: Mapping[int, Tensor] = field(default_factory=dict)  # by upper level, [B, T, E, hidden_dim]


@dataclass(frozen=True)
class LevelTargets:
    """Training targets of one level; ``E`` is the number of its recipients."""

    reward: Tensor  # [B, T, E, 1] reward of each step
    advantage: Tensor  # [B, T, E, 1] advantage of the interval that contains the step
    value_target: Tensor  # [B, T, E, 1]
    actor_mask: Tensor  # [B, T, E, 1] bool
    critic_mask: Tensor  # [B, T, E, 1] bool
    intervals: Intervals


@dataclass(frozen=True)
class RewardScheme:
    """The reward scheme of a hierarchy.

    Args:
        layout: sizes and clocks.
        credit: credit rule, which distributes the advantage of an interval as intrinsic reward to the level below;
            applied at every level with a superior.
        local_reward: external reward of a sub-manager for a subordinate, in addition to the intrinsic reward:
            ``"cluster"``, the mean over all live workers below the sub-manager; ``"own"``, over the live workers below
            the subordinate (at level 1 the worker itself); ``"none"`` (the paper's NL). The formula is ours.
        worker_external_reward: whether workers also receive the external reward (the paper's FL).
        gamma: discount per decision of each level, workers first.
        lmbda: GAE λ of each level, workers first (paper: 0.95 for workers, 0 above).
        critic_rows: rows that upper critics train on: ``"decisions"``; ``"sampled"``, one random row of each interval;
            or ``"all"`` (ours).

    Raises:
        ValueError: if an option is unknown, a list has the wrong length, or the credit rule is incompatible with
            ``critic_rows`` or ``lmbda``.
    """

    layout: HierarchyLayout
    credit: CreditRule
    local_reward: LocalReward
    worker_external_reward: bool
    gamma: tuple[float, ...]
    lmbda: tuple[float, ...]
    critic_rows: CriticRows

    def __post_init__(self) -> None:
        """Check the options against each other."""
        for name, known in (("local_reward", LOCAL_REWARDS), ("critic_rows", CRITIC_ROWS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(known)}")
        for name, values in (("gamma", self.gamma), ("lmbda", self.lmbda)):
            if len(values) != self.layout.n_levels:
                raise ValueError(
                    f"{name}={list(values)} must have one entry per level, workers first: give "
                    f"{self.layout.n_levels} entries"
                )
            if any(not 0 <= value <= 1 for value in values):
                raise ValueError(f"{name}={list(values)} must lie in [0, 1]")
        if self.credit.reads_values and self.layout.n_levels > 1:
            rule = type(self.credit).__name__.lower()
            if self.critic_rows == "decisions":
                raise ValueError(f"credit={rule} reads the value at every step: set critic_rows=sampled or all")
            if any(self.lmbda[1:]):
                raise ValueError(
                    f"credit={rule} distributes the one-step advantage: set lmbda to 0 above the workers, got "
                    f"lmbda={list(self.lmbda)}"
                )

    @property
    def edge_values(self) -> list[int]:
        """Upper levels with one value per subordinate, because the reward differs between subordinates of a node."""
        return list(range(1, self.layout.top)) if self.local_reward == "own" else []

    def __call__(self, trajectories: Trajectories) -> list[LevelTargets]:
        """Compute the training targets of every level, from the top down.

        Args:
            trajectories: the batch and its values.

        Returns:
            The targets of every level, workers first.
        """
        targets: list[LevelTargets] = []
        intrinsic: Tensor | None = None  # of each node of the level, [B, T, nodes, 1]
        for level in reversed(range(self.layout.n_levels)):
            target = self._level_targets(level, intrinsic, trajectories)
            targets.insert(0, target)
            if level > 0:
                intrinsic = self._intrinsic_reward(level, target, trajectories)
        return targets

    def _level_targets(self, level: int, intrinsic: Tensor | None, trajectories: Trajectories) -> LevelTargets:
        reward = self._step_reward(level, intrinsic, trajectories)
        is_decision = self.layout.is_due(trajectories.clock, level)
        intervals = Intervals(interval_starts(is_decision))
        done, terminated = self._flags(level, reward, trajectories)
        advantage, interval_target = interval_advantage(
            reward,
            trajectories.state_value[level],
            trajectories.next_state_value[level],
            done,
            terminated,
            self.layout.is_due(trajectories.clock + 1, level),
            intervals,
            self.gamma[level],
            self.lmbda[level],
        )
        served = self._served(level, trajectories.graph, intervals)
        is_decision = append_dims(is_decision, reward).expand_as(reward)
        trains_critic = is_decision if level == 0 else self._upper_critic_rows(intervals, is_decision)
        return LevelTargets(
            reward=reward,
            advantage=advantage,
            value_target=remaining_value_target(interval_target, reward, intervals),
            actor_mask=is_decision & served,
            critic_mask=trains_critic & served if level == 0 else trains_critic,
            intervals=intervals,
        )

    def _intrinsic_reward(self, level: int, target: LevelTargets, trajectories: Trajectories) -> Tensor:
        """Intrinsic reward of a level's subordinates, from the level's advantage. Shape ``[B, T, E, 1]``, detached."""
        _, terminated = self._flags(level, target.reward, trajectories)
        data = IntervalData(
            advantage=target.advantage,
            reward=target.reward,
            state_value=trajectories.state_value[level],
            next_state_value=trajectories.next_state_value[level],
            terminated=terminated,
            is_boundary=self.layout.is_due(trajectories.clock + 1, level),
            intervals=target.intervals,
            gamma=self.gamma[level],
            goal=trajectories.goals.get(level),
            encoding_change=trajectories.encoding_changes.get(level),
            dies=trajectories.terminated if level == 1 else None,
        )
        return self.credit(data).detach()

    def _upper_critic_rows(self, intervals: Intervals, is_decision: Tensor) -> Tensor:
        """Rows that train the critic of an upper level. Shape ``[B, T, E, 1]``, bool, as ``is_decision``."""
        if self.critic_rows == "decisions":
            return is_decision
        if self.critic_rows == "sampled":
            return append_dims(intervals.draw_step(), is_decision).expand_as(is_decision)
        return torch.ones_like(is_decision)

    def _step_reward(self, level: int, intrinsic: Tensor | None, trajectories: Trajectories) -> Tensor:
        """Reward of a level at each step. Shape ``[B, T, E, 1]``."""
        external = trajectories.reward
        if level == 0:
            if intrinsic is None:
                return external
            return intrinsic + external if self.worker_external_reward else intrinsic
        if intrinsic is None:
            return external.mean(-2, keepdim=True).expand(*external.shape[:2], self.layout.n_recipients(level), 1)
        return trajectories.graph.to_subordinates(intrinsic, level) + self._local_reward(level, trajectories)

    def _local_reward(self, level: int, trajectories: Trajectories) -> Tensor | float:
        graph = trajectories.graph
        if self.local_reward == "cluster":
            return graph.to_subordinates(graph.pool(trajectories.reward, level), level)
        if self.local_reward == "own":
            return graph.pool(trajectories.reward, level - 1)
        return 0.0

    @staticmethod
    def _flags(level: int, reward: Tensor, trajectories: Trajectories) -> tuple[Tensor, Tensor]:
        """``done`` and ``terminated``: per worker at level 0, of the team above. Shape ``[B, T, E, 1]`` each, bool."""
        if level == 0:
            return trajectories.done | trajectories.terminated, trajectories.terminated
        done = append_dims(trajectories.team_done | trajectories.team_terminated, reward)
        return done.expand_as(reward), append_dims(trajectories.team_terminated, reward).expand_as(reward)

    @staticmethod
    def _served(level: int, graph: HierarchyGraph, intervals: Intervals) -> Tensor:
        """Recipients with a live worker at any step of the interval. Shape ``[B, T, E, 1]``, bool."""
        n_workers = graph.n_workers(max(level - 1, 0)).unsqueeze(-1)
        return intervals.to_steps(intervals.sum(n_workers)) > 0
