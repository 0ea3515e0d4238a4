"""The command: nothing is done twice, nothing is lost, and what failed says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sweeps import FINGERPRINT, N_FRAMES, TINY, records, results, run_here

from benchmarl_himpo.harness.commands import sweep
from benchmarl_himpo.harness.records.ledger import Ledger, State
from benchmarl_himpo.harness.records.record import RECORD_FILE, RunRecord
from benchmarl_himpo.harness.records.spec import RunSpec, load_spec
from benchmarl_himpo.harness.runs.lock import lock_folder
from benchmarl_himpo.harness.sweeps.engines import ENGINES, Ended
from benchmarl_himpo.harness.sweeps.progress import format_table
from benchmarl_himpo.host.benchmarl_files import read_run_json

LONG = f"experiment.max_n_frames={4 * N_FRAMES}"


@pytest.fixture(autouse=True)
def _fixed_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
    monkeypatch.setitem(ENGINES, "here", run_here)


def run_sweep(folder: Path, *overrides: str) -> None:
    sweep.main([f"folder={folder}", "workers=2", *TINY, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over an on-policy and an off-policy algorithm."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
        monkeypatch.setitem(ENGINES, "here", run_here)
        run_sweep(folder, "algorithm=himppo,qmix", f"publish={folder / 'published'}", "engine=here")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of a longer run that was not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sweep, "fingerprint", lambda: FINGERPRINT)
        monkeypatch.setitem(ENGINES, "here", run_here)
        run_sweep(folder, "algorithm=himppo", LONG, "engine=here")
    (record,) = records(folder)
    return record


def wait_for_checkpoint(folder: Path) -> Ledger:
    """Wait until a run of a sweep has a checkpoint of its own, and give its ledger."""
    deadline = time.monotonic() + 200
    while not (found := list(folder.glob("*/*/checkpoints/*.pt"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return Ledger(found[0].parents[2])


# Records


def test_a_record_says_what_the_run_left(finished: Path) -> None:
    for record in records(finished):
        folder = finished / record.id
        (run,) = (file.parent for file in folder.glob("*/run.yaml"))
        _, data = read_run_json(run / f"{run.name}.json")
        assert record.frames == [80, 160, 240, 320]
        assert record.evaluation_frames == [80, 160, 320]
        assert record.evaluation_returns == [data[f"step_{step}"]["return"] for step in range(3)]
        assert record.absolute_metric is not None
        assert record.absolute_metric["returns"] == data["absolute_metrics"]["return"]
        assert len(record.absolute_metric["returns"]) == 5
        assert record.seconds == sorted(record.seconds)
        assert record.seconds[-1] == pytest.approx(record.timers["collection"] + record.timers["training"])
        assert record.evaluation_seconds == [record.seconds[i] for i in (0, 1, 3)]
        assert None not in record.collection_return
        assert (record.group_sizes, record.seed, record.attempts, record.resumed) == ({"agents": 3}, 0, 1, False)
        assert record.peak_memory > 2**20
        assert record.provenance["threads"] == 1
        assert str(finished) not in json.dumps(record.config | record.provenance)


def test_parameters_and_gradient_steps_are_counted(finished: Path) -> None:
    himppo, qmix = records(finished)
    parts = {"loss_objective", "loss_critic"}
    assert set(himppo.parameters) == {f"agents/{loss}/level_{level}" for loss in parts for level in range(3)}
    assert himppo.gradient_steps == 4 * 2 * 3  # iterations, epochs, minibatches of at most 30 of 80 frames
    assert set(qmix.parameters) == {"agents/loss/local_value_network", "agents/loss/mixer_network"}
    # A shared network of 24 observations, 8 hidden units and 9 actions
    assert qmix.parameters["agents/loss/local_value_network"] == 24 * 8 + 8 + 8 * 9 + 9
    assert qmix.gradient_steps == 4 * 2


# What is done is not done again


def test_a_second_call_skips_all(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    run_sweep(finished, "algorithm=himppo,qmix")
    said = capsys.readouterr()
    assert said.out.count("| done before |") == 2
    assert "2 done before, 0 to do" in said.err
    changed = {path for path in finished.rglob("*") if before.get(path) != path.stat().st_mtime_ns}
    assert changed <= {finished / ".lock"}


def test_committed_records_count_as_done(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = sorted((finished / "published").iterdir())
    assert [file.stem for file in published] == [record.id for record in records(finished)]
    shutil.copytree(finished / "published", tmp_path / "results" / "first")
    run_sweep(tmp_path / "sweep", "algorithm=himppo,qmix", f"results=[{tmp_path / 'results'}]")
    assert capsys.readouterr().out.count("| done before, in results |") == 2
    assert records(tmp_path / "sweep") == []


def test_results_that_are_missing_or_cut_are_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="results: nowhere does not exist"):
        run_sweep(tmp_path / "sweep", "algorithm=himppo", "results=[nowhere]")
    (file,) = (finished / "published").glob("himppo-*")
    (tmp_path / file.name).write_text(file.read_text()[:100])
    with pytest.raises(SystemExit, match=file.name):
        run_sweep(tmp_path / "sweep", "algorithm=himppo", f"results=[{tmp_path}]")


# Records with another numerics fingerprint


def other_numerics(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let this machine have another fingerprint."""
    monkeypatch.setattr(sweep, "fingerprint", lambda: "another")
    return "another"


