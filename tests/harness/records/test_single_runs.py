"""Runs of the command that are of no sweep leave a record too, and a report finds them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarl.eval_results import get_raw_dict_from_multirun_folder
from support.sweeps import N_FRAMES, TINY

from benchmarl_himpo.harness.commands import report, resume
from benchmarl_himpo.harness.commands.run import train_and_summarise
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records import lifecycle
from benchmarl_himpo.harness.records.ledger import LEDGER_FILE, Ledger
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, RunRecord, load_record
from benchmarl_himpo.harness.report.comparison import ComparisonError, collect
from benchmarl_himpo.harness.report.curves import draw_from
from benchmarl_himpo.harness.runs.checkpoint import newest_checkpoint
from benchmarl_himpo.harness.runs.run_config import find_run
from benchmarl_himpo.harness.runs.training import CommandError

N_STEPS = N_FRAMES // 80 * 2 * 3  # iterations, epochs, minibatches of at most 30 of 80 frames

Run = Callable[..., RunRecord | None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run to the end, as a job of a multirun does, into a folder of a name."""

    def run(name: str, *overrides: str) -> RunRecord | None:
        (tmp_path / name).mkdir()
        cfg = compose([*TINY, f"experiment.save_folder={tmp_path / name}", *overrides], return_hydra_config=True)
        return train_and_summarise(cfg, cfg.hydra.runtime.choices)

    return run


def test_a_record_says_what_the_run_left(run: Run, tmp_path: Path) -> None:
    record = run("0", "algorithm=ippo", "experiment.lr=0.002")
    folder = find_run(tmp_path / "0")
    assert record is not None
    assert load_record(folder / RUN_RECORD_FILE) == record
    assert (record.id, record.seed) == (folder.name, 0)
    assert "experiment.lr=0.002" in record.variant
    assert record.frames == [80, 160, 240, 320]
    assert record.evaluation_frames == [80, 160, 320]
    assert len(record.absolute_metric["returns"]) == 5
    assert (record.attempts, record.resumed, record.gradient_steps) == (1, False, N_STEPS)
    assert record.fingerprint is None
    assert record.provenance["started"] <= record.provenance["ended"]
    assert str(tmp_path) not in (folder / RUN_RECORD_FILE).read_text()


def test_a_run_whose_beginning_was_not_logged_has_a_record_all_the_same(run: Run, tmp_path: Path) -> None:
    """Metrics of the environment and costs are known for its later iterations alone."""
    task = ("task=lbfws/easy", "task.max_steps=20", "algorithm=ippo")
    run("0", *task, "experiment.loggers=[]", "experiment.max_n_frames=160")
    folder = find_run(tmp_path / "0")
    assert resume.main([str(folder), "experiment.loggers=[csv]", "experiment.max_n_frames=320"]) is None
    record = load_record(folder / RUN_RECORD_FILE)
    assert record.frames == [240, 320]
    assert record.gradient_steps == N_STEPS
    lives = dict(zip(record.evaluation_frames, record.evaluation_metrics["life_mean"], strict=True))
    assert {n_frames for n_frames, life in lives.items() if life is None} == {n for n in lives if n < 240}
    assert lives[320] > 0


@pytest.mark.slow
def test_benchmarls_reader_of_a_multirun_takes_the_results_alone(run: Run, tmp_path: Path) -> None:
    run("0", "algorithm=ippo", "seed=0")
    run("1", "algorithm=ippo", "seed=1")
    raw = get_raw_dict_from_multirun_folder(str(tmp_path))
    assert set(raw) == {"vmas"}
    assert set(raw["vmas"]["sampling"]["ippo"]) == {"seed_0", "seed_1"}


