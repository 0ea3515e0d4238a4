"""Shared parts of the commands without Hydra: help, typed options, folders, errors as one sentence."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import filterfalse
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.harness.composition import GROUPS, check_changes, search_in
from benchmarl_himpo.registration import PluginError, register

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells use it."""

USUAL_ERRORS = (ValueError, OSError, OmegaConfBaseException, HydraException, PluginError)
"""Errors whose message explains a problem with input, files, configurations or plug-ins."""

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text, in which ${name} is another option",
    Path: "a path, in which ${name} is another option",
    type(None): "null",
}
"""Description of the values of an option, by type."""

NULL = ("", "~", "null", "Null", "NULL")
"""Notations of YAML for no value."""

Options = TypeVar("Options")


def read_options(command: str, options: type[Options], given: Sequence[str], beside: str = "") -> Options:
    """Read the options of a command: ``conf/<command>.yaml``, overridden by the command line.

    Text and paths are not parsed as YAML; a list option accepts a single value, and ``[]`` for none; an optional option
    accepts ``null``.

    Args:
        command: name of the command.
        options: dataclass of the options, without defaults; its ``__post_init__`` raises ``ValueError`` out of range.
        given: the arguments, such as ``["episodes=1000"]``; the last of several values is used.
        beside: text after the option names in the error message for an unknown option.

    Returns:
        The options.

    Raises:
        ValueError: if an option does not exist, has another type or is out of range.
    """
    hints = get_type_hints(options)
    texts = {}
    for argument in given:
        name, equals, texts[name] = argument.partition("=")
        if name not in hints:
            raise ValueError(f"{name} is no option of this command: choose from {', '.join(hints)}{beside}")
        if not equals or texts[name] == "???":
            raise ValueError(f"{name} needs a value: {name}=...")
    file = OmegaConf.load(CONF_DIR / f"{command}.yaml")
    defaults = OmegaConf.merge(OmegaConf.structured(options), OmegaConf.masked_copy(cast("Any", file), list(hints)))
    try:
        values = {name: _plain(text, hints[name]) for name, text in texts.items()}
        return cast("Options", OmegaConf.to_object(OmegaConf.merge(defaults, values)))
    except OmegaConfBaseException as error:
        name = re.split(r"\W", str(error.full_key))[0]
        raise ValueError(f"{name}={texts[name]} must be {_describe(hints[name])}") from error


def read_for_trained_runs(
    command: str, options: type[Options], arguments: Sequence[str]
) -> tuple[list[Path], Options, list[str]]:
    """Read the command line of a command that reads trained runs, with ``--config-dir``; loads all plug-ins.

    Args:
        command: name of the command.
        options: dataclass of its options, as in :func:`read_options`.
        arguments: folders of runs, options, and overrides of the runs' configuration, which have a dot in their names.

    Raises:
        ValueError: as :func:`read_options`, or if there is no folder, or a change chooses a file.
    """
    register()
    folders, rest = split_folders(take_config_dir(arguments))
    own, changes = _split(rest, options, GROUPS)
    check_changes(changes)
    beside = ", or name an option of the run with its dot, such as task.n_agents=5"
    values = read_options(command, options, own, beside)
    if not folders:
        raise ValueError("give at least one folder of a run")
    return folders, values, changes


def read_for_new_runs(command: str, options: type[Options], arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Read the command line of a command that composes new runs; loads all plug-ins.

    Args:
        command: name of the command.
        options: dataclass of its options, as :func:`read_options` takes it.
        arguments: options, and overrides of the runs in Hydra's syntax.

    Raises:
        ValueError: as :func:`read_options`.
    """
    register()
    own, overrides = _split(arguments, options, {*GROUPS, *map(str, OmegaConf.load(CONF_DIR / "config.yaml"))})
    return read_options(command, options, own, ", or describe runs as for run, such as task=vmas/sampling"), overrides


def split_folders(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Separate folders, whose names may contain ``=``, from ``name=value``."""
    rest = [argument for argument in arguments if "=" in argument and not Path(argument).is_dir()]
    return [Path(argument) for argument in arguments if argument not in rest], rest


def given_arguments(arguments: Sequence[str] | None, usage: str | None, needs_some: bool = True) -> list[str]:
    """Get the command line, or exit with the usage if help is requested or required arguments are missing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if (needs_some and not given) or {"-h", "--help"} & set(given):
        print(usage)
        sys.exit()
    return given


def take_config_dir(arguments: Sequence[str]) -> list[str]:
    """Remove Hydra's ``--config-dir DIR`` from a command line, add the folder to the search path, and return the rest.

    Raises:
        ValueError: if the folder does not exist.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    given, rest = parser.parse_known_args(list(arguments))
    search_in(given.config_dir)
    return rest


@contextmanager
def exit_with_a_sentence(interrupted: str, errors: tuple[type[Exception], ...] = USUAL_ERRORS) -> Iterator[None]:
    """Turn errors in the block into one sentence and exit code 1, and Ctrl-C into the exit code of shells.

    Args:
        interrupted: message after Ctrl-C: the state of the results, and how to continue.
        errors: exceptions whose message is sufficient.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except errors as error:
        sys.exit(str(error))


def _split(arguments: Sequence[str], options: type[Any], of_runs: Collection[str]) -> tuple[list[str], list[str]]:
    """Separate options of the command from overrides of runs; misspelt options are not taken for overrides."""
    names = [field.name for field in fields(options)]

    def is_own(argument: str) -> bool:
        name = argument.partition("=")[0]
        return name in names or (name.isidentifier() and name not in of_runs)

    return [*filter(is_own, arguments)], [*filterfalse(is_own, arguments)]


def _plain(text: str, hint: Any) -> object:
    """Give what OmegaConf converts to the type of an option."""
    if get_origin(hint) is not list:
        return None if type(None) in get_args(hint) and text in NULL else text
    if not text:
        return []
    if text in NULL:
        return text  # which OmegaConf refuses: no value is []
    if not text.startswith("["):
        return [text]
    try:
        return [str(item) for item in yaml.safe_load(text)]
    except yaml.YAMLError:
        return text


def _describe(hint: Any) -> str:
    """Say what an option of a type can be."""
    if get_origin(hint) is list:
        return "a list such as [a,b], or [] for none"
    return " or ".join(WORDS[kind] for kind in get_args(hint) or (hint,))
