"""Locks of folders, so that only one process at a time writes to them."""

from __future__ import annotations

from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

LOCK_FILE = ".lock"


class RunLockedError(RuntimeError):
    """Another process writes to the folder."""


def lock_folder(folder: Path) -> AcquireReturnProxy:
    """Lock a folder until the returned object leaves a ``with`` block or releases its ``lock``, or the process ends.

    Raises:
        RunLockedError: if another process holds the lock.
    """
    try:
        return FileLock(folder / LOCK_FILE, timeout=0, thread_local=False).acquire()
    except Timeout as error:
        raise RunLockedError(
            f"another process writes to {folder}: wait for it to end, or work in a copy of the folder"
        ) from error
