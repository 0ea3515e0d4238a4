"""The hierarchy itself: levels, clocks and the dynamic graph. Pure torch, no BenchMARL, no TorchRL.

Levels count from the bottom, here and everywhere in the package: 0 is the workers (the agents), 1 the sub-managers, 2
the manager of the paper's three-level hierarchy. "Up" means a larger level.
"""

from benchmarl_himpo.hierarchy.assignment import (
    Assignment,
    KMeansAssignment,
    RegionsAssignment,
    StaticAssignment,
    assignment_registry,
)
from benchmarl_himpo.hierarchy.hierarchy_graph import HierarchyGraph
from benchmarl_himpo.hierarchy.layout import HierarchyLayout
from benchmarl_himpo.hierarchy.neighbours import (
    FullNeighbours,
    KnnNeighbours,
    Neighbours,
    NoNeighbours,
    RadiusNeighbours,
    neighbours_registry,
)

__all__ = [
    "Assignment",
    "FullNeighbours",
    "HierarchyGraph",
    "HierarchyLayout",
    "KMeansAssignment",
    "KnnNeighbours",
    "Neighbours",
    "NoNeighbours",
    "RadiusNeighbours",
    "RegionsAssignment",
    "StaticAssignment",
    "assignment_registry",
    "neighbours_registry",
]
