"""Credit rules, advantages and losses of a hierarchy. TorchRL; BenchMARL is used only inside the networks."""

from benchmarl_himpo.objectives.credit import (
    Cosine,
    CreditRule,
    Final,
    IntervalData,
    Telescoped,
    Uniform,
    credit_registry,
)
from benchmarl_himpo.objectives.goal_gradient import GoalGradient
from benchmarl_himpo.objectives.hierarchical_gae import HierarchicalGAE
from benchmarl_himpo.objectives.himppo_loss import HimppoLoss
from benchmarl_himpo.objectives.interval_advantage import interval_advantage
from benchmarl_himpo.objectives.level_loss import LevelPPOLoss
from benchmarl_himpo.objectives.normalization import LevelNorm, RunningNorm
from benchmarl_himpo.objectives.reward_scheme import RewardScheme

__all__ = [
    "Cosine",
    "CreditRule",
    "Final",
    "GoalGradient",
    "HierarchicalGAE",
    "HimppoLoss",
    "IntervalData",
    "LevelNorm",
    "LevelPPOLoss",
    "RewardScheme",
    "RunningNorm",
    "Telescoped",
    "Uniform",
    "credit_registry",
    "interval_advantage",
]
