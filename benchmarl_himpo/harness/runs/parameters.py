"""Copy trained parameters into networks, all of them or those whose names and shapes match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarl_himpo.harness.runs.checkpoint import CheckpointError
from benchmarl_himpo.host.benchmarl_files import loss_key, policy_state_in
from benchmarl_himpo.host.torchrl import NETWORK_PARAMETERS


@dataclass(frozen=True)
class Fit:
    """Result of copying a saved state into a module.

    Args:
        taken: names of the copied parameters.
        fresh: for each parameter that keeps its initialisation, the reason.
        unused: names of saved parameters that the module does not have.
    """

    taken: list[str] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def load_parameters(module: nn.Module, saved: dict[str, Tensor]) -> None:
    """Copy all parameters, and buffers of the same shape; other buffers depend on the number of agents.

    Raises:
        CheckpointError: if a parameter is missing or has another shape.
    """
    for name, reason in copy_parameters(module, saved).fresh.items():
        raise CheckpointError(
            f"the policy does not fit this task: its parameter {name} {reason}. Sizes of observation and action must "
            "be equal, and the number of agents too unless agents share parameters"
        )


def copy_parameters(module: nn.Module, saved: dict[str, Tensor]) -> Fit:
    """Copy the parameters and buffers of the same name and shape; buffers are not counted."""
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    fit = Fit(unused=[name for name, value in saved.items() if isinstance(value, Tensor) and name not in own])
    for name, value in own.items():
        found = saved.get(name)
        if found is not None and found.shape == value.shape:
            with torch.no_grad():
                value.copy_(found)
            if isinstance(value, nn.Parameter):
                fit.taken.append(name)
        elif isinstance(value, nn.Parameter):
            reason = "is missing" if found is None else f"has shape {list(found.shape)}"
            fit.fresh[name] = f"should have shape {list(value.shape)} and {reason}"
    return fit


def copy_networks(losses: dict[str, nn.Module], state: dict[str, Any]) -> Fit:
    """Copy actors, critics and their targets of the same name and shape; coefficients of the losses are unchanged."""
    total = Fit()
    for group, loss in losses.items():
        trained = {name for name, value in loss.state_dict(keep_vars=True).items() if isinstance(value, nn.Parameter)}
        saved = state.get(loss_key(group), {})
        fit = copy_parameters(loss, {k: v for k, v in saved.items() if k in trained or NETWORK_PARAMETERS in k})
        total.taken.extend(f"{group}/{name}" for name in fit.taken)
        total.fresh.update({f"{group}/{name}": reason for name, reason in fit.fresh.items()})
        total.unused.extend(f"{group}/{name}" for name in fit.unused)
    return total


def policy_of(state: dict[str, Any]) -> dict[str, Tensor] | None:
    """Find the state of the policy in a checkpoint; None if only the states of the losses contain it."""
    return state.get("policy") or policy_state_in(state)
