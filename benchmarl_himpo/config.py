"""Where the YAML files are, and how to compose them outside the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

HYDRA_VERSION_BASE = "1.3"
"""Hydra behaviour this package is written for, the same in the command and in the compose API."""


def _find_conf_dir() -> Path:
    """Find the YAML files: inside the package in a wheel, beside it in a checkout."""
    package_dir = Path(__file__).resolve().parent
    inside = package_dir / "conf"
    return inside if inside.is_dir() else package_dir.parent / "conf"


CONF_DIR = _find_conf_dir()
"""Absolute path of the folder that holds ``config.yaml``."""


def compose(overrides: Sequence[str] = (), *, return_hydra_config: bool = False) -> DictConfig:
    """Compose the primary config as the command line would.

    Works inside a program that already runs under ``@hydra.main``: Hydra's global state is put
    back afterwards.

    Args:
        overrides: overrides in Hydra's syntax, such as ``["algorithm=mappo", "seed=1"]``.
        return_hydra_config: keep the ``hydra`` node, which holds the names of the chosen files.

    Returns:
        The composed config, with ``experiment``, ``algorithm``, ``task``, ``model``,
        ``critic_model`` and ``seed``.
    """
    from benchmarl_himpo.registration import register

    register()
    with (
        _set_aside_hydra(),
        initialize_config_dir(config_dir=str(CONF_DIR), version_base=HYDRA_VERSION_BASE),
    ):
        return hydra_compose("config", list(overrides), return_hydra_config=return_hydra_config)


def read_options(file: str, given: Sequence[str]) -> DictConfig:
    """Read the options of a command that is not Hydra's: its file in ``conf/``, and what was given over it.

    Args:
        file: name of the file, such as ``evaluate.yaml``.
        given: changes, such as ``["episodes=1000"]``.

    Returns:
        The options.

    Raises:
        OmegaConfBaseException: if an option does not exist or has another type.
    """
    defaults = OmegaConf.load(CONF_DIR / file)
    OmegaConf.set_struct(defaults, True)
    return cast("DictConfig", OmegaConf.merge(defaults, OmegaConf.from_dotlist(list(given))))


@contextmanager
def _set_aside_hydra() -> Iterator[None]:
    """Take away Hydra's global instance, if there is one, and put it back afterwards."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running
