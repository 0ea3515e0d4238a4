"""Fixtures shared by all tests: the package registered, and experiments that take a second.

Fixtures import what takes seconds: the process that hands tests out to others reads this file and makes none of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support.tiny_overrides import SMALL

if TYPE_CHECKING:
    from benchmarl.experiment import Experiment, ExperimentConfig

ROOT = Path(__file__).parent.parent
TINY_TASK = "vmas/dropout"

# In CI the same examples every time; elsewhere new ones. No deadline: machines are noisy
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need the game where a run would be refused."""
    if item.get_closest_marker("needs_sc2"):
        from benchmarl_himpo.harness import checks

        try:
            checks.check_task("smacv2/protoss_5_vs_5")
        except checks.RequestError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def _registered() -> None:
    import torch

    import benchmarl_himpo

    benchmarl_himpo.register()
    torch.set_num_threads(1)


@pytest.fixture
def tiny_overrides(tmp_path: Path) -> list[str]:
    """Overrides that shrink every experiment: 2 iterations of 40 frames, evaluated and saved."""
    return [*SMALL, f"experiment.save_folder={tmp_path / 'runs'}", f"task={TINY_TASK}", "task.max_steps=10"]


@pytest.fixture
def tiny_experiment_config(tiny_overrides: list[str]) -> ExperimentConfig:
    """The experiment config of `tiny_overrides`, for experiments made without Hydra."""
    from omegaconf import OmegaConf

    from benchmarl_himpo.harness.composition import compose

    config = OmegaConf.to_object(compose(tiny_overrides).experiment)
    Path(config.save_folder).mkdir(parents=True, exist_ok=True)
    return config


@pytest.fixture
def make_experiment(tiny_overrides: list[str]) -> Callable[..., Experiment]:
    """Build a tiny experiment as the command does: `make_experiment("algorithm=ippo", ...)`."""
    from benchmarl_himpo.harness.composition import compose
    from benchmarl_himpo.harness.runs.training import load_experiment

    def make(*overrides: str) -> Experiment:
        cfg = compose([*tiny_overrides, *overrides], return_hydra_config=True)
        return load_experiment(cfg, cfg.hydra.runtime.choices)

    return make


@pytest.fixture
def call_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same as `run_command` in this process, without the seconds that another one takes to import everything."""
    from hydra.core.hydra_config import HydraConfig

    from benchmarl_himpo.harness.commands.run import main as run_main

    def call(*arguments: str, cwd: Path, main: Callable[[], None] = run_main) -> subprocess.CompletedProcess[str]:
        code: int | str | None = 0
        # Hydra's logging would replace pytest's, and its configuration outlives the call
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", ["himpo", *arguments, *quiet])
            patch.setattr(HydraConfig.instance(), "cfg", None)
            try:
                main()
            except SystemExit as error:
                code = error.code
        out, err = capsys.readouterr()
        is_sentence = isinstance(code, str)
        return subprocess.CompletedProcess(
            arguments, 1 if is_sentence else code or 0, out, f"{err}{code}\n" if is_sentence else err
        )

    return call


@pytest.fixture
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command as a user would: `run_command("algorithm=ippo", cwd=...)`."""

    def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "benchmarl_himpo.run", *arguments],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
