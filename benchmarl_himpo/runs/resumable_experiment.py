"""BenchMARL's experiment, killed and resumed as if nothing had happened.

BenchMARL's checkpoints leave out optimisers and random numbers, its ``run`` seeds anew, and its loggers append to what
a killed run wrote after its last checkpoint. This subclass completes all three. It also lets evaluations draw from
random numbers of their own, because VMAS shares one set of generators between all its environments: without this,
evaluating changes training.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarl.experiment import Experiment
from tensordict import LazyStackedTensorDict, TensorDictBase
from torchrl.envs import EnvBase
from torchrl.record.loggers.csv import CSVLogger

from benchmarl_himpo import __version__
from benchmarl_himpo.callbacks import SummaryCallback
from benchmarl_himpo.runs.checkpoint import (
    CheckpointError,
    prune_checkpoints,
    read_checkpoint,
    set_aside_later_checkpoints,
    write_checkpoint,
)
from benchmarl_himpo.runs.lock import lock_folder
from benchmarl_himpo.runs.random_state import (
    capture_random_state,
    own_generator,
    restore_random_state,
    seeded_random_state,
    vmas_generators,
)
from benchmarl_himpo.runs.run_config import WITHOUT_EFFECT_ON_RESULTS
from benchmarl_himpo.runs.simulation_state import SimulationState

WITHOUT_EFFECT_ON_TRAINING = (*WITHOUT_EFFECT_ON_RESULTS, "evaluation", "exploration_anneal_frames", "max_n_")
"""Beginnings of the experiment's options that may differ between a checkpoint and the run that goes on from it."""


