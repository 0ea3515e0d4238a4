"""One example of every exchangeable part by its name, built as the algorithm builds it: generic tests run over these.

A part that is registered without fields of its own is tested at once; another one needs a line in ``OWN_FIELDS``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarl_himpo.hierarchy import (
    FullNeighbours,
    KMeansClustering,
    build_part,
    clustering_registry,
    goal_registry,
    memory_registry,
    neighbours_registry,
)
from benchmarl_himpo.objectives import credit_registry

Part = TypeVar("Part")

ARENA = (-1.0, 1.0)
GOAL_DIM = 3
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "regions": {"arena": list(ARENA)},
    "kmeans": {"position_noise": 0.0},
    "radius": {"radius": 1.0},
    "knn": {"k": 1},
    "normal": {"init_scale": 0.5},
    "cosine": {"weight": 0.5},
    "window": {"decisions": 2},
    "gru": {"decisions": 2, "size": 4},
}


def _examples(option: str, registry: Mapping[str, type[Part]], **given: Any) -> dict[str, Part]:
    return {
        name: build_part(option, {"name": name, **OWN_FIELDS.get(name, {})}, registry, **given) for name in registry
    }


CLUSTERINGS = _examples("clustering", clustering_registry)
NEIGHBOURS = _examples("neighbours", neighbours_registry)
GOALS = _examples("goal", goal_registry, dim=GOAL_DIM)
MEMORIES = _examples("memory", memory_registry)
CREDITS = _examples("credit", credit_registry)
SHARING_CREDITS = {name: rule for name, rule in CREDITS.items() if not rule.reads_encodings}
"""The rules whose intrinsic rewards sum to the advantage of the interval."""


@dataclass(frozen=True)
class CountedClustering(KMeansClustering):
    """Keeps the shape ``[*B, n_agents]`` of every call."""

    calls: list[torch.Size] = field(default_factory=list, compare=False)

    def __call__(self, position: Tensor, alive: Tensor, centroids: Tensor, is_fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Note the call and cluster."""
        self.calls.append(alive.shape)
        return super().__call__(position, alive, centroids, is_fresh)


@dataclass(frozen=True)
class CountedNeighbours(FullNeighbours):
    """Keeps the shape ``[*B, n]`` of every call."""

    calls: list[torch.Size] = field(default_factory=list, compare=False)

    def __call__(self, position: Tensor, alive: Tensor, edges: Tensor | None = None) -> Tensor:
        """Note the call and connect."""
        self.calls.append(alive.shape)
        return super().__call__(position, alive, edges)
