"""A published comparison: its question, its runs, and the tuning of its methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.labels import split_label
from benchmarl_himpo.harness.sweeps.expansion import expand, make_specs

RunLabel = tuple[str, str, int]
"""Label of a run's task, label of its variant, and its seed."""


@dataclass(frozen=True)
class Protocol:
    """A comparison of ``conf/protocol``.

    Args:
        name: name of the file, without ``.yaml``.
        question: question of the comparison.
        tuning: by algorithm, the settings tried in tuning.
        tuned: by algorithm, the tuned values that differ from the algorithm's own.
        runs: runs of the comparison.
    """

    name: str
    question: str
    tuning: dict[str, str]
    tuned: dict[str, dict[str, object]]
    runs: frozenset[RunLabel]


def load_protocol(name: str) -> Protocol:
    """Read a comparison of ``conf/protocol`` by its name; takes about a second for each of its methods.

    Raises:
        SweepError: if there is no such file, or its runs cannot be composed.
    """
    specs = make_specs(expand([f"protocol={name}"]), Path(), fingerprint=None, are_to_run=False)
    content = OmegaConf.to_container(compose([f"protocol={name}"]).protocol, resolve=True)
    assert isinstance(content, dict)
    return Protocol(
        name=name,
        question=content["question"],
        tuning=content["tuning"],
        tuned=content.get("tuned", {}),
        runs=frozenset((spec.task_label, spec.variant, spec.seed) for spec in specs),
    )


def name_by_algorithm(protocols: Iterable[Protocol]) -> dict[tuple[str, str], str]:
    """Name methods after their algorithms, whatever each comparison sets for them.

    If tuned values differ, an algorithm has one variant with discrete actions and another one with continuous actions;
    in a comparison over the tasks of both it is one method.

    Args:
        protocols: the comparisons.

    Returns:
        The algorithm by the labels of task and variant, where the task's comparison has no other variant of it.
    """
    names: dict[tuple[str, str], str] = {}
    for protocol in protocols:
        algorithms = {(task, variant): split_label(variant)[0] for task, variant, _ in protocol.runs}
        n_variants = Counter((task, algorithm) for (task, _), algorithm in algorithms.items())
        names |= {(task, variant): a for (task, variant), a in algorithms.items() if n_variants[task, a] == 1}
    return names
