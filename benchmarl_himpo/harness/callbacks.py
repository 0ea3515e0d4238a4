"""Callbacks of the commands: stop on non-finite values, write videos, keep the last evaluation.

None of them affects learning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from benchmarl.experiment import Callback
from tensordict import TensorDictBase, unravel_key
from torch import Tensor

from benchmarl_himpo.environments.metrics import find_metrics
from benchmarl_himpo.harness.rendering.display import check_display
from benchmarl_himpo.harness.rendering.encode import write_mp4
from benchmarl_himpo.hierarchy.group_inputs import group_entry
from benchmarl_himpo.host.benchmarl import experiment_loggers
from benchmarl_himpo.host.benchmarl_files import videos_folder
from benchmarl_himpo.host.torchrl import keep_csv_videos_as_tensors

VIDEO_STEPS_PER_SECOND = 20
"""Playing speed of a video, in environment steps per second, the one BenchMARL uses."""


class PortableCallback(Callback):
    """A callback that BenchMARL can pickle into ``config.pkl``, without its experiment."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the experiment."""
        return {**self.__dict__, "experiment": None}


class FiniteCallback(PortableCallback):
    """Stop the run at the first NaN or infinity, before it reaches a checkpoint.

    Collected observations, states and rewards, and the positions of live agents that a hierarchy reads, are checked
    before training, losses and gradient norms before BenchMARL saves a checkpoint. Other entries of the training
    tensordict are diagnostics and are not checked.
    """

    def on_batch_collected(self, batch: TensorDictBase) -> None:
        """Check observations, states and rewards; FloatingPointError if one is NaN or infinite."""
        groups, state_spec = self.experiment.group_map, self.experiment.state_spec
        read = [(group, key) for group in groups for key in self.experiment.observation_spec[group].keys(True, True)]
        read += [] if state_spec is None else list(state_spec.keys(True, True))
        rewards = ["reward", *((group, "reward") for group in groups)]
        for key in (*read, *(("next", key) for key in (*read, *rewards))):
            value = batch.get(unravel_key(key), None)
            if value is not None:
                self._check_finite(f"{unravel_key(key)}", value)
        for group, hierarchy in getattr(self.experiment.algorithm, "hierarchies", {}).items():
            position = hierarchy.inputs.position(batch)[hierarchy.inputs.alive(batch)]
            self._check_finite(f"the position of live agents of group {group!r}", position)

    def on_train_end(self, training_td: TensorDictBase, group: str) -> None:
        """Check losses and gradient norms; FloatingPointError if one is NaN or infinite."""
        for key, value in training_td.items():
            if key.startswith(("loss", "grad_norm")):
                self._check_finite(f"{key} of group {group!r}", value)

    def _check_finite(self, name: str, value: Tensor) -> None:
        """Check one entry, whose name is for the message."""
        n_bad = int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0
        if n_bad:
            raise FloatingPointError(
                f"{name} holds {n_bad} NaN or infinite values out of {value.numel()} in iteration "
                f"{self.experiment.n_iters_performed}: the run stops. For an observation, state or reward check the "
                "environment, otherwise lower experiment.lr or experiment.clip_grad_val."
            )


class VideoCallback(PortableCallback):
    """Write the films of evaluations as mp4 files into the CSV logger's ``videos`` folder.

    TorchRL's CSV logger writes mp4 with a function that torchvision removed; here the logger saves tensors, which this
    callback encodes.
    """

    def on_setup(self) -> None:
        """Check that the task can be rendered (else RenderError), and let the CSV loggers save tensors."""
        check_display(self.experiment, "experiment.render=true", "choose experiment.render=false")
        keep_csv_videos_as_tensors(experiment_loggers(self.experiment))

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        """Encode the tensors that the evaluation saved."""
        for saved in sorted(videos_folder(self.experiment.folder_name).glob("*.pt")):
            # [1, T, channels, height, width], uint8
            write_mp4(torch.load(saved)[0], saved.with_suffix(".mp4"), VIDEO_STEPS_PER_SECOND)
            saved.unlink()


class SummaryCallback(PortableCallback):
    """Keep the result of the last evaluation.

    Attributes:
        evaluation_return: mean over episodes and groups of the agents' mean return, ``None`` before an evaluation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.evaluation_return: float | None = None

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        """Average the returns."""
        self.evaluation_return = mean_return(rollouts, self.experiment.group_map)


class MetricsCallback(PortableCallback):
    """Log the environment's metrics in evaluations, such as the win rate, as means over episodes.

    BenchMARL logs such metrics (``log_info`` of a task) only during collection.
    """

    def on_evaluation_end(self, rollouts: list[TensorDictBase]) -> None:
        """Average the metrics."""
        for group in self.experiment.group_map:
            at_end = [find_metrics(rollout[-1], group) for rollout in rollouts]
            means = {
                f"eval/{group}/{name}": torch.stack([metrics[name].mean() for metrics in at_end]).mean().item()
                for name in at_end[0]
            }
            if means:
                self.experiment.logger.log(means, step=self.experiment.n_iters_performed)


def mean_return(rollouts: list[TensorDictBase], groups: Iterable[str]) -> float:
    """Average BenchMARL's ``episode_reward`` over agents, groups and episodes, each of shape ``[T]``."""
    returns = [group_entry(rollout, group, "reward").sum(0).mean() for rollout in rollouts for group in groups]
    return torch.stack(returns).mean().item()
