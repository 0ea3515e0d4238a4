"""The configuration of a run: where it is found, how it is changed, and which changes are remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.lifecycle import spec_of
from benchmarl_himpo.harness.runs.run_config import (
    changed_options,
    describe_changes,
    find_run,
    load_run_config,
    read_changes,
    save_run_config,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "himppo_sampling"
    (folder / "checkpoints").mkdir(parents=True)
    cfg = compose(["algorithm=himppo"], return_hydra_config=True)
    save_run_config(cfg, dict(cfg.hydra.runtime.choices), folder)
    return folder


def test_the_working_directory_is_a_run_with_a_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert find_run(Path()).name == run.name
    assert find_run(Path("checkpoints/..")).name == run.name


def test_parts_are_changed_in_hydras_syntax(run: Path) -> None:
    cfg, _ = load_run_config(run, ["algorithm.neighbours={name:knn,k:4}", "algorithm.n_nodes=[3,1]"])
    assert (cfg.algorithm.neighbours, cfg.algorithm.n_nodes) == ({"name": "knn", "k": 4}, [3, 1])


def test_former_values_of_changed_options_are_part_of_what_a_run_is(run: Path, tmp_path: Path) -> None:
    def go_on(n_frames: int, *overrides: str) -> list[str]:
        """Go on with other options, as resume does."""
        cfg, choices = load_run_config(folder, overrides)
        save_run_config(cfg, choices, folder, changes=changed_options(folder, cfg, n_frames))
        labels.append(spec_of(folder, cfg, choices).variant)
        return describe_changes(read_changes(folder))

    folder, labels = tmp_path / run.name, []
    cfg, choices = load_run_config(run)
    folder.mkdir()
    save_run_config(cfg, choices, folder)
    lr, first = "experiment.lr", f"experiment.lr was {cfg.experiment.lr} up to 1,000 frames"
    assert go_on(500, "experiment.max_n_frames=9000", "experiment.loggers=[]", "absolute_metric_episodes=5") == []
    assert go_on(1000, f"{lr}=0.003") == [first]
    assert go_on(1500) == [first]
    assert go_on(2000, f"{lr}=0.004") == [first, f"{lr} was 0.003 up to 2,000 frames"]
    assert go_on(1800) == [first, f"{lr} was 0.003 up to 1,800 frames"]  # back to an older checkpoint
    assert go_on(700) == [first.replace("1,000", "700")]
    assert go_on(600, f"{lr}={cfg.experiment.lr}") == []  # as from the beginning
    assert labels[1] == labels[2] == f"himppo[{first}; {lr}=0.003]"
    assert len({*labels}) == 5
