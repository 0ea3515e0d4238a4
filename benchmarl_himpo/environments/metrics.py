"""Metrics of an episode besides its return, such as the lifetime of agents or whether a battle was won."""

from __future__ import annotations

from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor


class Metric(NamedTuple):
    """One number per agent and episode: the final value of an entry of the group."""

    entry: str  # of the group. Shape [*B, n_agents]
    heading: str  # heading in tables of the mean over agents and episodes, with its unit


METRICS: dict[str, Metric] = {
    "life_mean": Metric("life", "mean life of an agent, env steps"),
    "win_rate": Metric("won", "win rate"),
    "waiting_mean": Metric("waiting", "vehicles that wait at a signal, mean over an episode"),
}
"""Every metric by its name in logs, records and results; an environment has the metrics whose entries it emits."""


def find_metrics(td: TensorDictBase, group: str) -> dict[str, Tensor]:
    """Return the metric entries in a step of a group, by name of the metric."""
    found = {name: td.get(("next", group, metric.entry), None) for name, metric in METRICS.items()}
    return {name: entry.double() for name, entry in found.items() if entry is not None}


def heading_of(name: str) -> str:
    """Table heading of a metric: its registered heading, or its name for a metric of a plug-in."""
    return METRICS[name].heading if name in METRICS else name
