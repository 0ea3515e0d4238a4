"""BenchMARL's experiment with exact resuming: a resumed run is bitwise identical to an uninterrupted run.

BenchMARL's checkpoints lack optimisers and random numbers, its ``run`` re-seeds, and its loggers append to rows that a
killed run wrote after its last checkpoint. This subclass fixes all three. Evaluations also use separate random numbers:
VMAS shares one set of generators between all its environments, so evaluations would otherwise affect training.
"""

from __future__ import annotations

import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from benchmarl.experiment import Experiment
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.simulation import seed_if_possible
from benchmarl_himpo.harness.callbacks import SummaryCallback
from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.harness.runs.checkpoint import (
    CheckpointError,
    add_checksum,
    prune_checkpoints,
    read_checkpoint,
    set_aside_later_checkpoints,
    write_checkpoint,
)
from benchmarl_himpo.harness.runs.checkpoint_identity import IDENTITY, check_identity, digest_settings, identify
from benchmarl_himpo.harness.runs.lock import lock_folder
from benchmarl_himpo.harness.runs.origin import make_origin
from benchmarl_himpo.harness.runs.parameters import Fit, copy_networks
from benchmarl_himpo.harness.runs.precision import set_precision
from benchmarl_himpo.harness.runs.random_state import (
    capture_random_state,
    own_generator,
    restore_random_state,
    seeded_random_state,
    vmas_generators,
)
from benchmarl_himpo.harness.runs.run_config import INIT_FROM, RESTORE_FILE, Origin
from benchmarl_himpo.harness.runs.simulation_state import SimulationState
from benchmarl_himpo.harness.runs.update import UpdateStep, check_fixed_loss, keep_as_graph
from benchmarl_himpo.host.benchmarl import evaluations_to_write, training_env
from benchmarl_himpo.host.benchmarl_files import (
    buffer_key,
    checkpoint_folder,
    checkpoint_name,
    data_until,
    is_checkpoint,
    json_file,
    read_run_json,
    run_of,
    scalars_folder,
)
from benchmarl_himpo.host.torchrl import capture_carried, restore_carried

CHOICES_OF_KERNEL = {"fused", "foreach", "differentiable"}
"""Options of Adam's implementation; Adam is fused if ``adam_extra_kwargs`` has none of them."""


