"""Where results go: checked before anything is computed, and written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class OutputError(OSError):
    """Results cannot be written; the message names the option and says why."""


def check_output_file(option: str, file: Path) -> None:
    """Check that a file, which may replace one, can be written, and leave nothing behind.

    Args:
        option: the option that names it, for the message.
        file: the file.

    Raises:
        OutputError: if it cannot.
    """
    if file.is_dir():
        raise OutputError(f"{option}={file} is a folder: name a file")
    _check_folder(f"{option}={file} cannot be written", "another file", file.absolute().parent)


def check_output_folder(option: str, folder: Path) -> None:
    """Check that files can be written into a folder, which need not exist, and leave nothing behind.

    Raises:
        OutputError: if they cannot; the message names the option.
    """
    _check_folder(f"{option}={folder} cannot be written to", "another folder", folder.absolute())


def write_whole(file: Path, text: str) -> None:
    """Write a file so that a full disk or a crash leaves the old one or the new one; missing folders are made.

    Args:
        file: the file; a link to one stays a link.
        text: what it is to hold.

    Raises:
        OSError: if it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    target = file.resolve()
    if target.exists() and not target.is_file():  # a device or a pipe has no other to take its place
        target.write_text(text, encoding="utf-8", newline="\n")
        return
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Results:
    """The results of one call of a command, as a JSON file that is written anew with each of them.

    Args:
        file: the file, the value of ``output``.
        settings: options of the call; its ``output`` is left out, so that the file holds no path.

    Raises:
        ValueError: if its name does not end in ``.json``.
        OutputError: if it cannot be written.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        if file.suffix != ".json":
            raise ValueError(
                f"output={file} must end in .json: what else is written has the same name before its ending"
            )
        check_output_file("output", file)
        self.file = file
        self._settings = {name: value for name, value in settings.items() if name != "output"}
        self._results: list[dict[str, Any]] = []
        self._error: OSError | None = None

    def keep(self, result: dict[str, Any]) -> None:
        """Add a result; a file that cannot be written now stops nothing, since the next result writes it again."""
        self._results.append(result)
        try:
            write_whole(self.file, json.dumps({"settings": self._settings, "results": self._results}, indent=1) + "\n")
            self._error = None
        except OSError as error:
            self._error = error

    def finish(self) -> None:
        """Say where the results are; raises :class:`OutputError` where the file lacks some."""
        if self._error is not None:
            raise OutputError(
                f"output={self.file} could not be written ({self._error}): what is printed is all there is"
            )
        print(f"\nresults: {self.file}")


def _check_folder(problem: str, other: str, folder: Path) -> None:
    """Try a file without a name in the nearest folder that exists."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OutputError(f"{problem} ({nearest}: {error.strerror}): name {other}") from error
