"""What is used of Hydra beyond its documentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra


@contextmanager
def set_aside_hydra() -> Iterator[None]:
    """Take away Hydra's global instance, if there is one, and put it back afterwards.

    Needed to compose a config inside a program that runs under ``@hydra.main``: ``initialize_config_dir`` refuses to
    begin a second time, and puts back what it found only after ``clear``. The attribute ``GlobalHydra.hydra`` is not
    documented. An ``initialize_config_dir`` that nests would replace this.
    """
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running
