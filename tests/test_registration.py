"""What registering makes known: algorithms and tasks under BenchMARL's own configs and commands, and nothing twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarl.algorithms import algorithm_config_registry as host_registry
from benchmarl.environments import task_config_registry
from benchmarl.hydra_config import load_algorithm_config_from_hydra, load_task_config_from_hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from support.commands import run_python
from support.tiny_overrides import SMALL

from benchmarl_himpo import register
from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.environments.tasks import TASKS
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.host.benchmarl_files import conf_dir
from benchmarl_himpo.registration import HimpoSearchPath


@pytest.fixture
def in_benchmarl() -> Iterator[None]:
    """Compose as BenchMARL's commands and tests do, from its own folder."""
    with initialize_config_dir(config_dir=str(conf_dir()), version_base=None):
        yield


@pytest.mark.parametrize("name", algorithm_config_registry)
@pytest.mark.usefixtures("in_benchmarl")
def test_benchmarl_composes_and_loads_every_algorithm_of_ours(name: str) -> None:
    cfg = hydra_compose("config", [f"algorithm={name}", "task=vmas/balance"])
    assert load_algorithm_config_from_hydra(cfg.algorithm) == host_registry[name].get_from_yaml()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.usefixtures("in_benchmarl")
def test_benchmarl_composes_and_loads_every_task_of_ours_with_type_checks(name: str) -> None:
    cfg = hydra_compose("config", ["algorithm=mappo", f"task={name}"], return_hydra_config=True)
    assert cfg.hydra.runtime.choices.task == name
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # BenchMARL warns of tasks that it cannot check
        task = load_task_config_from_hydra(cfg.task, name)
        assert task == task_config_registry[name].get_from_yaml()


@pytest.mark.usefixtures("in_benchmarl")
def test_files_of_benchmarl_win_over_ours_in_its_own_programs() -> None:
    cfg = hydra_compose("config", ["algorithm=himppo", "task=vmas/balance"], return_hydra_config=True)
    sources = [source.path for source in cfg.hydra.runtime.config_sources]
    assert [path for path in sources if path in (str(conf_dir()), str(CONF_DIR))] == [str(conf_dir()), str(CONF_DIR)]
    assert "absolute_metric_episodes" not in cfg
    assert cfg.hydra.runtime.choices.experiment == "base_experiment"


def test_in_our_own_programs_our_files_come_first_and_once() -> None:
    cfg = compose(["algorithm=ippo"], return_hydra_config=True)
    sources = [(source.provider, source.path) for source in cfg.hydra.runtime.config_sources]
    ours = [("main", str(CONF_DIR)), ("hydra.searchpath in main", "benchmarl.conf")]
    assert sources == [("hydra", "hydra.conf"), *ours, ("schema", "")]


def test_registering_twice_leaves_one_search_path() -> None:
    register()
    assert Plugins.instance().discover(SearchPathPlugin).count(HimpoSearchPath) == 1


def test_benchmarls_own_command_trains_ours_without_being_told(tmp_path: Path) -> None:
    overrides = ["algorithm=himppo", "task=lbf/foraging_8x8_2p_1f", *SMALL, "experiment.loggers=[]"]
    done = run_python(tmp_path, [], "-m", "benchmarl.run", *overrides)
    assert done.returncode == 0, done.stderr
    assert "without type checks" not in done.stderr
    assert len(list(tmp_path.rglob("himppo_foraging_8x8_2p_1f_*/checkpoints/checkpoint_80.pt"))) == 1


def test_programs_without_benchmarl_find_nothing_of_ours_and_load_no_torch(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: 1")
    program = """
import sys
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
with initialize_config_dir(config_dir=sys.argv[1], version_base="1.3"):
    cfg = compose("config", return_hydra_config=True)
print([plugin.__name__ for plugin in Plugins.instance().discover(SearchPathPlugin)].count("HimpoSearchPath"))
print([source.provider for source in cfg.hydra.runtime.config_sources], "torch" in sys.modules)
"""
    done = run_python(tmp_path, [], "-c", program, str(tmp_path))
    assert done.stdout.splitlines() == ["1", "['hydra', 'main', 'schema'] False"], done.stderr
