"""The main command: train one algorithm on one task.

    python -m benchmarl_himpo.run algorithm=himppo task=vmas/sampling experiment=quick seed=1

Supports every algorithm, task and model of BenchMARL too. README.md shows how to override options.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.callbacks import SummaryCallback
from benchmarl_himpo.harness.checks import RequestError, describe_lack_of_record
from benchmarl_himpo.harness.command_line import exit_with_a_sentence
from benchmarl_himpo.harness.composition import HYDRA_VERSION_BASE
from benchmarl_himpo.harness.evaluation.absolute_metric import AbsoluteMetric
from benchmarl_himpo.harness.records.lifecycle import SingleRun
from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.interrupts import checkpoint_on_interrupt
from benchmarl_himpo.harness.runs.run_config import describe_changes, read_changes
from benchmarl_himpo.harness.runs.training import CommandError, describe_simulation, train
from benchmarl_himpo.harness.sweeps.objective import check_objective, maximise_by_default, objective_of
from benchmarl_himpo.harness.sweeps.run_one import run_composed
from benchmarl_himpo.registration import PluginError, register

RESUMABLE = (
    "Interrupted: python -m benchmarl_himpo.resume continues the run from its last checkpoint. A run that was stopped "
    "at once, before its first (experiment.checkpoint_interval), has none."
)


def describe_resume(experiment: ResumableExperiment) -> str:
    """Describe whether and how a run continued from a checkpoint."""
    if not experiment.resumed:
        return "false"
    if experiment.resumed_from_benchmarl:
        return "true, from a checkpoint of BenchMARL's own experiment: optimisers and random numbers began anew"
    changes = "".join(f"; {text}" for text in describe_changes(read_changes(Path(experiment.folder_name))))
    if experiment.resumed_exactly:
        return f"true, bitwise identical to an uninterrupted run{changes}"
    if experiment.resumed_with_changes:
        return f"true, with changed options{changes}"
    if experiment.resumed_without_buffers:
        return "true, with empty replay buffers (experiment.exclude_buffer_from_checkpoint=true)"
    return "true, with environments that began new episodes"


def describe_metric(metric: AbsoluteMetric) -> str:
    """Describe the absolute metric and its policy."""
    n_episodes = len(metric.returns.per_agent)
    return f"{metric.mean:.3f} (mean over {n_episodes} fresh episodes of the best policy, of {metric.frames:,} frames)"


def summarise(experiment: ResumableExperiment, wall_time: float, metric: AbsoluteMetric | None = None) -> str:
    """Describe a finished run and its wall time, in seconds, in a few aligned lines."""
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
        **({} if experiment.origin is None else {"begun from": str(experiment.origin)}),
        "resumed": describe_resume(experiment),
        "frames": f"{experiment.total_frames:,} at {speed:,.0f} per second",
        "wall time": f"{wall_time:.0f} s{' since it was resumed' if experiment.resumed else ''}",
        "results": str(experiment.folder_name),
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def train_and_summarise(cfg: DictConfig, choices: Mapping[str, str], resumes: bool = False) -> RunRecord | None:
    """Run an experiment to its end, measure its absolute metric, write its record, and print a summary.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        resumes: whether to continue the run of ``experiment.restore_file`` in its folder.

    Returns:
        The record; None if the run's logs do not suffice.

    Raises:
        CommandError: with one sentence, if the config is not supported or the run has to stop.
        KeyboardInterrupt: after Ctrl-C.
    """
    started = time.perf_counter()
    run = SingleRun(cfg, choices)

    @contextmanager
    def watch(experiment: ResumableExperiment) -> Iterator[None]:
        with run.watch(experiment), checkpoint_on_interrupt(experiment):
            yield

    experiment = train(cfg, choices, resumes, watch)
    metric = record = None
    try:
        metric = run.measure()
        record = run.save_record(experiment, metric)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    finally:  # show the results of training even if metric or record fail
        print(f"\n{summarise(experiment, time.perf_counter() - started, metric)}")
    if record is None:
        print(f"no record for reports: {describe_lack_of_record(cfg.experiment)}")
    return record


@hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(CONF_DIR), config_name="config")
def _run_from_hydra(cfg: DictConfig) -> float | None:
    """Run one experiment, or one job of a ``--multirun``, and return its objective for an optimising sweeper."""
    job = cast("DictConfig", HydraConfig.get())
    choices = job.runtime.choices
    try:
        register()  # a job may run in a new process
        check_objective(cfg, job)
        if cfg.sweep_folder is None:
            record = train_and_summarise(cfg, choices)
        else:
            record = run_composed(cfg, choices, list(job.overrides.task))
        return objective_of(record, cfg, job)
    except (RequestError, PluginError) as error:
        raise CommandError(str(error)) from error


def main() -> None:
    """Run the command."""
    with exit_with_a_sentence(RESUMABLE, (PluginError,)):
        register()
        maximise_by_default()
        _run_from_hydra()
