"""What every level is paid with, and the loss that trains on it."""

from benchmarl_himpo.objectives.himppo_loss import HimppoLoss, LevelPPOLoss

__all__ = ["HimppoLoss", "LevelPPOLoss"]
