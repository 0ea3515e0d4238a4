"""The networks: one actor and one critic per level, and the policy that steps the whole hierarchy."""

from benchmarl_himpo.models.group_inputs import GroupInputs, PositionSource
from benchmarl_himpo.models.hierarchical_policy import HierarchicalPolicy
from benchmarl_himpo.models.level_models import LevelModels
from benchmarl_himpo.models.level_network import HierarchyReader, LevelNetwork
from benchmarl_himpo.models.message_passing import DenseGraphConv, MessagePassing, PygGraphConv

__all__ = [
    "DenseGraphConv",
    "GroupInputs",
    "HierarchicalPolicy",
    "HierarchyReader",
    "LevelModels",
    "LevelNetwork",
    "MessagePassing",
    "PositionSource",
    "PygGraphConv",
]
