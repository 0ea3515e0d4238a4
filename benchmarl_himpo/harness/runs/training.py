"""Build the experiment of a composed config, run it to its end, or continue it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import torch
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
from benchmarl_himpo.harness.callbacks import FiniteCallback, MetricsCallback, SummaryCallback, VideoCallback
from benchmarl_himpo.harness.checks import (
    RequestError,
    check_absolute_metric,
    check_processes,
    check_request,
    model_names_of,
)
from benchmarl_himpo.harness.output import check_output_folder
from benchmarl_himpo.harness.rendering.display import RenderError
from benchmarl_himpo.harness.runs.benchmarl_config import own_callbacks
from benchmarl_himpo.harness.runs.best_policy import BestPolicyCallback
from benchmarl_himpo.harness.runs.checkpoint import (
    CheckpointError,
    digest_of,
    is_of_benchmarl,
    list_checkpoints,
    newest_checkpoint,
)
from benchmarl_himpo.harness.runs.lock import RunLockedError
from benchmarl_himpo.harness.runs.origin import find_checkpoint, read_origin
from benchmarl_himpo.harness.runs.parameters import Fit
from benchmarl_himpo.harness.runs.precision import check_precision
from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment
from benchmarl_himpo.harness.runs.run_config import INIT_FROM, changed_options, load_run_config, save_run_config
from benchmarl_himpo.harness.runs.update import check_update_step
from benchmarl_himpo.host import benchmarl_files as host_files
from benchmarl_himpo.host.tensordict import comes_from_interrupt

Watch: TypeAlias = Callable[[ResumableExperiment], AbstractContextManager[object]]
"""Gives the context in which an experiment runs."""


class CommandError(CompactHydraException):
    """Ends the command with one sentence, which Hydra prints without a traceback."""


def check_config(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Check that a composed config is supported on this machine, without building anything.

    Args:
        cfg: the composed config, see :func:`benchmarl_himpo.harness.composition.compose`.
        choices: the file chosen for each group, as in Hydra's ``runtime.choices``; only ``task`` is used.

    Raises:
        RequestError: if options are inconsistent, or a device or package is missing.
        ValueError: if the task is not registered, or has an option that is out of range.
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
    in_training = f"{'on' if on_policy else 'off'}_policy_n_envs_per_worker"
    n_envs = {f"experiment.{name}": getattr(config, name) for name in (in_training, "evaluation_episodes")}
    check_processes(choices["task"], {**n_envs, "absolute_metric_episodes": cfg.absolute_metric_episodes})
    if cfg.n_threads is not None and (type(cfg.n_threads) is not int or cfg.n_threads < 1):
        raise RequestError(f"n_threads={cfg.n_threads} must be 1 or more, or null for torch's default.")
    check_update_step(cfg.update_step, config, on_policy)
    check_precision(cfg.matmul_precision, {name: getattr(config, name) for name in ("sampling_device", "train_device")})


def load_experiment(cfg: DictConfig, choices: Mapping[str, str], resumes: bool = False) -> ResumableExperiment:
    """Check a composed config and build its experiment, with the callbacks of the command.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        resumes: whether to continue the run of ``experiment.restore_file`` in its folder; False: a new run in a new
            folder, also if it starts from a checkpoint.

    Returns:
        The experiment, ready to run.

    Raises:
        RequestError: if options are inconsistent, or a device or package is missing.
        RenderError: if videos are requested and the task cannot be rendered here.
        CheckpointError: if the run's checkpoint cannot be used.
        RunLockedError: if another process writes to the folder of the run.
        OutputError: if ``experiment.save_folder`` cannot be written to.
    """
    experiment = ResumableExperiment(**experiment_arguments(cfg, choices, resumes))
    if not resumes:
        _begin(experiment, cfg.init_from, cfg.experiment.restore_file)
    leave_config(experiment, cfg, choices)
    return experiment


def experiment_arguments(cfg: DictConfig, choices: Mapping[str, str], resumes: bool) -> dict[str, Any]:
    """Check a composed config and build the arguments of its experiment, the callbacks of the command among them.

    Raises what :func:`load_experiment` does before the experiment is built.
    """
    check_config(cfg, choices)
    check_beginning(cfg, resumes)
    task = load_task(cfg.task, choices["task"])
    config = load_experiment_config_from_hydra(cfg.experiment)
    if not resumes:
        config.restore_file = None  # BenchMARL would write to the folder of the run that wrote it
    if config.save_folder is not None:
        check_output_folder("experiment.save_folder", Path(config.save_folder))
        Path(config.save_folder).mkdir(parents=True, exist_ok=True)
    callbacks = [FiniteCallback(), SummaryCallback(), MetricsCallback()]
    callbacks += [VideoCallback()] if config.render else []
    callbacks += [BestPolicyCallback()] if cfg.absolute_metric_episodes else []
    return {
        "task": accelerate(task) if cfg.accelerated else task,
        "algorithm_config": load_algorithm_config_from_hydra(cfg.algorithm),
        "model_config": load_model_config_from_hydra(cfg.model),
        "critic_model_config": load_model_config_from_hydra(cfg.critic_model),
        "seed": cfg.seed,
        "config": config,
        "callbacks": callbacks,
        "matmul_precision": cfg.matmul_precision,
        "update_step": cfg.update_step,
    }


def leave_config(experiment: ResumableExperiment, cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Write the configuration of an experiment that is about to run into its folder, with the past of its run."""
    run = Path(experiment.folder_name)
    changes: dict[str, dict[int, Any]] = {}
    if experiment.config.restore_file is not None:
        experiment.origin = read_origin(host_files.run_of(Path(experiment.config.restore_file)))
        changes = changed_options(run, cfg, experiment.total_frames)
    save_run_config(cfg, dict(choices), run, experiment.origin, changes)


