"""Records are found wherever they are kept; what is unfinished, missing or contradictory is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.records import make_record

from benchmarl_himpo.harness.records.labels import strip_common
from benchmarl_himpo.harness.records.ledger import Ledger
from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.report.comparison import ComparisonError, collect


def keep(record: RunRecord, folder: Path) -> None:
    """Leave a record as a sweep does, with another JSON file of the run beside it."""
    run = folder / record.id
    (run / "ippo_sampling").mkdir(parents=True)
    (run / "ippo_sampling" / "ippo_sampling.json").write_text('{"vmas": {}}')
    record.save(run / "record.json")


def test_records_of_sweeps_and_committed_ones_are_found(tmp_path: Path) -> None:
    first, second = make_record(seed=0), make_record(seed=1)
    keep(first, tmp_path / "sweep")
    (tmp_path / "results").mkdir()
    second.save(tmp_path / "results" / f"{second.id}.json")
    comparison = collect([tmp_path / "sweep", tmp_path / "results"])
    assert comparison.records == [first, second]
    assert comparison.files == {first.id: f"{first.id}/record.json", second.id: f"{second.id}.json"}
    assert comparison.absent == []


def test_the_runs_of_a_protocol_are_taken_alone_and_named_where_they_are_missing(tmp_path: Path) -> None:
    keep(make_record(seed=0), tmp_path)
    keep(make_record(seed=1), tmp_path)
    keep(make_record("ippo", seed=0), tmp_path)
    planned = {("vmas/sampling", "himppo", 0), ("vmas/sampling", "himppo", 2)}
    comparison = collect([tmp_path], planned)
    assert [(record.variant, record.seed) for record in comparison.records] == [("himppo", 0)]
    assert [(absent.variant, absent.seed, absent.planned) for absent in comparison.absent] == [("himppo", 2, True)]
    with pytest.raises(ComparisonError, match="of the protocol"):
        collect([tmp_path], {("vmas/balance", "himppo", 0)})


def test_variants_of_several_protocols_have_the_names_that_they_are_given(tmp_path: Path) -> None:
    tuned = "ippo[entropy_coef=0.01]"
    keep(make_record(tuned), tmp_path)
    keep(make_record("ippo", "vmas/balance"), tmp_path)
    planned = {("vmas/sampling", tuned, 0), ("vmas/sampling", tuned, 1), ("vmas/balance", "ippo", 0)}
    comparison = collect([tmp_path], planned, {("vmas/sampling", tuned): "ippo", ("vmas/balance", "ippo"): "ippo"})
    assert comparison.variants == ["ippo"]
    assert [(absent.task, absent.variant, absent.seed) for absent in comparison.absent] == [
        ("vmas/sampling", "ippo", 1)
    ]


def test_tasks_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    for n_agents in (10, 7):
        keep(make_record(task_label=f"vmas/sampling[n_agents={n_agents}]"), tmp_path)
    assert collect([tmp_path]).tasks == ["vmas/sampling[n_agents=7]", "vmas/sampling[n_agents=10]"]


def test_seeds_that_other_variants_have_are_missing(tmp_path: Path) -> None:
    for variant, seeds in {"himppo": (0, 1, 2), "ippo": (0, 2)}.items():
        for seed in seeds:
            keep(make_record(variant, seed=seed), tmp_path)
    keep(make_record("ippo", "vmas/sampling[n_agents=7]", seed=5), tmp_path)  # another task: its seeds are its own
    (absent,) = collect([tmp_path]).absent
    assert (absent.task, absent.variant, absent.seed) == ("vmas/sampling", "ippo", 1)


def test_unfinished_runs_are_named_with_their_reason(tmp_path: Path) -> None:
    keep(make_record(seed=0), tmp_path)
    for seed in (1, 2, 3, 4):
        run = tmp_path / f"himppo-vmas_sampling-s{seed}-00000000"
        run.mkdir()
        plan = {"task_label": "vmas/sampling", "variant": "himppo", "config": {"seed": seed}}
        (run / "spec.yaml").write_text(yaml.safe_dump(plan))
        if seed > 1:
            Ledger(run).add("started", frames=0)
        if seed > 2:
            Ledger(run).add("failed", reason="the disk is full")
        if seed > 3:  # the next attempt: what ended the one before is no reason any more
            Ledger(run).add("started", frames=0)
            Ledger(run).add("interrupted")
    reasons = [absent.reason for absent in collect([tmp_path]).absent]
    assert reasons == [
        "not started",
        "running, or killed (no exit event)",
        "failed: the disk is full",
        "interrupted",
    ]


def test_a_run_that_was_found_elsewhere_is_not_unfinished(tmp_path: Path) -> None:
    record = make_record()
    (tmp_path / "sweep" / record.id).mkdir(parents=True)
    plan = {"task_label": record.task_label, "variant": record.variant, "config": {"seed": record.seed}}
    (tmp_path / "sweep" / record.id / "spec.yaml").write_text(yaml.safe_dump(plan))
    keep(record, tmp_path / "results")
    assert collect([tmp_path / "sweep", tmp_path / "results"]).absent == []


def test_a_copy_is_the_same_run(tmp_path: Path) -> None:
    keep(make_record(), tmp_path / "a")
    keep(make_record(), tmp_path / "b")
    assert len(collect([tmp_path]).records) == 1


def test_runs_in_folders_of_the_same_name_have_values_of_their_own(tmp_path: Path) -> None:
    """The id of a run outside a sweep is the name of its folder, which a copy that was trained further keeps."""
    for folder, label, level in (("a", "vmas/sampling", 10.0), ("b", "vmas/balance", 30.0)):
        keep(replace(make_record(task_label=label, level=level), id="run"), tmp_path / folder)
    comparison = collect([tmp_path])
    assert [(record.id, record.task_label) for record in comparison.records] == [
        ("run", "vmas/balance"),
        ("run (2)", "vmas/sampling"),
    ]
    assert comparison.files == {"run": "b/run/record.json", "run (2)": "a/run/record.json"}


def test_two_runs_that_claim_to_be_one_are_refused(tmp_path: Path) -> None:
    keep(make_record(), tmp_path / "a")
    keep(replace(make_record(), id="himppo-vmas_sampling-s0-11111111", attempts=2), tmp_path / "b")
    with pytest.raises(ComparisonError, match="are both himppo on vmas/sampling with seed 0, and differ"):
        collect([tmp_path])


def test_one_label_for_two_configurations_is_refused(tmp_path: Path) -> None:
    keep(make_record(seed=0), tmp_path)
    keep(make_record(seed=1, config_hash="another"), tmp_path)
    with pytest.raises(ComparisonError, match="are both called himppo on vmas/sampling and have different"):
        collect([tmp_path])


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="no record of a finished run below"):
        collect([tmp_path])
    with pytest.raises(ComparisonError, match="does not exist"):
        collect([tmp_path / "nowhere"])


def test_what_all_runs_have_is_taken_out_of_their_labels(tmp_path: Path) -> None:
    task = "vmas/sampling[max_n_frames=960000; n_agents=7]"
    keep(make_record("himppo[credit=final; experiment.lr=0.1]", task, seed=0), tmp_path)
    keep(make_record("ippo[experiment.lr=0.1]", task, seed=0), tmp_path)
    keep(make_record("ippo[experiment.lr=0.1]", task, seed=1), tmp_path)
    comparison = collect([tmp_path])
    assert comparison.variants == ["himppo[credit=final]", "ippo"]
    assert comparison.tasks == ["vmas/sampling[n_agents=7]"]  # which task it is, stays
    assert comparison.common == ["experiment.lr=0.1", "max_n_frames=960000"]
    assert [(absent.variant, absent.seed) for absent in comparison.absent] == [("himppo[credit=final]", 1)]


def test_labels_stay_distinct() -> None:
    labels = ["a[x=1; y=2]", "a[x=1]", "b[z=3; x=1]"]
    short, common = strip_common(labels)
    assert short == {"a[x=1; y=2]": "a[y=2]", "a[x=1]": "a", "b[z=3; x=1]": "b[z=3]"}
    assert common == ["x=1"]
    assert strip_common(["a", "a[x=1]"]) == ({"a": "a", "a[x=1]": "a[x=1]"}, [])


def test_what_an_option_does_not_concern_is_not_asked_for_it() -> None:
    labels = ["ippo[on=4]", "mappo[on=4; lr=2]", "qmix[off=1]"]

    def concerns(difference: str, label: str) -> bool:
        return difference.startswith("lr") or difference.startswith("off") == label.startswith("qmix")

    short, common = strip_common(labels, concerns=concerns)
    assert list(short.values()) == ["ippo", "mappo[lr=2]", "qmix[off=1]"]
    assert common == ["on=4"]
