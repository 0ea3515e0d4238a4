"""What is used of Hydra beyond its documentation."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.host.hydra import set_aside_hydra


def test_set_aside_hydra_lets_a_second_one_begin_and_puts_the_first_one_back() -> None:
    with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        with set_aside_hydra(), initialize_config_dir(config_dir=str(CONF_DIR / "algorithm"), version_base="1.3"):
            assert GlobalHydra.instance().hydra is not running
        assert GlobalHydra.instance().hydra is running
        assert "seed" in compose("config")
    with set_aside_hydra():
        assert not GlobalHydra.instance().is_initialized()
