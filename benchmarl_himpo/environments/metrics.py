"""What environments tell of an episode beside its return, such as how long agents lived or whether a battle was won."""

from __future__ import annotations

from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor


class Metric(NamedTuple):
    """One number per agent and episode: the value that an entry of the group has when the episode ends."""

    entry: str  # of the group. Shape [*B, n_agents]
    heading: str  # in tables: what the mean over agents and episodes is, with its unit


METRICS: dict[str, Metric] = {
    "life_mean": Metric("life", "mean life of an agent, env steps"),
    "win_rate": Metric("won", "win rate"),
    "waiting_mean": Metric("waiting", "vehicles that wait at a signal, mean over an episode"),
}
"""Every metric by its name in logs, records and results; an environment has those whose entries it emits."""


def find_metrics(td: TensorDictBase, group: str) -> dict[str, Tensor]:
    """Give the entries of the metrics that a step of a group's environment tells, by name."""
    found = {name: td.get(("next", group, metric.entry), None) for name, metric in METRICS.items()}
    return {name: entry.double() for name, entry in found.items() if entry is not None}


def heading_of(name: str) -> str:
    """Say in a table what a metric is; one that is not registered here, of a plug-in, says its name."""
    return METRICS[name].heading if name in METRICS else name
