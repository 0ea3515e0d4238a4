"""Configurations of older versions are put into the words of this one, those of this one are left alone."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

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
