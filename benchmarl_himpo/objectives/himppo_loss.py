"""The loss of HiMPPO: clipped PPO at every level, summed (paper: PPO per level)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModuleBase, TensorDictParams
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss, LossModule
from torchrl.objectives.utils import distance_loss

from benchmarl_himpo.keys import LevelKeys
from benchmarl_himpo.objectives.functional import clipped_surrogate, masked_mean


class LevelPPOLoss(ClipPPOLoss):
    """TorchRL's clipped PPO loss for one level, over the elements that a mask keeps.

    Args:
        actor: policy of the level, with ``get_dist``.
        critic: value network of the level.
        keys: where the level's data stand in the TensorDict.
        clip_epsilon: PPO's clip, in (0, 1).
        entropy_coef: weight of the entropy bonus.
        critic_coef: weight of the critic loss.
        loss_critic_type: ``"l1"``, ``"l2"`` or ``"smooth_l1"``.
    """

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
    ) -> None:
        super().__init__(
            actor,
            critic,
            clip_epsilon=clip_epsilon,
            entropy_coeff=entropy_coef,
            critic_coeff=critic_coef,
            loss_critic_type=loss_critic_type,
        )
        self.keys = keys
        self.set_keys(
            action=keys.action,
            sample_log_prob=keys.log_prob,
            advantage=keys.advantage,
            value_target=keys.value_target,
            value=keys.state_value,
        )
        # Rows are copied with what is read of them alone; an action mask is read by the distribution
        self._actor_keys = [*actor.in_keys, *actor[-1].in_keys, keys.action, keys.log_prob, keys.advantage]
        self._critic_keys = [*critic.in_keys, keys.value_target]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Compute the losses and diagnostics of the level.

        Args:
            tensordict: rows of the batch. Shape ``[n_rows]``, with the level's keys ``[n_rows, E, 1]`` and, optionally,
                its two masks ``[n_rows, E, 1]``.

        Returns:
            Scalars ``loss_objective``, ``loss_entropy``, ``loss_critic``, and the detached ``entropy``, ``kl_approx``,
            ``clip_fraction``. All are zero where no row trains.
        """
        nothing = _zero_of(self.actor_network_params)
        out = TensorDict({name: nothing if name.startswith("loss") else nothing.detach() for name in _ACTOR_OUTPUTS})
        out.update(self._actor_terms(*_select_rows(tensordict, self._actor_keys, self.keys.actor_mask)))
        out.set("loss_critic", self._critic_term(*_select_rows(tensordict, self._critic_keys, self.keys.critic_mask)))
        return out

    def _actor_terms(self, rows: TensorDictBase, mask: Tensor | None) -> dict[str, Tensor]:
        if rows.shape[0] == 0:
            return {}
        advantage = rows.get(self.keys.advantage)
        log_weight, dist, kl_approx = self._log_weight(rows, adv_shape=advantage.shape[:-1])
        gain, is_clipped = clipped_surrogate(log_weight, advantage, self.clip_epsilon)
        entropy = self._get_entropy(dist, adv_shape=advantage.shape[:-1])
        return {
            "loss_objective": -masked_mean(gain, mask),
            "loss_entropy": -self.entropy_coeff * masked_mean(entropy, mask),
            "entropy": masked_mean(entropy.detach(), mask),
            "kl_approx": masked_mean(kl_approx.detach(), mask),
            "clip_fraction": masked_mean(is_clipped.to(gain.dtype), mask),
        }

    def _critic_term(self, rows: TensorDictBase, mask: Tensor | None) -> Tensor:
        value_target = rows.get(self.keys.value_target)
        if rows.shape[0] == 0:
            return _zero_of(self.critic_network_params)
        with self.critic_network_params.to_module(self.critic_network):
            state_value = self.critic_network(rows).get(self.keys.state_value)
        loss = distance_loss(value_target, state_value, loss_function=self.loss_critic_type)
        return self.critic_coeff * masked_mean(loss, mask)


def _zero_of(params: TensorDictParams) -> Tensor:
    """A zero that depends on the parameters, so that a minibatch in which nothing trains still has a gradient."""
    return 0 * next(iter(params.values(True, True))).sum()


_ACTOR_OUTPUTS = ("loss_objective", "loss_entropy", "entropy", "kl_approx", "clip_fraction")


def _select_rows(
    tensordict: TensorDictBase, keys: list[NestedKey], mask_key: NestedKey
) -> tuple[TensorDictBase, Tensor | None]:
    """Rows in which at least one edge trains, and the mask of their edges; all rows where there is no mask."""
    read = tensordict.select(*keys, strict=False)
    mask = tensordict.get(mask_key, None)
    if mask is None:
        return read, None
    row = mask.flatten(1).any(1)
    if row.all():
        return read, mask
    return read[row], mask[row]


class HimppoLoss(LossModule):
    """One :class:`LevelPPOLoss` per level, summed. No gradient crosses levels, since goals and rewards are data.

    Args:
        actors: policies, workers first.
        critics: value networks, workers first.
        keys: where each level's data stand, workers first.
        clip_epsilon: PPO's clip, in (0, 1).
        entropy_coef: weight of the entropy bonus, the same at every level.
        critic_coef: weight of the critic loss.
        loss_critic_type: ``"l1"``, ``"l2"`` or ``"smooth_l1"``.

    Raises:
        ValueError: if the three sequences differ in length or are empty.
    """

    def __init__(
        self,
        actors: Sequence[ProbabilisticTensorDictSequential],
        critics: Sequence[TensorDictModuleBase],
        keys: Sequence[LevelKeys],
        *,
        clip_epsilon: float,
        entropy_coef: float,
        critic_coef: float,
        loss_critic_type: str,
    ) -> None:
        super().__init__()
        if not len(actors) == len(critics) == len(keys) > 0:
            raise ValueError(
                f"HimppoLoss needs one actor, critic and set of keys per level, got {len(actors)}, {len(critics)} and "
                f"{len(keys)}"
            )
        self.level_losses = nn.ModuleList(
            LevelPPOLoss(actor, critic, level_keys, clip_epsilon, entropy_coef, critic_coef, loss_critic_type)
            for actor, critic, level_keys in zip(actors, critics, keys, strict=True)
        )

    @property
    def _levels(self) -> list[LevelPPOLoss]:
        return cast("list[LevelPPOLoss]", list(self.level_losses))

    def actor_params(self) -> Iterable[nn.Parameter]:
        """Parameters of all actors, workers first."""
        for level_loss in self._levels:
            yield from level_loss.actor_network_params.flatten_keys().values()

    def critic_params(self) -> Iterable[nn.Parameter]:
        """Parameters of all critics, workers first."""
        for level_loss in self._levels:
            yield from level_loss.critic_network_params.flatten_keys().values()

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Sum the losses of the levels.

        Args:
            tensordict: a minibatch with the keys of every level. Shape ``[n_rows]``.

        Returns:
            Scalars ``loss_objective``, ``loss_critic`` and ``loss_entropy`` (sums over levels) and, detached, every
            entry of every level with the suffix ``_level_<l>``.
        """
        levels = [level_loss(tensordict) for level_loss in self._levels]
        losses = ("loss_objective", "loss_critic", "loss_entropy")
        out = TensorDict({name: sum(td.get(name) for td in levels) for name in losses})
        for level, td in enumerate(levels):
            for name, value in td.items():
                out.set(f"{name}_level_{level}", value.detach())
        return out
