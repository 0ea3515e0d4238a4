"""What the hierarchy reads from an agent group: observation, position, liveness."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor


@dataclass(frozen=True)
class PositionSource:
    """Where two-dimensional positions stand among the entries of a group.

    Args:
        key: entry of the group, dots for nesting: ``"position"`` or ``"observation"``.
        start: first of the two consecutive features.
    """

    key: str
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> PositionSource:
        """Read ``"key"`` or ``"key[i:j]"`` with ``j - i == 2``; negative numbers count from the end.

        Raises:
            ValueError: if the text has another form.
        """
        match = re.fullmatch(r"([\w.]+)(?:\[(-?\d+):(-?\d*)\])?", text)
        if match is None:
            raise ValueError(
                f"position={text!r} is not understood: write the name of an entry of the agents such as "
                "'position', or two features of one such as 'observation[0:2]'"
            )
        key, start, stop = match[1], int(match[2] or 0), int(match[3] or 0)
        if match[2] and (stop - start != 2 or start < 0 < stop):
            raise ValueError(f"position={text!r} must select exactly two features, such as '{key}[0:2]'")
        return cls(key, start)

    def read(self, group_td: TensorDictBase) -> Tensor:
        """Positions in world units, floats also where the environment counts cells. Shape ``[*B, n_agents, 2]``.

        Raises:
            ValueError: if the entry has fewer features than are asked for.
        """
        entry = group_td.get(tuple(self.key.split(".")))
        position = entry[..., self.start : self.start + 2 or None]
        if position.shape[-1] != 2:
            raise ValueError(
                f"position: two features of {self.key} from number {self.start} are asked for, which has "
                f"{entry.shape[-1]}: choose two that are there, such as '{self.key}[0:2]'"
            )
        return position if position.is_floating_point() else position.to(torch.get_default_dtype())


@dataclass(frozen=True)
class GroupInputs:
    """Reader of one agent group.

    Args:
        group: the agent group.
        observation_keys: entries that the encoders see, relative to the group.
        position_source: where positions stand, None where no builder needs them.
        alive_key: entry of the group that says which agents take part, ``[*B, n_agents]`` or ``[*B, n_agents, 1]``;
            None: all.
    """

    group: str
    observation_keys: tuple[NestedKey, ...]
    position_source: PositionSource | None
    alive_key: str | None

    @property
    def keys(self) -> list[NestedKey]:
        """Every key that is read from a TensorDict, for ``in_keys``."""
        relative: list[NestedKey] = list(self.observation_keys)
        if self.position_source is not None:
            relative.append(tuple(self.position_source.key.split(".")))
        if self.alive_key is not None:
            relative.append(self.alive_key)
        return list(dict.fromkeys(unravel_key((self.group, key)) for key in relative))

    def observation(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The encoders' entries as a fresh TensorDict of batch shape ``[*B, n_agents]``."""
        return tensordict.get(self.group).select(*self.observation_keys)

    def position(self, tensordict: TensorDictBase) -> Tensor:
        """Positions in world units, zeros where no builder needs them. Shape ``[*B, n_agents, 2]``."""
        group_td = tensordict.get(self.group)
        if self.position_source is None:
            return torch.zeros(*group_td.shape, 2, device=group_td.get(self.observation_keys[0]).device)
        return self.position_source.read(group_td)

    def alive(self, tensordict: TensorDictBase) -> Tensor:
        """Agents that take part. Shape ``[*B, n_agents]``, bool."""
        group_td = tensordict.get(self.group)
        if self.alive_key is None:
            return torch.ones(group_td.shape, dtype=torch.bool, device=group_td.get(self.observation_keys[0]).device)
        return group_td.get(self.alive_key).reshape(group_td.shape).bool()


def group_entry(batch: TensorDictBase, group: str, name: str) -> Tensor:
    """Get ``("next", group, name)``, taken from the root where an environment gives it for all groups together.

    Args:
        batch: collected data. Shape ``[*B]``.
        group: the agent group.
        name: ``"reward"``, ``"done"`` or ``"terminated"``.

    Returns:
        Shape ``[*B, n_agents, 1]``.
    """
    entry = batch.get(("next", group, name), None)
    if entry is not None:
        return entry
    return batch.get(("next", name)).unsqueeze(-1).expand(*batch.get(group).shape, 1)
