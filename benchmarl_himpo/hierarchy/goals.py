"""Goal spaces: form and distribution of the goals that a superior sends. TorchRL distributions, no BenchMARL.

A new goal space is one small class and one line in ``goal_registry``; its options are fields of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import torch
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModule, TensorDictModuleBase
from tensordict.nn.distributions import NormalParamExtractor
from torch import Tensor
from torchrl.modules import IndependentNormal, OneHotCategorical

MIN_GOAL_SCALE = 0.01
"""Smallest standard deviation of a goal, in goal units: the lower bound of the biased softplus."""


@dataclass(frozen=True)
class GoalSpace(ABC):
    """A space of goals and the distribution that a superior draws them from.

    Args:
        dim: size of a goal, at least 1.

    Raises:
        ValueError: if ``dim`` is no whole number or below 1.
    """

    dim: int

    def __post_init__(self) -> None:
        """Check the size."""
        if not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"goal_dim={self.dim} must be a whole number of 1 or more")

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Outputs of a goal actor's network for each recipient."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of goals in a TensorDict."""
        return torch.get_default_dtype()

    @property
    def is_differentiable(self) -> bool:
        """Whether goals are reparametrised, hence differentiable in the distribution's parameters (:meth:`change`)."""
        return False

    def change(self, goal: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Difference that new parameters make to a goal under the same noise, differentiable in these parameters.

        Args:
            goal: the goals that were drawn. Shape ``[*B, E, dim]``.
            old: the network's output when the goals were drawn. Shape ``[*B, E, n_parameters]``.
            new: the network's present output. Shape ``[*B, E, n_parameters]``.

        Returns:
            New goal minus ``goal``, zero for equal parameters. Shape ``[*B, E, dim]``.

        Raises:
            NotImplementedError: if goals are not differentiable.
        """
        raise NotImplementedError(f"goals of a {type(self).__name__} are not differentiable in their parameters")

    @abstractmethod
    def distribution(
        self, parameters: tuple[str, str], action: tuple[str, str], log_prob: tuple[str, str]
    ) -> list[TensorDictModuleBase]:
        """Modules from a network's output to goals; the last one is probabilistic.

        Args:
            parameters: key of the network's output. Shape ``[*B, E, n_parameters]``.
            action: key of the goals. Shape ``[*B, E, dim]``.
            log_prob: key of the goals' log-probability. Shape ``[*B, E]``.

        Returns:
            The modules, in order.
        """


@dataclass(frozen=True)
class NormalGoal(GoalSpace):
    """Vectors from a diagonal Normal (ours).

    Args:
        dim: size of the vector.
        init_scale: standard deviation before training, in goal units, above :data:`MIN_GOAL_SCALE`.

    Raises:
        ValueError: if a value is out of range.
    """

    init_scale: float

    def __post_init__(self) -> None:
        """Check that the softplus can give the scale."""
        super().__post_init__()
        if not MIN_GOAL_SCALE < self.init_scale < math.inf:
            raise ValueError(
                f"goal: init_scale={self.init_scale} must be above {MIN_GOAL_SCALE}, the smallest standard deviation, "
                "and finite"
            )

    @property
    def n_parameters(self) -> int:
        """Mean and standard deviation of each component."""
        return 2 * self.dim

    @property
    def is_differentiable(self) -> bool:
        """True, by reparametrisation."""
        return True

    def change(self, goal: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Change of the mean, plus change of the standard deviation times the noise."""
        extract = _extractor(self.init_scale)
        (old_loc, old_scale), (loc, scale) = extract(old), extract(new)
        return (loc - old_loc) + (scale - old_scale) * (goal - old_loc) / old_scale

    def distribution(
        self, parameters: tuple[str, str], action: tuple[str, str], log_prob: tuple[str, str]
    ) -> list[TensorDictModuleBase]:
        """A diagonal Normal, its standard deviation mapped by a biased softplus."""
        loc, scale = (_beside(parameters, name) for name in ("loc", "scale"))
        return [
            TensorDictModule(_build_extractor(self.init_scale), in_keys=[parameters], out_keys=[loc, scale]),
            ProbabilisticTensorDictModule(
                in_keys={"loc": loc, "scale": scale},
                out_keys=[action],
                distribution_class=IndependentNormal,
                return_log_prob=True,
                log_prob_key=log_prob,
            ),
        ]


@dataclass(frozen=True)
class CategoricalGoal(GoalSpace):
    """One of ``dim`` goals, as a one-hot vector (ours).

    Args:
        dim: number of different goals, at least 2.

    Raises:
        ValueError: if ``dim`` is below 2.
    """

    def __post_init__(self) -> None:
        """Check the number of goals."""
        if self.dim < 2:
            raise ValueError(f"goal_dim={self.dim} leaves goal=categorical no choice: give 2 goals or more")
        super().__post_init__()

    @property
    def n_parameters(self) -> int:
        """One logit per goal."""
        return self.dim

    @property
    def dtype(self) -> torch.dtype:
        """Integers: the entries are 0 or 1."""
        return torch.long

    def distribution(
        self, parameters: tuple[str, str], action: tuple[str, str], log_prob: tuple[str, str]
    ) -> list[TensorDictModuleBase]:
        """A categorical distribution over one-hot vectors."""
        return [
            ProbabilisticTensorDictModule(
                in_keys={"logits": parameters},
                out_keys=[action],
                distribution_class=OneHotCategorical,
                return_log_prob=True,
                log_prob_key=log_prob,
            )
        ]


def _build_extractor(init_scale: float) -> NormalParamExtractor:
    return NormalParamExtractor(scale_mapping=f"biased_softplus_{init_scale}_{MIN_GOAL_SCALE}")


_extractor = cache(_build_extractor)


def _beside(parameters: tuple[str, str], name: str) -> tuple[str, str]:
    """Key of a parameter of the distribution, a sibling of the network's output."""
    return (parameters[0], parameters[1].replace("logits", name))


goal_registry: dict[str, type[GoalSpace]] = {"normal": NormalGoal, "categorical": CategoricalGoal}
"""Every goal space by its name in ``algorithm.goal``."""
