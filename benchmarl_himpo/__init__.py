"""HiMPo, hierarchical message-passing policies, as an extension of BenchMARL.

Importing this package is cheap: torch and BenchMARL are imported at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarl_himpo.config import add_yaml_folder
from benchmarl_himpo.registration import PluginError, register, register_algorithm, register_task

if TYPE_CHECKING:
    from benchmarl_himpo.harness.experiment import Experiment

__version__ = "0.1.0"

__all__ = [
    "Experiment",
    "PluginError",
    "__version__",
    "add_yaml_folder",
    "register",
    "register_algorithm",
    "register_task",
]


def __getattr__(name: str) -> Any:
    """Import :class:`Experiment`, and with it BenchMARL, at its first use."""
    if name != "Experiment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("benchmarl_himpo.harness.experiment").Experiment
