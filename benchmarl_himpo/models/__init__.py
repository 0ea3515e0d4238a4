"""Networks: one actor and one critic per level, and the policy that runs all levels."""

from benchmarl_himpo.models.hierarchical_policy import HierarchicalPolicy
from benchmarl_himpo.models.level_network import LevelNetwork
from benchmarl_himpo.models.message_passing import DenseGraphConv, MessagePassing, PygGraphConv
from benchmarl_himpo.models.networks import HimppoNetworks

__all__ = [
    "DenseGraphConv",
    "HierarchicalPolicy",
    "HimppoNetworks",
    "LevelNetwork",
    "MessagePassing",
    "PygGraphConv",
]
