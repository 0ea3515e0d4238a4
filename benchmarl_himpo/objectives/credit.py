"""Credit rules: distribute the advantage of a superior's interval as intrinsic reward to its subordinates.

A new rule is one small class and one line in ``credit_registry``; its options are fields of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarl_himpo.objectives.functional import Intervals, append_dims, check_same_shape


@dataclass(frozen=True)
class IntervalData:
    """Input of a credit rule: a batch of a superior level, with ``E`` subordinates over all its nodes."""

    advantage: Tensor  # [B, T, E, 1] of the interval that contains each step
    reward: Tensor  # [B, T, E, 1] of the superior, at each step
    state_value: Tensor  # [B, T, E, 1] V of the superior at each step; only at decisions unless reads_values
    next_state_value: Tensor  # [B, T, E, 1] V one step later
    terminated: Tensor  # [B, T, E, 1] bool, true end of the episode after this step
    is_boundary: Tensor  # [B, T] bool, the superior's clock ends the interval after this step
    intervals: Intervals  # of the superior
    gamma: float  # discount per decision of the superior
    goal: Tensor | None = None  # [B, T, E, goal_dim] in effect; None at the workers
    encoding_change: Tensor | None = None  # [B, T, E, hidden_dim] over the step; only if reads_encodings
    dies: Tensor | None = None  # [B, T, E, 1] bool, the step is a worker's last one; None: subordinates are upper nodes


class CreditRule(ABC):
    """Distributes the advantage of a superior over the steps of its subordinates.

    Attributes:
        reads_values: whether the rule reads the superior's value at every step. The superior's critic must then train
            at other steps than decisions too (``critic_rows=sampled`` or ``all``), and its λ must be 0.
        reads_encodings: whether the rule reads the change of the subordinates' encodings; goals have the size of these.
    """

    reads_values: bool = False
    reads_encodings: bool = False

    @abstractmethod
    def __call__(self, data: IntervalData) -> Tensor:
        """Intrinsic reward of each subordinate at each step. Shape ``[B, T, E, 1]``."""


@dataclass(frozen=True)
class Uniform(CreditRule):
    """A_k / τ_k at every step of the interval (paper: Eq. 5). Not causal.

    Sums to A_k over the interval; an agent that dies within it is rewarded for its steps alone.
    """

    def __call__(self, data: IntervalData) -> Tensor:
        """The advantage divided by the length of the interval."""
        return data.advantage / append_dims(data.intervals.length, data.advantage)


@dataclass(frozen=True)
class Final(CreditRule):
    """A_k at a subordinate's last step of the interval, 0 before (ours). Sums to A_k; causal, with more variance."""

    def __call__(self, data: IntervalData) -> Tensor:
        """The advantage at the last step."""
        is_last = append_dims(data.intervals.is_end, data.advantage)
        is_last = is_last if data.dies is None else is_last | data.dies
        return torch.where(is_last, data.advantage, torch.zeros_like(data.advantage))


@dataclass(frozen=True)
class Telescoped(CreditRule):
    """reward_t + d_t V(t+1) - V(t): the superior's reward at each step plus potential-based shaping (ours).

    d_t is γ at the end of the superior's interval, 0 after ``terminated``, 1 elsewhere. Sums to A_k for λ = 0; causal.
    Subordinates see the superior's reward at every step; only the sum over the interval is A_k.
    """

    reads_values = True

    def __call__(self, data: IntervalData) -> Tensor:
        """The terms of the one-step advantage at their steps."""
        check_same_shape(reward=data.reward, state_value=data.state_value, next_state_value=data.next_state_value)
        discount = torch.ones_like(data.reward).masked_fill(append_dims(data.is_boundary, data.reward), data.gamma)
        return data.reward + discount * ~data.terminated * data.next_state_value - data.state_value


@dataclass(frozen=True)
class Cosine(CreditRule):
    """w cos(g, e_{t+1} - e_t): alignment of the change of the subordinate's encoding with its goal (a baseline).

    The shaped intrinsic reward of FeUdal Networks (https://arxiv.org/abs/1703.01161, Eq. 8) and of feudal graph
    reinforcement learning (https://arxiv.org/abs/2304.05099), which the paper argues against. Both add the external
    reward, as ``local_reward=own`` and ``worker_external_reward=true`` do here. e is the subordinate's encoding by its
    superior's goal actor, so ``goal_dim`` must equal ``hidden_dim``. The horizon of one step, and PPO instead of the
    transition policy gradient, are ours.

    Args:
        weight: w, relative to the external reward, whose weight is 1.
    """

    weight: float
    reads_encodings = True

    def __call__(self, data: IntervalData) -> Tensor:
        """Weighted cosine between goal and change of encoding; 0 if either is zero."""
        assert data.goal is not None and data.encoding_change is not None  # reads_encodings
        check_same_shape(goal=data.goal, encoding_change=data.encoding_change)
        goal = data.goal.to(data.encoding_change.dtype)
        return self.weight * torch.cosine_similarity(goal, data.encoding_change, dim=-1).unsqueeze(-1)


credit_registry: dict[str, type[CreditRule]] = {
    "uniform": Uniform,
    "final": Final,
    "telescoped": Telescoped,
    "cosine": Cosine,
}
"""Every credit rule by its name in ``algorithm.credit``."""