def check_beginning(cfg: DictConfig, resumes: bool = False) -> None:
    """Check that the origin of a new run exists, and that only one origin is given."""
    init_from, restore_file = cfg.init_from, cfg.experiment.restore_file
    if resumes:
        return
    if init_from is not None and restore_file is not None:
        raise RequestError(
            "init_from loads only the weights of a run, experiment.restore_file its whole state: give one of them."
        )
    if init_from is not None:
        digest_of(find_checkpoint(init_from))
    if restore_file is not None:
        try:
            digest_of(Path(restore_file))
        except CheckpointError as error:
            raise CheckpointError(f"experiment.restore_file: {error}") from error


def _begin(experiment: ResumableExperiment, init_from: str | None, restore_file: str | None) -> None:
    """Start a new run from a checkpoint of another run, if one is given."""
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
    """Describe which weights of another run were loaded, and name those that do not match."""
    n_all = len(fit.taken) + len(fit.fresh)
    lines = [f"init_from={init_from}: takes {len(fit.taken)} of {n_all} parameters"]
    lines += [f"  keeps its initialisation: {name} ({reason})" for name, reason in fit.fresh.items()]
    lines += [f"  not in these networks: {name}" for name in fit.unused]
    return "\n".join(lines)


def describe_simulation(task: TaskClass) -> str:
    """Describe the simulation of a task."""
    if is_accelerated(task):
        return "accelerated, with the results of the task's own (accelerated=false uses that)"
    return "the task's own"


def train(
    cfg: DictConfig, choices: Mapping[str, str], resumes: bool = False, watch: Watch = nullcontext
) -> ResumableExperiment:
    """Build an experiment and run it to its end.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
        resumes: whether to continue the run of ``experiment.restore_file`` in its folder.
        watch: creates the context in which the experiment runs.

    Returns:
        The experiment, finished and closed.

    Raises:
        CommandError: with one sentence, if the config is not supported or the run has to stop.
        KeyboardInterrupt: after Ctrl-C.
    """
    try:
        experiment = load_experiment(cfg, choices, resumes)
    except (ValueError, ImportError, OSError, RenderError, RunLockedError, OmegaConfBaseException) as error:
        raise CommandError(str(error)) from error
    print(f"simulation: {describe_simulation(experiment.task)}")
    if cfg.n_threads is not None:
        torch.set_num_threads(cfg.n_threads)
    print(f"threads: {torch.get_num_threads()}")
    print(f"precision of matrix products: {cfg.matmul_precision}")
    try:
        with watch(experiment):
            run_to_end(experiment)
    except OSError as error:  # of the watch, which writes too
        raise CommandError(str(error)) from error
    return experiment


