"""The main command: train one algorithm on one task.

    python -m benchmarl_himpo.run algorithm=himppo task=vmas/sampling experiment=quick seed=1

Every algorithm, task and model of BenchMARL composes here too. README.md shows how to override.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hydra
from benchmarl.environments import TaskClass
from benchmarl.hydra_config import (
    load_algorithm_config_from_hydra,
    load_experiment_config_from_hydra,
    load_model_config_from_hydra,
)
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.callbacks import (
    FiniteCallback,
    RenderError,
    SummaryCallback,
    VideoCallback,
    describe_last_checkpoint,
)
from benchmarl_himpo.checks import check_request, model_names_of
from benchmarl_himpo.config import CONF_DIR, HYDRA_VERSION_BASE
from benchmarl_himpo.environments import accelerate, is_accelerated
from benchmarl_himpo.environments.tasks import load_task
from benchmarl_himpo.registration import register
from benchmarl_himpo.runs import ResumableExperiment, RunLockedError
from benchmarl_himpo.runs.run_config import save_run_config

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells use it."""


class CommandError(CompactHydraException):
    """Ends the command with one sentence, which Hydra prints without a trace."""


def load_experiment(cfg: DictConfig, choices: Mapping[str, str]) -> ResumableExperiment:
    """Check a composed config and build its experiment, with the callbacks of the command.

    Args:
        cfg: the composed config, see :func:`benchmarl_himpo.config.compose`.
        choices: the file chosen for each group, as in Hydra's ``runtime.choices``; ``task`` is the one that is read.

    Returns:
        The experiment, ready to run.

    Raises:
        RequestError: if the config contradicts itself or asks for what this machine does not have.
        RenderError: if videos are asked for and the task cannot be drawn here.
        CheckpointError: if the run is to continue from a checkpoint that cannot be used.
        RunLockedError: if another process writes to the folder of the run.
    """
    task_name = choices["task"]
    config = load_experiment_config_from_hydra(cfg.experiment)
    model_names = {*model_names_of(cfg.model), *model_names_of(cfg.critic_model)}
    algorithm_config = load_algorithm_config_from_hydra(cfg.algorithm)
    check_request(config, algorithm_config.on_policy(), task_name, model_names)
    if config.save_folder is not None:
        Path(config.save_folder).mkdir(parents=True, exist_ok=True)
    callbacks = [FiniteCallback(), SummaryCallback(), *([VideoCallback()] if config.render else [])]
    task = load_task(cfg.task, task_name)
    experiment = ResumableExperiment(
        task=accelerate(task) if cfg.accelerated else task,
        algorithm_config=algorithm_config,
        model_config=load_model_config_from_hydra(cfg.model),
        critic_model_config=load_model_config_from_hydra(cfg.critic_model),
        seed=cfg.seed,
        config=config,
        callbacks=callbacks,
    )
    save_run_config(cfg, dict(choices), experiment.folder_name)
    return experiment


def describe_simulation(task: TaskClass) -> str:
    """Say which simulation a task runs on.

    Args:
        task: the task.

    Returns:
        A few words.
    """
    if is_accelerated(task):
        return "accelerated, the same numbers as the task's own (accelerated=false takes that)"
    return "the task's own"


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
    return "true, with environments that began new episodes"


def summarise(experiment: ResumableExperiment, wall_time: float) -> str:
    """Describe a finished run in a few aligned lines.

    Args:
        experiment: the finished experiment.
        wall_time: seconds the run took, all included.

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
        "resumed": describe_resume(experiment),
        "frames": f"{experiment.total_frames:,} at {speed:,.0f} per second",
        "wall time": f"{wall_time:.0f} s",
        "results": str(experiment.folder_name),
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


@hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(CONF_DIR), config_name="config")
def _run_from_hydra(cfg: DictConfig) -> None:
    """Run one experiment, one job of a ``--multirun``.

    Args:
        cfg: the composed config.
    """
    register()  # a job may run in a process of its own
    train(cfg, HydraConfig.get().runtime.choices)


def train(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Build an experiment, run it to its end and print what came out.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.

    Raises:
        CommandError: with one sentence, where a request cannot be met or a run has to stop.
        KeyboardInterrupt: after Ctrl-C.
    """
    started = time.perf_counter()
    try:
        experiment = load_experiment(cfg, choices)
    except (ValueError, ImportError, OSError, RenderError, RunLockedError, OmegaConfBaseException) as error:
        raise CommandError(str(error)) from error
    print(f"simulation: {describe_simulation(experiment.task)}")
    try:
        experiment.run()
    except (FloatingPointError, OSError) as error:
        raise CommandError(str(error)) from error
    except Exception as error:
        if _comes_from_interrupt(error):
            raise KeyboardInterrupt from error
        print(
            f"The run stopped in iteration {experiment.n_iters_performed}. {describe_last_checkpoint(experiment)} "
            f"python -m benchmarl_himpo.resume {experiment.folder_name} continues it.",
            file=sys.stderr,
        )
        raise
    print(f"\n{summarise(experiment, time.perf_counter() - started)}")


def _comes_from_interrupt(error: BaseException | None) -> bool:
    """Tell whether an error arose while a Ctrl-C was handled.

    Tensordict's context managers answer any exception in their block with a RuntimeError.

    Args:
        error: the error, or ``None``.

    Returns:
        Whether a KeyboardInterrupt is among the errors it came from.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Turn Ctrl-C in the block into a short message and the exit code that shells use."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            "Interrupted: what was logged and the last checkpoint are in the folder of the run, and "
            "python -m benchmarl_himpo.resume continues it.",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERRUPTED)


def main() -> None:
    """Run the command."""
    register()
    with exit_on_interrupt():
        _run_from_hydra()


if __name__ == "__main__":
    main()
