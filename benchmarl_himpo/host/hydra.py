"""Undocumented parts of Hydra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra


@contextmanager
def set_aside_hydra() -> Iterator[None]:
    """Remove Hydra's global instance, if there is one, inside the block, and restore it afterwards.

    Needed to compose a config inside a program that runs under ``@hydra.main``: ``initialize_config_dir`` cannot be
    nested, and restores the old instance only after ``clear``. The attribute ``GlobalHydra.hydra`` is not documented. A
    nestable ``initialize_config_dir`` would replace this.
    """
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running
