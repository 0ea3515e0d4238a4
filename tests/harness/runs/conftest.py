"""Runs of a few seconds on sampling, whose episodes of 20 steps end with each batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.tiny_overrides import SAMPLING

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.training import config_to_continue, load_experiment

N_FRAMES = 320


@pytest.fixture
def sampling_overrides(tiny_overrides: list[str]) -> list[str]:
    """Four iterations of 80 frames, a checkpoint after each, an evaluation after every second."""
    return [
        *tiny_overrides,
        *SAMPLING,
        f"experiment.max_n_frames={N_FRAMES}",
        "experiment.evaluation_interval=160",
        "experiment.exploration_anneal_frames=200",
    ]


class Runs:
    """Starts and continues runs in this process, as the commands do.

    Args:
        overrides: of every run.
        folder: of the test.
        kept: folders of the runs that :meth:`trained` has trained, by their overrides.
    """

    def __init__(self, overrides: list[str], folder: Path, kept: dict[tuple[str, ...], Path]) -> None:
        self.overrides, self.folder, self.kept = overrides, folder, kept

    def build(self, *overrides: str) -> ResumableExperiment:
        cfg = compose([*self.overrides, *overrides], return_hydra_config=True)
        return load_experiment(cfg, cfg.hydra.runtime.choices)

    def run(self, *overrides: str) -> Path:
        """Run to the end and give the folder of the run."""
        experiment = self.build(*overrides)
        experiment.run()
        return Path(experiment.folder_name)

    def trained(self, *overrides: str) -> Path:
        """The same, trained for the first test of a file that asks for it; each test has a copy of its own."""
        if overrides not in self.kept:
            self.kept[overrides] = self.run(*overrides, f"experiment.save_folder={self.folder / 'kept'}")
        return Path(shutil.copytree(self.kept[overrides], self.folder / "runs" / self.kept[overrides].name))

    def build_resumed(self, folder: Path, *overrides: str) -> ResumableExperiment:
        cfg, choices = config_to_continue(folder, overrides)
        return load_experiment(cfg, choices, resumes=True)

    def resume(self, folder: Path, *overrides: str) -> ResumableExperiment:
        experiment = self.build_resumed(folder, *overrides)
        experiment.run()
        return experiment


@pytest.fixture(scope="module")
def kept_runs() -> dict[tuple[str, ...], Path]:
    return {}


@pytest.fixture
def runs(sampling_overrides: list[str], tmp_path: Path, kept_runs: dict[tuple[str, ...], Path]) -> Runs:
    return Runs(sampling_overrides, tmp_path, kept_runs)
