"""Runs of two iterations on sampling with three agents."""

from __future__ import annotations

from pathlib import Path

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.training import load_experiment

OVERRIDES = [
    "task=vmas/sampling",
    "task.max_steps=20",
    "experiment.max_n_frames=160",
    "experiment.on_policy_collected_frames_per_batch=80",
    "experiment.on_policy_n_envs_per_worker=4",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.on_policy_minibatch_size=40",
    "experiment.off_policy_collected_frames_per_batch=80",
    "experiment.off_policy_n_envs_per_worker=4",
    "experiment.off_policy_n_optimizer_steps=2",
    "experiment.evaluation=false",
    "experiment.checkpoint_interval=80",
    *(f"experiment.{kind}_device=cpu" for kind in ("sampling", "train", "buffer")),
    "model.num_cells=[8]",
    "critic_model.num_cells=[8]",
]


def train(folder: Path, *overrides: str) -> Path:
    folder.mkdir(exist_ok=True)
    cfg = compose([*OVERRIDES, f"experiment.save_folder={folder}", *overrides], return_hydra_config=True)
    experiment = load_experiment(cfg, cfg.hydra.runtime.choices)
    experiment.run()
    return Path(experiment.folder_name)