def test_records_with_another_fingerprint_count_and_are_counted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other_numerics(monkeypatch)
    run_sweep(finished, "algorithm=himppo,qmix")
    said = capsys.readouterr()
    assert said.out.count("| done before, with another fingerprint |") == 2
    assert "2 of them by records with another numerics fingerprint" in said.err and "strict=true" in said.err
    run_sweep(tmp_path / "sweep", "algorithm=himppo,qmix", f"results=[{finished / 'published'}]")
    assert capsys.readouterr().out.count("| done before, in results, with another fingerprint |") == 2


@pytest.mark.slow
def test_a_strict_sweep_does_runs_again_and_keeps_their_old_records(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = tmp_path / "published"
    shutil.copytree(finished / "published", published)
    before = {file.name: file.read_bytes() for file in published.iterdir()}
    name = other_numerics(monkeypatch)
    strict = ["strict=true", f"results=[{published}]"]
    with pytest.raises(SystemExit, match=r"strict=true: .* kept: choose another folder"):
        run_sweep(finished, "algorithm=qmix", *strict)
    with pytest.raises(SystemExit, match=r"publish=.* kept: choose another folder"):
        run_sweep(tmp_path / "sweep", "algorithm=qmix", *strict, f"publish={published}")
    run_sweep(tmp_path / "sweep", "algorithm=qmix", *strict, f"publish={tmp_path / 'again'}", "engine=here")
    (record,) = records(tmp_path / "sweep")
    (old,) = (record for record in records(finished) if record.algorithm == "qmix")
    assert (record.id, record.fingerprint, old.fingerprint) == (old.id, name, FINGERPRINT)
    assert {file.name: file.read_bytes() for file in published.iterdir()} == before
    capsys.readouterr()
    both = [f"results=[{published},{tmp_path / 'again'}]", "strict=true"]
    run_sweep(tmp_path / "third", "algorithm=qmix", *both)  # whichever file is read first
    assert "| done before, in results |" in capsys.readouterr().out


def test_a_run_that_went_on_with_another_fingerprint_has_both(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = finished.glob("qmix-*")
    shutil.copytree(folder, tmp_path / folder.name)
    (tmp_path / folder.name / RECORD_FILE).unlink()
    name = other_numerics(monkeypatch)
    with pytest.raises(SystemExit, match="choose another folder"):
        run_sweep(tmp_path, "algorithm=qmix", "strict=true")
    run_sweep(tmp_path, "algorithm=qmix", "engine=here")
    (record,) = records(tmp_path)
    assert (record.fingerprint, record.attempts) == (f"{FINGERPRINT}+{name}", 2)


# The table


def test_a_reason_of_several_lines_stands_below_the_table(finished: Path) -> None:
    spec = load_spec(next(finished.glob("*/spec.yaml")))
    table, below = format_table([spec], {spec.id: "failed: a | b\nsecond line"}).split("\n\n")
    assert table.splitlines()[-1].endswith(r"| failed: a \| b |")
    assert below == f"{spec.id}: failed: a | b\nsecond line"


def test_a_dry_run_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_sweep(tmp_path / "sweep", "algorithm=ippo", "seed=0,1", "dry_run=true")
    assert capsys.readouterr().out.count("| to do |") == 2
    assert not (tmp_path / "sweep").exists()


def test_records_are_published_as_runs_end(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[int] = []
    record = next(finished.glob(f"*/{RECORD_FILE}"))

    def engine(specs: list[RunSpec], *_: object) -> Iterator[Ended]:
        for spec in specs:
            published.append(len(list(tmp_path.glob("published/*.json"))))
            shutil.copyfile(record, spec.folder / RECORD_FILE)
            yield Ended(spec, succeeded=True)
        raise KeyboardInterrupt

    monkeypatch.setitem(ENGINES, "made_up", engine)
    with pytest.raises(SystemExit):
        run_sweep(tmp_path, "algorithm=ippo", "seed=0,1,2", f"publish={tmp_path / 'published'}", "engine=made_up")
    assert published == [0, 1, 2]


def test_a_record_that_cannot_be_published_stops_no_run_and_is_named(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = next(finished.glob(f"*/{RECORD_FILE}"))

    def engine(specs: list[RunSpec], *_: object) -> Iterator[Ended]:
        for spec in specs:
            shutil.copyfile(record, spec.folder / RECORD_FILE)
            yield Ended(spec, succeeded=True)

    def raise_disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(ENGINES, "made_up", engine)
    given = ["algorithm=ippo", "seed=0,1,2", f"publish={tmp_path / 'published'}", "engine=made_up"]
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "save", raise_disk_full)
        with pytest.raises(SystemExit, match=rf"^publish={tmp_path / 'published'} could not be written to .*No space"):
            run_sweep(tmp_path / "sweep", *given)
    assert capsys.readouterr().out.count("| done |") == 3
    run_sweep(tmp_path / "sweep", *given)  # as the sentence says
    assert len(list(tmp_path.glob("published/*.json"))) == 3


# Runs that are killed, stopped or fail


@pytest.mark.slow
def test_a_killed_worker_costs_one_retry_and_no_result(
    uninterrupted: RunRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill() -> None:
        ledger = wait_for_checkpoint(tmp_path)
        os.kill(ledger.events()[-1]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run_sweep(tmp_path, "algorithm=himppo", LONG)
    killer.join()
    (record,) = records(tmp_path)
    assert (record.attempts, record.resumed) == (2, True)
    assert results(record) == results(uninterrupted)
    events = Ledger(tmp_path / record.id).events()
    assert [event["event"] for event in events] == ["started", "exited", "started", "trained", "finished"]
    assert (events[1]["exit_code"], events[1]["reason"]) == (-9, "killed by signal 9 (SIGKILL)")
    assert events[2]["frames"] >= 80
    assert "| 2 | done |" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_stops_the_runs_and_the_same_command_goes_on(uninterrupted: RunRecord, tmp_path: Path) -> None:
    code = (
        "import sys; from benchmarl_himpo.harness.commands import sweep; "
        f"sweep.fingerprint = lambda: {FINGERPRINT!r}; sweep.main(sys.argv[1:])"
    )
    arguments = [f"folder={tmp_path}", *TINY, "algorithm=himppo", LONG]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    ledger = wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command" not in said and "To go on:\npython -m benchmarl_himpo.sweep" in said
    assert ledger.events()[-1]["event"] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(ledger.events()[0]["pid"], 0)
    run_sweep(tmp_path, "algorithm=himppo", LONG)
    (record,) = records(tmp_path)
    assert (record.attempts, record.resumed) == (2, True)
    assert results(record) == results(uninterrupted)


@pytest.mark.slow
def test_a_run_dies_with_its_sweep(tmp_path: Path) -> None:
    imports = "import sys; from benchmarl_himpo.harness.commands import sweep"
    code = f"{imports}; sweep.fingerprint = str; sweep.main(sys.argv[1:])"
    arguments = [f"folder={tmp_path}", *TINY, "algorithm=ippo", "experiment.max_n_frames=80000"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    ledger = wait_for_checkpoint(tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while ledger.status().state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ledger.events()[-1]["event"] == "interrupted"


def test_a_run_that_fails_keeps_the_reason_and_harms_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sweep(tmp_path, "algorithm=ippo", "experiment.lr=1e-3,1e30")
    assert "Some runs failed" in str(exit_info.value)
    (record,) = records(tmp_path)
    assert record.variant.count("experiment.lr") == 0
    (failed,) = (Ledger(path.parent) for path in tmp_path.glob("*/attempts.jsonl") if path.parent.name != record.id)
    assert [event["event"] for event in failed.events()] == ["started", "failed", "exited"]  # and not started again
    assert "NaN or infinite values" in failed.status().reason
    assert failed.events()[-1]["exit_code"] == 1
    table = capsys.readouterr().out
    assert "| failed: " in table and "NaN or infinite values" in table and "| 1 | done |" in table


@pytest.mark.slow
def test_an_attempt_without_a_checkpoint_is_set_aside(finished: Path, tmp_path: Path) -> None:
    (folder,) = finished.glob("himppo-*")
    begun = tmp_path / folder.name
    shutil.copytree(folder, begun)
    (begun / "record.json").unlink()
    (run,) = (file.parent for file in begun.glob("*/run.yaml"))
    shutil.rmtree(run / "checkpoints")
    run_sweep(tmp_path, "algorithm=himppo", "engine=here")
    (record,) = records(tmp_path)
    assert (begun / "abandoned" / run.name / "run.yaml").is_file()
    assert results(record) == results(records(finished)[0])


def test_a_run_that_was_resumed_otherwise_is_not_recorded_as_the_sweeps(finished: Path, tmp_path: Path) -> None:
    (folder,) = finished.glob("himppo-*")
    begun = tmp_path / folder.name
    shutil.copytree(folder, begun)
    (begun / "record.json").unlink()
    (config,) = begun.glob("*/run.yaml")
    config.write_text(config.read_text() + "changes: {experiment.lr: {80: 0.01}}\n")
    reason = r"experiment\.lr was 0\.01 up to 80 frames\): move .*, and the sweep trains"
    with pytest.raises(SystemExit, match=reason):
        run_sweep(tmp_path, "algorithm=himppo", "engine=here")


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(SystemExit) as exit_info:
        run_sweep(tmp_path, "algorithm=ippo")
    assert "another process writes to" in str(exit_info.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["engine=abacus"], "engine=abacus does not exist: choose from processes, ray"),
        (["workers=0"], "workers=0 must be 1 or more"),
        (["retries=1.5"], "retries=1.5 must be a whole number"),
        (["retries=-1"], "retries=-1 must be 0 or more"),
        (["worker=2"], "worker"),
        (["seed=0,0"], "stands 2 times"),
        (["sweep_folder=elsewhere"], "sweep_folder has no effect in a sweep: folder=... is where its runs go"),
        (["hydra.run.dir=elsewhere"], "hydra.run.dir has no effect in a sweep"),
        (["init_from=run${seed}"], "no other option may depend on the seed"),
    ],
)
def test_a_sweep_that_cannot_be_started_ends_with_a_sentence(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sweep(tmp_path / "sweep", *arguments)
    assert message in str(exit_info.value)
    assert not (tmp_path / "sweep").exists()


# Other ways to start the same run


@pytest.mark.slow
def test_a_job_of_hydra_takes_its_place_in_a_sweep(run_command, finished: Path, tmp_path: Path) -> None:
    arguments = ["--multirun", *TINY, "algorithm=himppo", f"sweep_folder={tmp_path / 'sweep'}"]
    first = run_command(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert ": finished, " in first.stdout
    again = run_command(*arguments, cwd=tmp_path)
    assert ": skipped, " in again.stdout
    (record,) = records(tmp_path / "sweep")
    left_out = {"id": None}
    assert results(record) | left_out == results(records(finished)[0]) | left_out
    assert record.fingerprint != FINGERPRINT  # this one is real


@pytest.mark.slow
def test_ray_starts_a_killed_worker_again(uninterrupted: RunRecord, tmp_path: Path) -> None:
    pytest.importorskip("ray")

    def kill() -> None:
        ledger = wait_for_checkpoint(tmp_path)
        os.kill(ledger.events()[-1]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run_sweep(tmp_path, "algorithm=himppo", LONG, "seed=0,1", "engine=ray")
    killer.join()
    found = {record.seed: record for record in records(tmp_path)}
    assert set(found) == {0, 1}
    assert sorted(record.attempts for record in found.values()) == [1, 2]
    assert results(found[0]) == results(uninterrupted)


@pytest.mark.slow
def test_ray_does_no_run_on_a_node_that_computes_other_numbers(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with pytest.raises(SystemExit):
            run_sweep(tmp_path, "algorithm=ippo", "engine=ray")  # its fingerprint is made up
    finally:
        ray.shutdown()
        cluster.shutdown()
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert "computes other numbers than this one" in Ledger(run).events()[-1]["reason"]
    assert not (run / RECORD_FILE).exists()
