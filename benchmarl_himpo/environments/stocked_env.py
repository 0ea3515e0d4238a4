"""Base class of this package's vectorised games: games that end are replaced from a stock of new games."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.entries import GROUP
from benchmarl_himpo.environments.simulation import seed_generator


class StockedEnv(EnvBase):
    """Vectorised games of one group of agents with discrete actions. State tensors are never modified in place.

    Games that end are replaced from a stock that is drawn at once, because drawing few games costs as much as many.

    Args:
        n_envs: number of vectorised games.
        seed: seed of ``generator``, from which all random numbers are drawn; None for a seed of the operating system.
        device: device of all tensors.

    Attributes:
        generator: random number generator of this environment alone.
        simulation: names of the attributes that hold the state of the simulation, for checkpoints.
    """

    batch_locked = True
    simulation: ClassVar[tuple[str, ...]] = ("_state", "_seen", "_stock", "_n_taken")
    _state: tuple[Tensor, ...]
    _seen: tuple[Tensor, ...]
    _stock: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    _n_taken: int

    def __init__(self, n_envs: int, seed: int | None, device: Any) -> None:
        super().__init__(device=device, batch_size=[n_envs])
        self.generator = torch.Generator(device=self.device)
        self._set_seed(seed)

    @abstractmethod
    def _new_games(self, n: int) -> tuple[Any, Any]:
        """Draw games: their state, and the observations that follow from the state."""

    @abstractmethod
    def _emit(self, terminated: Tensor, truncated: Tensor) -> TensorDictBase:
        """Output of a reset or a step, without reward. Takes the team's flags, ``[B]``."""

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        is_reset = None if tensordict is None else tensordict.get("_reset", None)
        games = None if is_reset is None else is_reset.reshape(self.batch_size).nonzero().squeeze(-1)
        if games is None or len(games) == self.batch_size[0]:
            self._state, self._seen = self._new_games(self.batch_size[0])
            self._empty_stock()
        elif len(games) > 0:
            self._replace(games)
        never = torch.zeros(self.batch_size, dtype=torch.bool, device=self.device)
        return self._emit(never, never)

    def _replace(self, games: Tensor) -> None:
        first, end = self._n_taken, self._n_taken + len(games)
        if end > self.batch_size[0]:
            self._stock, first, end = self._new_games(self.batch_size[0]), 0, len(games)
        self._n_taken = end
        state, seen = self._stock
        self._state = _put(self._state, games, state, slice(first, end))
        self._seen = _put(self._seen, games, seen, slice(first, end))

    def _empty_stock(self) -> None:
        """Empty the stock, so that the following games depend only on the state of the generator."""
        self._n_taken = self.batch_size[0]

    def _set_seed(self, seed: int | None) -> None:
        seed_generator(self.generator, seed)
        self._empty_stock()

    def _with_flags(
        self, agents: Mapping[str, Tensor], terminated: Tensor, truncated: Tensor, **root: Tensor
    ) -> TensorDictBase:
        """Combine entries of the agents, of the root, and the team's flags. Takes flags of shape ``[B]``."""
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        (n_agents,) = {entry.shape[1] for entry in agents.values()}
        return TensorDict(
            {
                GROUP: TensorDict(dict(agents), [*self.batch_size, n_agents], device=self.device),
                **root,
                **{name: flag.unsqueeze(-1) for name, flag in flags.items()},
            },
            self.batch_size,
            device=self.device,
        )

    def _make_specs(
        self, n_agents: int, n_actions: int, dtype: torch.dtype, agents: Mapping[str, TensorSpec], **root: TensorSpec
    ) -> None:
        """Build the specs, with one action and one reward per agent; ``agents`` and ``root`` are observed entries."""
        shape, batch, device = (*self.batch_size, n_agents), self.batch_size, self.device

        def group(**entries: TensorSpec) -> dict[str, Composite]:
            return {GROUP: Composite(entries, shape=shape, device=device)}

        self.observation_spec = Composite({**group(**agents), **root}, shape=batch, device=device)
        action = Categorical(n_actions, shape=shape, device=device)
        self.action_spec = Composite(group(action=action), shape=batch, device=device)
        reward = Unbounded((*shape, 1), dtype=dtype, device=device)
        self.reward_spec = Composite(group(reward=reward), shape=batch, device=device)
        flags = {name: self._flag_spec(1) for name in ("done", "terminated", "truncated")}
        self.done_spec = Composite(flags, shape=batch, device=device)

    def _flag_spec(self, *size: int) -> Binary:
        """Flags of each game, of a size."""
        return Binary(n=size[-1], shape=(*self.batch_size, *size), dtype=torch.bool, device=self.device)


def _put(old: tuple[Tensor, ...], rows: Tensor, new: tuple[Tensor, ...], taken: slice) -> Any:
    """Replace some rows of all tensors; a named tuple stays one."""
    entries = [o.index_put((rows,), n[taken]) for o, n in zip(old, new, strict=True)]
    return getattr(type(old), "_make", tuple)(entries)
