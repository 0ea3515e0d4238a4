"""Overridden methods of hosts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hook:
    """A private method or class of a host's class that a class of this package overrides."""

    owner: type  # the class of the host
    name: str  # the method, or the class inside ``owner``
    parameters: tuple[str, ...]  # parameter names, without ``self``
    purpose: str  # why it is overridden
    replacement: str  # documented feature that would replace the override
