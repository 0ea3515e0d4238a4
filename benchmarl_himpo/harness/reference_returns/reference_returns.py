"""Anchors of tasks: fixed returns that scores are measured between."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from omegaconf import OmegaConf

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.records.labels import join_label, option_of, split_label
from benchmarl_himpo.harness.runs.experiment_options import OF_RUNS

ANCHORS_FILE = "anchors.yaml"

ACTIONS = "prefer_continuous_actions"
"""What a label says of the kind of actions: part of the task where it has both kinds."""

NOT_PLAYED = OF_RUNS | {"accelerated"}
"""Options that the label of a task may name and that change nothing in what is played."""


@dataclass(frozen=True)
class Anchors:
    """Returns per agent of a task that a policy can be held against."""

    random: float  # of uniform actions, those that may be taken
    scripts: dict[str, float] = field(default_factory=dict)  # of scripts that do not learn, by name
    upper_bound: float | None = None  # no policy earns more
    lives: dict[str, float] = field(default_factory=dict)  # mean life of an agent by policy, in env steps, where known

    def __post_init__(self) -> None:
        if not self.scripts and self.upper_bound is None:
            raise ValueError("anchors need a script or an upper bound, which a score of 1 stands for")

    @property
    def scripted(self) -> float | None:
        """What the best script earns; None: there is no script."""
        return max(self.scripts.values(), default=None)

    @property
    def reference(self) -> float:
        """What a score of 1 stands for: the best script, or the upper bound where there is no script."""
        return cast("float", self.upper_bound if self.scripted is None else self.scripted)

    def normalise(self, returns: np.ndarray) -> np.ndarray:
        """Give the scores of returns per agent: 0 at random, 1 at the reference. Same shape."""
        return (returns - self.random) / (self.reference - self.random)


@dataclass(frozen=True)
class AnchorTable:
    """The anchors of all tasks that have some."""

    version: int
    digest: str  # SHA-256 of the file, hex
    tasks: dict[str, Anchors]  # by task label

    def of(self, task_label: str) -> Anchors | None:
        """Give the anchors of a task; what a label says of the length of runs and of evaluations changes none.

        The kind of actions does where there are anchors of its own.

        Args:
            task_label: such as ``vmas/sampling[max_n_frames=960000; n_agents=7]``.

        Returns:
            The anchors; None: nobody measured any.
        """
        task, differences = split_label(task_label)
        played = [difference for difference in differences if option_of(difference) not in NOT_PLAYED]
        either = [difference for difference in played if option_of(difference) != ACTIONS]
        return self.tasks.get(join_label(task, played), self.tasks.get(join_label(task, either)))


def load_anchors() -> AnchorTable:
    """Read ``conf/anchors.yaml``."""
    file = CONF_DIR / ANCHORS_FILE
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    tasks = {str(label): Anchors(**values) for label, values in content["tasks"].items()}
    return AnchorTable(content["version"], hashlib.sha256(file.read_bytes()).hexdigest(), tasks)
