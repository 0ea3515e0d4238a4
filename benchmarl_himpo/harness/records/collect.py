"""Build the record of a finished run from its files: CSV logs, last checkpoint, ledger."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarl_himpo.environments.metrics import METRICS
from benchmarl_himpo.harness.communication import communication_of
from benchmarl_himpo.harness.evaluation.absolute_metric import AbsoluteMetric
from benchmarl_himpo.harness.records.ledger import Ledger, now
from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.records.spec import RunSpec
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.origin import read_origin
from benchmarl_himpo.harness.runs.run_logs import read_scalars
from benchmarl_himpo.host import benchmarl_files as host_files
from benchmarl_himpo.host.torchrl import NETWORK_PARAMETERS

LEVEL = re.compile(r"level_losses\.(\d+)\.")
"""Pattern of the names of a level's parameters in HiMPPO's loss."""


def collect_record(
    spec: RunSpec, run: Path, experiment: ResumableExperiment, metric: AbsoluteMetric | None, made_with: dict[str, Any]
) -> RunRecord:
    """Build the record of a finished run.

    Args:
        spec: the run.
        run: BenchMARL's output folder.
        experiment: the experiment of the run, trained or untrained.
        metric: the absolute metric, if measured.
        made_with: result of :func:`benchmarl_himpo.harness.records.provenance.provenance`.

    Returns:
        The record.
    """
    ledger = Ledger(spec.folder)
    events = ledger.events()
    started = [event for event in events if event["event"] == "started"]
    ended = [event for event in events if event["event"] == "trained"]
    fingerprints = [event["fingerprint"] for event in ledger.starts() if event.get("fingerprint")]
    of_iteration = {gradient_steps_of_iteration(experiment)}
    of_iteration |= {event["gradient_steps"] for event in started if "gradient_steps" in event}
    is_known = bool(started) and events[0]["event"] != "unrecorded"
    seconds, evaluation_seconds = _seconds(run)
    frames = {i: int(value) for i, value in read_scalars(run, host_files.FRAMES).items()}
    n_iterations = max(frames, default=-1) + 1  # the first may not have been logged
    iteration_at = {n_frames: i for i, n_frames in frames.items()}
    seconds_at = dict(zip(frames.values(), (seconds[i] for i in frames), strict=True))
    collection_return = read_scalars(run, host_files.COLLECTION_RETURN)
    evaluations = _evaluations(run)
    origin = read_origin(run)
    return RunRecord(
        id=spec.id,
        variant=spec.variant,
        algorithm=spec.choice("algorithm"),
        task=spec.choice("task"),
        model=spec.choice("model"),
        task_label=spec.task_label,
        seed=spec.seed,
        group_sizes={group: len(agents) for group, agents in experiment.group_map.items()},
        config=spec.config,
        config_hash=spec.config_hash,
        fingerprint="+".join(dict.fromkeys(fingerprints)) or None,
        frames=list(frames.values()),
        seconds=list(seconds_at.values()),
        collection_return=[_finite(collection_return.get(i)) for i in frames],
        evaluation_frames=list(evaluations),
        evaluation_seconds=[seconds_at.get(n_frames) for n_frames in evaluations],  # None: of an origin without logs
        evaluation_returns=list(evaluations.values()),
        absolute_metric=None if metric is None else _describe(metric),
        parameters=_count_parameters(experiment),
        timers={
            "collection": sum(read_scalars(run, host_files.COLLECTION_TIME).values()),
            "training": sum(read_scalars(run, host_files.TRAINING_TIME).values()),
            "evaluation": evaluation_seconds,
        },
        peak_memory=_largest([event["peak_memory"] for event in ended]) if is_known else None,
        gradient_steps=n_iterations * of_iteration.pop() if is_known and len(of_iteration) == 1 else None,
        resumed=any(event["frames"] for event in started) if started else None,
        attempts=len(started) if is_known else None,
        provenance={
            **made_with,
            "started": started[0]["time"] if is_known else None,
            "ended": ended[-1]["time"] if ended else now() if started else None,
        },
        evaluation_metrics=_mean_metrics(run, experiment.group_map, [iteration_at.get(n) for n in evaluations]),
        communication=communication_of(experiment),
        origin={} if origin is None else asdict(origin),
    )


def _largest(sizes: list[int | None]) -> int | None:
    """The largest size; None if one is unknown."""
    known = [size for size in sizes if size is not None]
    return max(known, default=None) if len(known) == len(sizes) else None


def _seconds(run: Path) -> tuple[dict[int, float], float]:
    """Wall-clock of collection and training up to each iteration, and total wall-clock of evaluations."""
    collection, training = (
        read_scalars(run, metric) for metric in (host_files.COLLECTION_TIME, host_files.TRAINING_TIME)
    )
    total = accumulate(collection[i] + training[i] for i in collection)
    return dict(zip(collection, total, strict=True)), sum(read_scalars(run, host_files.EVALUATION_TIME).values())


def _evaluations(run: Path) -> dict[int, list[float]]:
    """Returns of the episodes of each evaluation, by collected frames."""
    file = host_files.json_file(run)
    if not file.is_file():  # BenchMARL's writer begins it with the first evaluation
        return {}
    return host_files.evaluations_in(host_files.read_run_json(file)[1])


def _mean_metrics(run: Path, groups: Iterable[str], evaluations: Sequence[int | None]) -> dict[str, list[float | None]]:
    """Means of the logged metrics over the groups that have them, at each evaluation; None where none was logged.

    ``evaluations``: iteration of each evaluation; None: of an origin without logs.
    """
    means = {}
    for name in METRICS:
        of_groups = [read_scalars(run, f"eval/{group}/{name}") for group in groups]
        known = [[values[i] for values in of_groups if i in values] for i in evaluations]
        if any(known):
            means[name] = [sum(values) / len(values) if values else None for values in known]
    return means


def _describe(metric: AbsoluteMetric) -> dict[str, Any]:
    described = {"frames": metric.frames, "seed": metric.seed, "returns": metric.returns.per_agent.tolist()}
    metrics = {name: float(values.mean()) for name, values in metric.returns.metrics.items()}
    return {**described, "metrics": metrics} if metrics else described


def _count_parameters(experiment: ResumableExperiment) -> dict[str, int]:
    """Count the parameters that are trained, by ``<group>/<loss>/<network or level>``."""
    counts: dict[str, int] = {}
    for group, optimizers in experiment.optimizers.items():
        loss_of = {
            id(parameter): loss
            for loss, optimizer in optimizers.items()
            for param_group in optimizer.param_groups
            for parameter in param_group["params"]
        }
        for name, parameter in experiment.losses[group].named_parameters():
            if id(parameter) not in loss_of:
                continue  # no optimiser has it
            level = LEVEL.match(name)
            part = f"level_{level[1]}" if level else name.partition(NETWORK_PARAMETERS)[0]
            key = f"{group}/{loss_of[id(parameter)]}/{part}"
            counts[key] = counts.get(key, 0) + parameter.numel()
    return counts


def gradient_steps_of_iteration(experiment: ResumableExperiment) -> int:
    """Count the minibatches of all agent groups that an iteration trains on."""
    config, on_policy = experiment.config, experiment.on_policy
    n_minibatches = math.ceil(config.train_batch_size(on_policy) / config.train_minibatch_size(on_policy))
    return int(config.n_optimizer_steps(on_policy) * n_minibatches * len(experiment.train_group_map))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
