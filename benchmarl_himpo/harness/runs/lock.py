"""Folders that one process at a time may write to."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows has no such locks: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


class RunLockedError(RuntimeError):
    """Another process writes to the folder."""


def lock_folder(folder: Path) -> TextIO:
    """Hold a folder until the file that is returned is closed or the process ends, however it ends.

    Args:
        folder: the folder.

    Returns:
        The open lock file.

    Raises:
        RunLockedError: if another process holds it.
    """
    file = (folder / LOCK_FILE).open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise RunLockedError(
                f"another process writes to {folder}: wait for it to end, or work in a copy of the folder"
            ) from error
    return file
