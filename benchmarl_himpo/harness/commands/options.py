"""Reads the options of the commands that are not Hydra's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.composition import GROUPS, check_changes


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
