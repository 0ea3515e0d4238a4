"""An experiment for Python programs, whose folder every command accepts like that of a command."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments import Task, TaskClass
from benchmarl.experiment import Callback, ExperimentConfig
from benchmarl.models.common import ModelConfig
from omegaconf import OmegaConf

from benchmarl_himpo.harness.records.lifecycle import SingleRun
from benchmarl_himpo.harness.runs.benchmarl_config import describe_experiment
from benchmarl_himpo.harness.runs.checkpoint import CheckpointError
from benchmarl_himpo.harness.runs.resumable_experiment import ResumableExperiment
from benchmarl_himpo.harness.runs.run_config import compose_saved
from benchmarl_himpo.harness.runs.training import experiment_arguments, leave_config
from benchmarl_himpo.registration import register


class Experiment(ResumableExperiment):
    """BenchMARL's experiment, with the checks, callbacks and files of ``python -m benchmarl_himpo.run``.

    The configuration is treated as on the command line: values are converted to the types of the YAML options, and
    tasks with a faster simulation in this package use it. With ``config.restore_file`` the run that wrote the file is
    continued in its folder.

    Args:
        task: the task, whose class is importable from a module.
        algorithm_config: configuration of a registered algorithm.
        model_config: configuration of the policy's model, of a registered class.
        seed: seed of every random generator.
        config: configuration of the experiment.
        critic_model_config: configuration of the critic's model; None: the same as the policy's.
        callbacks: additional callbacks. Commands that continue the run warn that they are not restored.
        matmul_precision: precision of matrix products, as in ``conf/config.yaml``; None: the value there.
        update_step: execution of updates, as in ``conf/config.yaml``; None: the value there.

    Raises:
        ValueError: if a value cannot be written to YAML, options are inconsistent, or a device or package is missing.
        RenderError: if videos are requested and the task cannot be rendered here.
        RunLockedError: if another process writes to the folder of the run.
    """

    def __init__(
        self,
        task: Task | TaskClass,
        algorithm_config: AlgorithmConfig,
        model_config: ModelConfig,
        seed: int,
        config: ExperimentConfig,
        critic_model_config: ModelConfig | None = None,
        callbacks: Sequence[Callback] | None = None,
        matmul_precision: str | None = None,
        update_step: str | None = None,
    ) -> None:
        register()
        if isinstance(task, Task):
            task = task.get_task()
        parts = {
            "task": task,
            "task.config": task.config,
            "algorithm": algorithm_config,
            "model": model_config,
            "seed": seed,
            "experiment": config,
            "critic_model": model_config if critic_model_config is None else critic_model_config,
        }
        options = {"matmul_precision": matmul_precision, "update_step": update_step}
        given = {option: value for option, value in options.items() if value is not None}
        try:
            saved = OmegaConf.create(describe_experiment(parts) | given)
        except CheckpointError as error:
            raise ValueError(f"the experiment {error}") from error
        self._composed = compose_saved(saved), {str(group): str(name) for group, name in saved.choices.items()}
        arguments = experiment_arguments(*self._composed, resumes=config.restore_file is not None)
        arguments["callbacks"] += callbacks or []
        super().__init__(**arguments)
        leave_config(self, *self._composed)

    def run(self) -> None:
        """Run the experiment to its end, and write a record if its logs suffice."""
        run = SingleRun(*self._composed)
        with run.watch(self):
            super().run()
        run.save_record(self, run.measure())
