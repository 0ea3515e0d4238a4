"""What is used of TorchRL beyond its documentation. Imports no BenchMARL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tensordict import LazyStackedTensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch.distributions import Distribution
from torchrl.envs import EnvBase
from torchrl.envs.libs.vmas import VmasWrapper
from torchrl.modules import MultiAgentNetBase
from torchrl.objectives import LossModule, PPOLoss
from torchrl.record.loggers import Logger
from torchrl.record.loggers.csv import CSVLogger

from benchmarl_himpo.host.hook import Hook

if TYPE_CHECKING:
    from torchrl.collectors import SyncDataCollector

_WRITTEN_FOR = "nothing: TorchRL documents that one overrides it"
HOOKS = (
    Hook(EnvBase, "_reset", ("tensordict", "kwargs"), "how an environment begins episodes", _WRITTEN_FOR),
    Hook(EnvBase, "_step", ("tensordict",), "how an environment steps", _WRITTEN_FOR),
    Hook(EnvBase, "_set_seed", ("seed",), "how an environment is seeded", _WRITTEN_FOR),
    Hook(LossModule, "_AcceptedKeys", (), "the keys of a loss", _WRITTEN_FOR),
    Hook(PPOLoss, "_forward_value_estimator_keys", ("kwargs",), "no value estimator reads a key", _WRITTEN_FOR),
)
"""What classes of this package override of TorchRL's under private names."""

MIN_GAE_DECAY = 1e-7
"""Product of gamma and lambda below which ``vec_generalized_advantage_estimate`` drops even its series' first term.

Needed to take the one-step estimator there, where the vectorised one raises an IndexError. The number is a default of a
private function. A vectorised estimator that keeps its first term would replace this.
"""

NETWORK_PARAMETERS = "_params."
"""Stands in a loss's ``state_dict`` between the name of a network, or of its target, and the name of a parameter.

Needed to tell networks from coefficients in checkpoints. Parameters that a loss lists by network would replace this.
"""


def log_weight_of(loss: PPOLoss, tensordict: TensorDictBase, shape: torch.Size) -> tuple[Tensor, Distribution, Tensor]:
    """Compare the policy with the one that collected, by ``PPOLoss._log_weight``.

    Needed because the clipped loss of a level takes its mean over a mask, which TorchRL's ``forward`` does not. A mask
    among the keys of :class:`~torchrl.objectives.ClipPPOLoss` would replace this.

    Args:
        loss: the loss.
        tensordict: what it reads. Shape ``[*B]``.
        shape: shape of the advantages without their last dimension of 1.

    Returns:
        Log-probability of the actions less that at collection, shape ``[*shape, 1]``; the policy's distribution; and
        the approximate KL divergence, shape ``[*shape, 1]``.
    """
    return loss._log_weight(tensordict, adv_shape=shape)


def entropy_of(loss: PPOLoss, dist: Distribution, shape: torch.Size) -> Tensor:
    """Entropy of a policy, by ``PPOLoss._get_entropy``: of ``samples_mc_entropy`` samples if it has no closed form.

    Needed for the same reason as :func:`log_weight_of`, whose ``shape`` it takes. Shape ``[*shape, 1]``.
    """
    return loss._get_entropy(dist, adv_shape=shape)


def declare_out_keys(loss: TensorDictModuleBase, names: Sequence[str]) -> None:
    """Say what a subclass of a TorchRL loss returns, so that ``select_out_keys`` can choose among it.

    Needed because the constructor of :class:`~torchrl.objectives.PPOLoss` has set its private ``_out_keys`` to None,
    which ``out_keys`` takes for a declaration. A loss whose ``out_keys`` can be set once would replace this.
    """
    loss._out_keys = list(names)
    loss.out_keys = names


def plain_networks(net: MultiAgentNetBase) -> list[nn.Module]:
    """Take a multi-agent network apart into modules that own copies of their parameters, which need no gradient.

    Needed because it swaps its parameters in at each call, which no export follows. ``params`` is not documented. A
    documented way to each agent's network would replace this.

    Returns:
        The shared network alone, or each agent's own.
    """
    parts = [net.params] if net.share_params else [net.params[agent] for agent in range(net.n_agents)]
    networks = [net.get_stateful_net() for _ in parts]
    for network, part in zip(networks, parts, strict=True):
        part.data.apply(lambda value: nn.Parameter(value.clone(), requires_grad=False)).to_module(network)
    return networks


def vmas_environment(env: VmasWrapper) -> Any:
    """Give VMAS's own ``Environment`` that TorchRL's, without transforms, wraps: its private ``_env``.

    Needed to read and set the simulation's state. A documented ``env.unwrapped`` would replace this.
    """
    return vars(env)["_env"]


def keep_csv_videos_as_tensors(loggers: Iterable[Logger]) -> None:
    """Tell the CSV loggers among some to save films as tensors.

    Needed because they write mp4 through a function that torchvision no longer has. ``CSVLogger.experiment`` is not
    documented, nor is its ``video_format``, and BenchMARL makes the loggers. TorchRL writing mp4 another way would
    replace this.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.video_format = "pt"


def capture_carried(collector: SyncDataCollector) -> dict[str, Any] | None:
    """Write down what a collector carries from one batch to the next: its private ``_carrier`` and ``_traj_pool``.

    Needed to resume in the middle of episodes, where a collector's own ``state_dict`` begins new ones. A
    ``state_dict`` that holds where its episodes are would replace this and :func:`restore_carried`.

    Returns:
        Tensors and numbers; None where agents of a group have entries of different shapes, which have no state.
    """
    carrier = collector._carrier
    if any(isinstance(value, LazyStackedTensorDict) for value in carrier.values(include_nested=True)):
        return None
    return {"carried": carrier.state_dict(), "n_trajectories": collector._traj_pool._traj_id.item()}


def restore_carried(collector: SyncDataCollector, state: dict[str, Any]) -> None:
    """Let a collector go on with what another one carried, as :func:`capture_carried` gave it."""
    empty = collector._carrier.empty(recurse=True)
    collector._carrier = empty.load_state_dict(state["carried"], strict=False, assign=True)
    collector._traj_pool._traj_id.fill_(state["n_trajectories"])
