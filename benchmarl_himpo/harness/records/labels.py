"""Labels of variants and tasks: a name, and in brackets what differs from its plain configuration, key by key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

BETWEEN = "; "
"""What is between two differences."""


def split_label(label: str) -> tuple[str, list[str]]:
    """Split a label such as ``himppo[goal_interval=10,2; gamma=0.9]`` into its name and its differences."""
    name, _, differences = label.partition("[")
    return name, differences.removesuffix("]").split(BETWEEN) if differences else []


def join_label(name: str, differences: list[str]) -> str:
    """Put a label together."""
    return f"{name}[{BETWEEN.join(differences)}]" if differences else name


def option_of(difference: str) -> str:
    """Give the option that a difference such as ``gamma=0.9`` is about."""
    return difference.partition("=")[0]


def strip_common(
    labels: Iterable[str],
    may_strip: Callable[[str], bool] = lambda difference: True,
    concerns: Callable[[str, str], bool] = lambda difference, label: True,
) -> tuple[dict[str, str], list[str]]:
    """Take out of labels what all of them have.

    Args:
        labels: the labels.
        may_strip: says which differences may be taken out.
        concerns: says whether what a difference is about exists for a label; labels without it are not asked for it.

    Returns:
        The shorter label of each, as distinct as before, and what was taken out.
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


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a nested configuration under dotted keys; an empty mapping is a value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
