"""Reads observations, positions, liveness and edges of an agent group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor
from torchrl.data import Composite, Unbounded

from benchmarl_himpo.hierarchy.keys import dotted

SOURCE = re.compile(r"([\w.]+)(?:\[(-?\d+):(-?\d+)?\])?")
"""Syntax of a source: an entry of a group (dots for nesting), or consecutive features of an entry."""
View: TypeAlias = Mapping[NestedKey, tuple[slice, ...]]
"""Visible features of each entry, in this order."""


def parse_view(sources: Sequence[str], entries: Sequence[NestedKey]) -> View:
    """Read a list of sources, each ``"key"``, ``"key[i:j]"`` or ``"key[i:]"``; negative numbers count from the end.

    Args:
        sources: the sources.
        entries: entries of the group's observation.

    Raises:
        ValueError: if ``sources`` is empty, or a source is malformed or names no entry.
    """
    known = {dotted(key): key for key in entries}
    example = f"such as [{next(iter(known))}], or null for all"
    if isinstance(sources, str) or not sources:
        shown = sources if isinstance(sources, str) else "[]"
        raise ValueError(f"level_observation: {shown} is not a list of sources: give every level a list {example}")
    view: dict[NestedKey, tuple[slice, ...]] = {}
    for text in sources:
        match = SOURCE.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[1] not in known:
            raise ValueError(
                f"level_observation: {text} is not a source: give a list of entries ({', '.join(known)}) or of "
                f"features of entries, such as '{next(iter(known))}[0:2]'"
            )
        features = slice(int(match[2]) if match[2] else None, int(match[3]) if match[3] else None)
        view[known[match[1]]] = (*view.get(known[match[1]], ()), features)
    return view


def n_seen(features: slice, key: NestedKey, n: int) -> int:
    """Number of features that a slice selects from the ``n`` features of an entry.

    Raises:
        ValueError: if the slice is empty or out of range.
    """
    first, last = (0 if features.start is None else features.start), (n if features.stop is None else features.stop)
    first, last = (value + n if value < 0 else value for value in (first, last))
    if not 0 <= first < last <= n:
        name = dotted(key)
        text = f"{name}[{features.start}:{'' if features.stop is None else features.stop}]"
        raise ValueError(
            f"level_observation: {text} is out of range, because {name} has {n} features: choose a range such as "
            f"'{name}[0:{n}]'"
        )
    return last - first


@dataclass(frozen=True)
class PositionSource:
    """Source of two-dimensional positions: an entry of a group.

    Args:
        key: entry of the group, dots for nesting: ``"position"`` or ``"observation"``.
        start: index of the first of the two consecutive features.
    """

    key: str
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> PositionSource:
        """Read ``"key"`` or ``"key[i:j]"`` with ``j - i == 2``; negative numbers count from the end.

        Raises:
            ValueError: if the text is malformed.
        """
        match = SOURCE.fullmatch(text)
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
        """Positions in world units, as floats even if the environment has integer cells. Shape ``[*B, n_agents, 2]``.

        Raises:
            ValueError: if the entry has too few features.
        """
        entry = group_td.get(tuple(self.key.split(".")))
        position = entry[..., self.start : self.start + 2 or None]
        if position.shape[-1] != 2:
            raise ValueError(
                f"position: the two features of {self.key} from index {self.start} are out of range, because it has "
                f"{entry.shape[-1]} features: choose two such as '{self.key}[0:2]'"
            )
        return position if position.is_floating_point() else position.to(torch.get_default_dtype())


@dataclass(frozen=True)
class AliveSource:
    """Source of the flag of live agents: an entry of a group.

    Args:
        key: entry of the group, dots for nesting: ``"alive"``.
        feature: index of the feature that is the flag; None: the entry has one number per agent.
        of_others: whether the entry is true for dead agents instead.
    """

    key: str
    feature: int | None = None
    of_others: bool = False

    @classmethod
    def parse(cls, text: str) -> AliveSource:
        """Read ``"key"`` or ``"key[i]"``, negated by a leading ``"not "``.

        Raises:
            ValueError: if the text is malformed.
        """
        match = re.fullmatch(r"(not )?([\w.]+)(?:\[(-?\d+)\])?", text)
        if match is None:
            raise ValueError(
                f"alive={text!r} is not understood: write the name of an entry of the agents such as 'alive', or one "
                "feature such as 'observation[0]', with 'not ' before it if it is true for dead agents"
            )
        return cls(match[2], None if match[3] is None else int(match[3]), match[1] is not None)

    def read(self, group_td: TensorDictBase) -> Tensor:
        """Live agents. Shape ``[*B, n_agents]``, bool."""
        entry = group_td.get(tuple(self.key.split(".")))
        flag = entry.reshape(group_td.shape) if self.feature is None else entry[..., self.feature]
        return ~flag.bool() if self.of_others else flag.bool()


@dataclass(frozen=True)
class GroupInputs:
    """Reader of one agent group.

    Args:
        group: the agent group.
        observation_keys: entries of the observation, relative to the group.
        position_source: source of positions; None if no builder needs them.
        alive_source: source of the flag of live agents; None: all are alive.
        views: visible part of the observation at each level, workers first, None for all of it; the last one serves all
            levels above.
        edges_key: entry of the group with the task's edges, ``[*B, n_agents, n_agents]``; None if no builder needs
            them.
    """

    group: str
    observation_keys: tuple[NestedKey, ...]
    position_source: PositionSource | None
    alive_source: AliveSource | None
    views: tuple[View | None, ...] = (None,)
    edges_key: str | None = None

    @property
    def keys(self) -> list[NestedKey]:
        """Every key that is read from a TensorDict, for ``in_keys``."""
        return self._with_graph(self.observation_keys)

    def keys_of(self, level: int) -> list[NestedKey]:
        """Keys that a network of a level reads, for its input or for its graph."""
        return self._with_graph(self.entries_of(level))

    def entries_of(self, level: int) -> list[NestedKey]:
        """Entries of the observation of which a level sees at least a part, relative to the group."""
        return [*self._view(level)]

    def _with_graph(self, seen: Sequence[NestedKey]) -> list[NestedKey]:
        relative: list[NestedKey] = list(seen)
        if self.position_source is not None:
            relative.append(tuple(self.position_source.key.split(".")))
        if self.alive_source is not None:
            relative.append(tuple(self.alive_source.key.split(".")))
        if self.edges_key is not None:
            relative.append(self.edges_key)
        return list(dict.fromkeys(unravel_key((self.group, key)) for key in relative))

    def _view(self, level: int) -> View:
        view = self.views[min(level, len(self.views) - 1)]
        return dict.fromkeys(self.observation_keys, (slice(None),)) if view is None else view

    def observation(self, tensordict: TensorDictBase, level: int) -> TensorDictBase:
        """Input of a level's encoder, as a fresh TensorDict of batch shape ``[*B, n_agents]``."""
        view = self._view(level)
        seen = tensordict.get(self.group).select(*view)
        for key, parts in view.items():
            if parts != (slice(None),):
                entry = seen.get(key)
                seen.set(key, torch.cat([entry[..., features] for features in parts], dim=-1))
        return seen

    def observation_spec(self, spec: Composite, level: int) -> Composite:
        """Specs of the input of a level's encoder, from the specs of the group. Shape ``[n_agents]``.

        Raises:
            ValueError: if a source of the level is out of range.
        """
        seen = {}
        for key, parts in self._view(level).items():
            entry = spec[key]
            size = sum(n_seen(features, key, entry.shape[-1]) for features in parts)
            is_whole = parts == (slice(None),)
            seen[key] = (
                entry.clone()
                if is_whole
                else Unbounded((*entry.shape[:-1], size), device=entry.device, dtype=entry.dtype)
            )
        return Composite(seen, shape=spec.shape)

    def position(self, tensordict: TensorDictBase) -> Tensor:
        """Positions in world units, zeros if no builder needs them. Shape ``[*B, n_agents, 2]``.

        Undefined positions of dead agents, NaN or infinite, are zeros too.
        """
        group_td = tensordict.get(self.group)
        if self.position_source is None:
            return torch.zeros(*group_td.shape, 2, device=_device_of(group_td))
        position = self.position_source.read(group_td)
        if self.alive_source is None:
            return position
        return position.masked_fill(~self.alive(tensordict).unsqueeze(-1) & ~position.isfinite(), 0.0)

    def alive(self, tensordict: TensorDictBase) -> Tensor:
        """Live agents. Shape ``[*B, n_agents]``, bool."""
        group_td = tensordict.get(self.group)
        if self.alive_source is None:
            return torch.ones(group_td.shape, dtype=torch.bool, device=_device_of(group_td))
        return self.alive_source.read(group_td)

    def edges(self, tensordict: TensorDictBase) -> Tensor | None:
        """The task's edges, rows receiving from columns. Shape ``[*B, n_agents, n_agents]``, bool; or None."""
        return None if self.edges_key is None else tensordict.get(self.group).get(self.edges_key).bool()


def _device_of(group_td: TensorDictBase) -> torch.device:
    return next(iter(group_td.values(True, True))).device


def group_entry(batch: TensorDictBase, group: str, name: str) -> Tensor:
    """Get ``("next", group, name)``, or the root's entry if the environment has one for all groups together.

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
