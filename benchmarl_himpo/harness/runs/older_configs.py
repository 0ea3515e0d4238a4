"""Configurations that older versions of this package wrote, in the words of this one.

One function for each change of an option, in the order in which the options changed. Each takes the configuration of a
run or a record, nested dicts of plain values, and changes it in place; it leaves alone what has the option's new form.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

Config = dict[str, Any]


def _add_absolute_metric(config: Config) -> None:
    """No fresh episodes were played before there was an option for it."""
    config.setdefault("absolute_metric_episodes", 0)


CHANGES: tuple[Callable[[Config], None], ...] = (_add_absolute_metric,)
"""All changes of options since version 0.1."""


def update_config(config: Config) -> Config:
    """Put a configuration into the words of this version.

    Args:
        config: from a ``run.yaml``, or from a record, whichever version wrote it.

    Returns:
        The same configuration with the options of this version; of this version's own an equal one.
    """
    updated = deepcopy(config)
    for change in CHANGES:
        change(updated)
    return updated
