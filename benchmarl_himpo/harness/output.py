"""Output files: checked before anything is computed, and written atomically."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class OutputError(OSError):
    """Results cannot be written; the message names the option and says why."""


def check_output_file(option: str, file: Path) -> None:
    """Check, without side effects, that a file can be written or replaced.

    Args:
        option: the option that names the file, for the message.
        file: the file.

    Raises:
        OutputError: if the file cannot be written.
    """
    if file.is_dir():
        raise OutputError(f"{option}={file} is a folder: name a file")
    _check_folder(f"{option}={file} cannot be written", "another file", file.absolute().parent)


def check_output_folder(option: str, folder: Path) -> None:
    """Check, without side effects, that files can be written into a folder, which need not exist.

    Raises:
        OutputError: if files cannot be written; the message names the option.
    """
    _check_folder(f"{option}={folder} cannot be written to", "another folder", folder.absolute())


def files_below(folder: Path, pattern: str) -> list[Path]:
    """List the files below a folder whose names match a pattern, sorted; links are followed, each folder once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if os.path.realpath(Path(place) / name) not in seen]
        found += [Path(place) / name for name in fnmatch.filter(names, pattern)]
    return sorted(found)


def keep_older(file: Path) -> None:
    """Copy a file that is about to be replaced to the first free name among ``x.1.json``, ``x.2.json``, ..."""
    if file.is_file():
        names = (file.with_name(f"{file.stem}.{number}{file.suffix}") for number in itertools.count(1))
        shutil.copyfile(file, next(name for name in names if not name.exists()))


def write_whole(file: Path, text: str) -> None:
    """Write a file atomically: after a full disk or a crash the file is the old or the new one. Creates folders.

    Args:
        file: the file; a symbolic link stays a link.
        text: the content.

    Raises:
        OSError: if the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    target = file.resolve()
    if target.exists() and not target.is_file():  # a device or a pipe cannot be replaced
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
    """The results of one call of a command, as a JSON file that is rewritten with each new result.

    Args:
        file: the file, the value of ``output``.
        settings: options of the call; ``output`` is left out, so that the file contains no path.

    Raises:
        ValueError: if the file's name does not end in ``.json``.
        OutputError: if the file cannot be written.
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
        """Add a result; a failed write is not an error, since the next result rewrites the file."""
        self._results.append(result)
        try:
            if len(self._results) == 1:
                keep_older(self.file)
            write_whole(self.file, json.dumps({"settings": self._settings, "results": self._results}, indent=1) + "\n")
            self._error = None
        except OSError as error:
            self._error = error

    def finish(self) -> None:
        """Print the path of the results; raises :class:`OutputError` if results are missing from the file."""
        if self._error is not None:
            raise OutputError(
                f"output={self.file} could not be written ({self._error}): what is printed is all there is"
            )
        print(f"\nresults: {self.file}")


def _check_folder(problem: str, other: str, folder: Path) -> None:
    """Try to create a temporary file in the nearest existing folder."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise OutputError(f"{problem} ({nearest}: {error.strerror}): name {other}") from error
