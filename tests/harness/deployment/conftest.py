"""A HiMPPO of three levels with a position, deaths and random ends, exported once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.tiny_experiment import TinyExperiment


@pytest.fixture
def tiny_experiment(tmp_path: Path) -> TinyExperiment:
    """Builder of experiments that take a second."""
    return TinyExperiment(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _no_trace_of_exports() -> None:
    """Keep pytest from recording torch.export's own trace, which takes longer than the export."""
    logging.getLogger("torch.__trace").propagate = False
