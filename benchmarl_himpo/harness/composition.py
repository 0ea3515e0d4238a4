"""Composes the config of a run in Python, with the same result as the command line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import ClassVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.host.hydra import set_aside_hydra
from benchmarl_himpo.registration import register

HYDRA_VERSION_BASE = "1.3"
"""Version of Hydra's behaviour, the same for commands and the compose API."""

GROUPS = ("algorithm", "critic_model", "experiment", "model", "protocol", "task")
"""Config groups of a new run."""


class _ConfigDir(SearchPathPlugin):
    """The folder of ``--config-dir``, which Hydra reads of its own commands' command lines alone."""

    folder: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.append("command-line", f"file://{self.folder}")


def search_in(folder: Path | None) -> None:
    """Let :func:`compose` also find files in the user's folder, with lower precedence than this package's.

    Args:
        folder: the folder, which replaces an earlier one; None for no folder.

    Raises:
        ValueError: if there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise ValueError(f"--config-dir {folder} does not exist: give a folder of YAML files, such as task/mine.yaml")
    _ConfigDir.folder = None if folder is None else folder.resolve()
    Plugins.instance().register(_ConfigDir)


def config_dir() -> Path | None:
    """The folder that :func:`search_in` was given."""
    return _ConfigDir.folder


def compose(overrides: Sequence[str] = (), *, return_hydra_config: bool = False) -> DictConfig:
    """Compose the primary config as the command line would.

    Works inside a program that already runs under ``@hydra.main``: Hydra's global state is restored.

    Args:
        overrides: overrides in Hydra's syntax, such as ``["algorithm=mappo", "seed=1"]``.
        return_hydra_config: keep the ``hydra`` node, which holds the names of the chosen files.

    Returns:
        The composed config, with ``experiment``, ``algorithm``, ``task``, ``model``,
        ``critic_model`` and ``seed``.

    Raises:
        MissingConfigException: if an override chooses a file that does not exist.
    """
    register()
    with (
        set_aside_hydra(),
        initialize_config_dir(config_dir=str(CONF_DIR), version_base=HYDRA_VERSION_BASE),
    ):
        try:
            return hydra_compose("config", list(overrides), return_hydra_config=return_hydra_config)
        except MissingConfigException as error:
            file, known = str(error.missing_cfg_file), error.options or ()
            if not file.startswith("protocol/"):  # other groups have schemas and folders, where Hydra lists half
                raise
            message = f"{file.replace('/', '=', 1)} does not exist: choose from {', '.join(known)}"
            raise MissingConfigException(message, file, known) from error


def combine_values(overrides: Sequence[str]) -> list[list[str]]:
    """Expand overrides with several values, such as ``task.n_agents=3,5``, to all combinations.

    Args:
        overrides: overrides in Hydra's syntax; the last one of a key is used.

    Returns:
        The overrides of each combination.

    Raises:
        HydraException: if an override cannot be parsed.
    """
    values: dict[str, list[str]] = {}
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    for override, text in zip(parsed, overrides, strict=True):
        key = override.get_key_element()
        several = override.is_sweep_override()
        values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()] if several else [text]
    return [list(combination) for combination in product(*values.values())]


def check_changes(changes: Sequence[str]) -> None:
    """Check that overrides of a trained run, such as ``task.n_agents=5``, set values and choose no files.

    Raises:
        ValueError: if one has no value, or chooses a file.
    """
    for change in changes:
        key, equals, _ = change.partition("=")
        if not equals:
            raise ValueError(f"{change} needs a value: {change}=...")
        if key in GROUPS or "@" in key or "/" in key:
            raise ValueError(
                f"{change} chooses a file, but a trained run keeps the files of its configuration: change single "
                "options, such as experiment.max_n_frames=960000 (resume) or task.n_agents=5 (evaluate, audit, film, "
                f"export), or start a new run with {change} (init_from=RUN_DIR initialises it with this run's weights "
                "whose shapes match)"
            )
