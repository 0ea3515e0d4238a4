"""Tiny runs, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.trained_runs import train


@pytest.fixture(scope="session")
def himppo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        tmp_path_factory.mktemp("runs"), "algorithm=himppo", "algorithm.part_options.goal.normal.init_scale=1.0"
    )


@pytest.fixture(scope="session")
def qmix_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "algorithm=qmix")
