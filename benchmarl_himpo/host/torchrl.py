"""Undocumented parts of TorchRL. Does not import BenchMARL."""

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
"""Private methods and classes of TorchRL that classes of this package override."""

MIN_GAE_DECAY = 1e-7
"""Product of gamma and lambda below which ``vec_generalized_advantage_estimate`` drops even its series' first term.

Needed to use the one-step estimator there, because the vectorised one raises an IndexError. The value is a default of a
private function. A vectorised estimator that keeps its first term would replace this.
"""

NETWORK_PARAMETERS = "_params."
"""Separator in a loss's ``state_dict`` between the name of a network, or of its target, and the name of a parameter.

Needed to distinguish networks from coefficients in checkpoints. A list of a loss's parameters by network would replace
this.
"""


def log_weight_of(loss: PPOLoss, tensordict: TensorDictBase, shape: torch.Size) -> tuple[Tensor, Distribution, Tensor]:
    """Log-ratio of the present policy to the collection policy, by ``PPOLoss._log_weight``.

    Needed because the clipped loss of a level is a mean over a mask, which TorchRL's ``forward`` does not support. A
    mask among the keys of :class:`~torchrl.objectives.ClipPPOLoss` would replace this.

    Args:
        loss: the loss.
        tensordict: input of the loss. Shape ``[*B]``.
        shape: shape of the advantages without their last dimension of 1.

    Returns:
        Log-ratio of the actions' probabilities, now to collection, shape ``[*shape, 1]``; the policy's distribution;
        and the approximate KL divergence, shape ``[*shape, 1]``.
    """
    return loss._log_weight(tensordict, adv_shape=shape)


def entropy_of(loss: PPOLoss, dist: Distribution, shape: torch.Size) -> Tensor:
    """Entropy of a policy, by ``PPOLoss._get_entropy``: from ``samples_mc_entropy`` samples without a closed form.

    Needed for the same reason as :func:`log_weight_of`, with the same ``shape``. Shape ``[*shape, 1]``.
    """
    return loss._get_entropy(dist, adv_shape=shape)


def declare_out_keys(loss: TensorDictModuleBase, names: Sequence[str]) -> None:
    """Declare the outputs of a subclass of a TorchRL loss, so that ``select_out_keys`` can select among them.

    Needed because the constructor of :class:`~torchrl.objectives.PPOLoss` sets its private ``_out_keys`` to None, which
    ``out_keys`` treats as a declaration. A loss whose ``out_keys`` can be set once would replace this.
    """
    loss._out_keys = list(names)
    loss.out_keys = names


def plain_networks(net: MultiAgentNetBase) -> list[nn.Module]:
    """Split a multi-agent network into modules that own copies of their parameters, without gradients.

    Needed because the network swaps its parameters in at each call, which torch.export does not support. ``params`` is
    not documented. Documented access to each agent's network would replace this.

    Returns:
        Only the shared network, or each agent's own network.
    """
    parts = [net.params] if net.share_params else [net.params[agent] for agent in range(net.n_agents)]
    networks = [net.get_stateful_net() for _ in parts]
    for network, part in zip(networks, parts, strict=True):
        part.data.apply(lambda value: nn.Parameter(value.clone(), requires_grad=False)).to_module(network)
    return networks


def vmas_environment(env: VmasWrapper) -> Any:
    """VMAS's own ``Environment`` inside TorchRL's wrapper without transforms: the private ``_env``.

    Needed to read and set the simulation's state. A documented ``env.unwrapped`` would replace this.
    """
    return vars(env)["_env"]


def keep_csv_videos_as_tensors(loggers: Iterable[Logger]) -> None:
    """Let the CSV loggers among the given ones save films as tensors.

    Needed because they write mp4 with a function that torchvision removed. ``CSVLogger.experiment`` and its
    ``video_format`` are not documented, and BenchMARL creates the loggers. Another mp4 writer in TorchRL would replace
    this.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.video_format = "pt"


def capture_carried(collector: SyncDataCollector) -> dict[str, Any] | None:
    """Capture a collector's state between batches: its private ``_carrier`` and ``_traj_pool``.

    Needed to resume in the middle of episodes; a collector's own ``state_dict`` begins new ones. A ``state_dict`` that
    contains the running episodes would replace this and :func:`restore_carried`.

    Returns:
        Tensors and numbers; None if agents of a group have entries of different shapes, which have no state.
    """
    carrier = collector._carrier
    if any(isinstance(value, LazyStackedTensorDict) for value in carrier.values(include_nested=True)):
        return None
    return {"carried": carrier.state_dict(), "n_trajectories": collector._traj_pool._traj_id.item()}


def restore_carried(collector: SyncDataCollector, state: dict[str, Any]) -> None:
    """Restore a collector's state from the result of :func:`capture_carried`."""
    empty = collector._carrier.empty(recurse=True)
    collector._carrier = empty.load_state_dict(state["carried"], strict=False, assign=True)
    collector._traj_pool._traj_id.fill_(state["n_trajectories"])