def test_a_report_of_a_multirun_has_each_run_once_and_names_the_unfinished(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("0", "algorithm=ippo", "seed=0")
    run("1", "algorithm=ippo", "seed=1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lifecycle, "measure_absolute_metric", interrupt)
        run("2", "algorithm=ippo", "seed=2")
    capsys.readouterr()
    report.main([str(tmp_path), "repetitions=200"])
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [entry["seed"] for entry in data["runs"]] == [0, 1]
    assert [(entry["seed"], entry["reason"]) for entry in data["absent"]] == [(2, "interrupted")]
    assert "Unfinished: ippo" in capsys.readouterr().out
    resume.resume(tmp_path / "2", [])  # what is left of it
    assert [entry.seed for entry in collect([tmp_path]).records] == [0, 1, 2]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_of_unfinished_runs_names_them(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "measure_absolute_metric", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("0", "algorithm=ippo")
    with pytest.raises(ComparisonError, match=r"these are unfinished: ippo.* on vmas/sampling.*, seed 0: interrupted$"):
        collect([tmp_path])


def test_a_longer_run_counts_its_attempts_and_is_unfinished_until_its_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("0", "algorithm=ippo", f"experiment.max_n_frames={N_FRAMES // 2}", "absolute_metric_episodes=0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lifecycle, "measure_absolute_metric", interrupt)
        resume.resume(tmp_path / "0", [f"experiment.max_n_frames={N_FRAMES}"])
    with pytest.raises(ComparisonError, match="unfinished"):  # its record is of the shorter run
        collect([tmp_path])
    resume.resume(tmp_path / "0", [])
    (record,) = collect([tmp_path]).records
    assert record.frames == [80, 160, 240, 320]
    assert (record.attempts, record.resumed, record.gradient_steps) == (2, True, N_STEPS)


def test_a_run_that_began_from_another_is_another_variant_and_stays_it(run: Run, tmp_path: Path) -> None:
    run("0", "algorithm=ippo", f"experiment.max_n_frames={N_FRAMES // 2}")
    checkpoint = newest_checkpoint(find_run(tmp_path / "0") / "checkpoints")
    branch = run("1", "algorithm=ippo", f"experiment.restore_file={checkpoint}")
    assert branch is not None
    assert "restore_file=" in branch.variant
    assert branch.frames == [80, 160, 240, 320]
    assert (branch.attempts, branch.resumed) == (1, True)
    resume.resume(tmp_path / "1", [f"experiment.max_n_frames={N_FRAMES + 80}"])
    longer = load_record(find_run(tmp_path / "1") / RUN_RECORD_FILE)
    assert (longer.variant, longer.attempts) == (branch.variant, 2)
    assert str(tmp_path) not in (find_run(tmp_path / "1") / RUN_RECORD_FILE).read_text()


def test_times_of_an_origin_without_logs_are_not_known(run: Run, tmp_path: Path) -> None:
    run("0", "algorithm=ippo")
    (tmp_path / "copy").mkdir()
    for file in (find_run(tmp_path / "0") / "checkpoints").glob("checkpoint_160.pt*"):
        shutil.copy(file, tmp_path / "copy")
    record = run("1", "algorithm=ippo", f"experiment.restore_file={tmp_path / 'copy' / 'checkpoint_160.pt'}")
    assert record is not None
    assert (record.evaluation_frames, record.frames) == ([80, 160, 320], [240, 320])
    assert [seconds is None for seconds in record.evaluation_seconds] == [True, True, False]
    frames, minutes, _ = draw_from(record, evaluated=True)
    assert (frames, minutes) == ([80, 160, 320], [])


def test_a_run_that_went_on_with_other_batches_is_another_variant_of_unknown_gradient_steps(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("0", "algorithm=ippo", f"experiment.max_n_frames={N_FRAMES // 2}")
    change = "experiment.on_policy_n_minibatch_iters=4"
    resume.resume(tmp_path / "0", [f"experiment.max_n_frames={N_FRAMES}", change])
    (record,) = collect([tmp_path]).records
    assert (record.attempts, record.gradient_steps) == (2, None)
    said = f"experiment.on_policy_n_minibatch_iters was 2 up to {N_FRAMES // 2} frames"
    variant = load_record(find_run(tmp_path / "0") / RUN_RECORD_FILE).variant  # a report leaves out what all share
    assert said in variant and change in variant
    assert f"true, with changed options; {said}" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_older_than_the_ledger_is_not_known(run: Run, tmp_path: Path) -> None:
    run("0", "algorithm=ippo", f"experiment.max_n_frames={N_FRAMES // 2}", "seed=0")
    run("1", "algorithm=ippo", "seed=1")
    for name in ("0", "1"):
        folder = find_run(tmp_path / name)
        (folder / LEDGER_FILE).unlink()
        (folder / RUN_RECORD_FILE).unlink()
    with pytest.raises(ComparisonError, match=r"ippo on vmas/sampling, seed 0: no record yet"):
        collect([tmp_path])
    resume.resume(tmp_path / "0", [f"experiment.max_n_frames={N_FRAMES}"])
    resume.resume(tmp_path / "1", [])
    longer, whole = collect([tmp_path]).records
    for record in (longer, whole):
        assert (record.attempts, record.peak_memory, record.gradient_steps) == (None, None, None)
        assert record.provenance["started"] is None
    assert (longer.resumed, whole.resumed) == (True, None)
    assert longer.provenance["python"]
    assert "python" not in whole.provenance  # whatever this machine has, the run may have had another


def test_a_run_without_the_logs_that_a_record_is_made_of_says_so(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = ["algorithm=ippo", "absolute_metric_episodes=0"]
    assert run("0", *logs, "experiment.loggers=[]") is None
    assert run("1", *logs, "experiment.create_json=false") is None
    assert "no record for reports: experiment.create_json=false" in capsys.readouterr().out
    record = run("2", *logs, "experiment.create_json=false", "experiment.evaluation=false", "seed=2")
    assert record is not None
    assert (record.evaluation_returns, record.last_evaluation) == ([], None)
    assert [found.id for found in collect([tmp_path]).records] == [record.id]
    reasons = [Ledger(find_run(tmp_path / name)).status().reason for name in ("0", "1")]
    assert "experiment.loggers=[] lacks csv" in reasons[0]
    assert "experiment.create_json=false" in reasons[1]


def test_a_record_that_cannot_be_written_ends_with_a_sentence_and_what_the_run_gave(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor can the ledger from then on."""

    def raise_disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def save(*_: object) -> None:
        monkeypatch.setattr(Ledger, "add", raise_disk_full)
        raise_disk_full()

    monkeypatch.setattr(RunRecord, "save", save)
    with pytest.raises(CommandError, match="No space left on device"):
        run("0", "algorithm=ippo")
    assert re.search(r"^absolute metric .* 5 fresh episodes", capsys.readouterr().out, flags=re.MULTILINE)


@pytest.mark.slow
def test_a_process_that_needed_more_before_does_not_give_a_runs_memory(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([10, 20, 20, 20])
    monkeypatch.setattr(lifecycle, "peak_memory", lambda: next(sizes))
    assert [run(name, "algorithm=ippo", "absolute_metric_episodes=0").peak_memory for name in ("0", "1")] == [20, None]
