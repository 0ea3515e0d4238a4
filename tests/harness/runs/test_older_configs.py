"""Configurations of older versions are put into the words of this one, those of this one are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarl_himpo.config import load_yaml
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs.older_configs import update_config
from benchmarl_himpo.harness.runs.run_config import CONFIG_FILE, load_run_config, save_run_config


def test_the_options_of_this_version_are_left_alone(tmp_path: Path) -> None:
    cfg = compose(["algorithm=himppo", "absolute_metric_episodes=3"], return_hydra_config=True)
    save_run_config(cfg, dict(cfg.hydra.runtime.choices), tmp_path)
    saved = OmegaConf.to_container(OmegaConf.load(tmp_path / CONFIG_FILE))
    assert update_config(saved) == saved


def test_a_run_from_before_there_were_absolute_metrics_is_loaded_without(tmp_path: Path) -> None:
    cfg = compose(["algorithm=ippo", "absolute_metric_episodes=3"], return_hydra_config=True)
    save_run_config(cfg, dict(cfg.hydra.runtime.choices), tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(file.read_text().replace("absolute_metric_episodes: 3\n", ""))
    assert load_run_config(tmp_path)[0].absolute_metric_episodes == 0


def test_a_run_from_before_there_were_ways_to_compute_it_was_computed_as_by_default(tmp_path: Path) -> None:
    cfg = compose(["algorithm=ippo", "matmul_precision=high", "update_step=cudagraphs"], return_hydra_config=True)
    save_run_config(cfg, dict(cfg.hydra.runtime.choices), tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(file.read_text().replace("matmul_precision: high\n", "").replace("update_step: cudagraphs\n", ""))
    loaded, _ = load_run_config(tmp_path)
    assert (loaded.matmul_precision, loaded.update_step) == ("highest", "eager")


PART_OPTIONS = OmegaConf.to_container(load_yaml("algorithm", "himppo").part_options)
OLD = {
    "n_nodes": [2, 1],
    "assignment": "kmeans",
    "arena": [-2.0, 2.0],
    "neighbours": "full",
    "n_neighbours": 3,
    "neighbour_radius": 0.25,
    "goal_dim": 8,
    "goal_init_scale": 0.3,
}
NEW = {
    "n_nodes": [2, 1],
    "clustering": "kmeans",
    "neighbours": "full",
    "goal_dim": 8,
    "goal": "normal",
    "lr": None,
    "part_options": PART_OPTIONS,
    "goal_gradient": 0.0,
    "objective_coef": 1.0,
    "listening_coef": 0.0,
    "initial_goal_interval": None,
    "n_epochs": None,
    "reward_norm": False,
    "value_norm": False,
    "norm_decay": 0.9,
    "observation": None,
    "send_goals": True,
    "memory": None,
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({"assignment": "static"}, {"clustering": "static"}),
        ({"assignment": "regions"}, {"clustering": {"name": "regions", "arena": [-2.0, 2.0]}}),
        ({"neighbours": "none"}, {"neighbours": "none"}),
        ({"neighbours": "knn"}, {"neighbours": {"name": "knn", "k": 3}}),
        ({"neighbours": "radius"}, {"neighbours": {"name": "radius", "radius": 0.25}}),
    ],
)
def test_options_that_one_part_alone_reads_become_its_fields(old: dict, new: dict) -> None:
    updated = update_config({"algorithm": {**OLD, **old}})
    assert updated["algorithm"] == {**NEW, **new}
    assert update_config(updated) == updated


def test_algorithms_of_benchmarl_are_left_alone() -> None:
    computed = {"matmul_precision": "highest", "update_step": "eager"}
    config = {"algorithm": {"entropy_coef": 0.0, "lmbda": 0.9}, "absolute_metric_episodes": 0, **computed}
    assert update_config(config) == config


def test_k_means_of_a_run_from_before_there_was_noise_on_positions_had_none() -> None:
    fields = {"clustering": {"regions": {"arena": [-1.0, 1.0]}}}
    updated = update_config({"algorithm": {**NEW, "part_options": fields}})
    assert updated["algorithm"]["part_options"]["clustering"]["kmeans"] == {"position_noise": 0.0}
    noisy = {**NEW, "part_options": {"clustering": {"kmeans": {"position_noise": 0.4}}}}
    assert update_config({"algorithm": noisy})["algorithm"]["part_options"] == noisy["part_options"] | {
        "memory": PART_OPTIONS["memory"]
    }
