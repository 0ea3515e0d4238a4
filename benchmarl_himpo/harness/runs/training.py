"""Build the experiment of a composed config, run it to its end, or go on with it: what every command does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

from benchmarl.environments import TaskClass
from benchmarl.hydra_config import (
    load_algorithm_config_from_hydra,
    load_experiment_config_from_hydra,
    load_model_config_from_hydra,
)
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.environments import accelerate, is_accelerated
from benchmarl_himpo.environments.tasks import load_task
from benchmarl_himpo.harness.callbacks import (
    FiniteCallback,
    LifeCallback,
    SummaryCallback,
    VideoCallback,
    describe_last_checkpoint,
)
from benchmarl_himpo.harness.checks import RequestError, check_absolute_metric, check_request, model_names_of
from benchmarl_himpo.harness.output import check_output_folder
from benchmarl_himpo.harness.rendering.display import RenderError
from benchmarl_himpo.harness.runs.benchmarl_config import own_callbacks
from benchmarl_himpo.harness.runs.best_policy import BestPolicyCallback
from benchmarl_himpo.harness.runs.checkpoint import (
    BENCHMARL_CONFIG_FILE,
    CheckpointError,
    digest_of,
    is_of_benchmarl,
    newest_checkpoint,
)
from benchmarl_himpo.harness.runs.lock import RunLockedError
from benchmarl_himpo.harness.runs.origin import INIT_FROM, find_checkpoint, read_origin
from benchmarl_himpo.harness.runs.parameters import Fit
from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment
from benchmarl_himpo.harness.runs.run_config import load_run_config, save_run_config

Watch: TypeAlias = Callable[[ResumableExperiment], AbstractContextManager[object]]
"""Gives the context in which an experiment runs."""


class CommandError(CompactHydraException):
    """Ends the command with one sentence, which Hydra prints without a trace."""


def check_config(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Check that a composed config can be carried out here, without building anything.

    Args:
        cfg: the composed config, see :func:`benchmarl_himpo.harness.composition.compose`.
        choices: the file chosen for each group, as in Hydra's ``runtime.choices``; ``task`` is the one that is read.

    Raises:
        RequestError: if the config contradicts itself or asks for what this machine does not have.
        ValueError: if the task is not known here, or has an option that is out of range.
    """
    if isinstance(cfg.critic_model, str):
        name = cfg.critic_model
        raise RequestError(f"critic_model={name} chooses no file: write model@critic_model={name}.")
    config = load_experiment_config_from_hydra(cfg.experiment)
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    model_names = {*model_names_of(cfg.model), *model_names_of(cfg.critic_model)}
    check_request(config, on_policy, choices["task"], model_names)
    load_task(cfg.task, choices["task"])
    check_absolute_metric(config, cfg.absolute_metric_episodes)


def load_experiment(cfg: DictConfig, choices: Mapping[str, str], resumes: bool = False) -> ResumableExperiment:
    """Check a composed config and build its experiment, with the callbacks of the command.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        resumes: whether the run of ``experiment.restore_file`` goes on in its folder; else this is a new run, which
            writes to no folder of another, whatever it begins from.

    Returns:
        The experiment, ready to run.

    Raises:
        RequestError: if the config contradicts itself or asks for what this machine does not have.
        RenderError: if videos are asked for and the task cannot be drawn here.
        CheckpointError: if the run is to begin or to continue from a checkpoint that cannot be used.
        RunLockedError: if another process writes to the folder of the run.
        OutputError: if ``experiment.save_folder`` cannot be written to.
    """
    check_config(cfg, choices)
    check_beginning(cfg, resumes)
    task = load_task(cfg.task, choices["task"])
    config = load_experiment_config_from_hydra(cfg.experiment)
    restore_file = config.restore_file
    if not resumes:
        config.restore_file = None  # BenchMARL would write to the folder of the run that wrote it
    if config.save_folder is not None:
        check_output_folder("experiment.save_folder", Path(config.save_folder))
        Path(config.save_folder).mkdir(parents=True, exist_ok=True)
    callbacks = [FiniteCallback(), SummaryCallback(), LifeCallback()]
    callbacks += [VideoCallback()] if config.render else []
    callbacks += [BestPolicyCallback()] if cfg.absolute_metric_episodes else []
    experiment = ResumableExperiment(
        task=accelerate(task) if cfg.accelerated else task,
        algorithm_config=load_algorithm_config_from_hydra(cfg.algorithm),
        model_config=load_model_config_from_hydra(cfg.model),
        critic_model_config=load_model_config_from_hydra(cfg.critic_model),
        seed=cfg.seed,
        config=config,
        callbacks=callbacks,
    )
    if resumes:
        experiment.origin = read_origin(Path(restore_file).resolve().parents[1])
    else:
        _begin(experiment, cfg.init_from, restore_file)
    save_run_config(cfg, dict(choices), experiment.folder_name, experiment.origin)
    return experiment


def check_beginning(cfg: DictConfig, resumes: bool = False) -> None:
    """Check that the run that a new one is to begin from is there.

    Args:
        cfg: the composed config.
        resumes: whether the run of ``experiment.restore_file`` goes on, so that nothing begins.

    Raises:
        RequestError: if the config asks for two beginnings.
        CheckpointError: if ``init_from`` names no good checkpoint.
    """
    if resumes or cfg.init_from is None:
        return
    if cfg.experiment.restore_file is not None:
        raise RequestError(
            "init_from begins with the weights of a run and experiment.restore_file with everything: give one of them."
        )
    digest_of(find_checkpoint(cfg.init_from))


