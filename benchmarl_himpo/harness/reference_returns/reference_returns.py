"""Reference returns of tasks, by which scores are normalised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from omegaconf import OmegaConf

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.environments.metrics import METRICS
from benchmarl_himpo.harness.records.labels import join_label, option_of, split_label
from benchmarl_himpo.harness.runs.experiment_options import OF_RUNS

ACTIONS = "prefer_continuous_actions"
"""Difference in a label for the kind of actions, part of the task if it supports both kinds."""

NOT_PLAYED = OF_RUNS | {"accelerated"}
"""Options in the label of a task that do not affect its episodes."""


@dataclass(frozen=True)
class ReferenceReturns:
    """Reference returns per agent of a task."""

    random: float  # of the random policy, uniform over the allowed actions
    scripts: dict[str, float] = field(default_factory=dict)  # of heuristic policies, by name
    upper_bound: float | None = None  # of any policy
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # by metric and policy

    def __post_init__(self) -> None:
        if not self.scripts and self.upper_bound is None:
            raise ValueError(
                "reference returns need a scripted policy or an upper bound, which a score of 1 stands for"
            )

    @property
    def scripted(self) -> float | None:
        """The return of the best heuristic policy; None if there is none."""
        return max(self.scripts.values(), default=None)

    @property
    def reference(self) -> float:
        """The return with a score of 1: of the best heuristic policy, or the upper bound if there is none."""
        return cast("float", self.upper_bound if self.scripted is None else self.scripted)

    def normalise(self, returns: np.ndarray) -> np.ndarray:
        """Normalised scores of returns per agent: 0 for the random policy, 1 for the reference. Same shape."""
        return (returns - self.random) / (self.reference - self.random)


@dataclass(frozen=True)
class ReferenceTable:
    """The reference returns of all tasks that have some."""

    version: int
    digest: str  # SHA-256 of the file, hex
    tasks: dict[str, ReferenceReturns]  # by task label

    def of(self, task_label: str, actions: str | None = None) -> ReferenceReturns | None:
        """Reference returns of a label such as ``vmas/sampling[max_n_frames=960000; n_agents=7]``, if any.

        Differences in the length of runs and in evaluations are ignored.

        Args:
            task_label: the label.
            actions: kind of actions, ``continuous`` or ``discrete``, which matters if it has separate reference
                returns; None: the one of the label.
        """
        task, differences = split_label(task_label)
        played = [difference for difference in differences if option_of(difference) not in NOT_PLAYED]
        either = [difference for difference in played if option_of(difference) != ACTIONS]
        if actions is not None:
            played = [*either, *([f"{ACTIONS}=false"] if actions == "discrete" else [])]
        return self.tasks.get(join_label(task, played), self.tasks.get(join_label(task, either)))


def load_reference_returns() -> ReferenceTable:
    """Read ``conf/reference_returns.yaml``."""
    file = CONF_DIR / "reference_returns.yaml"
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    tasks = {}
    for label, values in content["tasks"].items():
        metrics = {name: values.pop(name) for name in METRICS if name in values}
        tasks[str(label)] = ReferenceReturns(**values, metrics=metrics)
    return ReferenceTable(content["version"], hashlib.sha256(file.read_bytes()).hexdigest(), tasks)
