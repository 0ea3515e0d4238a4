"""Captures the state of any simulation as plain data, and restores it.

A simulation is a graph of Python objects. All reachable values are recorded: tensors with the memory that they view,
numbers and strings, containers, attributes of objects, and references. Functions, classes and other constants are not
recorded but looked up in the restored simulation; so are objects, by their path when the simulation was built. A graph
with other values, or with objects created later, is not recorded at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from benchmarl_himpo.environments.simulation import find_simulation

PLAIN = (type(None), bool, int, float, str)
CONTAINERS = (list, dict, tuple, torch.Size, set, frozenset)
CONSTANTS = (type, Enum, torch.device, torch.dtype, ModuleType)
LOOKED_UP = ("object", "function", "generator")
"""Kinds of values that are looked up by their path and then filled."""
MAKE_BARE_OBJECT = object().__reduce_ex__(4)[0]
"""First entry of Python's copy protocol for an object that consists of attributes only."""


class SimulationState:
    """Records the state of an environment's simulation, and restores it into an identically built one.

    Args:
        env: the environment, reset and not yet stepped.
    """

    def __init__(self, env: EnvBase) -> None:
        self._owner: Any
        self._names: tuple[str, ...]
        self._owner, self._names = find_simulation(env) or (None, ())
        self._batch_size = list(env.batch_size)
        try:
            built = _walk(self._roots())
        except _UnknownKindError:
            self._owner, self._names, built = None, (), {}
        values = list(built.values())
        constants = [value for value in values if _kind(value) == "constant"]
        members = [member for value in constants if isinstance(value, Enum) for member in type(value)]
        self._looked_up = {path: value for path, value in built.items() if _kind(value) in LOOKED_UP}
        self._constants = {_name(value): value for value in (*constants, *members, *CONTAINERS, *map(type, values))}
        self._devices = {str(value.device) for value in values if isinstance(value, Tensor)}

    def capture(self) -> dict[str, Any] | None:
        """Record the state for :meth:`restore`, as tensors and plain values; None if it cannot be restored."""
        roots = self._roots()
        try:
            found = _walk(roots, {id(value): path for path, value in self._looked_up.items()})
        except _UnknownKindError:
            return None
        recorder = _Recorder(found)
        state = {
            "batch_size": self._batch_size,
            "roots": {name: recorder.refer(value) for name, value in roots.items()},
            "nodes": {path: recorder.describe(value) for path, value in found.items()},
            "memory": recorder.memory,
        }
        return state if self._fits(state) else None

    def restore(self, state: Mapping[str, Any] | None) -> bool:
        """Set the state that :meth:`capture` returned, completely or not at all; returns whether it was set."""
        if state is None or not self._fits(state):
            return False
        builder = _Builder(state, self._looked_up, self._constants)
        contents = {path: builder.contents(path) for path in self._looked_up if path in state["nodes"]}
        roots = {name: builder.value(reference) for name, reference in state["roots"].items()}
        for path, content in contents.items():
            _fill(self._looked_up[path], content)
        for name in self._names:
            vars(self._owner).pop(name, None)
        vars(self._owner).update(roots)
        return True

    def _roots(self) -> dict[str, Any]:
        return {name: vars(self._owner)[name] for name in self._names if name in vars(self._owner)}

    def _fits(self, state: Mapping[str, Any]) -> bool:
        """Whether the simulation has the same size and device, and all values that have to be looked up."""
        if self._owner is None or self._batch_size != state["batch_size"]:
            return False
        devices = {memory["device"] for memory in state["memory"]}
        return devices <= self._devices and all(self._has(path, node) for path, node in state["nodes"].items())

    def _has(self, path: str, node: Mapping[str, Any]) -> bool:
        if node["kind"] in LOOKED_UP:
            return path in self._looked_up and _name(self._looked_up[path]) == node["name"]
        return node["kind"] not in ("constant", "container") or node["name"] in self._constants


class _UnknownKindError(TypeError):
    """A value whose state cannot be read."""


