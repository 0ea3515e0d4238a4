"""Builds exchangeable parts by name: clusterings, neighbour graphs, memories, goal spaces, credit rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

Part = TypeVar("Part")

KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
}
"""Types accepted for a field of each annotated type, and their description in error messages."""


def build_part(
    option: str,
    chosen: Any,
    registry: Mapping[str, type[Part]],
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    **given: Any,
) -> Part:
    """Build a part from the value of an option.

    Args:
        option: the option's name, for error messages.
        chosen: a name in the registry such as ``"full"``, or a mapping with the name and the part's own fields such as
            ``{"name": "knn", "k": 2}``.
        registry: dataclasses by name.
        defaults: fields by part name, for fields that ``chosen`` leaves out.
        **given: fields whose values come from other options.

    Returns:
        The part.

    Raises:
        ValueError: if the name is unknown, a field is unknown, missing or given twice, or a value is invalid.
    """
    own = dict(chosen) if isinstance(chosen, Mapping) else {"name": chosen}
    name = own.pop("name", None)
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"{option}={name} is unknown: choose one of {', '.join(registry)}")
    part = registry[name]
    own = {**(defaults or {}).get(name, {}), **own}
    if not is_dataclass(part):
        raise ValueError(f"{option}={name}: {part.__name__} is no dataclass, whose fields are its options: make it one")
    own_fields = [field for field in fields(part) if field.name not in given]
    wanted = [field.name for field in own_fields]
    needed = {field.name for field in own_fields if field.default is MISSING and field.default_factory is MISSING}
    example = f"{{name: {name}{''.join(f', {field}: ...' for field in wanted)}}}" if wanted else str(name)
    if unknown := own.keys() - set(wanted):
        raise ValueError(f"{option}={name} has no field {min(unknown)}: write {option}={example}")
    if missing := needed - own.keys():
        raise ValueError(f"{option}={name} needs {min(missing)}: write {option}={example}")
    _check_types(option, part, own)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    return part(**values, **given)


def _check_types(option: str, part: type, values: Mapping[str, Any]) -> None:
    """Check the types of the fields' values."""
    hints = get_type_hints(part)
    for field, value in values.items():
        kinds, words = KINDS.get(hints[field], ((object,), ""))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds and object not in kinds):
            raise ValueError(f"{option}: {field}={value} must be {words}")