def run_to_end(experiment: ResumableExperiment) -> None:
    """Run an experiment to its end.

    Raises:
        CommandError: if NaN or a full disk stops the run; the message names the last intact checkpoint.
        KeyboardInterrupt: after Ctrl-C.
    """
    try:
        experiment.run()
    except FloatingPointError as error:
        raise CommandError(f"{error} {_describe_last_checkpoint(experiment)}") from error
    except OSError as error:
        raise CommandError(
            f"{error}. The run stopped in iteration {experiment.n_iters_performed} with a mean return of "
            f"{experiment.mean_return:.3f} in the last batch. {_describe_last_checkpoint(experiment)}"
        ) from error
    except (Exception, KeyboardInterrupt) as error:
        checkpoint = _describe_last_checkpoint(experiment)
        if comes_from_interrupt(error):
            print(checkpoint, file=sys.stderr)
            raise KeyboardInterrupt from error
        print(f"The run stopped in iteration {experiment.n_iters_performed}. {checkpoint}", file=sys.stderr)
        raise


def _describe_last_checkpoint(experiment: ResumableExperiment) -> str:
    """Name the last checkpoint, or the option to set if there is none."""
    run = experiment.folder_name
    newest = next(iter(list_checkpoints(host_files.checkpoint_folder(run))), None)
    if newest is None:
        return "No checkpoint had been written: experiment.checkpoint_interval=... sets the frames between checkpoints."
    return f"The last good checkpoint is {newest}: python -m benchmarl_himpo.resume {run} continues from there."


def config_to_continue(run: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, dict[str, str]]:
    """Compose the config that continues a run from its newest intact checkpoint, or from an older one.

    Args:
        run: the folder of the run.
        overrides: values to change, such as ``experiment.max_n_frames=960000``; ``experiment.restore_file`` is the
            checkpoint to go back to.

    Returns:
        The config and the file chosen for each group, for :func:`train` with ``resumes=True``.

    Raises:
        CheckpointError: if there is no intact checkpoint or no configuration, or another origin is given.
    """
    if any(override.lstrip("+~").startswith("experiment.save_folder") for override in overrides):
        raise CheckpointError(
            "experiment.save_folder: a run continues in its own folder. To begin a new one from a checkpoint, give it "
            "as experiment.restore_file to python -m benchmarl_himpo.run"
        )
    cfg, choices = load_run_config(run, ["experiment.restore_file=null", *overrides])
    callbacks = _callbacks_of_program(run)
    if callbacks:
        warnings.warn(f"the run goes on without the callbacks of its program: {', '.join(callbacks)}", stacklevel=2)
    restore_file = cfg.experiment.restore_file
    continue_newest(cfg, run)
    if restore_file is not None:
        if Path(restore_file).resolve().parent != host_files.checkpoint_folder(run).resolve():
            raise CheckpointError(
                f"experiment.restore_file={restore_file} is no checkpoint of {run}: to begin a new run from it, give "
                "it to python -m benchmarl_himpo.run"
            )
        cfg.experiment.restore_file = restore_file
    return cfg, choices


def _callbacks_of_program(run: Path) -> list[str]:
    """Class names of the callbacks that a program passed to an experiment, if known."""
    try:
        return own_callbacks(run / host_files.CONFIG_FILE)
    except CheckpointError:
        if is_of_benchmarl(run):
            raise
        return []  # a run of the command does without the file


def continue_newest(cfg: DictConfig, run: Path) -> None:
    """Let a config continue the run of a folder from its newest intact checkpoint; CheckpointError if there is none."""
    checkpoint = newest_checkpoint(host_files.checkpoint_folder(run))
    host_files.take_name(run)
    cfg.experiment.restore_file, cfg.experiment.save_folder = str(checkpoint), str(run.resolve().parent)


def n_frames_done(cfg: DictConfig) -> int:
    """Frames that a continued run has at its start, from the file name of its checkpoint."""
    restore_file = cfg.experiment.restore_file
    return 0 if restore_file is None else host_files.checkpoint_frames(Path(restore_file)) or 0


def n_frames_of(cfg: DictConfig) -> int:
    """Length of a run in frames."""
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    return int(load_experiment_config_from_hydra(cfg.experiment).get_max_n_frames(on_policy))
