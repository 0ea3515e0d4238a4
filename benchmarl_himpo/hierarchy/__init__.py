"""The hierarchy: levels, clocks, the dynamic graph and the goal spaces. Independent of BenchMARL.

Levels count from the bottom, here and everywhere in the package: 0 is the workers (the agents), 1 the sub-managers, 2
the manager of the paper's three-level hierarchy. "Up" means a larger level.
"""

from benchmarl_himpo.hierarchy.clustering import (
    Clustering,
    KMeansClustering,
    RegionsClustering,
    StaticClustering,
    clustering_registry,
)
from benchmarl_himpo.hierarchy.goals import CategoricalGoal, GoalSpace, NormalGoal, goal_registry
from benchmarl_himpo.hierarchy.hierarchy import Hierarchy
from benchmarl_himpo.hierarchy.hierarchy_graph import HierarchyGraph
from benchmarl_himpo.hierarchy.interval_annealing import IntervalAnnealing
from benchmarl_himpo.hierarchy.layout import HierarchyLayout
from benchmarl_himpo.hierarchy.memory import GruMemory, Memory, WindowMemory, memory_registry
from benchmarl_himpo.hierarchy.neighbours import (
    EdgesNeighbours,
    FullNeighbours,
    KnnNeighbours,
    Neighbours,
    NoNeighbours,
    RadiusNeighbours,
    neighbours_registry,
)
from benchmarl_himpo.hierarchy.parts import build_part

__all__ = [
    "CategoricalGoal",
    "Clustering",
    "EdgesNeighbours",
    "FullNeighbours",
    "GoalSpace",
    "GruMemory",
    "Hierarchy",
    "HierarchyGraph",
    "HierarchyLayout",
    "IntervalAnnealing",
    "KMeansClustering",
    "KnnNeighbours",
    "Memory",
    "Neighbours",
    "NoNeighbours",
    "NormalGoal",
    "RadiusNeighbours",
    "RegionsClustering",
    "StaticClustering",
    "WindowMemory",
    "build_part",
    "clustering_registry",
    "goal_registry",
    "memory_registry",
    "neighbours_registry",
]
