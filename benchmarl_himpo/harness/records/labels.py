"""Labels of variants and tasks: a name, and in brackets the differences from its default configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

BETWEEN = "; "
"""Separator of two differences."""


def split_label(label: str) -> tuple[str, list[str]]:
    """Split a label such as ``himppo[goal_interval=10,2; gamma=0.9]`` into name and differences."""
    name, _, differences = label.partition("[")
    return name, differences.removesuffix("]").split(BETWEEN) if differences else []


def join_label(name: str, differences: list[str]) -> str:
    """Join name and differences to a label."""
    return f"{name}[{BETWEEN.join(differences)}]" if differences else name


def option_of(difference: str) -> str:
    """Option of a difference such as ``gamma=0.9``."""
    return difference.partition("=")[0]


def strip_common(
    labels: Iterable[str],
    may_strip: Callable[[str], bool] = lambda difference: True,
    concerns: Callable[[str, str], bool] = lambda difference, label: True,
) -> tuple[dict[str, str], list[str]]:
    """Remove from labels the differences that all of them share.

    Args:
        labels: the labels.
        may_strip: whether a difference may be removed.
        concerns: whether the option of a difference exists for a label; labels without it are ignored.

    Returns:
        The shorter label of each, as distinct as before, and the removed differences.
    """
    parts = {label: split_label(label) for label in labels}
    found = Counter(difference for _, differences in parts.values() for difference in differences)
    common = [
        difference
        for difference, n_have in found.items()
        if may_strip(difference)
        and n_have == sum(concerns(difference, label) for label in parts)
        and (n_have > 1 or len(parts) == 1)  # what one label alone is about tells it from the others
    ]
    short = {
        label: join_label(name, [difference for difference in differences if difference not in common])
        for label, (name, differences) in parts.items()
    }
    return short, common


def differing_keys(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Dotted keys of two nested configurations whose values differ, or which only one of them has."""
    own, others = dict(flatten(config)), dict(flatten(other))
    return [key for key in sorted(own.keys() | others.keys()) if own.get(key, ...) != others.get(key, ...)]


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a nested configuration under dotted keys; an empty mapping is a value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
