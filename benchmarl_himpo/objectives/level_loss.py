"""PPO's loss of one level of the hierarchy."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase, TensorDictParams, dispatch
from tensordict.utils import NestedKey
from torch import Tensor
from torch.distributions import Distribution
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.utils import distance_loss

from benchmarl_himpo.hierarchy.keys import LevelKeys
from benchmarl_himpo.host.torchrl import declare_out_keys, entropy_of, log_weight_of
from benchmarl_himpo.objectives.functional import clipped_surrogate, is_recorded, masked_mean

FIXED_OPTIONS: dict[str, Any] = {
    "reduction": "mean",
    "normalize_advantage": False,
    "normalize_advantage_exclude_dims": (),
    "entropy_bonus": True,
    "separate_losses": False,
    "clip_value": None,
    "log_explained_variance": False,
}
"""Options of TorchRL's PPO losses that are fixed here, each with its value."""
CRITIC_LOSSES = ("l1", "l2", "smooth_l1")
"""Distances of TorchRL between a value and its target."""
_COEFFICIENTS = ("entropy_coef", "critic_coef")  # TorchRL keeps them under names with one f more
_MAX_LOG_WEIGHT = 20.0  # its exponential has a finite gradient in float32


class RejectsUnsupportedOptions:
    """Rejects options of TorchRL's losses that would have no effect on the losses of this module."""

    def __setattr__(self, name: str, value: Any) -> None:
        owner = type(self).__name__
        if name in FIXED_OPTIONS and value != FIXED_OPTIONS[name]:
            raise ValueError(f"{owner} does not support {name}={value!r}: leave it at {FIXED_OPTIONS[name]!r}")
        if name in _COEFFICIENTS:
            raise AttributeError(
                f"{owner} takes {name} in its constructor: set {name}f of a LevelPPOLoss to a tensor instead"
            )
        if name == "value_estimator":
            self.make_value_estimator(value)
        super().__setattr__(name, value)

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> NoReturn:
        """Not supported: advantages and value targets of a level depend on all levels and are computed beforehand.

        Args:
            value_type: unused.
            **hyperparams: unused.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no value estimator: write advantages and value targets to the entries that "
            "tensor_keys names before calling it, as HierarchicalGAE does"
        )

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        pass  # no value estimator reads a key


class LevelPPOLoss(RejectsUnsupportedOptions, ClipPPOLoss):
    """TorchRL's clipped PPO loss for one level, over the unmasked elements.

    ``set_keys`` and ``tensor_keys`` define the keys of the level's data, as in TorchRL. ``in_keys`` are the required
    entries; the two masks are optional.

    Args:
        actor: policy of the level, with ``get_dist``.
        critic: value network of the level.
        keys: initial keys of the level's data.
        clip_epsilon: PPO's clip, in (0, 1].
        entropy_coef: weight of the entropy bonus.
        critic_coef: weight of the critic loss.
        loss_critic_type: ``"l1"``, ``"l2"`` or ``"smooth_l1"``.
        objective_coef: weight of the clipped surrogate, in [0, 1].
        listening_coef: weight of :meth:`listening`, which is maximised, at least 0; if 0 here, it is never computed.
        received_goal: key of the goals that the level receives; None for a level without goals, which has no listening.

    Raises:
        ValueError: if an option of :data:`FIXED_OPTIONS` is set to another value, a weight is out of range, or
            ``set_keys`` is given an unknown name.
        NotImplementedError: if a value estimator is requested.
    """

    @dataclass
    class _AcceptedKeys:
        action: NestedKey = "action"
        sample_log_prob: NestedKey = "action_log_prob"
        value: NestedKey = "state_value"
        advantage: NestedKey = "advantage"
        value_target: NestedKey = "value_target"
        actor_mask: NestedKey = "actor_mask"
        critic_mask: NestedKey = "critic_mask"

    default_keys = _AcceptedKeys
    out_keys = TensorDictModuleBase.out_keys

    # TorchRL asks every loss class to annotate its networks itself
    actor_network: ProbabilisticTensorDictSequential
    critic_network: TensorDictModuleBase
    actor_network_params: TensorDictParams
    critic_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    target_critic_network_params: TensorDictParams

    def __init__(
        self,
        actor: ProbabilisticTensorDictSequential,
        critic: TensorDictModuleBase,
        keys: LevelKeys,
        clip_epsilon: float,
        entropy_coef: float,
        critic_coef: float,
        loss_critic_type: str,
        objective_coef: float = 1.0,
        listening_coef: float = 0.0,
        received_goal: NestedKey | None = None,
    ) -> None:
        super().__init__(
            actor,
            critic,
            clip_epsilon=clip_epsilon,
            entropy_coeff=entropy_coef,
            critic_coeff=critic_coef,
            loss_critic_type=loss_critic_type,
            log_explained_variance=False,
        )
        if not 0 < clip_epsilon <= 1:
            raise ValueError(f"clip_epsilon={clip_epsilon} must be above 0 and at most 1, such as 0.2")
        if critic_coef < 0:
            raise ValueError(f"critic_coef={critic_coef} must be at least 0")
        if loss_critic_type not in CRITIC_LOSSES:
            raise ValueError(
                f"loss_critic_type={loss_critic_type} is unknown: choose one of {', '.join(CRITIC_LOSSES)}"
            )
        if not 0 <= objective_coef <= 1:
            raise ValueError(f"objective_coef={objective_coef} must be in [0, 1]")
        if listening_coef < 0:
            raise ValueError(f"listening_coef={listening_coef} must be at least 0")
        self.objective_coef = objective_coef
        self.listening_coef = listening_coef
        self.received_goal = received_goal if listening_coef > 0 else None
        self.actor_outputs = [*ACTOR_OUTPUTS, *([] if self.received_goal is None else ["listening"])]
        declare_out_keys(self, [*self.actor_outputs, "loss_critic"])
        self.set_keys(
            action=keys.action,
            sample_log_prob=keys.log_prob,
            value=keys.state_value,
            advantage=keys.advantage,
            value_target=keys.value_target,
            actor_mask=keys.actor_mask,
            critic_mask=keys.critic_mask,
        )

    @property
    def functional(self) -> bool:
        """Whether a call swaps parameters into the networks: in copies, whose networks hold other parameters."""
        return next(self.actor_network.parameters(), None) is not next(self.actor_network_params.parameters(), None)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Required entries, without the masks."""
        return list(dict.fromkeys([*self._actor_keys, *self._critic_keys]))

    @property
    def mask_keys(self) -> list[NestedKey]:
        """Entries of the optional masks."""
        return [self.tensor_keys.actor_mask, self.tensor_keys.critic_mask]

    @property
    def _actor_keys(self) -> list[NestedKey]:
        keys = self.tensor_keys
        return [*self.actor_network.in_keys, keys.action, keys.sample_log_prob, keys.advantage]

    @property
    def _critic_keys(self) -> list[NestedKey]:
        return [*self.critic_network.in_keys, self.tensor_keys.value_target]

    @dispatch
    def forward(self, tensordict: TensorDictBase, actor_rows: TensorDictBase | None = None) -> TensorDictBase:
        """Compute the losses and diagnostics of the level.

        Args:
            tensordict: rows of the batch. Shape ``[n_rows]`` or ``[]``, with the level's keys ``[n_rows, E, 1]`` and,
                optionally, its two masks ``[n_rows, E, 1]``.
            actor_rows: the same rows with other inputs for the actor, such as differentiable goals; None: the same.

        Returns:
            Scalars ``loss_objective``, ``loss_entropy``, ``loss_critic``, and the detached ``entropy``, ``kl_approx``,
            ``clip_fraction`` and, for ``listening_coef`` above 0, ``listening``. All are zero if no row trains.

        Raises:
            KeyError: if an entry of ``in_keys`` is missing.
        """
        rows = tensordict if tensordict.ndim else tensordict.unsqueeze(0)
        nothing = _zero_of(self.actor_network_params)
        out = TensorDict(
            {name: nothing if name.startswith("loss") else nothing.detach() for name in self.actor_outputs}
        )
        seen = rows if actor_rows is None else actor_rows
        out.update(self._actor_terms(*self._select_rows(seen, self._actor_keys, self.tensor_keys.actor_mask)))
        out.set(
            "loss_critic", self._critic_term(*self._select_rows(rows, self._critic_keys, self.tensor_keys.critic_mask))
        )
        return out

    def _select_rows(
        self, tensordict: TensorDictBase, keys: list[NestedKey], mask_key: NestedKey
    ) -> tuple[TensorDictBase, Tensor | None]:
        """Rows in which at least one element trains, and the mask of their elements.

        All rows without a mask, or if their number may not depend on data (:func:`is_recorded`).
        """
        missing = [key for key in keys if key not in tensordict.keys(True)]
        if missing:
            raise KeyError(
                f"{type(self).__name__} reads {', '.join(map(str, missing))}, which the tensordict does not have: "
                "write these entries, or name others with set_keys"
            )
        read = tensordict.select(*keys)
        mask = tensordict.get(mask_key, None)
        if mask is None or is_recorded():
            return read, mask
        row = mask.flatten(1).any(1)
        if row.all():
            return read, mask
        return read[row], mask[row]

    def _actor_terms(self, rows: TensorDictBase, mask: Tensor | None) -> dict[str, Tensor]:
        if rows.shape[0] == 0:
            return {}
        advantage = rows.get(self.tensor_keys.advantage)
        log_weight, dist, kl_approx = log_weight_of(self, rows, advantage.shape[:-1])
        if mask is not None:  # a masked ratio may overflow
            log_weight = torch.where(mask, log_weight, 0)
        gain, is_clipped = clipped_surrogate(log_weight, advantage, self.clip_epsilon)
        entropy = self._entropy_of(dist, advantage.shape[:-1])
        objective = self.objective_coef * masked_mean(gain, mask)
        diagnostics = {}
        if self.received_goal is not None:
            listening = masked_mean(self.listening(rows, log_weight), mask)
            objective = objective + self.listening_coef * listening
            diagnostics = {"listening": listening.detach()}
        return diagnostics | {
            "loss_objective": -objective,
            "loss_entropy": -self.entropy_coeff * masked_mean(entropy, mask),
            "entropy": masked_mean(entropy.detach(), mask),
            "kl_approx": masked_mean(kl_approx.detach(), mask),
            "clip_fraction": masked_mean(is_clipped.to(gain.dtype), mask),
        }

    def listening(self, rows: TensorDictBase, log_weight: Tensor) -> Tensor:
        """Dependence of the actions on the received goals: max(0, pi(a | o, g) - pi(a | o, 0)) / pi_old(a | o, g).

        The mean over collected actions is the total variation distance, in [0, 1], between the policy that receives
        the goal and the same policy that receives zeros, and its gradient is that of the distance. This is the positive
        listening of Eccles et al., 2019 (https://arxiv.org/abs/1912.05676), who take the L1 distance for discrete
        actions. The estimate from one sample, which also works for continuous actions, and zeros as absent goal are
        ours.

        Args:
            rows: rows that train. Shape ``[n_rows]``.
            log_weight: log-ratio of the actions' probabilities, now to collection. Shape ``[n_rows, E, 1]``.

        Returns:
            Shape ``[n_rows, E, 1]``.
        """
        without = rows.copy().set(self.received_goal, torch.zeros_like(rows.get(self.received_goal)))
        log_weight_without, _, _ = log_weight_of(self, without, log_weight.shape[:-1])
        # Clamped before the exponentials, whose overflow would have no gradient
        weight = log_weight.clamp(max=_MAX_LOG_WEIGHT).exp()
        return weight * (1 - (log_weight_without - log_weight).clamp(max=0).exp())

    def _entropy_of(self, dist: Distribution, shape: torch.Size) -> Tensor:
        if is_recorded():  # TorchRL reads whether a closed form is finite
            try:
                return dist.entropy().unsqueeze(-1)
            except NotImplementedError:
                pass
        return entropy_of(self, dist, shape)

    def _critic_term(self, rows: TensorDictBase, mask: Tensor | None) -> Tensor:
        value_target = rows.get(self.tensor_keys.value_target)
        if rows.shape[0] == 0:
            return _zero_of(self.critic_network_params)
        with self.critic_network_params.to_module(self.critic_network) if self.functional else nullcontext():
            state_value = self.critic_network(rows)[self.tensor_keys.value]
        loss = distance_loss(value_target, state_value, loss_function=self.loss_critic_type)
        weight = 0.0 if self.critic_coeff is None else self.critic_coeff  # TorchRL keeps None for 0
        return weight * masked_mean(loss, mask)


def _zero_of(params: TensorDictParams) -> Tensor:
    """A zero that depends on all parameters, which have a gradient of zero in a minibatch without training rows."""
    return sum((0 * value.sum() for value in params.values(True, True)), start=torch.zeros(()))


ACTOR_OUTPUTS = ("loss_objective", "loss_entropy", "entropy", "kl_approx", "clip_fraction")
LOSSES = ("loss_objective", "loss_critic", "loss_entropy")
"""Entries of the output that are optimised."""
