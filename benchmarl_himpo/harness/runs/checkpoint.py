"""Checkpoint files: written atomically, and verified by a checksum before they are read.

A checkpoint is ``checkpoint_<frames>.pt``, plain tensors and numbers, with ``checkpoint_<frames>.pt.sha256`` in the
format of ``sha256sum``. BenchMARL's own :class:`~benchmarl.experiment.Experiment` writes no checksum.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.host import benchmarl_files as host_files

CONFIG_FILE = "run.yaml"
"""The configuration of a run, in its folder."""
CHECKSUM_SUFFIX = ".sha256"
TEMPORARY_SUFFIX = ".tmp"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message gives the reason."""


def write_checkpoint(state: Any, path: Path) -> None:
    """Write a state and its checksum: after a crash the file is the old or the new one, or does not fit its checksum.

    Args:
        state: tensors, numbers and strings in dicts and lists.
        path: the file.

    Raises:
        OSError: if the disk is full or the folder cannot be written to; no partial file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        _write_checksum(_digest(temporary), path)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}): checkpoints written before are untouched") from error
    _sync_folder(path.parent)


def read_checkpoint(path: Path, map_location: Any = None) -> Any:
    """Read a checkpoint after verifying that it is intact and contains only data.

    Args:
        path: the checkpoint.
        map_location: as in :func:`torch.load`.

    Returns:
        The state.

    Raises:
        CheckpointError: if the file is damaged, has no checksum, or holds anything but tensors, numbers and strings.
    """
    check_checksum(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds more than tensors and numbers, or is no checkpoint at all, and was not loaded "
            f"({str(error).partition(chr(10))[0]}): use a checkpoint that this package wrote"
        ) from error


def check_checksum(path: Path) -> None:
    """Verify a checkpoint by its checksum, or by the internal checksums of a file of BenchMARL's own experiment.

    Raises:
        CheckpointError: if a file is missing or they differ.
    """
    checksum = _checksum_file(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give the path of a checkpoint_*.pt file")
    if not checksum.is_file():
        if is_of_benchmarl(host_files.run_of(path)):
            _check_archive(path)
            return
        raise CheckpointError(f"{path} has no checksum beside it ({checksum.name}) and was not loaded")
    if checksum.read_text(errors="replace").split(maxsplit=1)[:1] != [_digest(path)]:
        raise CheckpointError(f"{path} does not match its checksum: it is damaged; use an older checkpoint")


def is_of_benchmarl(run: Path) -> bool:
    """Whether BenchMARL's own experiment wrote the folder, not a command of this package."""
    return (run / host_files.CONFIG_FILE).is_file() and not (run / CONFIG_FILE).is_file()


def add_checksum(path: Path) -> None:
    """Write the checksum of a verified checkpoint that has none."""
    if not _checksum_file(path).is_file():
        _write_checksum(_digest(path), path)


def digest_of(path: Path) -> str:
    """Verify a checkpoint, and return the SHA-256 of its content, hex."""
    check_checksum(path)
    return _digest(path)


def newest_checkpoint(folder: Path) -> Path:
    """Find the newest checkpoint in the ``checkpoints`` folder of a run that matches its checksum.

    Raises:
        CheckpointError: if there is none; the message lists the problems of the existing checkpoints.
    """
    faults = []
    for path in list_checkpoints(folder):
        try:
            check_checksum(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        return path
    why = ". ".join(faults) or "the run was stopped before its first (experiment.checkpoint_interval); start it again"
    raise CheckpointError(f"{folder} holds no good checkpoint: {why}")


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in the ``checkpoints`` folder of a run by their frames, newest first."""
    numbered = [(host_files.checkpoint_frames(path), path) for path in folder.glob("*.pt")]
    return [path for _, path in sorted(((n, path) for n, path in numbered if n is not None), reverse=True)]


def prune_checkpoints(folder: Path, n_kept: int) -> None:
    """Delete all but the ``n_kept`` newest checkpoints of a folder, and temporary files of interrupted writes."""
    for path in list_checkpoints(folder)[n_kept:]:
        path.unlink()
        _checksum_file(path).unlink(missing_ok=True)
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink()


def set_aside_later_checkpoints(folder: Path, n_frames: int) -> None:
    """Rename the checkpoints after the one from which a run continues, since their part of the run is discarded."""
    for path in list_checkpoints(folder):
        if (host_files.checkpoint_frames(path) or 0) > n_frames:
            path.replace(path.with_suffix(".pt.abandoned"))
            _checksum_file(path).unlink(missing_ok=True)


def _write_checksum(digest: str, path: Path) -> None:
    write_whole(_checksum_file(path), f"{digest}  {path.name}\n")


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + CHECKSUM_SUFFIX)


def _check_archive(path: Path) -> None:
    """Verify the parts of a file of torch.save, a zip archive, by the checksums inside it."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        damaged = str(error)
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged}): use an older checkpoint")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Flush the names of new files to disk, if the system can open folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
