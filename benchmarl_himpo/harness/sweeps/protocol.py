"""A published comparison: what it asks, which runs answer it, and what was tried for its methods before."""

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
        name: its file, without ``.yaml``.
        question: what it is to answer.
        tuning: by algorithm, settings that were tried for it before.
        tuned: by algorithm, the values that this found better than the algorithm's own.
        runs: the runs that it consists of.
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