class ResumableExperiment(Experiment):
    """An experiment whose checkpoints contain the whole state of a run.

    With ``config.restore_file`` the experiment continues the run that wrote the file, in that run's folder;
    :meth:`branch_from` and :meth:`take_weights` start a new run.

    Args:
        *arguments: arguments of :class:`~benchmarl.experiment.Experiment`.
        matmul_precision: precision of matrix products in this process, set now and whenever the experiment runs, see
            :func:`~benchmarl_himpo.harness.runs.precision.check_precision`.
        update_step: execution of updates, see :data:`~benchmarl_himpo.harness.runs.update.UPDATE_STEPS`.
        **named_arguments: keyword arguments of :class:`~benchmarl.experiment.Experiment`.

    Raises:
        CheckpointError: if ``config.restore_file`` is damaged or belongs to another task, version or architecture.
        RunLockedError: if another process writes to the run's folder.
    """

    resumed: bool = False
    """Whether this process continues a run."""
    resumed_with_changes: bool = False
    """Whether this process continues a run with changed options that affect training."""
    resumed_without_buffers: bool = False
    """Whether this process continues a run with empty replay buffers, because its checkpoint lacks them."""
    resumed_exactly: bool = False
    """Whether the continuation is bitwise exact: the same options and buffers, and all environments continue their
    episodes."""
    resumed_from_benchmarl: bool = False
    """Whether this process continues from BenchMARL's own checkpoint, which lacks optimisers and random numbers."""
    origin: Origin | None = None
    """The checkpoint of another run from which this run started in this process."""
    _episodes_go_on: bool = False
    _is_to_stop: bool = False

    def __init__(
        self, *arguments: Any, matmul_precision: str = "highest", update_step: str = "eager", **named_arguments: Any
    ) -> None:
        self.matmul_precision, self.update_step = matmul_precision, update_step
        set_precision(matmul_precision)
        super().__init__(*arguments, **named_arguments)

    def run(self) -> None:
        """Run the experiment until its end."""
        set_precision(self.matmul_precision)
        super().run()

    def state_dict(self) -> OrderedDict:
        """The whole state of the run: BenchMARL's state, and the parts that it lacks."""
        state = super().state_dict()
        if self.on_policy:  # filled anew in each iteration
            state.update({buffer_key(group): None for group in self.group_map})
        # Holds the order of the next epoch, which is drawn when one ends
        state["samplers"] = {group: buffer.sampler.state_dict() for group, buffer in self.replay_buffers.items()}
        state[IDENTITY] = identify(self)
        state["settings"] = digest_settings(self)
        state["policy"] = self.policy.state_dict()
        state["optimizers"] = {
            group: {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
            for group, optimizers in self.optimizers.items()
        }
        state["random_state"] = capture_random_state(training_env(self))
        state["episodes"] = self._capture_episodes()
        state["evaluation_random_state"] = self._evaluation_random_state
        generator = own_generator(self.test_env)
        state["test_environment_random_state"] = None if generator is None else generator.get_state()
        # A reset need not set all of a simulation
        state["test_simulation"] = self._test_simulation.capture()
        state["json"] = evaluations_to_write(self)
        state["evaluation_return"] = [callback.evaluation_return for callback in self._summaries()]
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state; random numbers are set when :meth:`run` begins to collect."""
        super().load_state_dict(state_dict)
        if _is_of_benchmarl(state_dict):
            self._random_state = capture_random_state(training_env(self))
            self._drop_later_rows()
            self.resumed = self.resumed_from_benchmarl = True
            return
        self.policy.load_state_dict(state_dict["policy"])  # buffers that neither losses nor a copying collector hold
        for group, buffer in self.replay_buffers.items():
            buffer.sampler.load_state_dict(state_dict["samplers"][group])
        for group, optimizers in self.optimizers.items():
            for name, optimizer in optimizers.items():
                # The options, and which parameters share them, are the run's and not the checkpoint's
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({**state_dict["optimizers"][group][name], "param_groups": groups})
        self._random_state = state_dict["random_state"]
        self._episodes_go_on = self._restore_episodes(state_dict.get("episodes"))
        self._evaluation_random_state = state_dict["evaluation_random_state"]
        generator = own_generator(self.test_env)
        if generator is not None:
            generator.set_state(state_dict["test_environment_random_state"].cpu())
        self._test_simulation.restore(state_dict.get("test_simulation"))
        evaluations = evaluations_to_write(self)
        if evaluations is not None and state_dict["json"] is not None:
            evaluations.update(state_dict["json"])
        for callback, value in zip(self._summaries(), state_dict["evaluation_return"], strict=False):
            callback.evaluation_return = value
        self._drop_later_rows()
        self.resumed = True
        self.resumed_with_changes = state_dict["settings"] != digest_settings(self)
        buffers = [state_dict[buffer_key(group)] for group in self.group_map]
        self.resumed_without_buffers = not self.on_policy and None in buffers
        is_another = self.resumed_with_changes or self.resumed_without_buffers
        self.resumed_exactly = self._episodes_go_on and not is_another

    def branch_from(self, checkpoint: Path) -> None:
        """Continue from a checkpoint of another run in a new folder; the other run is unchanged.

        The logs of that run before the checkpoint are copied.

        Args:
            checkpoint: the file.

        Raises:
            CheckpointError: if it is damaged or belongs to another task, version or architecture.
        """
        scalars = scalars_folder(run_of(checkpoint))
        if scalars.is_dir() and "csv" in self.config.loggers:
            shutil.copytree(scalars, scalars_folder(self.folder_name), dirs_exist_ok=True)
        self.origin = make_origin(RESTORE_FILE, checkpoint, self._load_checkpoint(checkpoint))

    def take_weights(self, checkpoint: Path) -> Fit:
        """Load only the weights of actors and critics of another run whose names and shapes match.

        Args:
            checkpoint: a checkpoint of that run.

        Returns:
            The copied and the remaining parameters.

        Raises:
            CheckpointError: if the checkpoint is damaged, or no parameter matches.
        """
        state = read_checkpoint(checkpoint, "cpu")
        fit = copy_networks(self.losses, state)
        if not fit.taken:
            raise CheckpointError(
                f"nothing in {checkpoint} fits the networks of {self.algorithm_name} on "
                f"{self.environment_name}/{self.task_name}: begin from a run of an algorithm with the same networks, "
                "on a task whose groups have the same names, and observations and actions the same sizes"
            )
        if not self.config.collect_with_grad:
            self.collector.update_policy_weights_()  # it has a copy on another device
        self.origin = make_origin(INIT_FROM, checkpoint, state)
        return fit

    def stop_after_iteration(self) -> None:
        """Let :meth:`run` write a checkpoint at the end of the current iteration and raise KeyboardInterrupt."""
        self._is_to_stop = True
        self.config.checkpoint_interval = 1

    def close(self) -> None:
        """Close the experiment and release the lock of its folder."""
        super().close()
        self._lock.release()

    ################
    # BenchMARL's hooks
    ################

    def _setup_name(self) -> None:
        restore_file = self.config.restore_file
        if restore_file is not None and self.config.save_folder is not None:
            folder = Path(self.config.save_folder) / run_of(Path(restore_file)).name
            if folder.is_dir():  # before anything is written there
                self._lock = lock_folder(folder).lock
        super()._setup_name()
        if not hasattr(self, "_lock"):
            self._lock = lock_folder(self.folder_name).lock
        self._evaluation_random_state = seeded_random_state(self.seed + 1)

    def _setup_task(self) -> None:
        super()._setup_task()
        generator = own_generator(self.test_env)
        if generator is not None:
            generator.manual_seed(self.seed + 1)
        self._seeds_apart = self.test_env.batch_size == () and seed_if_possible(self.test_env, self.seed + 1)

    def _setup_algorithm(self) -> None:
        self.env_func: Callable[[], EnvBase]
        super()._setup_algorithm()
        self.env_func = partial(_build, self.env_func)
        self.test_env.set_spec_lock_()
        if CHOICES_OF_KERNEL.isdisjoint(self.config.adam_extra_kwargs):
            for optimizers in self.optimizers.values():
                _fuse(optimizers.values())
        if self.update_step != "eager":
            check_fixed_loss(self.algorithm)
            self._graphs = {group: keep_as_graph(self._make_step(group)) for group in self.train_group_map}

    def _make_step(self, group: str) -> UpdateStep:
        combine = partial(self.algorithm.process_loss_vals, group)
        return UpdateStep(self.losses[group], combine, self.optimizers[group], self.config)

    def _optimizer_loop(self, group: str) -> TensorDictBase:
        if self.update_step == "eager":
            return super()._optimizer_loop(group)
        minibatch = self.replay_buffers[group].sample().to(self.config.train_device)
        result = self._graphs[group](minibatch)
        for callback in self.callbacks:
            result.update(callback.on_train_step(minibatch, group) or {})
        return result

    def _setup_collector(self) -> None:
        with warnings.catch_warnings():  # of the name that BenchMARL uses
            warnings.filterwarnings("ignore", "SyncDataCollector has been deprecated", DeprecationWarning)
            super()._setup_collector()
        if self._seeds_apart:
            self._begin_episodes(self.seed)
        self._simulation, self._test_simulation = SimulationState(training_env(self)), SimulationState(self.test_env)

    def _collection_loop(self) -> None:
        if self.resumed:
            restore_random_state(self._random_state, training_env(self))
            if not self._episodes_go_on:
                self._begin_episodes(self.seed + self.total_frames)
        super()._collection_loop()

    def _evaluation_loop(self) -> None:
        devices = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(devices), vmas_generators(self._evaluation_random_state):
            torch.manual_seed(self.seed + 1 + self.n_iters_performed)
            if self._seeds_apart:
                self.test_env.set_seed(self.seed + 1 + self.n_iters_performed)
            super()._evaluation_loop()

    def _save_experiment(self) -> None:
        folder = checkpoint_folder(self.folder_name)
        write_checkpoint(self.state_dict(), folder / checkpoint_name(self.total_frames))
        if self.config.keep_checkpoints_num is not None:
            prune_checkpoints(folder, self.config.keep_checkpoints_num)
        if self._is_to_stop:
            raise KeyboardInterrupt

    def _load_experiment(self) -> Experiment:
        path = Path(self.config.restore_file)
        self._load_checkpoint(path)
        if run_of(path) == Path(self.folder_name).resolve():  # a run that is copied from stays as it is
            add_checksum(path)
            set_aside_later_checkpoints(path.parent, self.total_frames)
        return self

    #####################
    # Custom new methods
    #####################

    def _load_checkpoint(self, path: Path) -> OrderedDict:
        """Continue from a checkpoint of this task, version and architecture, and return its content."""
        state = read_checkpoint(path, self.config.restore_map_location or "cpu")  # loading copies to the devices
        if _is_of_benchmarl(state):
            self._load_benchmarl(path, state)
            return state
        check_identity(path, state, self)
        coefficients = self._coefficients()
        self.load_state_dict(state)
        if self.resumed_with_changes:  # the options are the run's, not the checkpoint's
            self._set_coefficients(coefficients)
        return state

    def _load_benchmarl(self, path: Path, state: OrderedDict) -> None:
        """Continue from a checkpoint of BenchMARL's own experiment, and copy the evaluations before it."""
        coefficients = self._coefficients()
        try:
            self.load_state_dict(state)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} is of another task, algorithm or architecture: {reason}") from error
        self._set_coefficients(coefficients)
        file, evaluations = json_file(run_of(path)), evaluations_to_write(self)
        if evaluations is not None and file.is_file():
            _, data = read_run_json(file)
            evaluations.update(data_until(data, self.total_frames))

    def _capture_episodes(self) -> dict[str, Any] | None:
        """State of the environments inside their episodes; None if it cannot be captured."""
        simulation = None if self.config.collect_with_grad else self._simulation.capture()
        carried = None if simulation is None else capture_carried(self.collector)
        return None if carried is None else {"simulation": simulation, **carried}

    def _restore_episodes(self, episodes: dict[str, Any] | None) -> bool:
        """Restore the environments' episodes; returns whether that is possible."""
        if episodes is None or self.config.collect_with_grad or not self._simulation.restore(episodes["simulation"]):
            return False
        restore_carried(self.collector, episodes)
        return True

    def _coefficients(self) -> dict[str, dict[str, torch.Tensor]]:
        """Options that losses keep in their states, by group and name: scalars that are not trained."""
        return {
            group: {name: buffer.clone() for name, buffer in loss.named_buffers() if buffer.ndim == 0}
            for group, loss in self.losses.items()
        }

    def _set_coefficients(self, coefficients: dict[str, dict[str, torch.Tensor]]) -> None:
        for group, loss in self.losses.items():
            for name, buffer in loss.named_buffers():
                if name in coefficients[group]:
                    buffer.copy_(coefficients[group][name])

    def _begin_episodes(self, seed: int) -> None:
        """Begin an episode in each training environment.

        Environments that are stepped one by one get different seeds; BenchMARL builds all of them with the same seed.
        """
        if self._seeds_apart:
            training_env(self).set_seed(seed)
        if not self.config.collect_with_grad:
            self.collector.reset()

    def _summaries(self) -> list[SummaryCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, SummaryCallback)]

    def _drop_later_rows(self) -> None:
        """Truncate the CSV files to the iterations before the checkpoint; later rows will be written again."""
        if "csv" in self.config.loggers:
            for file in scalars_folder(self.folder_name).rglob("*.csv"):
                _keep_rows_before(file, self.n_iters_performed)


def _is_of_benchmarl(state: object) -> bool:
    """Whether BenchMARL's own experiment wrote a checkpoint."""
    return is_checkpoint(state) and IDENTITY not in cast("dict[str, Any]", state)


def _build(env_func: Callable[[], EnvBase]) -> EnvBase:
    """Build an environment that caches values that TorchRL derives from its specs."""
    return env_func().set_spec_lock_()


def _fuse(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Use fused Adam: the same step up to rounding, so not part of a run's name."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["fused"] = True


def _keep_rows_before(file: Path, iteration: int) -> None:
    """Drop the rows of a CSV file from an iteration on, and an incomplete last row."""
    kept = []
    for row in file.read_text().splitlines(keepends=True):
        step, _, value = row.partition(",")
        if row.endswith("\n") and value.strip() and step.isdigit() and int(step) < iteration:
            kept.append(row)
    write_whole(file, "".join(kept))
