"""Fixtures of the algorithm tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarl.algorithms.common import AlgorithmConfig
from benchmarl.environments.common import TaskClass
from benchmarl.models import MlpConfig
from support.tiny_experiment import TinyExperiment, algorithm_config, mlp_config, vmas_task


@pytest.fixture
def tiny_experiment(tmp_path: Path) -> TinyExperiment:
    """Builder of experiments that take a second."""
    return TinyExperiment(tmp_path)


@pytest.fixture
def make_algorithm() -> Callable[..., AlgorithmConfig]:
    """Builder of algorithm configs: ``make_algorithm("himppo_paper", credit="final")``."""
    return algorithm_config


@pytest.fixture
def make_mlp() -> Callable[[], MlpConfig]:
    """Builder of a small MLP config."""
    return mlp_config


@pytest.fixture
def make_vmas() -> Callable[..., TaskClass]:
    """Builder of VMAS tasks: ``make_vmas("simple_tag", num_adversaries=3)``."""
    return vmas_task
