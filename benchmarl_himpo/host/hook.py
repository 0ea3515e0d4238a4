"""Overridden methods of hosts, which no function can wrap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hook:
    """A private name of a host's class that a class of this package overrides."""

    owner: type  # the class of the host
    name: str  # the method, or the class inside ``owner``
    parameters: tuple[str, ...]  # their names, without ``self``
    purpose: str  # why it is overridden
    replacement: str  # what would replace the override
