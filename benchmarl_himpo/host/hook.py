"""Overridden methods of hosts, which no function can wrap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hook:
    """A private name of a host's class that a class of this package overrides.

    Args:
        owner: the class of the host.
        name: the method, or the class inside ``owner``.
        parameters: names of its parameters, without ``self``.
        purpose: why it is overridden.
        replacement: what would replace the override.
    """

    owner: type
    name: str
    parameters: tuple[str, ...]
    purpose: str
    replacement: str
