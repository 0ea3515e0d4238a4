"""Reference returns of tasks, between which scores are normalised."""

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
"""What a label says of the kind of actions: part of the task where it has both kinds."""

NOT_PLAYED = OF_RUNS | {"accelerated"}
"""Options that the label of a task may name and that change nothing in what is played."""


@dataclass(frozen=True)
class ReferenceReturns:
    """Returns per agent of a task that a policy can be held against."""

    random: float  # of the random policy, uniform over the actions that may be taken
    scripts: dict[str, float] = field(default_factory=dict)  # of scripted policies, by name
    upper_bound: float | None = None  # no policy has a higher one
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # metric, policy: what is told beside the return

    def __post_init__(self) -> None:
        if not self.scripts and self.upper_bound is None:
            raise ValueError(
                "reference returns need a scripted policy or an upper bound, which a score of 1 stands for"
            )

    @property
    def scripted(self) -> float | None:
        """The return of the best scripted policy; None: there is none."""
        return max(self.scripts.values(), default=None)

    @property
    def reference(self) -> float:
        """What a score of 1 stands for: the best scripted policy, or the upper bound where there is none."""
        return cast("float", self.upper_bound if self.scripted is None else self.scripted)

    def normalise(self, returns: np.ndarray) -> np.ndarray:
        """Give the scores of returns per agent: 0 at random, 1 at the reference. Same shape."""
        return (returns - self.random) / (self.reference - self.random)


@dataclass(frozen=True)
class ReferenceTable:
    """The reference returns of all tasks that have some."""

    version: int
    digest: str  # SHA-256 of the file, hex
    tasks: dict[str, ReferenceReturns]  # by task label

    def of(self, task_label: str) -> ReferenceReturns | None:
        """Give the reference returns of a label such as ``vmas/sampling[max_n_frames=960000; n_agents=7]``, if any.

        What a label says of the length of runs and of evaluations changes none; the kind of actions does where it has
        reference returns of its own.
        """
        task, differences = split_label(task_label)
        played = [difference for difference in differences if option_of(difference) not in NOT_PLAYED]
        either = [difference for difference in played if option_of(difference) != ACTIONS]
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
