"""The command: its exit codes, what it says, what it writes, and what it refuses. Nothing is trained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from benchmarl_himpo.harness.regression import quick
from benchmarl_himpo.harness.regression.checkout import OWN_ROOT, resolve_commit
from benchmarl_himpo.harness.regression.runs import plan

FULL = ("mode=full", "base=main")
TOY = "20.0 if seed < 10 else "
"""Value of the runs of the quick part, which have the seeds 0 to 2."""


def value(expression: str) -> str:
    """Code whose runs have a value, in terms of ``task``, ``seed``, ``folder`` and the usual value ``u``."""
    return (
        "import os, pathlib, random, signal\n\ndef value(task, seed, folder):\n"
        f"    u = 10 + random.Random(seed).gauss(0, 1)\n    return {expression}\n"
    )


def results(folder: Path) -> list[dict]:
    """What the gate wrote, oldest first."""
    files = sorted((folder / "runs").glob("*/regression.json"), key=lambda file: file.stat().st_mtime)
    return [json.loads(file.read_text()) for file in files]


# The quick part


def test_the_quick_part_passes_where_nothing_is_lost(
    run_gate, project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_gate() == 0
    said = capsys.readouterr().out
    assert "| bit-equality | ok |" in said and "| toy task | ok | 1.000, 1.000 of the best return: 2 of 3" in said
    (result,) = results(tmp_path)
    assert (result["verdict"], result["exit_code"], result["mode"], result["base"]) == ("ok", 0, "quick", None)
    assert [finding["verdict"] for finding in result["findings"]] == ["ok", "ok"]
    assert str(tmp_path) not in json.dumps(result)
    assert sorted(project.done) == ["project toy/cue 0", "project toy/cue 1"]  # the third seed decides nothing


@pytest.mark.parametrize(("n_failed", "n_runs", "code"), [(0, 2, 0), (1, 3, 0), (2, 2, 1)])
def test_the_toy_task_may_be_missed_by_one_seed_of_three(
    n_failed: int, n_runs: int, code: int, run_gate, project, tmp_path: Path
) -> None:
    """The third seed is run where the first two disagree."""
    project.change(value(f"17.9 if seed < {n_failed} else 20.0"))
    assert run_gate() == code
    numbers = results(tmp_path)[0]["findings"][1]["numbers"]
    assert numbers["shares"] == {str(seed): pytest.approx(0.895 if seed < n_failed else 1.0) for seed in range(n_runs)}
    assert numbers["n_learned"] == n_runs - n_failed


def test_other_numbers_the_second_time_are_a_regression(
    run_gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = iter(range(100))
    monkeypatch.setattr(quick, "take_digests", lambda *n: {**dict.fromkeys(n, "a"), "himppo": f"{next(counter)}"})
    assert run_gate() == 1
    assert "the runs of himppo gave other numbers the second time" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RuntimeError, TypeError])
def test_golden_runs_that_fail_and_a_gate_that_crashes_are_inconclusive(
    error: type[Exception], run_gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*names: str) -> dict[str, str]:
        raise error("no numbers here")

    monkeypatch.setattr(quick, "take_digests", fail)
    assert run_gate() == 2
    said = capsys.readouterr()
    assert "no numbers here" in said.err + said.out


# Runs


def test_a_run_that_fails_is_inconclusive_with_its_last_words_and_done_alone_the_next_time(
    run_gate, project, capsys: pytest.CaptureFixture[str]
) -> None:
    code = value("20.0 if seed != 1 or pathlib.Path(os.environ['RUNS_DONE'] + '.mended').exists() else 1 / 0")
    project.change(code)
    assert run_gate() == 2
    said = capsys.readouterr().out
    assert "1 of 2 runs are missing" in said and "ZeroDivisionError" in said and "log.txt" in said
    Path(f"{project.log}.mended").touch()
    assert run_gate() == 0
    assert sorted(project.done) == ["project toy/cue 0", "project toy/cue 1"]  # the third seed decides nothing


def test_a_run_that_is_killed_is_started_once_more(run_gate, project, capsys: pytest.CaptureFixture[str]) -> None:
    tries = "pathlib.Path(f\"{os.environ['RUNS_DONE']}.{seed}\")"
    project.change(value(f"20.0 if {tries}.exists() else ({tries}.touch(), os.kill(os.getpid(), signal.SIGKILL))"))
    assert run_gate() == 0
    assert len(project.done) == 2
    for file in project.log.parent.glob("done.txt.*"):
        file.unlink()
    project.change(value(f"20.0 if {tries}.exists() else ({tries}.touch(), os.kill(os.getpid(), signal.SIGKILL))  #"))
    assert run_gate("retries=0") == 2
    assert "killed by signal 9 (SIGKILL)" in capsys.readouterr().out


def test_a_run_without_an_evaluation_at_its_end_is_inconclusive(
    run_gate, project, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project.root / "benchmarl_himpo" / "run.py"
    run.write_text(run.read_text().replace('int(given["experiment.max_n_frames"])', "1_000"))
    assert run_gate() == 2
    assert "not evaluated at its end, 360,000 frames" in capsys.readouterr().out


def test_ctrl_c_ends_the_runs_and_has_the_exit_code_of_shells(run_gate, project) -> None:
    pids = project.root.parent / "pids"
    project.change(
        "import os, time\n\ndef value(task, seed, folder):\n"
        f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n    time.sleep(60)\n"
    )

    def interrupt() -> None:
        while not pids.is_file() or len(pids.read_text().split()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs deaf to Ctrl-C
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        assert run_gate() == 130
    finally:
        signal.signal(signal.SIGINT, heard)
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_the_runs_of_the_comparison_are_what_the_protocol_says_in_overrides_that_any_commit_reads() -> None:
    runs = plan("regression", [7, 8], ["experiment.lr=0.5"])
    assert {(run.task, run.seed) for run in runs} == {
        (task, seed) for task in ("vmas/navigation", "vmas/sampling", "lbfws/easy") for seed in (7, 8)
    }
    (run,) = (run for run in runs if (run.task, run.seed) == ("vmas/sampling", 7))
    assert {"algorithm=himppo", "experiment=default", "task=vmas/sampling", "model.num_cells=[64, 64]"} <= {
        *run.overrides
    }
    assert "experiment.lr=0.5" in run.overrides and "experiment.lr=0.001" not in run.overrides
    assert not any(line.startswith("protocol") for line in run.overrides)
    assert run.n_frames == 42_000
    assert len({run.name for run in runs}) == 6
    assert run.name != plan("regression", [7])[1].name  # other overrides are another run


# The comparison


def test_the_same_code_has_nothing_to_compare_and_a_change_without_a_loss_passes(
    run_gate, project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_gate(*FULL) == 0
    assert "| comparison | ok | main has the same code and configuration" in capsys.readouterr().out
    assert len(project.done) == 2
    project.change(value(f"{TOY} u + 0.01 * (-1) ** seed"))  # not committed: the working copy is what is judged
    assert run_gate(*FULL) == 0
    (finding,) = (f for f in results(tmp_path)[-1]["findings"] if f["check"] == "first stage")
    assert finding["numbers"]["p"] > 0.05
    (task,) = finding["numbers"]["tasks"].values()
    assert [pair["seed"] for pair in task["pairs"]] == list(range(10, 15))
    assert all(pair["now"] - pair["base"] == pytest.approx(0.01 * (-1) ** pair["seed"]) for pair in task["pairs"])
    assert results(tmp_path)[-1]["base"] == {"name": "main", "commit": project.git("rev-parse", "main")}
    n_runs = len(project.done)
    assert n_runs == 2 + 2 + 10
    assert sum(line.startswith("base-") for line in project.done) == 5
    assert run_gate(*FULL) == 0
    assert len(project.done) == n_runs  # what is done is not done again


def test_a_loss_fails_in_the_second_stage(
    run_gate, project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.commit(value(f"{TOY} 0.7 * u"))
    assert run_gate("mode=full", "base=main~1") == 1
    first, both = results(tmp_path)[-1]["findings"][2:]
    assert (first["verdict"], both["verdict"]) == ("ok", "regressed")
    (task,) = both["numbers"]["tasks"].values()
    assert len(task["pairs"]) == 10
    assert task["drop"] == pytest.approx(0.3 * task["base_mean"] / (task["base_mean"] - task["random"]))
    said = capsys.readouterr().out
    assert "all, stratified" in said and "confirmed" in said and "both stages under 1 %" in said
    assert project.git("worktree", "list").count("\n") == 0  # taken away at the end


def test_an_alarm_that_fresh_seeds_do_not_confirm_passes(run_gate, project, capsys: pytest.CaptureFixture[str]) -> None:
    project.change(value(f"{TOY} u * (0.85 if seed < 20 else 1.1)"))
    assert run_gate(*FULL) == 0
    said = capsys.readouterr().out
    assert "an alarm, which fresh seeds have to confirm" in said and "not confirmed" in said


def test_a_drop_too_small_to_matter_passes(run_gate, project) -> None:
    project.change(value(f"{TOY} u - 0.2"))
    assert run_gate(*FULL) == 0
    assert run_gate(*FULL, "least_drop=0.01") == 1


def test_code_that_misses_the_toy_task_is_not_compared(run_gate, project) -> None:
    project.change(value("5.0"))
    assert run_gate(*FULL) == 1
    assert len(project.done) == 2


def test_what_a_killed_gate_left_of_the_base_is_replaced(run_gate, project, tmp_path: Path) -> None:
    project.change(value(f"{TOY} u + 0.01"))
    left = tmp_path / "runs" / f"base-{project.git('rev-parse', 'main')[:12]}"
    project.git("worktree", "add", "--detach", "--quiet", str(left), "main")
    (left / "benchmarl_himpo" / "value.py").write_text("nonsense")
    assert run_gate(*FULL) == 0
    assert not left.exists()


# What it cannot judge


def test_an_installed_package_has_nothing_to_compare_with(
    run_gate, project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / ".git").rename(project.root / "no.git")
    assert run_gate(*FULL) == 2
    assert "needs a git checkout" in capsys.readouterr().err
    assert run_gate() == 0


def test_a_base_that_cannot_run_is_inconclusive(run_gate, project, capsys: pytest.CaptureFixture[str]) -> None:
    project.commit(value(f"{TOY} 1 / 0"))
    project.change(value(f"{TOY} u"))
    assert run_gate(*FULL) == 2
    said = capsys.readouterr().out
    assert "5 of 10 runs are missing" in said and "of base: ZeroDivisionError" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mode=slow"], "mode=slow does not exist: choose from quick, full"),
        (["mode=full"], "mode=full needs base="),
        (["base=main"], "base=main is compared with in mode=full alone"),
        (["mode=full", "base=nowhere"], "base=nowhere is no commit, tag or branch"),
        (["mode=full", "base=--help"], "base=--help is no commit, tag or branch"),
        ([*FULL, "first_seeds=20,7"], "first_seeds and second_seeds both have seed 20"),
        ([*FULL, "first_seeds=2,7"], "toy_seeds and first_seeds both have seed 2"),
        ([*FULL, "first_seeds=7"], "first_seeds=7 must be two seeds or more"),
        ([*FULL, "first_seeds=range(0"], "must be whole numbers"),
        ([*FULL, "first_seeds=one"], "must be whole numbers"),
        ([*FULL, "seed=3"], "seed=... is no override of the gate"),
        ([*FULL, "algorithm.goal_dim=3,4"], "has several runs of one task and seed"),
        ([*FULL, "algorithm.goal_dimension=3"], "goal_dimension"),
        (["first_alpha=1"], "first_alpha=1 must lie between 0 and 1"),
        (["mode=full", "base=HEAD", "protocol=goals"], "protocol=goals inherits values of foraging"),
        (["least_drop=2"], "least_drop=2 must lie between 0 and 1"),
        (["random_episodes=0"], "random_episodes=0 must be 1 or more"),
        (["workers=0"], "workers=0 must be 1 or more"),
        (["algorithm.goal_dim=3"], "mode=quick has nothing to change, and algorithm.goal_dim=3 is none of its options"),
    ],
)
def test_what_cannot_be_done_is_inconclusive_and_said_before_anything_runs(
    arguments: list[str], message: str, run_gate, project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_gate(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert project.done == []


def test_the_gate_of_this_repository_finds_its_own_commits() -> None:
    """Where the tests run in a checkout, as in CI."""
    if not (OWN_ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    known = subprocess.run(["git", "rev-parse", "HEAD"], cwd=OWN_ROOT, capture_output=True, text=True).stdout.strip()
    assert resolve_commit("HEAD") == known
