"""Where the YAML files are, and how to compose them outside the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

HYDRA_VERSION_BASE = "1.3"
"""Hydra behaviour this package is written for, the same in the command and in the compose API."""


def _find_conf_dir() -> Path:
    """Find the YAML files: inside the package in a wheel, beside it in a checkout."""
    package_dir = Path(__file__).resolve().parent
    inside = package_dir / "conf"
    return inside if inside.is_dir() else package_dir.parent / "conf"


CONF_DIR = _find_conf_dir()
"""Absolute path of the folder that holds ``config.yaml``."""

GROUPS = ("algorithm", "critic_model", "experiment", "model", "protocol", "task")
"""What a new run is composed of by naming a file."""


class _ConfigDir(SearchPathPlugin):
    """The folder of ``--config-dir``, which Hydra reads of its own commands' command lines alone."""

    folder: ClassVar[Path | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.append("command-line", f"file://{self.folder}")


def search_in(folder: Path | None) -> None:
    """Let :func:`compose` find files of the user's own too, as ``--config-dir`` does: after those of this package.

    Args:
        folder: the folder, instead of the one that was given before; None: none.

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
        ValueError: if an option does not exist or has another type.
    """
    defaults = cast("DictConfig", OmegaConf.load(CONF_DIR / file))
    options = defaults.copy()
    for argument in given:
        key, equals, text = argument.partition("=")
        if key not in defaults:
            raise ValueError(f"{key} is no option of this command: choose from {', '.join(map(str, defaults))}")
        if not equals:
            raise ValueError(f"{key} needs a value: {key}=...")
        options[key] = _like(argument, text, defaults[key])
    return options


def split_arguments(file: str, arguments: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """Split the command line of a command that starts runs.

    Args:
        file: name of the file in ``conf/`` with the command's options.
        arguments: options as ``name=value``, and overrides of the runs.

    Returns:
        The options over their defaults, and the overrides.

    Raises:
        ValueError: if an option does not exist or has another type.
    """
    names = read_options(file, []).keys()
    given = [argument for argument in arguments if argument.partition("=")[0] in names]
    overrides = [argument for argument in arguments if argument not in given]
    of_runs = {*GROUPS, *map(str, OmegaConf.load(CONF_DIR / "config.yaml"))}
    for key in (argument.partition("=")[0] for argument in overrides):
        if key.isidentifier() and key not in of_runs:  # Hydra would advise a plus, which adds a key that nobody reads
            raise ValueError(f"{key} is no option of this command: choose from {', '.join(map(str, names))}")
    return read_options(file, given), overrides


def sort_arguments(file: str, arguments: Sequence[str]) -> tuple[list[Path], DictConfig, list[tuple[str, str]]]:
    """Sort the command line of a command that reads finished runs.

    Args:
        file: name of the file in ``conf/`` with the command's options.
        arguments: folders, options as ``name=value``, and changes of the runs' configuration, which have a dot in the
            name.

    Returns:
        The folders, the options over their defaults, and the changes.

    Raises:
        ValueError: if an option does not exist or has another type, or a change chooses a file.
    """
    check_changes([argument for argument in arguments if "=" in argument])
    folders = [Path(argument) for argument in arguments if "=" not in argument]
    pairs = [argument.split("=", 1) for argument in arguments if "=" in argument]
    names = read_options(file, []).keys()
    for key, _ in pairs:
        if "." not in key and key not in names:
            raise ValueError(
                f"{key} is no option of this command: choose from {', '.join(map(str, names))}, or name an option of "
                "the run with its dot, such as task.n_agents=5"
            )
    options = read_options(file, [f"{key}={value}" for key, value in pairs if "." not in key])
    return folders, options, [(key, value) for key, value in pairs if "." in key]


def check_changes(changes: Sequence[str]) -> None:
    """Check that changes of a run that was trained set values of its configuration.

    Args:
        changes: what was given, such as ``["task.n_agents=5"]``.

    Raises:
        ValueError: if one has no value, or chooses a file.
    """
    for change in changes:
        key, equals, _ = change.partition("=")
        if not equals:
            raise ValueError(f"{change} needs a value: {change}=...")
        if key in GROUPS or "@" in key or "/" in key:
            raise ValueError(
                f"{change} chooses a file, and a trained run keeps those it was made of: change single options, such "
                "as experiment.max_n_frames=960000 (resume) or task.n_agents=5 (evaluate, export), or start a new run "
                f"with {change} (init_from=RUN_DIR lets it begin with the networks of this one, where they fit)"
            )


def _like(argument: str, text: str, default: Any) -> Any:
    """Read a value of the type of its default, where that has one; a single value makes a list of one."""
    if isinstance(default, str):
        return text
    try:
        value = OmegaConf.from_dotlist([f"value={text}"])["value"]
    except YAMLError as error:
        if default is None:
            return text
        raise ValueError(f"{argument} is not understood: {error}") from error
    if isinstance(default, ListConfig):
        return value if isinstance(value, ListConfig) else [value]
    if default is None:
        # Text that only looks like YAML, such as one with a colon, is text
        return value if value is None or str(value) == text else text
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
    }
    if type(default) in kinds:
        good, words = kinds[type(default)]
        if type(value) not in good:
            raise ValueError(f"{argument} must be {words}")
    return value


@contextmanager
def _set_aside_hydra() -> Iterator[None]:
    """Take away Hydra's global instance, if there is one, and put it back afterwards."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running
