"""Records of runs: what is written is read again, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.records import make_record

from benchmarl_himpo.harness.records.record import RecordError, load_record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = make_record(variant="himppo[goal_interval=10,2]", task_label="vmas/sampling[n_agents=7]")
    record.save(tmp_path / "record.json")
    assert load_record(tmp_path / "record.json") == record
    assert record.n_agents == 7
    text = (tmp_path / "record.json").read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["format"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]  # nothing temporary is left


def test_a_number_that_json_cannot_hold_leaves_the_old_record(tmp_path: Path) -> None:
    path, record = tmp_path / "record.json", make_record()
    record.save(path)
    with pytest.raises(RecordError, match="was not written"):
        replace(record, timers={"collection": float("nan")}).save(path)
    assert load_record(path) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("format"), "it has no format"),
        (lambda content: content.update(format=2), "has another format than 1"),
        (lambda content: content.pop("seed"), "no record of a run: .*missing .*seed"),
        (lambda content: content.update(host="a"), "no record of a run: .*unexpected .*host"),
        (lambda content: content.update(seconds=[1.0]), "must be as many, got 10, 1, 10"),
        (lambda content: content.update(frames=None), "is no record of a run"),
        (lambda content: content["evaluation_returns"].__setitem__(0, []), "an evaluation has no episodes"),
        (lambda content: content["absolute_metric"].update(returns=[]), "the absolute metric has no episodes"),
        (lambda content: content.update(evaluation_metrics={"win_rate": [1.0]}), "win_rate .* must be as many"),
    ],
)
def test_what_is_no_record_is_refused_with_a_sentence(change, message: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    make_record().save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=message):
        load_record(path)


def test_metrics_may_be_unknown_and_are_those_of_the_episodes_that_count() -> None:
    record = make_record()
    assert record.metrics == {}
    evaluated = {"life_mean": [10.0, 20.0, 30.0, 40.0, 50.0], "win_rate": [0.0, 0.0, 0.0, 0.0, 0.5]}
    last = replace(record, evaluation_metrics=evaluated, absolute_metric=None)
    assert last.metrics == {"life_mean": 50.0, "win_rate": 0.5}
    fresh = {**record.absolute_metric, "metrics": {"life_mean": 45.0}}
    assert replace(record, evaluation_metrics=evaluated, absolute_metric=fresh).metrics == {"life_mean": 45.0}


@pytest.mark.parametrize(
    ("written", "evaluated", "metrics"),
    [
        ({"evaluation_life": [1.0, 2.0, 3.0, 4.0, 5.0]}, {"life_mean": [1.0, 2.0, 3.0, 4.0, 5.0]}, {"life_mean": 45.0}),
        ({"evaluation_life": []}, {}, {"life_mean": 45.0}),
        ({}, {}, {"life_mean": 45.0}),
    ],
)
def test_lives_of_older_records_are_metrics(
    written: dict[str, list[float]], evaluated: dict[str, list[float]], metrics: dict[str, float], tmp_path: Path
) -> None:
    record, path = make_record(), tmp_path / "record.json"
    record.save(path)
    content = json.loads(path.read_text())
    del content["evaluation_metrics"]
    content["absolute_metric"]["life"] = 45.0
    path.write_text(json.dumps(content | written))
    loaded = load_record(path)
    assert (loaded.evaluation_metrics, loaded.metrics) == (evaluated, metrics)
    assert loaded.best_evaluated == record.best_evaluated


def test_another_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(RecordError, match="it has no format"):
        load_record(tmp_path / "record.json")
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(RecordError, match="cannot be read"):
        load_record(tmp_path / "record.json")
