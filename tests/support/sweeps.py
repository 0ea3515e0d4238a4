"""Sweeps of a few seconds a run on sampling, whose episodes of 20 steps end with each batch."""

from __future__ import annotations

from pathlib import Path

from benchmarl_himpo.harness.records.record import RunRecord, load_record

FINGERPRINT = "0123456789abcdef"
N_FRAMES = 320

TINY = [
    "task=vmas/sampling",
    "task.max_steps=20",
    f"experiment.max_n_frames={N_FRAMES}",
    "experiment.on_policy_collected_frames_per_batch=80",
    "experiment.on_policy_n_envs_per_worker=4",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.on_policy_minibatch_size=30",
    "experiment.off_policy_collected_frames_per_batch=80",
    "experiment.off_policy_n_envs_per_worker=4",
    "experiment.off_policy_n_optimizer_steps=2",
    "experiment.off_policy_train_batch_size=8",
    "experiment.off_policy_memory_size=200",
    "experiment.evaluation_interval=160",
    "experiment.evaluation_episodes=2",
    "experiment.checkpoint_interval=80",
    *(f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")),
    "model.num_cells=[8]",
    "critic_model.num_cells=[8]",
    "absolute_metric_episodes=5",
]


def records(folder: Path) -> list[RunRecord]:
    """The records of a sweep, by id."""
    return [load_record(file) for file in sorted(folder.glob("*/record.json"))]


def results(record: RunRecord) -> dict[str, object]:
    """What a record says that does not depend on how fast it was or how often it was started."""
    names = ("id", "variant", "config", "frames", "collection_return", "evaluation_frames", "evaluation_returns")
    more = ("absolute_metric", "parameters", "gradient_steps")
    return {name: getattr(record, name) for name in (*names, *more)}
