"""The command: its exit codes, what it says, what it writes, and what it refuses. No run takes place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from made_up_runs import MadeUpEngine, is_toy, usual_value

from benchmarl_himpo import regression
from benchmarl_himpo.benchmark.regression import baseline as baseline_module
from benchmarl_himpo.benchmark.regression import gate as gate_module
from benchmarl_himpo.benchmark.regression import quick
from benchmarl_himpo.benchmark.spec import RunSpec

REASON = "reason=the first one"


def result_of(folder: Path) -> dict:
    (file,) = (folder / "runs").glob("*/regression.json")
    return json.loads(file.read_text())


def baseline_of(folder: Path) -> dict:
    (file,) = (folder / "baselines").glob("*.json")
    return json.loads(file.read_text())


def lower(share: float, *seeds: int):
    """A value that is lower by a share, for all runs but the toy or for some seeds."""

    def value(spec: RunSpec) -> float:
        is_lower = not is_toy(spec) and (not seeds or spec.seed in seeds)
        return usual_value(spec) * (1 - share * is_lower)

    return value


# The quick part


def test_the_quick_part_passes_where_nothing_is_lost(gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:  # without an option it does not print its usage
        regression.main([f"folder={tmp_path / 'runs'}", "engine=made_up"])
    assert exit_info.value.code == 0
    said = capsys.readouterr().out
    assert "| bit-equality | ok |" in said and "| toy task | ok | 1.000 of the best return" in said
    result = result_of(tmp_path)
    assert (result["verdict"], result["exit_code"], result["mode"]) == ("ok", 0, "quick")
    assert [finding["verdict"] for finding in result["findings"]] == ["ok", "ok"]
    assert str(tmp_path) not in json.dumps(result)


def test_a_toy_task_below_the_threshold_is_a_regression(gate, engine: MadeUpEngine, tmp_path: Path) -> None:
    engine.value = lambda spec: 17.9
    assert gate() == 1
    assert result_of(tmp_path)["findings"][1]["numbers"]["share"] == pytest.approx(0.895)


def test_other_numbers_the_second_time_are_a_regression(
    gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = iter(range(100))
    monkeypatch.setattr(quick, "take_digests", lambda *n: {**dict.fromkeys(n, "a"), "himppo": f"{next(counter)}"})
    assert gate() == 1
    assert "the runs of himppo gave other numbers the second time" in capsys.readouterr().out


def test_a_run_that_is_missing_is_inconclusive_and_says_what_to_do(
    gate, engine: MadeUpEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.value = lambda spec: math.nan
    assert gate() == 2
    said = capsys.readouterr().out
    assert (
        "1 of 1 runs are missing" in said and "lightning" in said and "the same command does these runs alone" in said
    )


@pytest.mark.parametrize("error", [RuntimeError, TypeError])
def test_golden_runs_that_fail_and_a_gate_that_crashes_are_inconclusive(
    error: type[Exception], gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*names: str) -> dict[str, str]:
        raise error("no numbers here")

    monkeypatch.setattr(quick, "take_digests", fail)
    assert gate() == 2
    said = capsys.readouterr()
    assert "no numbers here" in said.err + said.out


# The comparison


def test_a_rerun_passes_and_a_loss_fails_in_the_second_stage(
    gate, engine: MadeUpEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gate("mode=baseline", REASON) == 0
    baseline = baseline_of(tmp_path)
    assert [len(task["values"]) for task in baseline["tasks"].values()] == [20]
    assert baseline["reasons"][0]["reason"] == "the first one"
    assert baseline["provenance"]["torch"] and "config_hash" in baseline["tasks"]["toy/cue"]
    assert 0 <= baseline["tasks"]["toy/cue"]["random"] <= 20  # two episodes of chance
    assert "git_commit" in baseline["provenance"]

    assert gate("mode=full") == 0
    assert result_of(tmp_path)["findings"][2]["check"] == "first stage"
    n_runs = len(engine.done)
    assert n_runs == 1 + 20 + 5
    assert gate("mode=full") == 0
    assert len(engine.done) == n_runs  # what is done is not done again

    monkeypatch.setattr(gate_module, "source_digest", lambda: "other code")
    engine.value = lower(0.3)
    assert gate("mode=full") == 1  # and never taken from other code
    assert len(engine.done) == n_runs + 1 + 10
    result = json.loads((tmp_path / "runs" / "other code" / "regression.json").read_text())
    first, both = result["findings"][2:]
    assert (first["verdict"], both["verdict"]) == ("ok", "regressed")
    assert both["numbers"]["drop"] == pytest.approx(0.5, abs=0.3)  # of what is above two random episodes
    assert (both["numbers"]["tasks"]["toy/cue"]["runs"], first["numbers"]["tasks"]["toy/cue"]["runs"]) == (10, 5)
    said = capsys.readouterr().out
    assert "all, stratified" in said and "confirmed" in said and "raise the alarm and under 1 % fail" in said


def test_an_alarm_that_fresh_seeds_do_not_confirm_passes(
    gate, engine: MadeUpEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("mode=baseline", REASON) == 0
    engine.value = lower(0.15, *range(3100, 3105))
    assert gate("mode=full") == 0
    said = capsys.readouterr().out
    assert "an alarm, which fresh seeds have to confirm" in said and "not confirmed" in said


def test_a_drop_too_small_to_matter_passes(gate, engine: MadeUpEngine) -> None:
    """Hardly any noise, so that the test sees a loss of 2 %."""
    engine.value = lambda spec: 20.0 if is_toy(spec) else 10 + 0.001 * spec.seed % 0.01
    assert gate("mode=baseline", REASON) == 0
    engine.value = lambda spec: 20.0 if is_toy(spec) else 9.8
    assert gate("mode=full") == 0
    assert gate("mode=full", "least_drop=0.01") == 1


def test_the_comparison_is_made_on_all_tasks_of_the_protocol(gate, tmp_path: Path) -> None:
    seeds = ["baseline_seeds=1,2,3,4", "first_seeds=5,6", "second_seeds=7,8"]
    assert gate("mode=baseline", REASON, "protocol=regression", *seeds) == 0
    assert gate("mode=full", "protocol=regression", *seeds) == 0
    tasks = result_of(tmp_path)["findings"][2]["numbers"]["tasks"]
    assert len(tasks) == 3
    assert {task["runs"] for task in tasks.values()} == {2}


# What it cannot judge


def test_another_machine_is_inconclusive(
    gate,
    digests: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert gate("mode=full") == 2
    assert "does not exist: baselines are in the repository and not in the installed package" in capsys.readouterr().out
    assert gate("mode=baseline", REASON) == 0
    digests["host"] = "c" * 16
    assert gate("mode=full") == 2
    said = capsys.readouterr().out
    assert "this machine computes other numbers (cccccccccccccccc)" in said and "aaaaaaaaaaaaaaaa: " in said
    assert "one of these has its processor and versions" in said  # so it is the code
    assert result_of(tmp_path)["findings"][-1]["check"] == "runs"
    elsewhere = {**baseline_module.provenance({"cpu"}), "cpu": "another"}
    monkeypatch.setattr(baseline_module, "provenance", lambda devices: elsewhere)
    assert gate("mode=full") == 2
    assert "run the gate on such a machine" in capsys.readouterr().out
    assert result_of(tmp_path)["findings"][-1]["check"] == "machine"  # by which the nightly workflow knows it
    assert result_of(tmp_path)["verdict"] == "inconclusive"
    digests.update(host="a" * 16, fingerprint="d" * 16)  # our own numbers may change: that is what is judged
    assert gate("mode=full") == 0


def test_another_configuration_is_inconclusive_and_named(
    gate, engine: MadeUpEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("mode=baseline", REASON) == 0
    n_runs = len(engine.done)
    assert gate("mode=full", "algorithm.goal_dim=3") == 2
    said = capsys.readouterr().out
    assert "(algorithm.goal_dim=3 instead of 8)" in said and "in a reviewed commit" in said
    assert gate("mode=full", "task.n_targets=5") == 2
    assert gate("mode=full", "protocol=regression") == 2
    assert len(engine.done) == n_runs  # it says so before it runs anything


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": 0}', '{"format": 1, "tasks": {}}', "no"])
def test_a_file_that_is_no_baseline_is_inconclusive(gate, content: str, tmp_path: Path) -> None:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / f"{'a' * 16}.json").write_text(content)
    assert gate("mode=full") == 2


# Baselines


def test_a_baseline_is_not_replaced_silently_and_keeps_all_reasons(
    gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("mode=baseline") == 2
    assert "needs reason=" in capsys.readouterr().err
    assert gate("mode=baseline", REASON) == 0
    before = baseline_of(tmp_path)
    assert gate("mode=baseline", "reason=a better default") == 2
    assert "replace=true and a reason replace it, in a commit that is reviewed" in capsys.readouterr().err
    assert baseline_of(tmp_path) == before
    assert gate("mode=baseline", "reason=a better default", "replace=true") == 0
    assert [entry["reason"] for entry in baseline_of(tmp_path)["reasons"]] == ["the first one", "a better default"]


def test_no_baseline_is_taken_of_code_that_fails_the_quick_part(gate, engine: MadeUpEngine, tmp_path: Path) -> None:
    engine.value = lambda spec: 5.0
    assert gate("mode=baseline", REASON) == 1
    assert not (tmp_path / "baselines").exists()


# Options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mode=slow"], "mode=slow does not exist: choose from quick, full, baseline"),
        (["mode=full", "first_seeds=3019,7"], "baseline_seeds and first_seeds both have seed 3019"),
        (["mode=full", "first_seeds=range(0"], "must be whole numbers"),
        (["mode=full", "first_seeds=one"], "must be whole numbers"),
        (["first_alpha=1"], "first_alpha=1 must lie between 0 and 1"),
        (["least_drop=2"], "least_drop=2 must lie between 0 and 1"),
        (["random_episodes=0"], "random_episodes=0 must be 1 or more"),
        (["engine=abacus"], "engine=abacus does not exist"),
        (["algorithm.goal_dim=3"], "mode=quick has nothing to change, and algorithm.goal_dim=3 is none of its options"),
        (["mode=baseline", REASON, "algorithm.goal_dim=3,4"], "has several runs of one task and seed"),
        (["mode=full", "baselines=."], "this machine computes other numbers"),
    ],
)
def test_what_cannot_be_done_is_inconclusive_and_said_in_a_sentence(
    arguments: list[str], message: str, gate, capsys: pytest.CaptureFixture[str], engine: MadeUpEngine
) -> None:
    assert gate(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err + said.out


def test_ctrl_c_ends_with_the_exit_code_of_shells(gate, engine: MadeUpEngine) -> None:
    def interrupt(spec: RunSpec) -> float:
        raise KeyboardInterrupt

    engine.value = interrupt
    assert gate() == 130