class _Recorder:
    """Describes the values of an object graph: references by path, each tensor memory once."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._paths = {id(value): path for path, value in found.items()}
        self._places: dict[tuple[torch.device, int], int] = {}
        self.memory: list[dict[str, Any]] = []

    def refer(self, value: Any) -> Any:
        return value if type(value) in PLAIN else {"path": self._paths[id(value)]}

    def describe(self, value: Any) -> dict[str, Any]:
        kind = _kind(value)
        if kind == "tensor":
            return {"kind": kind, **self._describe_view(value)}
        content: Any = [[self.refer(key), self.refer(entry)] for key, entry in _entries(value)]
        if kind == "generator":
            content = value.get_state()
        return {"kind": kind, "name": _name(type(value) if kind == "container" else value), "content": content}

    def _describe_view(self, value: Tensor) -> dict[str, Any]:
        storage, device = value.untyped_storage(), value.device
        place = (device, storage.data_ptr())
        if place not in self._places:
            self._places[place] = len(self.memory)
            content = torch.empty(0, dtype=torch.uint8, device=device).set_(storage).clone()
            self.memory.append({"device": str(device), "bytes": content})
        return {
            "memory": self._places[place],
            "dtype": str(value.dtype).removeprefix("torch."),
            "offset": value.storage_offset(),
            "size": list(value.shape),
            "stride": list(value.stride()),
        }


class _Builder:
    """Builds the values of an object graph from their descriptions and the looked-up values."""

    def __init__(self, state: Mapping[str, Any], looked_up: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
        self._nodes, self._constants, self._values = state["nodes"], constants, dict(looked_up)
        self._memory = [memory["bytes"].to(memory["device"], copy=True) for memory in state["memory"]]

    def value(self, reference: Any) -> Any:
        if not isinstance(reference, dict):
            return reference
        path = reference["path"]
        if path not in self._values:
            self._values[path] = self._make(path, self._nodes[path])
        return self._values[path]

    def contents(self, path: str) -> Any:
        node = self._nodes[path]
        return node["content"] if node["kind"] == "generator" else list(self._entries(node))

    def _entries(self, node: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        return ((self.value(key), self.value(entry)) for key, entry in node["content"])

    def _make(self, path: str, node: Mapping[str, Any]) -> Any:
        if node["kind"] == "tensor":
            memory = self._memory[node["memory"]]
            view = torch.empty(0, dtype=getattr(torch, node["dtype"]), device=memory.device)
            return view.set_(memory.untyped_storage(), node["offset"], node["size"], node["stride"])
        if node["kind"] == "method":
            return getattr(self.value(node["content"][0][1]), node["name"])
        constant = self._constants[node["name"]]
        if node["kind"] == "constant":
            return constant
        if constant in (list, dict):  # which may hold themselves
            self._values[path] = made = constant()
            made.update(self._entries(node)) if constant is dict else made.extend(e for _, e in self._entries(node))
            return made
        return getattr(constant, "_make", constant)([entry for _, entry in self._entries(node)])


def _walk(roots: Mapping[str, Any], names: Mapping[int, str] | None = None) -> dict[str, Any]:
    """Find all reachable values, except plain ones, by their shortest path, the nearest first.

    Objects in ``names`` keep the paths given by ``id``, wherever they are found.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    queue = deque(roots.items())
    while queue:
        path, value = queue.popleft()
        if type(value) in PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        path = (names or {}).get(id(value), path)
        if path in found:
            raise _UnknownKindError(f"two values at {path}")
        found[path] = value
        for number, (key, entry) in enumerate(_entries(value)):
            queue.append((f"{path}[{repr(key) if type(key) in PLAIN else number}]", entry))
            queue.append((f"{path}.keys[{number}]", key))
    return found


def _kind(value: Any) -> str:
    """How a value is recorded; raises :class:`_UnknownKindError` for unsupported values."""
    kind = "unknown"
    if isinstance(value, CONSTANTS):
        kind = "constant"
    elif isinstance(value, Tensor):
        is_plain = type(value) is Tensor and value.layout == torch.strided and not value.requires_grad
        kind = "tensor" if is_plain and not value.is_conj() and not value.is_neg() else kind
    elif type(value) is torch.Generator:
        kind = "generator"
    elif type(value) in CONTAINERS or (isinstance(value, tuple) and hasattr(value, "_make")):
        kind = "container"
    elif isinstance(value, FunctionType):
        kind = "function" if _is_told_by_cells(value) else kind
    elif isinstance(value, MethodType):
        kind = "method" if getattr(value.__self__, value.__name__, None) == value else kind
    elif _is_told_by_attributes(value):
        kind = "object"
    if kind == "unknown":
        raise _UnknownKindError(f"{type(value)}")
    return kind


def _is_told_by_attributes(value: Any) -> bool:
    """Whether Python's copy protocol uses only an object's attributes."""
    try:
        make, arguments, state, *items = value.__reduce_ex__(4)
    except Exception:  # objects that cannot be copied may raise anything
        return False
    is_bare = make is MAKE_BARE_OBJECT and arguments == (type(value),) and items == [None, None]
    return is_bare and hasattr(value, "__dict__") and (state is None or isinstance(state, dict))


def _is_told_by_cells(function: FunctionType) -> bool:
    """Whether a function's state between calls is only in variables of enclosing functions."""
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    is_constant = all(type(value) in PLAIN or isinstance(value, CONSTANTS) for value in defaults)
    return is_constant and not vars(function) and CellType() not in (function.__closure__ or ())


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    """What a value holds, by key."""
    kind = _kind(value)
    if kind == "object":
        return vars(value).items()
    if kind == "function":
        return [(name, cell.cell_contents) for name, cell in _cells(value)]
    if kind == "method":
        return [("__self__", value.__self__)]
    if kind != "container":
        return []
    if isinstance(value, (set, frozenset)):
        return enumerate(_sorted(value))
    return value.items() if isinstance(value, dict) else enumerate(value)


def _sorted(values: Iterable[Any]) -> list[Any]:
    """The members of a set in an order that is independent of memory addresses."""
    if not all(type(value) in PLAIN or isinstance(value, CONSTANTS) for value in values):
        raise _UnknownKindError("a set of what has no order")
    return sorted(values, key=_name)


def _fill(value: Any, content: Any) -> None:
    """Fill a looked-up value with its recorded content."""
    if isinstance(value, torch.Generator):
        value.set_state(content.cpu())
    elif isinstance(value, FunctionType):
        for (_, cell), (_, held) in zip(_cells(value), content, strict=True):
            cell.cell_contents = held
    else:
        vars(value).clear()
        vars(value).update(content)


def _cells(function: FunctionType) -> list[tuple[str, Any]]:
    return list(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _name(value: Any) -> str:
    """Name of a constant, a plain value, or the class of an object."""
    if isinstance(value, (ModuleType, MethodType)):
        return value.__name__
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}:{value.__code__.co_firstlineno}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Enum):
        return f"{_name(type(value))}.{value.name}"
    is_told = isinstance(value, CONSTANTS) or type(value) in PLAIN
    return f"{_name(type(value))} {value}" if is_told else _name(type(value))
