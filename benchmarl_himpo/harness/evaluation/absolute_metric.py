"""The absolute metric: fresh episodes of the policy of the best evaluation.

As in "Towards a Standardised Performance Evaluation Protocol for Cooperative MARL", Gorsane et al., 2022
(https://arxiv.org/abs/2209.10485). BenchMARL's entry of that name is the best single episode of all evaluations, which
is biased upwards; a run that measures the absolute metric replaces that entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from benchmarl_himpo.harness.evaluation.episodes import Returns, load_policy, play
from benchmarl_himpo.harness.output import OutputError, write_whole
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.best_policy import STATE_KEY
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint, read_checkpoint
from benchmarl_himpo.host.benchmarl_files import checkpoint_folder, json_file, read_run_json

SEED_OFFSET = 2_000_000
"""Offset from a run's seed to the seed of its fresh episodes, which no training has used."""


@dataclass(frozen=True)
class AbsoluteMetric:
    """Fresh episodes of the best evaluated policy."""

    frames: int  # training frames of the policy
    seed: int  # of the episodes
    returns: Returns

    @property
    def mean(self) -> float:
        """Mean return per agent."""
        return float(self.returns.per_agent.mean())


def measure_absolute_metric(run: Path, cfg: DictConfig, choices: Mapping[str, str]) -> AbsoluteMetric | None:
    """Run fresh episodes of the best policy of a finished run, and write them into the run's JSON file.

    The result is reproducible; None if the run is configured without.

    Raises:
        CheckpointError: if no checkpoint holds the best policy.
        OutputError: if the file cannot be written.
    """
    if cfg.absolute_metric_episodes == 0:
        return None
    best = read_checkpoint(newest_checkpoint(checkpoint_folder(run)), map_location="cpu").get(STATE_KEY)
    if best is None:
        raise CheckpointError(f"{run} has no evaluated policy: its checkpoint was written before the first evaluation")
    experiment = load_policy(cfg, choices, cfg.absolute_metric_episodes, best["policy"])
    seed = cfg.seed + SEED_OFFSET
    metric = AbsoluteMetric(best["frames"], seed, play(experiment, seed))
    experiment.close()
    file = json_file(run)
    try:
        _replace_in_json(file, metric.returns)
    except OSError as error:
        raise OutputError(
            f"the absolute metric, {metric.mean:.3f}, could not be written to {file} ({error}): "
            f"python -m benchmarl_himpo.resume {run} measures it again"
        ) from error
    return metric


def _replace_in_json(file: Path, returns: Returns) -> None:
    """Replace the best episodes in BenchMARL's JSON file, which exists unless experiment.create_json=false."""
    if not file.is_file():
        return
    content, data = read_run_json(file)
    groups = {f"{group}_return": values.mean(-1).tolist() for group, values in returns.per_group.items()}
    data["absolute_metrics"] = {**groups, "return": returns.per_agent.tolist()}
    write_whole(file, json.dumps(content, indent=4))
