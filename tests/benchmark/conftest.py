"""The gate with digests and runs that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import MadeUpEngine

from benchmarl_himpo import regression
from benchmarl_himpo.benchmark.engines import ENGINES
from benchmarl_himpo.benchmark.regression import quick

RunGate = Callable[..., int]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> MadeUpEngine:
    """An engine that makes records up, as ``engine=made_up``."""
    engine = MadeUpEngine()
    monkeypatch.setitem(ENGINES, "made_up", engine)
    return engine


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Digests that are made up; may be changed."""
    digests = {"fingerprint": "f" * 16, "host": "a" * 16, "himppo": "b" * 16}
    monkeypatch.setattr(quick, "take_digests", lambda *names: {name: digests[name] for name in names})
    return digests


@pytest.fixture
def gate(engine: MadeUpEngine, digests: dict[str, str], tmp_path: Path) -> RunGate:
    """Run the command on one task, for brevity the toy one, and give its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exit_info:
            regression.main(
                [
                    *(f"folder={tmp_path / 'runs'}", f"baselines={tmp_path / 'baselines'}", "engine=made_up"),
                    *("protocol=regression_cue", "random_episodes=2", *arguments),
                ]
            )
        return int(exit_info.value.code)

    return run
