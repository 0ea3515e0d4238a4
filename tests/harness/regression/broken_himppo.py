"""HiMPPO with one part broken: what a faulty change of the code would be."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from benchmarl.models.common import ModelConfig
from torch import Tensor

from benchmarl_himpo.algorithms.himppo import Himppo
from benchmarl_himpo.harness.evaluation.audit import FirstGoal, PerturbedPolicy, zero
from benchmarl_himpo.hierarchy import Hierarchy
from benchmarl_himpo.models import HierarchicalPolicy
from benchmarl_himpo.objectives import HimppoLoss, RewardScheme
from benchmarl_himpo.objectives.reward_scheme import Trajectories

SUB_MANAGERS = 1


class WithoutGoals(Himppo):
    """Workers always receive a goal of zeros."""

    def _get_policy_for_loss(self, group: str, model_config: ModelConfig, continuous: bool) -> HierarchicalPolicy:
        policy = super()._get_policy_for_loss(group, model_config, continuous)
        return PerturbedPolicy(policy, SUB_MANAGERS, zero)


class FirstGoalOfEachTeam(FirstGoal):
    """The first goals of an episode, of the teams of training and of evaluation in turn."""

    def __call__(self, goal: Tensor, clock: Tensor) -> Tensor:
        if self.goal is not None and self.goal.shape != goal.shape:
            self.goal = None
        return super().__call__(goal, clock)


class WithFirstGoals(Himppo):
    """Workers receive the goals of an episode's first step to its end."""

    def _get_policy_for_loss(self, group: str, model_config: ModelConfig, continuous: bool) -> HierarchicalPolicy:
        policy = super()._get_policy_for_loss(group, model_config, continuous)
        return PerturbedPolicy(policy, SUB_MANAGERS, FirstGoalOfEachTeam())


class WithUntrainedSubManagers(Himppo):
    """The policy of the sub-managers stays as it was drawn."""

    def _get_parameters(self, group: str, loss: HimppoLoss) -> dict[str, list[Any]]:
        parameters = super()._get_parameters(group, loss)
        sub_managers = self.get_policy_for_loss(group).actors[SUB_MANAGERS]
        frozen = {parameter.data_ptr() for parameter in sub_managers.parameters()}
        kept = [parameter for parameter in parameters["loss_objective"] if parameter.data_ptr() not in frozen]
        assert len(kept) == len(parameters["loss_objective"]) - len(frozen)
        return {**parameters, "loss_objective": kept}


class FlippedReward(RewardScheme):
    """The reward of the sub-managers is the opposite of what it should be."""

    def _step_reward(self, level: int, intrinsic: Tensor | None, trajectories: Trajectories) -> Tensor:
        reward = super()._step_reward(level, intrinsic, trajectories)
        return -reward if level == SUB_MANAGERS else reward


class WithFlippedReward(Himppo):
    """The reward of the sub-managers, and with it the intrinsic reward of the workers, is the opposite."""

    def _get_reward_scheme(self, hierarchy: Hierarchy) -> RewardScheme:
        right = super()._get_reward_scheme(hierarchy)
        return FlippedReward(**{field.name: getattr(right, field.name) for field in fields(right)})
