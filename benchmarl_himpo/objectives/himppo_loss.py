"""The loss of HiMPPO: clipped PPO at every level, summed (paper: PPO per level)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import NestedKey
from torch import nn
from torchrl.objectives import LossModule

from benchmarl_himpo.objectives.goal_gradient import GoalGradient
from benchmarl_himpo.objectives.level_loss import (
    LOSSES,
    LevelPPOLoss,
    RejectsUnsupportedOptions,
)
from benchmarl_himpo.objectives.normalization import LevelNorm

if TYPE_CHECKING:
    from benchmarl_himpo.models import HierarchicalPolicy

_LEVEL_OPTIONS = (
    "objective_coef",
    "listening_coef",
    "clip_epsilon",
    "entropy_coeff",
    "critic_coeff",
    "loss_critic_type",
    "samples_mc_entropy",
)


def entry_of_level(name: str, level: int) -> str:
    """Key of a level's output in the output of the whole loss, where only optimised entries are named ``loss_*``.

    Args:
        name: name of the level's entry, such as ``"entropy"`` or ``"loss_critic"``.
        level: number of the level, 0 being the workers.

    Returns:
        The name, such as ``"entropy_level_0"`` or ``"critic_loss_level_0"``.
    """
    is_loss, part = name in LOSSES, name.removeprefix("loss_")
    return f"{part}_loss_level_{level}" if is_loss else f"{name}_level_{level}"


class HimppoLoss(RejectsUnsupportedOptions, LossModule):
    """Sum of one :class:`LevelPPOLoss` per level. No gradient flows between levels, except with ``goal_gradient``.

    ``tensor_keys`` holds lists, one key per level, workers first, and ``set_keys`` takes such lists. ``in_keys`` are
    the required entries; the masks of every level, ``mask_keys``, are optional.

    Args:
        policy: the policy, with one actor per level.
        critics: value networks, workers first.
        clip_epsilon: PPO's clip, in (0, 1].
        entropy_coef: weight of the entropy bonus, one number or one per level, workers first.
        critic_coef: weight of the critic loss.
        loss_critic_type: ``"l1"``, ``"l2"`` or ``"smooth_l1"``.
        objective_coef: weight of the clipped surrogate, in [0, 1], one number or one per level, workers first.
        goal_gradient: lets the workers' surrogate train the levels above; None: no gradient between levels.
        listening_coef: weight of the dependence of actions on received goals, :meth:`LevelPPOLoss.listening`; 0: none.
        norms: running statistics of :class:`HierarchicalGAE`, saved with the loss's parameters.

    Attributes:
        trains: whether the losses of each level have a gradient, workers first.

    Raises:
        ValueError: if there is not one critic or entropy weight per level, or an option of :data:`FIXED_OPTIONS` is set
            to another value.
        AttributeError: if an option of a level is set here instead of in ``level_losses``.
        NotImplementedError: if a value estimator is requested.
    """

    @dataclass(frozen=True)
    class _AcceptedKeys:
        action: list[NestedKey] = field(default_factory=list)
        sample_log_prob: list[NestedKey] = field(default_factory=list)
        value: list[NestedKey] = field(default_factory=list)
        advantage: list[NestedKey] = field(default_factory=list)
        value_target: list[NestedKey] = field(default_factory=list)
        actor_mask: list[NestedKey] = field(default_factory=list)
        critic_mask: list[NestedKey] = field(default_factory=list)

    def __init__(
        self,
        policy: HierarchicalPolicy,
        critics: Sequence[TensorDictModuleBase],
        *,
        clip_epsilon: float,
        entropy_coef: float | Sequence[float],
        critic_coef: float,
        loss_critic_type: str,
        objective_coef: float | Sequence[float] = 1.0,
        goal_gradient: GoalGradient | None = None,
        listening_coef: float = 0.0,
        norms: Sequence[LevelNorm] = (),
    ) -> None:
        super().__init__()
        self.goal_gradient = goal_gradient
        self.norms = nn.ModuleList(norms)
        hierarchy = policy.hierarchy
        self.trains = [True] * hierarchy.layout.n_levels
        n_levels = hierarchy.layout.n_levels
        if len(critics) != n_levels:
            raise ValueError(f"HimppoLoss needs one critic per level, got {len(critics)} for {n_levels} levels")
        entropy_coefs = hierarchy.layout.per_level("entropy_coef", entropy_coef)
        objective_coefs = hierarchy.layout.per_level("objective_coef", objective_coef)
        self.level_losses = nn.ModuleList(
            LevelPPOLoss(
                actor,
                critic,
                hierarchy.keys[level],
                clip_epsilon=clip_epsilon,
                entropy_coef=entropy_coefs[level],
                critic_coef=critic_coef,
                loss_critic_type=loss_critic_type,
                objective_coef=objective_coefs[level],
                listening_coef=listening_coef,
                received_goal=hierarchy.keys[level + 1].action if level < hierarchy.layout.top else None,
            )
            for level, (actor, critic) in enumerate(zip(policy.actors, critics, strict=True))
        )
        of_levels = [entry_of_level(name, level) for level, of in enumerate(self._levels) for name in of.out_keys]
        self.out_keys = [*LOSSES, *of_levels]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LEVEL_OPTIONS:
            raise AttributeError(f"HimppoLoss has no {name}: set {name} of each of its level_losses")
        super().__setattr__(name, value)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Required entries of all levels, without the masks."""
        of_goals = [] if self.goal_gradient is None else self.goal_gradient.keys
        return list(dict.fromkeys([*(key for level_loss in self._levels for key in level_loss.in_keys), *of_goals]))

    @property
    def mask_keys(self) -> list[NestedKey]:
        """Entries of the optional masks of all levels."""
        return [key for level_loss in self._levels for key in level_loss.mask_keys]

    @property
    def tensor_keys(self) -> _AcceptedKeys:
        """Keys of the levels' data: for each name a list, one key per level, workers first."""
        names = [accepted.name for accepted in fields(self._AcceptedKeys)]
        return self._AcceptedKeys(**{name: [getattr(x.tensor_keys, name) for x in self._levels] for name in names})

    def set_keys(self, **kwargs: NestedKey | list[NestedKey]) -> None:
        """Set the keys of the levels' data.

        Args:
            **kwargs: for each name of ``tensor_keys`` a list, one key per level, workers first, or a single key for
                all levels.

        Raises:
            ValueError: if a name is unknown or a list has not one key per level; no key is changed then.
        """
        n_levels = len(self._levels)
        names = [accepted.name for accepted in fields(self._AcceptedKeys)]
        for name, keys in kwargs.items():
            if name not in names:
                raise ValueError(f"HimppoLoss has no key {name}: choose from {', '.join(names)}")
            if isinstance(keys, list) and len(keys) != n_levels:
                raise ValueError(f"{name} needs one key for each of the {n_levels} levels, got {len(keys)}")
        for level, level_loss in enumerate(self._levels):
            level_loss.set_keys(
                **{name: keys[level] if isinstance(keys, list) else keys for name, keys in kwargs.items()}
            )

    def reset_parameters_recursive(self) -> None:
        """Re-initialise the parameters of every level."""
        for level_loss in self._levels:
            level_loss.reset_parameters_recursive()

    @property
    def _levels(self) -> list[LevelPPOLoss]:
        return cast("list[LevelPPOLoss]", list(self.level_losses))

    def _see_goals(self, tensordict: TensorDictBase) -> TensorDictBase | None:
        """The rows with differentiable goals; None without ``goal_gradient``."""
        if self.goal_gradient is None:
            return None
        rows = tensordict if tensordict.ndim else tensordict.unsqueeze(0)
        params = [level_loss.actor_network_params for level_loss in self._levels]
        trained = [
            of_level if trains else of_level.detach() for of_level, trains in zip(params, self.trains, strict=True)
        ]
        return self.goal_gradient(rows, trained)

    def actor_params(self) -> list[list[nn.Parameter]]:
        """Parameters of the actor of each level, workers first."""
        return [list(level_loss.actor_network_params.flatten_keys().values()) for level_loss in self._levels]

    def critic_params(self) -> list[list[nn.Parameter]]:
        """Parameters of the critic of each level, workers first."""
        return [list(level_loss.critic_network_params.flatten_keys().values()) for level_loss in self._levels]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Sum the losses of the levels.

        Args:
            tensordict: a minibatch with the keys of every level. Shape ``[n_rows]`` or ``[]``.

        Returns:
            Scalars ``loss_objective``, ``loss_critic`` and ``loss_entropy`` (sums over levels), whose sum is optimised,
            and, detached, every entry of every level under the name that :func:`entry_of_level` gives, such as
            ``entropy_level_0`` and ``critic_loss_level_0``.

        Raises:
            KeyError: if an entry of ``in_keys`` is missing.
        """
        levels = []
        for level, level_loss in enumerate(self._levels):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains[level]):
                levels.append(level_loss(tensordict, self._see_goals(tensordict) if level == 0 else None))
        out = TensorDict({name: sum(td.get(name) for td in levels) for name in LOSSES})
        for level, td in enumerate(levels):
            for name, value in td.items():
                out.set(entry_of_level(name, level), value.detach())
        return out
