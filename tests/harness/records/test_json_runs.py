"""Runs of BenchMARL's own, whose JSON files are all that is known of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support.records import make_record

from benchmarl_himpo.harness.commands import report
from benchmarl_himpo.harness.records.json_runs import read_json_runs
from benchmarl_himpo.harness.records.record import RecordError
from benchmarl_himpo.harness.report.comparison import ComparisonError, collect

TASK = "vmas/sampling[configuration unknown]"


def write_json(folder: Path, algorithm: str, seed: int, name: str | None = None, task: str = "sampling") -> Path:
    """Leave what BenchMARL's writer does after three evaluations of two episodes, in a folder of its name."""
    name = name or f"{algorithm}_{task}_mlp__{seed}"
    steps = {f"step_{i}": {"step_count": 100 * i, "agents_return": [i, i + 2], "return": [i, i + 2]} for i in range(3)}
    data = {"absolute_metrics": {"agents_return": [99.0], "return": [99.0]}, **steps}
    file = folder / name / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"vmas": {task: {algorithm: {f"seed_{seed}": data}}}}))
    return file


def test_evaluations_are_read_and_best_single_episodes_are_not(tmp_path: Path) -> None:
    file = write_json(tmp_path, "mappo", seed=3)
    (record,) = collect([tmp_path]).records
    assert (record.id, record.variant, record.task_label, record.seed) == (file.stem, "mappo", TASK, 3)
    assert record.evaluation_frames == [0, 100, 200]
    assert record.evaluation_returns == [[0, 2], [1, 3], [2, 4]]
    assert (record.absolute_metric, record.attempts, record.peak_memory, record.resumed) == (None,) * 4
    assert (record.last_evaluation, record.n_frames) == (3.0, 200)


def test_they_have_a_report_which_says_what_they_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for algorithm in ("mappo", "ippo"):
        for seed in range(2):
            write_json(tmp_path, algorithm, seed)
    report.main([str(tmp_path), "repetitions=200"])
    assert "BenchMARL's JSON file alone tells of 4 runs" in capsys.readouterr().out
    output = tmp_path / "report"
    rows = list(csv.DictReader((output / "report.csv").open()))
    assert {(row["return_per_agent"], row["seconds"], row["peak_memory"], row["n_agents"]) for row in rows} == {
        ("3.0", "", "", "")
    }
    assert {row["score"] for row in rows} == {""}  # nobody knows which options the task had
    assert (output / "figures" / "curves_0_frames.svg").is_file()
    assert not (output / "figures" / "curves_0_minutes.svg").exists()
    marl_eval = json.loads((output / "marl_eval.json").read_text())["vmas"][TASK.partition("/")[2]]["mappo"]["seed_0"]
    assert list(marl_eval["step_0"]) == ["step_count", "return"]
    assert marl_eval["absolute_metrics"] == {"return": [2, 4]}
    report.main([str(tmp_path), "repetitions=200"])  # what it has written is no run
    assert "tells of 4 runs" in capsys.readouterr().out


def test_returns_that_are_not_finite_are_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    file = write_json(tmp_path, "mappo", seed=0)
    file.write_text(file.read_text().replace("[1, 3]", "[NaN, 3]"))
    with pytest.raises(RecordError, match=r"mappo_sampling_mlp__0\.json has returns that are not finite"):
        collect([tmp_path])


@pytest.mark.parametrize("own", ["run.yaml", "record.jsonl"])
def test_the_json_of_a_run_of_this_package_is_not_read_after_its_folder_was_renamed(own: str, tmp_path: Path) -> None:
    file = write_json(tmp_path, "mappo", seed=0)
    (file.parent / own).touch()
    file.parent.rename(tmp_path / "renamed")
    assert read_json_runs(tmp_path) == []


def test_runs_that_were_evaluated_otherwise_have_no_verdict(tmp_path: Path, capsys) -> None:
    write_json(tmp_path, "mappo", seed=0)
    file = write_json(tmp_path, "ippo", seed=0)
    content = json.loads(file.read_text())
    content["vmas"]["sampling"]["ippo"]["seed_0"]["step_2"]["return"] = [1.0, 2.0, 3.0]
    file.write_text(json.dumps(content))
    report.main([str(tmp_path), "repetitions=200"])
    assert "episodes per evaluation differs: 3 in ippo; 2 in mappo" in capsys.readouterr().out


def test_they_stand_beside_runs_with_a_record_on_a_task_of_their_own(tmp_path: Path) -> None:
    make_record("mappo").save(tmp_path / "record.json")
    write_json(tmp_path, "mappo", seed=0)
    recorded = write_json(tmp_path, "ippo", seed=0)
    make_record("ippo").save(recorded.parent / "record.jsonl")
    runs = [(run.variant, run.task_label) for run in collect([tmp_path]).records]
    assert runs == [("ippo", "vmas/sampling"), ("mappo", "vmas/sampling"), ("mappo", TASK)]
    report.main([str(tmp_path), "repetitions=200"])
    assert (tmp_path / "report" / "report.html").is_file()


def test_copies_are_the_same_run_and_two_of_one_seed_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "run", "mappo", seed=0)
    write_json(tmp_path / "wandb", "mappo", seed=0)
    assert len(collect([tmp_path]).records) == 1
    write_json(tmp_path / "again", "mappo", seed=0, name="mappo_sampling_mlp__another")
    with pytest.raises(ComparisonError, match=r"are both mappo on .* with seed 0, and differ"):
        collect([tmp_path])


@pytest.mark.parametrize(
    "content",
    ["[", "[]", "{}", '{"vmas": {}}', '{"a": {"b": {"c": {"seed_0": {"absolute_metrics": {}}}}}}', '{"a": 1}'],
)
def test_other_json_is_no_run(content: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content)
    make_record().save(tmp_path / "record.json")
    assert len(collect([tmp_path]).records) == 1
