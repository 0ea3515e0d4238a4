"""A run that differs from a finished one in nothing but its length begins where that one ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarl.algorithms import algorithm_config_registry

from benchmarl_himpo.benchmark.record import RECORD_FILE
from benchmarl_himpo.benchmark.run_files import find_begun_run
from benchmarl_himpo.benchmark.spec import SPEC_FILE, RunSpec, load_spec


def adopt_shorter_run(spec: RunSpec) -> Path | None:
    """Copy what the longest of the shorter finished runs left into the folder of a run that has not begun.

    Only for on-policy algorithms: an off-policy run of another length explores on another schedule from its first
    frame.

    Args:
        spec: the run, with nothing in its folder yet.

    Returns:
        The copy of the folder in which BenchMARL wrote; None: nothing was found.
    """
    if not algorithm_config_registry[spec.choice("algorithm")].on_policy():
        return None
    found = dict(_find_shorter_runs(spec))
    run = find_begun_run(found[max(found)]) if found else None
    if run is None:
        return None
    # A copy that was cut off lies outside the run's folder, where every folder is an attempt
    temporary = spec.folder.with_name(f"{spec.id}.copy")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(run, temporary)
    return temporary.rename(spec.folder / run.name)


def _find_shorter_runs(spec: RunSpec) -> Iterator[tuple[int, Path]]:
    """Frames and folders of the sweep's finished runs with fewer frames, all else and the numerics being equal."""
    for record in Path(spec.sweep_folder).glob(f"*-s{spec.seed}-*/{RECORD_FILE}"):
        other = load_spec(record.with_name(SPEC_FILE))
        is_same = (other.fingerprint, _without_length(other)) == (spec.fingerprint, _without_length(spec))
        if is_same and other.n_frames < spec.n_frames:
            yield other.n_frames, record.parent


def _without_length(spec: RunSpec) -> dict[str, Any]:
    experiment = {key: value for key, value in spec.config["experiment"].items() if key != "max_n_frames"}
    return {**spec.config, "experiment": experiment}
