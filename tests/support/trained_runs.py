"""Runs of two iterations on sampling with three agents."""

from __future__ import annotations

from pathlib import Path

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import load_experiment
from support.tiny_overrides import SAMPLING

OVERRIDES = [*SAMPLING, "experiment.max_n_frames=160", "experiment.evaluation=false"]


def train(folder: Path, *overrides: str) -> Path:
    folder.mkdir(exist_ok=True)
    cfg = compose([*OVERRIDES, f"experiment.save_folder={folder}", *overrides], return_hydra_config=True)
    experiment = load_experiment(cfg, cfg.hydra.runtime.choices)
    experiment.run()
    return Path(experiment.folder_name)
