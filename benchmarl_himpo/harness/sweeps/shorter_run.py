"""A run that differs from a finished one in nothing but its length begins where that one ended."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarl.hydra_config import load_algorithm_config_from_hydra
from omegaconf import DictConfig

from benchmarl_himpo import __version__
from benchmarl_himpo.harness.records.ledger import Ledger
from benchmarl_himpo.harness.records.record import RECORD_FILE, RecordError, RunRecord, load_record
from benchmarl_himpo.harness.records.run_files import find_begun_run
from benchmarl_himpo.harness.records.spec import RunSpec, comparable_config, hash_config
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint, read_checkpoint
from benchmarl_himpo.harness.runs.origin import read_origin
from benchmarl_himpo.harness.runs.run_config import load_run_config, save_run_config
from benchmarl_himpo.host.benchmarl_files import checkpoint_folder, checkpoint_frames, json_file


def adopt_shorter_run(spec: RunSpec, cfg: DictConfig, choices: Mapping[str, str], ledger: Ledger) -> Path | None:
    """Copy what the longest of the shorter finished runs left into the folder of a run that has not begun.

    Only where the run goes on as if nobody had stopped it: not for off-policy algorithms, which explore on another
    schedule from their first frame, nor where the episodes that the end cut cannot go on.

    Args:
        spec: the run, with nothing in its folder yet.
        cfg: its composed config.
        choices: the file chosen for each group.
        ledger: its ledger, which gets an ``adopted`` event with the beginning of the ``provenance`` of the record.

    Returns:
        A run as an interrupted one leaves it; None: nothing was found.

    Raises:
        OSError: if files cannot be copied.
    """
    if not load_algorithm_config_from_hydra(cfg.algorithm).on_policy():
        return None
    for record, run in _shorter_runs(spec):
        if _can_go_on(record, run):
            ledger.add(
                "adopted",
                run=record.id,
                peak_memory=record.peak_memory,
                provenance={key: record.provenance.get(key) for key in ("started", "git_commit", "git_dirty")},
            )
            return _copy_run(run, spec, cfg, choices)
    return None


def _shorter_runs(spec: RunSpec) -> list[tuple[RunRecord, Path]]:
    """Finished runs of the sweep with fewer frames, all else and the numerics being equal, the longest first."""
    found: list[tuple[RunRecord, Path]] = []
    for file in Path(spec.sweep_folder).glob(f"*-s{spec.seed}-*/{RECORD_FILE}"):
        run = find_begun_run(file.parent)
        try:
            record = load_record(file)
        except RecordError:
            continue
        is_same = (record.fingerprint, _without_length(record.config)) == (
            spec.fingerprint,
            _without_length(spec.config),
        )
        if run is not None and is_same and record.frames[-1] < spec.n_frames:
            found.append((record, run))
    return sorted(found, key=lambda entry: entry[0].frames[-1], reverse=True)


def _without_length(config: Mapping[str, Any]) -> dict[str, Any]:
    experiment = {key: value for key, value in config["experiment"].items() if key != "max_n_frames"}
    return {**config, "experiment": experiment}


def _can_go_on(record: RunRecord, run: Path) -> bool:
    """Whether a run is still as its record says, by this version, and its episodes can go on."""
    if record.provenance.get("benchmarl_himpo") != __version__:
        return False
    try:
        is_as_recorded = hash_config(comparable_config(*load_run_config(run))) == record.config_hash
        checkpoint = newest_checkpoint(checkpoint_folder(run))
        is_exact = read_checkpoint(checkpoint, map_location="cpu").get("episodes") is not None
    except CheckpointError:
        return False
    return is_as_recorded and is_exact and checkpoint_frames(checkpoint) == record.frames[-1]


def _copy_run(run: Path, spec: RunSpec, cfg: DictConfig, choices: Mapping[str, str]) -> Path:
    """Copy what continuing needs, under a name of its own and with the longer run's configuration, at once."""
    # A copy that was cut off lies outside the run's folder, where every folder is an attempt
    temporary = spec.folder.with_name(f"{spec.id}.copy")
    name = f"{run.name}_{spec.n_frames}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint_folder(run), checkpoint_folder(temporary))
    shutil.copytree(run / run.name, temporary / name)
    if json_file(run).is_file():
        shutil.copyfile(json_file(run), temporary / json_file(Path(name)).name)
    save_run_config(cfg, dict(choices), temporary, read_origin(run))
    return temporary.rename(spec.folder / name)
