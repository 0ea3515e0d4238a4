"""An update on a minibatch without device reads, so that a CUDA graph can replay it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from benchmarl.algorithms.common import Algorithm
from benchmarl.experiment import ExperimentConfig
from tensordict import TensorDictBase
from tensordict.nn import CudaGraphModule
from torch import Tensor
from torch.optim import Optimizer
from torchrl.objectives import LossModule

from benchmarl_himpo.harness.checks import RequestError

UPDATE_STEPS = ("eager", "cudagraphs")
"""Execution of an update: operation by operation, as in BenchMARL, or as one CUDA graph."""


def check_update_step(update_step: str, config: ExperimentConfig, on_policy: bool) -> None:
    """Check that an execution of updates is supported.

    Args:
        update_step: one of :data:`UPDATE_STEPS`.
        config: the experiment's configuration, resolved.
        on_policy: whether the algorithm is on-policy.

    Raises:
        RequestError: if it is unknown, or unsupported for this algorithm, device or size of minibatches.
    """
    if update_step not in UPDATE_STEPS:
        raise RequestError(f"update_step={update_step} is unknown: choose from {', '.join(UPDATE_STEPS)}.")
    if update_step == "eager":
        return
    needs = "update_step=cudagraphs needs"
    if not on_policy:
        raise RequestError(f"{needs} an on-policy algorithm: choose update_step=eager.")
    if not config.train_device.startswith("cuda"):
        raise RequestError(
            f"{needs} a CUDA device, not experiment.train_device={config.train_device}: choose update_step=eager."
        )
    frames, size = config.on_policy_collected_frames_per_batch, config.on_policy_minibatch_size
    if frames % size:
        raise RequestError(
            f"{needs} minibatches of one size: experiment.on_policy_minibatch_size={size} does not divide "
            f"experiment.on_policy_collected_frames_per_batch={frames}, change it or choose update_step=eager."
        )


def check_fixed_loss(algorithm: Algorithm) -> None:
    """Check that a loss does not change after its graph was captured.

    Args:
        algorithm: the algorithm; its attribute ``varying_options``, if any, names options that change its loss.

    Raises:
        RequestError: if there are such options.
    """
    if varying := getattr(algorithm, "varying_options", ()):
        options = " and ".join(f"algorithm.{name}" for name in varying)
        raise RequestError(
            f"update_step=cudagraphs needs a constant loss, but {options} change it during a run: leave them out or "
            "choose update_step=eager."
        )


class UpdateStep:
    """A step of all optimisers of a group, equal to that of BenchMARL's on-policy algorithms up to rounding.

    Losses whose optimisers share no parameter are differentiated together.

    Args:
        loss: the loss of the group.
        combine: combines the loss's outputs into one loss per optimiser, by name.
        optimizers: the optimisers, by the name of their loss.
        config: the experiment's configuration, for gradient clipping.
    """

    def __init__(
        self,
        loss: LossModule,
        combine: Callable[[TensorDictBase], TensorDictBase],
        optimizers: Mapping[str, Optimizer],
        config: ExperimentConfig,
    ) -> None:
        self.loss, self.combine, self.optimizers = loss, combine, optimizers
        self.clip_norm, self.max_gradient = config.clip_grad_norm, config.clip_grad_val

    def __call__(self, minibatch: TensorDictBase) -> TensorDictBase:
        """Train on a minibatch; returns losses, diagnostics and gradient norms, detached."""
        losses = self.loss(minibatch)
        result = losses.detach()
        combined = self.combine(losses)
        torch.autograd.backward([combined.get(name) for name in self.optimizers])
        for name, optimizer in self.optimizers.items():
            result.set(f"grad_norm_{name}", self._clip(optimizer))
            optimizer.step()
            optimizer.zero_grad()
        return result

    def _clip(self, optimizer: Optimizer) -> Tensor:
        """Clip the gradients of an optimiser, and return their norm before clipping."""
        params = [param for group in optimizer.param_groups for param in group["params"] if param.grad is not None]
        norm = torch.nn.utils.get_total_norm([param.grad for param in params])
        if self.max_gradient is not None and self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(params, self.max_gradient, norm)
        elif self.max_gradient is not None:
            torch.nn.utils.clip_grad_value_(params, self.max_gradient)
        return norm


def keep_as_graph(step: UpdateStep) -> CudaGraphModule:
    """Capture a step as a CUDA graph at its second call, and replay it from the third on."""
    for optimizer in step.optimizers.values():
        for group in optimizer.param_groups:
            group["capturable"] = True
    return CudaGraphModule(step, in_keys=[], out_keys=[])