def _begin(experiment: ResumableExperiment, init_from: str | None, restore_file: str | None) -> None:
    """Begin a new run from a checkpoint of another, if it is to."""
    try:
        if init_from is not None:
            print(describe_fit(experiment.take_weights(find_checkpoint(init_from)), init_from))
        elif restore_file is not None:
            experiment.branch_from(Path(restore_file))
    except CheckpointError as error:
        experiment.close()
        option = "experiment.restore_file" if init_from is None else INIT_FROM
        raise CheckpointError(f"{option}: {error}") from error


def describe_fit(fit: Fit, init_from: str) -> str:
    """Say which weights a run begins with, and name those that do not fit.

    Args:
        fit: what was taken and what was not.
        init_from: what it was taken from, as the user said it.

    Returns:
        A few lines.
    """
    n_all = len(fit.taken) + len(fit.fresh)
    lines = [f"init_from={init_from}: takes {len(fit.taken)} of {n_all} parameters"]
    lines += [f"  begins fresh: {name} ({reason})" for name, reason in fit.fresh.items()]
    lines += [f"  has no place here: {name}" for name in fit.unused]
    return "\n".join(lines)


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


def train(
    cfg: DictConfig, choices: Mapping[str, str], resumes: bool = False, watch: Watch = nullcontext
) -> ResumableExperiment:
    """Build an experiment and run it to its end.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        resumes: whether the run of ``experiment.restore_file`` goes on in its folder.
        watch: gives the context in which the experiment runs.

    Returns:
        The experiment, finished and closed.

    Raises:
        CommandError: with one sentence, where a request cannot be met or a run has to stop.
        KeyboardInterrupt: after Ctrl-C.
    """
    try:
        experiment = load_experiment(cfg, choices, resumes)
    except (ValueError, ImportError, OSError, RenderError, RunLockedError, OmegaConfBaseException) as error:
        raise CommandError(str(error)) from error
    print(f"simulation: {describe_simulation(experiment.task)}")
    try:
        with watch(experiment):
            run_to_end(experiment)
    except OSError as error:  # of the watch, which writes too
        raise CommandError(str(error)) from error
    return experiment


def run_to_end(experiment: ResumableExperiment) -> None:
    """Run an experiment to its end.

    Args:
        experiment: the experiment.

    Raises:
        CommandError: with one sentence, where NaN or a full disk stops the run, and with the last good checkpoint.
        KeyboardInterrupt: after Ctrl-C.
    """
    try:
        experiment.run()
    except FloatingPointError as error:
        raise CommandError(f"{error} {describe_last_checkpoint(experiment)}") from error
    except OSError as error:
        raise CommandError(
            f"{error}. The run stopped in iteration {experiment.n_iters_performed} with a mean return of "
            f"{experiment.mean_return:.3f} in the last batch. {describe_last_checkpoint(experiment)}"
        ) from error
    except Exception as error:
        if _comes_from_interrupt(error):
            raise KeyboardInterrupt from error
        print(
            f"The run stopped in iteration {experiment.n_iters_performed}. {describe_last_checkpoint(experiment)}",
            file=sys.stderr,
        )
        raise


def config_to_continue(run: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, dict[str, str]]:
    """Compose what continues a run from its newest good checkpoint, or goes back to an older one.

    Args:
        run: the folder of the run.
        overrides: values to change, such as ``experiment.max_n_frames=960000``; ``experiment.restore_file`` is the
            checkpoint to go back to.

    Returns:
        The config and the file chosen for each group, for :func:`train` with ``resumes=True``.

    Raises:
        CheckpointError: if there is no good checkpoint or no configuration, or another beginning is asked for.
    """
    cfg, choices = load_run_config(run, ["experiment.restore_file=null", *overrides])
    callbacks = own_callbacks(run / BENCHMARL_CONFIG_FILE) if is_of_benchmarl(run) else []
    if callbacks:
        warnings.warn(f"the run goes on without the callbacks of its program: {', '.join(callbacks)}", stacklevel=2)
    restore_file = cfg.experiment.restore_file
    continue_newest(cfg, run)
    if restore_file is not None:
        if Path(restore_file).resolve().parent != (run / "checkpoints").resolve():
            raise CheckpointError(
                f"experiment.restore_file={restore_file} is no checkpoint of {run}: to begin a new run from it, give "
                "it to python -m benchmarl_himpo.run"
            )
        cfg.experiment.restore_file = restore_file
    return cfg, choices


def continue_newest(cfg: DictConfig, run: Path) -> None:
    """Make a config go on with a run, from its newest good checkpoint.

    Args:
        cfg: the composed config, which is changed.
        run: the folder of the run.

    Raises:
        CheckpointError: if there is no good checkpoint.
    """
    checkpoint = newest_checkpoint(run / "checkpoints")
    cfg.experiment.restore_file, cfg.experiment.save_folder = str(checkpoint), str(run.resolve().parent)


def n_frames_done(cfg: DictConfig) -> int:
    """Frames that a run has when it begins: those of the checkpoint it continues from.

    Args:
        cfg: the composed config.

    Returns:
        The number of frames.
    """
    restore_file = cfg.experiment.restore_file
    return 0 if restore_file is None else int(Path(restore_file).stem.removeprefix("checkpoint_"))


def n_frames_of(cfg: DictConfig) -> int:
    """Length of a run.

    Args:
        cfg: the composed config.

    Returns:
        The number of frames.
    """
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    return int(load_experiment_config_from_hydra(cfg.experiment).get_max_n_frames(on_policy))


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
