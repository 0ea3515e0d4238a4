"""The main command: train one algorithm on one task.

    python -m benchmarl_himpo.run algorithm=himppo task=vmas/sampling experiment=quick seed=1

Every algorithm, task and model of BenchMARL composes here too. README.md shows how to override.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from benchmarl_himpo.benchmark.run_one import run_composed
from benchmarl_himpo.callbacks import SummaryCallback
from benchmarl_himpo.command_line import exit_on_interrupt
from benchmarl_himpo.config import CONF_DIR, HYDRA_VERSION_BASE
from benchmarl_himpo.evaluation.absolute_metric import AbsoluteMetric, measure_absolute_metric
from benchmarl_himpo.registration import register
from benchmarl_himpo.runs import ResumableExperiment
from benchmarl_himpo.runs.training import CommandError, describe_simulation, load_experiment, train

__all__ = ["RESUMABLE", "CommandError", "load_experiment", "main", "train", "train_and_summarise"]

RESUMABLE = (
    "Interrupted: what was logged is in the folder of the run, and python -m benchmarl_himpo.resume continues it from "
    "its last checkpoint, if it has one yet (experiment.checkpoint_interval)."
)


def describe_resume(experiment: ResumableExperiment) -> str:
    """Say whether a run went on from a checkpoint, and how.

    Args:
        experiment: the experiment.

    Returns:
        A few words.
    """
    if not experiment.resumed:
        return "false"
    if experiment.resumed_exactly:
        return "true, as if it had not been interrupted"
    if experiment.resumed_with_changes:
        return "true, with changed options"
    if experiment.resumed_without_buffers:
        return "true, with empty replay buffers (experiment.exclude_buffer_from_checkpoint=true)"
    return "true, with environments that began new episodes"


def describe_metric(metric: AbsoluteMetric) -> str:
    """Say what the absolute metric is, and of which policy.

    Args:
        metric: the metric.

    Returns:
        A few words.
    """
    n_episodes = len(metric.returns.per_agent)
    return f"{metric.mean:.3f} (mean over {n_episodes} fresh episodes of the best policy, of {metric.frames:,} frames)"


def summarise(experiment: ResumableExperiment, wall_time: float, metric: AbsoluteMetric | None = None) -> str:
    """Describe a finished run in a few aligned lines.

    Args:
        experiment: the finished experiment.
        wall_time: seconds the run took, all included.
        metric: the absolute metric, where it was measured.

    Returns:
        The text, without a newline at the end.
    """
    evaluations = [
        callback.evaluation_return
        for callback in experiment.callbacks
        if isinstance(callback, SummaryCallback) and callback.evaluation_return is not None
    ]
    task = f"{experiment.environment_name}/{experiment.task_name}"
    speed = experiment.total_frames / max(experiment.total_time, 1e-9)
    lines = {
        "run": f"{experiment.algorithm_name} on {task}, seed {experiment.seed}",
        "simulation": describe_simulation(experiment.task),
        "return, training": f"{experiment.mean_return:.3f} (mean over the last batch)",
        "return, evaluation": f"{evaluations[-1]:.3f} (mean over the last evaluation)"
        if evaluations
        else "none (no evaluation took place)",
        **({} if metric is None else {"absolute metric": describe_metric(metric)}),
        "resumed": describe_resume(experiment),
        "frames": f"{experiment.total_frames:,} at {speed:,.0f} per second",
        "wall time": f"{wall_time:.0f} s",
        "results": str(experiment.folder_name),
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def train_and_summarise(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Run an experiment to its end, measure what its config asks for, and print what came out.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.

    Raises:
        CommandError: with one sentence, where a request cannot be met or a run has to stop.
        KeyboardInterrupt: after Ctrl-C.
    """
    started = time.perf_counter()
    experiment = train(cfg, choices)
    metric = measure_absolute_metric(Path(experiment.folder_name), cfg, choices)
    print(f"\n{summarise(experiment, time.perf_counter() - started, metric)}")


@hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(CONF_DIR), config_name="config")
def _run_from_hydra(cfg: DictConfig) -> None:
    """Run one experiment, one job of a ``--multirun``.

    Args:
        cfg: the composed config.
    """
    register()  # a job may run in a process of its own
    job = HydraConfig.get()
    choices = job.runtime.choices
    if cfg.sweep_folder is None:
        train_and_summarise(cfg, choices)
    else:
        run_composed(cfg, choices, list(job.overrides.task))


def main() -> None:
    """Run the command."""
    register()
    with exit_on_interrupt(RESUMABLE):
        _run_from_hydra()


if __name__ == "__main__":
    main()
