"""BenchMARL's own experiments, which know nothing of this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarl.algorithms import IppoConfig
from benchmarl.experiment import Experiment
from support.tiny_experiment import TinyExperiment
from support.toy_task import ToyTask


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> TinyExperiment:
    """Builder of experiments of a second."""
    return TinyExperiment(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def experiment(build: TinyExperiment) -> Iterator[Experiment]:
    """IPPO on the toy task, about to run, with a CSV logger and a JSON file."""
    task = ToyTask(min_steps=4, max_steps=4)
    built = build(IppoConfig.get_from_yaml(), task, loggers=["csv"], create_json=True, evaluation=True)
    yield built
    built.close()


@pytest.fixture(scope="session")
def finished(build: TinyExperiment) -> Experiment:
    """The same after its two iterations of 64 frames, each with an evaluation of three episodes and a checkpoint."""
    task = ToyTask(min_steps=4, max_steps=4)
    files = {"loggers": ["csv"], "create_json": True, "evaluation": True, "checkpoint_interval": 64}
    built = build(IppoConfig.get_from_yaml(), task, **files)
    built.run()
    return built
