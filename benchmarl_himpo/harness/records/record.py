"""The record of a finished run: one small JSON file for reports, gates and people.

A record contains configuration, results and provenance, without paths or host names, so that it can be committed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarl_himpo.harness.output import write_whole

FORMAT = 1
"""Version of the files: raised when a key changes its meaning."""

LAST_ITERATIONS = 5
"""Iterations at the end of a run whose collection return is averaged."""

RECORD_FILE = "record.json"
"""Name of the record in the folder of a run of a sweep."""

RUN_RECORD_FILE = "record.jsonl"
"""Name of the record in BenchMARL's output folder, for a run outside a sweep. Not ``.json``, because BenchMARL's reader
of a multirun treats every ``.json`` as results in marl-eval's format."""


class RecordError(ValueError):
    """A file is not a record of a run, or a record is inconsistent; the message gives the reason."""


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    Returns are undiscounted, per episode, and averaged over agents, then groups: BenchMARL's ``episode_reward``.

    Args:
        id: see :func:`benchmarl_himpo.harness.records.spec.run_id`; for a run outside a sweep the name of its folder.
        variant: label in reports, unique per configuration within a task: the algorithm's choice, with the overrides
            that differ from its plain configuration in brackets.
        algorithm: choice of Hydra's group, such as ``himppo``.
        task: choice of Hydra's group, such as ``vmas/sampling``.
        model: choice of Hydra's group, such as ``layers/mlp``.
        task_label: the task with its overrides in brackets, such as ``vmas/sampling[n_agents=7]``.
        seed: seed of the run.
        group_sizes: number of agents by group.
        config: the resolved configuration, without paths; empty for a run that has only BenchMARL's JSON.
        config_hash: SHA-256 of the canonical JSON of ``config`` without its seed, hex.
        fingerprint: numerics fingerprint, hex, see :mod:`benchmarl_himpo.harness.records.fingerprint`; joined by ``+``
            if attempts had different ones; None: unknown.
        frames: frames collected at the end of each logged iteration.
        seconds: wall-clock of collection and training up to there, evaluations excluded.
        collection_return: mean return of the episodes that ended in each iteration; None if none ended.
        evaluation_frames: frames collected at each evaluation.
        evaluation_seconds: wall-clock of collection and training up to there; None: not known.
        evaluation_returns: return of each episode of each evaluation.
        absolute_metric: ``frames`` of the best evaluated policy, the ``seed`` of its fresh episodes, their
            ``returns`` and the means of their ``metrics``, see
            :data:`benchmarl_himpo.environments.metrics.METRICS`; None: not measured.
        parameters: number of parameters by ``<group>/<loss>/<network or level>``.
        timers: seconds of ``collection``, ``training`` and ``evaluation``.
        peak_memory: resident memory, in bytes; None: unknown, for example if an earlier job of the process needed more.
        gradient_steps: number of optimiser steps; None: not known.
        resumed: whether the run was continued from a checkpoint; None: not known.
        attempts: number of starts; None: unknown.
        provenance: versions, commit, processor, threads, start and end; unknown values are None or missing.
        evaluation_metrics: mean of each metric of the environment at each evaluation, by name; None: not known.
        communication: maximal ``messages`` and ``bytes`` per agent and env step at execution, see
            :func:`benchmarl_himpo.harness.communication.communication_of`; empty: unknown.
        origin: the checkpoint of another run from which the run started, as in
            :class:`benchmarl_himpo.harness.runs.run_config.Origin`; empty: none.
    """

    id: str
    variant: str
    algorithm: str
    task: str
    model: str
    task_label: str
    seed: int
    group_sizes: dict[str, int]
    config: dict[str, Any]
    config_hash: str
    fingerprint: str | None
    frames: list[int]
    seconds: list[float]
    collection_return: list[float | None]
    evaluation_frames: list[int]
    evaluation_seconds: list[float | None]
    evaluation_returns: list[list[float]]
    absolute_metric: dict[str, Any] | None
    parameters: dict[str, int]
    timers: dict[str, float]
    peak_memory: int | None
    gradient_steps: int | None
    resumed: bool | None
    attempts: int | None
    provenance: dict[str, Any]
    evaluation_metrics: dict[str, list[float | None]] = field(default_factory=dict)
    communication: dict[str, float] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        series: dict[str, tuple[Sized, ...]] = {
            "frames, seconds and collection_return": (self.frames, self.seconds, self.collection_return),
            "evaluation_frames, evaluation_seconds and evaluation_returns": (
                self.evaluation_frames,
                self.evaluation_seconds,
                self.evaluation_returns,
            ),
        }
        for names, values in series.items():
            if len({len(value) for value in values}) > 1:
                raise RecordError(f"{self.id}: {names} must be as many, got {', '.join(str(len(v)) for v in values)}")
        for name, means in self.evaluation_metrics.items():
            if len(means) != len(self.evaluation_returns):
                raise RecordError(f"{self.id}: {name} of evaluation_metrics must be as many as evaluation_returns")
        if not all(self.evaluation_returns):
            raise RecordError(f"{self.id}: an evaluation has no episodes")
        if self.absolute_metric is not None and not self.absolute_metric.get("returns"):
            raise RecordError(f"{self.id}: the absolute metric has no episodes")

    @property
    def n_agents(self) -> int:
        """Number of agents of all groups; 0: not known."""
        return sum(self.group_sizes.values())

    @property
    def n_frames(self) -> int:
        """Total frames; for a run with evaluations only, the frames up to the last one."""
        return next((counts[-1] for counts in (self.frames, self.evaluation_frames) if counts), 0)

    @property
    def last_collection(self) -> float | None:
        """Mean return of the last iterations in which episodes ended, per agent, with sampled actions and goals."""
        returns = [value for value in self.collection_return if value is not None][-LAST_ITERATIONS:]
        return mean(returns) if returns else None

    @property
    def last_evaluation(self) -> float | None:
        """Mean return of the episodes of the last evaluation, per agent."""
        return mean(self.evaluation_returns[-1]) if self.evaluation_returns else None

    @property
    def best_evaluated(self) -> float | None:
        """Mean return of the episodes of the absolute metric, per agent; None: not measured."""
        return None if self.absolute_metric is None else mean(self.absolute_metric["returns"])

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the episodes of the absolute metric, else over those of the last evaluation, by name."""
        if self.absolute_metric is not None:
            return dict(self.absolute_metric.get("metrics", {}))
        last = {name: means[-1] for name, means in self.evaluation_metrics.items() if means}
        return {name: value for name, value in last.items() if value is not None}

    def save(self, path: Path) -> None:
        """Write the record atomically.

        Args:
            path: the file.

        Raises:
            RecordError: if a number is not finite, which JSON does not support.
            OSError: if the file cannot be written.
        """
        try:
            indent = None if path.suffix == ".jsonl" else 1
            text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, indent=indent, allow_nan=False)
        except ValueError as error:
            raise RecordError(f"{self.id} was not written: {error}") from error
        write_whole(path, f"{text}\n")


def mean(returns: Sequence[float]) -> float:
    """Average returns."""
    return sum(returns) / len(returns)


def load_record(path: Path) -> RunRecord:
    """Read a record.

    Args:
        path: the file.

    Returns:
        The record.

    Raises:
        RecordError: if the file is not a record, or has another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as a record of a run: {error}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise RecordError(f"{path} is no record of a run: it has no format")
    if content.pop("format") != FORMAT:
        raise RecordError(f"{path} has another format than {FORMAT}: use the version of this package that wrote it")
    _name_metrics(content)
    try:
        return RunRecord(**content)
    except (TypeError, AttributeError) as error:  # which names the keys that are missing or unknown
        raise RecordError(f"{path} is no record of a run: {error}") from error


def _name_metrics(content: dict[str, Any]) -> None:
    """Convert the lifetimes of an older record to metrics."""
    lives, absolute = content.pop("evaluation_life", None), content.get("absolute_metric")
    if lives:
        content["evaluation_metrics"] = {"life_mean": lives}
    if isinstance(absolute, dict) and "life" in absolute:
        absolute["metrics"] = {"life_mean": absolute.pop("life")}
