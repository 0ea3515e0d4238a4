"""What the commands that are not Hydra's have in common: a usage text, and an end after Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarl_himpo.harness.composition import search_in
from benchmarl_himpo.registration import PluginError, register

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells use it."""


def register_or_exit() -> None:
    """Make known what this package and all plug-ins have; a plug-in that cannot be loaded ends the command."""
    try:
        register()
    except PluginError as error:
        sys.exit(str(error))


def given_arguments(arguments: Sequence[str] | None, usage: str | None, needs_some: bool = True) -> list[str]:
    """Get the command line, or end the command with its usage where help is asked for or nothing is given.

    Args:
        arguments: the command line; None: that of the process.
        usage: what to print.
        needs_some: whether the command does nothing without arguments.

    Returns:
        The command line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if (needs_some and not given) or {"-h", "--help"} & set(given):
        print(usage)
        sys.exit()
    return given


def take_config_dir(arguments: Sequence[str]) -> list[str]:
    """Take Hydra's ``--config-dir DIR`` from a command line, and search there from now on.

    Args:
        arguments: the command line.

    Returns:
        The rest of it.

    Raises:
        ValueError: if there is no such folder.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    given, rest = parser.parse_known_args(list(arguments))
    search_in(given.config_dir)
    return rest


@contextmanager
def exit_on_interrupt(message: str) -> Iterator[None]:
    """Turn Ctrl-C in the block into a short message and the exit code that shells use.

    Args:
        message: what there is now, and what can be done with it.

    Yields:
        Nothing.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(message, file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