class ResumableExperiment(Experiment):
    """An experiment whose checkpoints hold all that its next iteration depends on.

    Takes the arguments of :class:`~benchmarl.experiment.Experiment`. With ``config.restore_file`` it continues the run
    that wrote the file, in that run's folder.

    Raises:
        CheckpointError: if ``config.restore_file`` is damaged or belongs to another task, version or architecture.
        RunLockedError: if another process writes to the run's folder.
    """

    resumed: bool = False
    """Whether this process continues a run."""
    resumed_with_changes: bool = False
    """Whether it does so with options that training depends on and that are not the run's."""
    resumed_without_buffers: bool = False
    """Whether it does so with empty replay buffers that had been left out of the checkpoint."""
    resumed_exactly: bool = False
    """Whether it does so to the last bit: the options and buffers are the same, and all environments go on with their
    episodes."""
    _episodes_go_on: bool = False

    def state_dict(self) -> OrderedDict:
        """All that the rest of the run depends on: BenchMARL's state, and what it leaves out."""
        state = super().state_dict()
        if self.on_policy:  # filled anew in each iteration
            state.update({f"buffer_{group}": None for group in self.group_map})
        # Holds the order of the next epoch, which is drawn when one ends
        state["samplers"] = {group: buffer.sampler.state_dict() for group, buffer in self.replay_buffers.items()}
        state["identity"] = self._identity()
        state["settings"] = self._settings()
        state["policy"] = self.policy.state_dict()
        state["optimizers"] = {
            group: {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
            for group, optimizers in self.optimizers.items()
        }
        state["random_state"] = capture_random_state(self._train_env)
        state["episodes"] = self._capture_episodes()
        state["evaluation_random_state"] = self._evaluation_random_state
        generator = own_generator(self.test_env)
        state["test_environment_random_state"] = None if generator is None else generator.get_state()
        # A reset need not set all of a simulation
        state["test_simulation"] = self._test_simulation.capture()
        writer = self.logger.json_writer
        state["json"] = None if writer is None else writer.run_data
        state["evaluation_return"] = [callback.evaluation_return for callback in self._summaries()]
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from a state; random numbers are set when :meth:`run` begins to collect.

        Args:
            state_dict: what :meth:`state_dict` gave.
        """
        super().load_state_dict(state_dict)
        for group, buffer in self.replay_buffers.items():
            buffer.sampler.load_state_dict(state_dict["samplers"][group])
        for group, optimizers in self.optimizers.items():
            for name, optimizer in optimizers.items():
                optimizer.load_state_dict(state_dict["optimizers"][group][name])
                for param_group in optimizer.param_groups:  # the options are the run's, not the checkpoint's
                    param_group.update(lr=self.config.lr, eps=self.config.adam_eps, **self.config.adam_extra_kwargs)
        self._random_state = state_dict["random_state"]
        self._episodes_go_on = self._restore_episodes(state_dict.get("episodes"))
        self._evaluation_random_state = state_dict["evaluation_random_state"]
        generator = own_generator(self.test_env)
        if generator is not None:
            generator.set_state(state_dict["test_environment_random_state"].cpu())
        self._test_simulation.restore(state_dict.get("test_simulation"))
        if self.logger.json_writer is not None and state_dict["json"] is not None:
            self.logger.json_writer.run_data.update(state_dict["json"])
        for callback, value in zip(self._summaries(), state_dict["evaluation_return"], strict=True):
            callback.evaluation_return = value
        self._drop_later_rows()
        self.resumed = True
        self.resumed_with_changes = state_dict["settings"] != self._settings()
        buffers = [state_dict[f"buffer_{group}"] for group in self.group_map]
        self.resumed_without_buffers = not self.on_policy and None in buffers
        is_another = self.resumed_with_changes or self.resumed_without_buffers
        self.resumed_exactly = self._episodes_go_on and not is_another

    def close(self) -> None:
        """Close the experiment and let others write to its folder."""
        super().close()
        self._lock.close()

    ################
    # BenchMARL's hooks
    ################

    def _setup_name(self) -> None:
        restore_file = self.config.restore_file
        if restore_file is not None and self.config.save_folder is not None:
            folder = Path(self.config.save_folder) / Path(restore_file).resolve().parents[1].name
            if folder.is_dir():  # before anything is written there
                self._lock = lock_folder(folder)
        super()._setup_name()
        if not hasattr(self, "_lock"):
            self._lock = lock_folder(self.folder_name)
        self._evaluation_random_state = seeded_random_state(self.seed + 1)

    def _setup_task(self) -> None:
        super()._setup_task()
        generator = own_generator(self.test_env)
        if generator is not None:
            generator.manual_seed(self.seed + 1)

    def _setup_algorithm(self) -> None:
        self.env_func: Callable[[], EnvBase]
        super()._setup_algorithm()
        self.env_func = partial(_build, self.env_func)
        self.test_env.set_spec_lock_()

    def _setup_collector(self) -> None:
        super()._setup_collector()
        self._simulation, self._test_simulation = SimulationState(self._train_env), SimulationState(self.test_env)

    def _collection_loop(self) -> None:
        if self.resumed:
            restore_random_state(self._random_state, self._train_env)
            if not self._episodes_go_on and not self.config.collect_with_grad:
                self.collector.reset()
        super()._collection_loop()

    def _evaluation_loop(self) -> None:
        devices = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(devices), vmas_generators(self._evaluation_random_state):
            torch.manual_seed(self.seed + 1 + self.n_iters_performed)
            super()._evaluation_loop()

    def _save_experiment(self) -> None:
        folder = self.folder_name / "checkpoints"
        write_checkpoint(self.state_dict(), folder / f"checkpoint_{self.total_frames}.pt")
        if self.config.keep_checkpoints_num is not None:
            prune_checkpoints(folder, self.config.keep_checkpoints_num)

    def _load_experiment(self) -> Experiment:
        path = Path(self.config.restore_file)
        state = read_checkpoint(path, self.config.restore_map_location or "cpu")  # loading copies to the devices
        found = state.get("identity", {}) if isinstance(state, dict) else {}
        for name, value in self._identity().items():
            if found.get(name) != value:
                raise CheckpointError(
                    f"{path} was written with another {name} ({found.get(name)} instead of {value}) and was not "
                    "loaded: resume it with what it was written with"
                )
        self.load_state_dict(state)
        if path.resolve().parents[1] == Path(self.folder_name).resolve():  # a run that is copied from stays as it is
            set_aside_later_checkpoints(path.parent, self.total_frames)
        return self

    ##########
    # Its own
    ##########

    @property
    def _train_env(self) -> EnvBase:
        return self.rollout_env if self.config.collect_with_grad else self.collector.env

    def _identity(self) -> dict[str, str]:
        """What a checkpoint must agree with: software, task, algorithm, and names and shapes of all parameters."""
        shapes = [
            (group, key, tuple(value.shape))
            for group, loss in self.losses.items()
            for key, value in sorted(loss.state_dict().items())
            if isinstance(value, torch.Tensor)
        ]
        return {
            "version of benchmarl_himpo": __version__,
            "task": f"{self.environment_name}/{self.task_name} with {_digest(self.task.config)}",
            "algorithm": self.algorithm_name,
            "architecture": _digest(shapes),
        }

    def _settings(self) -> str:
        """Digest of all options that change what the next iteration does: not how long, where to and how watched."""
        options = {k: v for k, v in vars(self.config).items() if not k.startswith(WITHOUT_EFFECT_ON_TRAINING)}
        options["annealed"] = None if self.on_policy else self.config.get_exploration_anneal_frames(self.on_policy)
        configs = (self.algorithm_config, self.model_config, self.critic_model_config)
        return _digest([options, [vars(config) for config in configs], self.seed])

    def _capture_episodes(self) -> dict[str, Any] | None:
        """Where the environments are in their episodes; None where that cannot be told."""
        simulation = None if self.config.collect_with_grad else self._simulation.capture()
        if simulation is None or _is_ragged(self.collector._carrier):
            return None
        n_trajectories = self.collector._traj_pool._traj_id
        return {
            "simulation": simulation,
            "carried": self.collector._carrier.state_dict(),
            "n_trajectories": n_trajectories.item(),
        }

    def _restore_episodes(self, episodes: dict[str, Any] | None) -> bool:
        """Go on with episodes; tells whether that is possible."""
        if episodes is None or self.config.collect_with_grad or not self._simulation.restore(episodes["simulation"]):
            return False
        empty = self.collector._carrier.empty(recurse=True)
        self.collector._carrier = empty.load_state_dict(episodes["carried"], strict=False, assign=True)
        self.collector._traj_pool._traj_id.fill_(episodes["n_trajectories"])
        return True

    def _summaries(self) -> list[SummaryCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, SummaryCallback)]

    def _drop_later_rows(self) -> None:
        """Cut the CSV files back to the iterations before the checkpoint: the others will be written again."""
        for logger in self.logger.loggers:
            if isinstance(logger, CSVLogger):
                for file in Path(logger.experiment.log_dir, "scalars").rglob("*.csv"):
                    _keep_rows_before(file, self.n_iters_performed)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _build(env_func: Callable[[], EnvBase]) -> EnvBase:
    """Build an environment that keeps what TorchRL derives from its specs from step to step."""
    return env_func().set_spec_lock_()


def _is_ragged(tensordict: TensorDictBase) -> bool:
    """Whether agents of a group have entries of different shapes."""
    return any(isinstance(value, LazyStackedTensorDict) for value in tensordict.values(include_nested=True))


def _keep_rows_before(file: Path, iteration: int) -> None:
    """Drop the rows of a CSV file from some iteration on, and a row that was cut in the middle."""
    kept = []
    for row in file.read_text().splitlines(keepends=True):
        step, _, value = row.partition(",")
        if row.endswith("\n") and value.strip() and step.isdigit() and int(step) < iteration:
            kept.append(row)
    temporary = file.with_suffix(".csv.tmp")
    temporary.write_text("".join(kept))
    temporary.replace(file)
