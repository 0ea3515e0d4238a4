"""A PettingZoo environment in TorchRL, with entries for live agents and positions. Imports no pettingzoo."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from benchmarl.utils import DEVICE_TYPING
from tensordict import TensorDictBase
from torchrl.data import Categorical, Unbounded
from torchrl.envs import PettingZooWrapper

if TYPE_CHECKING:
    from benchmarl_himpo.environments.pettingzoo.team import Team


class TeamEnv(PettingZooWrapper):
    """TorchRL's wrapper with the additional group entries ``alive`` and, if positions are available, ``position``.

    An episode ends when it has ended for every agent. Agents called ``name_0``, ``name_1`` ... are the group ``name``.

    Args:
        team: the wrapped PettingZoo environment.
        with_state: whether to emit the state of the simulation as entry ``state``.
        seed: seed of the simulation.
        device: device of all tensors.

    Raises:
        ValueError: if the agents of a group have different spaces.
    """

    def __init__(self, team: Team, with_state: bool, seed: int | None, device: DEVICE_TYPING) -> None:
        how: dict[str, Any] = {"return_state": with_state, "categorical_actions": True, "done_on_any": False}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PettingZoo in TorchRL is tested")  # with 1.24.3; here with what is newer
            super().__init__(env=team, seed=seed, device=device, **how)
        self.team = team
        for group, agents in self.group_map.items():
            _check_alike(group, {a: (team.observation_space(a), team.action_space(a)) for a in agents})
            spec, shape = self.observation_spec[group], (len(agents),)
            spec["alive"] = Categorical(2, shape=shape, dtype=torch.bool, device=self.device)
            if team.position:
                spec["position"] = Unbounded((*shape, 2), device=self.device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        return self._tell(super()._reset(tensordict, **kwargs))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        return self._tell(super()._step(tensordict))

    def _tell(self, tensordict: TensorDictBase) -> TensorDictBase:
        for group, agents in self.group_map.items():
            told: dict[str, Iterable[Any]] = {"alive": [self.team.alive[agent] for agent in agents]}
            if self.team.position:
                told["position"] = [self.team.position[agent].tolist() for agent in agents]
            for name, values in told.items():
                tensordict.set((group, name), torch.tensor(values, device=self.device))
        return tensordict


def _check_alike(group: str, spaces: dict[str, Any]) -> None:
    first, *others = spaces
    for agent in others:
        if spaces[agent] != spaces[first]:
            raise ValueError(
                f"{first} and {agent} are in the group {group} but have different spaces: give agents with other "
                "spaces another name, such as scout_0 and walker_0"
            )
