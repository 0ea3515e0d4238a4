"""A published comparison: its question, its runs, and the tuning of its methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from benchmarl_himpo.harness.composition import compose
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
