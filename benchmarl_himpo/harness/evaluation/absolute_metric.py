"""The absolute metric: fresh episodes of the policy that did best in an evaluation.

As in "Towards a Standardised Performance Evaluation Protocol for Cooperative MARL", Gorsane et al., 2022
(https://arxiv.org/abs/2209.10485). BenchMARL's entry of that name is the best single episode of all evaluations, which
rewards luck; a run that measures this replaces it.
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
"""Added to the seed of a run for its fresh episodes: runs of one seed play the same, which no training has seen."""


@dataclass(frozen=True)
class AbsoluteMetric:
    """Fresh episodes of the best evaluated policy."""

    frames: int  # that the policy was trained for
    seed: int  # of the episodes
    returns: Returns

    @property
    def mean(self) -> float:
        """Mean return per agent."""
        return float(self.returns.per_agent.mean())


def measure_absolute_metric(run: Path, cfg: DictConfig, choices: Mapping[str, str]) -> AbsoluteMetric | None:
    """Play fresh episodes with the best policy of a finished run, and put them into the run's JSON file.

    The same numbers whenever it is done; None: the run was configured without.

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
    """Put the episodes where BenchMARL's writer has the best ones; without experiment.create_json there is no file."""
    if not file.is_file():
        return
    content, data = read_run_json(file)
    groups = {f"{group}_return": values.mean(-1).tolist() for group, values in returns.per_group.items()}
    data["absolute_metrics"] = {**groups, "return": returns.per_agent.tolist()}
    write_whole(file, json.dumps(content, indent=4))
