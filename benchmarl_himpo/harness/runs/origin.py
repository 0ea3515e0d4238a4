"""The origin of a run: the checkpoint of another run, of which it loads the weights or the whole state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.harness.runs.checkpoint import CONFIG_FILE, CheckpointError, digest_of, newest_checkpoint
from benchmarl_himpo.harness.runs.run_config import CHANGES, INIT_FROM, ORIGIN, Origin, find_run, read_changes
from benchmarl_himpo.host.benchmarl_files import checkpoint_folder, total_frames_in


def make_origin(option: str, checkpoint: Path, state: Mapping[str, Any]) -> Origin:
    """Describe the checkpoint from which a run starts: the option, the file, and its content."""
    folder = checkpoint.resolve().parent
    name = folder.parent.name if folder == checkpoint_folder(folder.parent) else checkpoint.stem
    return Origin(option, name, total_frames_in(state), digest_of(checkpoint))


def read_origin(run: Path) -> Origin | None:
    """Read the origin of the run in a folder; None if it has none."""
    file = run / CONFIG_FILE
    saved = cast("DictConfig", OmegaConf.load(file)).get(ORIGIN) if file.is_file() else None
    return None if saved is None else Origin(**saved)


def find_checkpoint(init_from: str) -> Path:
    """Find the checkpoint of ``init_from``; for the folder of a run, or a folder around it, the newest intact one.

    Raises:
        CheckpointError: if there is none.
    """
    path = Path(init_from)
    try:
        return path if path.is_file() else newest_checkpoint(checkpoint_folder(find_run(path)))
    except CheckpointError as error:
        raise CheckpointError(f"{INIT_FROM}={init_from}: {error}") from error


def add_past(cfg: DictConfig, run: Path) -> DictConfig:
    """Copy a config and add the origin and the changed options of a run, in the form that :func:`identify_past` reads.

    Args:
        cfg: the config.
        run: the folder of the run.
    """
    known, origin, changes = cfg.copy(), read_origin(run), read_changes(run)
    if origin is not None:
        OmegaConf.update(known, ORIGIN, asdict(origin), force_add=True)
    if changes:
        OmegaConf.update(known, CHANGES, changes, force_add=True)
    return known


def identify_past(cfg: DictConfig) -> dict[str, Any]:
    """Part of a run's identity that is not in its options.

    Returns:
        The digest of the checkpoint it started from, by option, and its
        :func:`~benchmarl_himpo.harness.runs.run_config.changed_options`.

    Raises:
        CheckpointError: if ``init_from`` names no intact checkpoint.
    """
    past: dict[str, Any] = {CHANGES: OmegaConf.to_container(cfg[CHANGES])} if CHANGES in cfg else {}
    if ORIGIN in cfg:
        return past | {cfg[ORIGIN].option: cfg[ORIGIN].sha256}
    return past if cfg.init_from is None else past | {INIT_FROM: digest_of(find_checkpoint(cfg.init_from))}


def describe_origin(origin: Mapping[str, Any]) -> str:
    """Short description of the origin in a record; empty if the run has none."""
    return str(Origin(**origin)) if origin else "nothing"
