"""The report: what it says of runs it knows the truth of, of half-finished sweeps, and of names that mean harm."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.records import make_record

from benchmarl_himpo import registration
from benchmarl_himpo.harness.commands import report as command
from benchmarl_himpo.harness.records.record import RunRecord
from benchmarl_himpo.harness.reference_returns.reference_returns import load_reference_returns
from benchmarl_himpo.harness.report.analysis import Analysis, analyse
from benchmarl_himpo.harness.report.background import frames_per_second, write_background
from benchmarl_himpo.harness.report.comparison import collect
from benchmarl_himpo.harness.report.curves import interpolate, sample_efficiency, task_curves
from benchmarl_himpo.harness.report.document import Content
from benchmarl_himpo.harness.report.fairness import find_differences, find_provenance
from benchmarl_himpo.harness.report.figures import communication_front
from benchmarl_himpo.harness.report.results import write_results
from benchmarl_himpo.harness.report.verdicts import judge, write_warnings
from benchmarl_himpo.harness.report.writers import as_csv
from benchmarl_himpo.harness.statistics import Bootstrap
from benchmarl_himpo.harness.sweeps import protocol as protocol_module
from benchmarl_himpo.harness.sweeps.protocol import Protocol, load_protocol

SETTINGS = Bootstrap(confidence=0.95, repetitions=500, seed=0)
SEVEN = "vmas/sampling[n_agents=7]"

VARIANTS = {"ippo": 10, "himppo": 20, "mappo": 30}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Keep records in a folder, as they are committed."""

    def write(*records: RunRecord) -> Path:
        folder = tmp_path / "runs"
        folder.mkdir(exist_ok=True)
        for record in records:
            safe = re.sub(r"[^\w.=-]", "_", record.id)
            record.save(folder / f"{safe}.json")
        return folder

    return write


def make_runs(
    variant: str, level: float, seeds: range, task_label: str = "vmas/sampling", **changes
) -> list[RunRecord]:
    return [make_record(variant, task_label, seed, level, **changes) for seed in seeds]


def with_returns(variant: str, values: list[float], **changes) -> list[RunRecord]:
    """Runs whose absolute metrics are known."""
    return [
        make_record(variant, seed=seed, absolute_metric={"frames": 1, "seed": 1, "returns": [v - 1, v + 1]}, **changes)
        for seed, v in enumerate(values)
    ]


def analyse_runs(folder: Path) -> tuple[Content, Analysis]:
    comparison, references = collect([folder]), load_reference_returns()
    analysis = analyse(comparison, references, SETTINGS)
    return Content(comparison, analysis, references, SETTINGS), analysis


def page_of(folder: Path, *options: str) -> str:
    command.main([str(folder), "repetitions=200", *options])
    return (folder / "report" / "report.html").read_text()


# Numbers


def test_a_task_worked_by_hand(write: Write) -> None:
    ours, theirs = [20.0, 22.0, 24.0], [10.0, 12.0, 21.0]
    _, analysis = analyse_runs(write(*with_returns("himppo", ours), *with_returns("ippo", theirs)))
    (task,) = analysis.tasks
    references = load_reference_returns().tasks["vmas/sampling"]
    first, second = task.rows
    half = stats.t.ppf(0.975, 2) * 2 / math.sqrt(3)
    assert (first.variant, second.variant) == ("himppo", "ippo")
    assert (first.per_agent.value, first.per_agent.low) == pytest.approx((22.0, 22.0 - half))
    assert first.team is not None
    assert first.fraction is not None
    assert (first.team.value, first.team.high) == pytest.approx((66.0, 3 * (22.0 + half)))
    assert first.fraction.value == pytest.approx(22.0 / references.upper_bound)
    assert first.score.value == pytest.approx((22.0 - references.random) / (references.scripted - references.random))
    assert task.improvement["himppo"]["ippo"].value == pytest.approx(8 / 9)  # 20 loses to 21
    assert task.improvement["ippo"]["himppo"].value == pytest.approx(1 / 9)
    assert task.improvement["ippo"]["himppo"].low == 1 - task.improvement["himppo"]["ippo"].high
    assert analysis.min_max_iqm["ippo"].value == pytest.approx(np.mean([0.0, 2 / 14, 11 / 14]))


def test_metrics_stand_beside_returns_where_they_are_known(write: Write) -> None:
    plain = make_runs("ippo", 20, range(2))
    metric = {"frames": 0, "seed": 1, "returns": [1.0, 2.0]}
    lives = [
        make_record(
            "ippo",
            "lbfws/hard",
            seed,
            task="lbfws/hard",
            absolute_metric={**metric, "metrics": {"life_mean": 100.0 + 20 * seed}},
        )
        for seed in range(2)
    ]
    wins = [
        make_record("ippo", "smax/own", seed, task="smax/own", absolute_metric={**metric, "metrics": {"win_rate": 0.5}})
        for seed in range(2)
    ]
    content, analysis = analyse_runs(write(*plain, *lives, *wins))
    means = [{name: mean.value for name, mean in task.rows[0].metrics.items()} for task in analysis.tasks]
    assert means == [{"life_mean": 110.0}, {"win_rate": 0.5}, {}]
    section = write_results(content)[0]
    headings = ["mean life of an agent, env steps", "win rate", "score"]
    assert [table.columns[-1] for table in section.tables[:3]] == headings
    assert section.tables[0].rows[0][-1].startswith("110.00 [")
    of_scripts = section.tables[-1].rows[0][1]
    assert of_scripts.startswith("random 30.2, greedy ")
    assert "coalition" in section.tables[-2].rows[0][2]
    rows = list(csv.DictReader(io.StringIO(as_csv(content))))
    assert {row["life_mean"] for row in rows} == {"", "100.0", "120.0"}
    assert {row["win_rate"] for row in rows} == {"", "0.5"}


def test_ends_of_training_are_means_of_the_last_batches_and_of_the_last_evaluation(write: Write) -> None:
    ends = {"frames": [*range(7)], "seconds": [*range(7)], "evaluation_returns": [[0.0]] * 4 + [[1.0, 3.0]]}
    runs = [
        make_record(seed=0, collection_return=[90.0, None, 1.0, 2.0, 3.0, 4.0, 5.0], **ends),
        make_record(seed=1, collection_return=[90.0, 90.0, 4.0, 4.0, 4.0, 4.0, 4.0], **ends),
        make_record("ippo", seed=0, collection_return=[None] * 7, **ends),
    ]
    assert [run.last_collection for run in runs] == [3.0, 4.0, None]
    content, _ = analyse_runs(write(*runs))
    (section,) = (section for section in write_results(content) if section.title == "The end of training")
    ends_of = {row[0]: row[2:] for row in section.tables[0].rows}
    assert ends_of["himppo"][0].startswith("3.50 [") and ends_of["himppo"][1].startswith("2.00 [")
    assert ends_of["ippo"][0] == "-"
    table = list(csv.DictReader(io.StringIO(as_csv(content))))
    assert sorted(row["last_collection"] for row in table) == ["", "3.0", "4.0"]
    assert {row["last_evaluation"] for row in table} == {"2.0"}


def test_groups_of_different_sizes_have_no_team_return(write: Write) -> None:
    _, analysis = analyse_runs(write(*make_runs("ippo", 20, range(2), group_sizes={"prey": 1, "predators": 3})))
    assert analysis.tasks[0].rows[0].team is None
    assert analysis.tasks[0].n_agents == 4


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([[20.0, 20.5, 21.0, 20.2], [10.0, 10.5, 11.0, 10.2]], "ahead"),
        ([[20.0, 24.0, 21.0, 26.0], [20.5, 23.0, 22.0, 24.0]], "inconclusive"),
        ([[20.0, 20.1, 20.2], [19.0, 19.1, 12.0]], "inconclusive"),  # all pairs won, but Welch's interval is wide
        ([[19.9] * 15 + [30.0] * 5, [20.0] * 20], "inconclusive"),  # the higher mean, but most pairs lost
        ([[20.0], [10.0]], "inconclusive"),  # one run each
        ([[20.0, 21.0]], "none"),
    ],
)
def test_verdicts(values: list[list[float]], outcome: str, write: Write) -> None:
    names = ("himppo", "ippo")
    runs = [run for name, of in zip(names, values, strict=False) for run in with_returns(name, of)]
    _, analysis = analyse_runs(write(*runs))
    (verdict,) = judge(analysis)
    assert verdict.outcome == outcome
    assert "himppo" in verdict.text


def test_a_variant_of_one_run_leads_nobody_and_is_behind_nobody(write: Write) -> None:
    lucky = with_returns("ippo", [40.0])
    _, analysis = analyse_runs(
        write(*lucky, *with_returns("himppo", [20.0, 20.5, 21.0]), *with_returns("mappo", [9.0, 9.5, 10.0]))
    )
    (verdict,) = judge(analysis)
    assert analysis.tasks[0].leader.variant == "himppo"
    assert [rival.variant for rival in analysis.tasks[0].rivals] == ["mappo"]
    assert verdict.outcome == "inconclusive"
    assert "not excluded against ippo, of which there is one run. It is ahead of mappo." in verdict.text


def test_single_runs_are_said_to_have_no_interval(write: Write) -> None:
    _, analysis = analyse_runs(write(*with_returns("himppo", [20.0]), *with_returns("ippo", [10.0])))
    (verdict,) = judge(analysis)
    script = analysis.tasks[0].reference_returns.scripted
    assert "ippo (difference 10.00, without an interval, which takes several runs of both)" in verdict.text
    assert verdict.text.endswith(f"The scripted policy's return is {script:.2f}.")


def test_aggregates_weigh_every_task_the_same_for_every_variant(write: Write) -> None:
    """Else the better of two on each task could be worse over all, with more runs on the task of lower returns."""
    runs = [*with_returns("himppo", [24.0] * 5), *with_returns("ippo", [25.0] * 2)]
    runs += with_returns("himppo", [4.0] * 2, task_label=SEVEN) + with_returns("ippo", [5.0] * 5, task_label=SEVEN)
    _, analysis = analyse_runs(write(*runs))
    assert analysis.aggregates is not None
    assert analysis.aggregates.n_runs == {"ippo": 2, "himppo": 2}
    assert analysis.aggregates.variants["ippo"]["iqm"].value > analysis.aggregates.variants["himppo"]["iqm"].value
    assert analysis.min_max_iqm["ippo"].value > analysis.min_max_iqm["himppo"].value


def test_a_variant_of_few_runs_takes_none_from_others(write: Write) -> None:
    _, analysis = analyse_runs(write(*make_runs("himppo", 20, range(5)), *make_runs("ippo", 20, range(7, 8))))
    assert analysis.aggregates is not None
    assert analysis.aggregates.n_runs == {"himppo": 5, "ippo": 1}


def test_without_reference_returns_there_is_no_aggregate(write: Write) -> None:
    _, analysis = analyse_runs(write(*make_runs("himppo", 5, range(2), "vmas/wheel")))
    assert analysis.aggregates is None
    assert set(analysis.min_max_iqm) == {"himppo"}


def test_without_a_seed_on_every_task_there_is_no_aggregate(write: Write) -> None:
    folder = write(*make_runs("himppo", 20, range(2)), *make_runs("himppo", 20, range(2, 4), SEVEN))
    _, analysis = analyse_runs(folder)
    assert analysis.aggregates is None
    assert "no variant has a seed on each" in page_of(folder)


def test_an_interval_above_the_scripted_policy_is_said_to_be(write: Write) -> None:
    folder = write(*with_returns("himppo", [30.0, 30.5, 31.0]), *with_returns("ippo", [5.0, 5.5, 6.0]))
    _, analysis = analyse_runs(folder)
    assert "Its return is above the scripted policy's (24.51)." in judge(analysis)[0].text


def test_variants_that_were_evaluated_otherwise_have_no_verdict(write: Write) -> None:
    other = make_record().config | {"experiment": {"max_n_frames": 120_000, "evaluation_episodes": 8}}
    folder = write(*make_runs("himppo", 25, range(3)), *make_runs("ippo", 10, range(3), config=other))
    _, analysis = analyse_runs(folder)
    (verdict,) = judge(analysis)
    assert verdict.outcome == "none"
    assert "experiment.evaluation_episodes differs: 4 in himppo; 8 in ippo" in verdict.text


def test_aggregates_are_over_the_tasks_that_all_have(write: Write) -> None:
    both = [make_runs(v, 20, range(3), t) for v in ("himppo", "ippo") for t in ("vmas/sampling", SEVEN)]
    elsewhere = make_runs("ippo", 5, range(2), "vmas/wheel")
    folder = write(*[run for runs in both for run in runs], *make_runs("mappo", 20, range(3)), *elsewhere)
    content, analysis = analyse_runs(folder)
    found = analysis.aggregates
    assert found is not None
    assert found.tasks == ["vmas/sampling", SEVEN]  # nobody measured reference returns of wheel
    assert set(found.variants) == {"himppo", "ippo"}
    assert found.without_tasks == {"mappo": [SEVEN]}
    references = {task: load_reference_returns().tasks[task] for task in found.tasks}
    scores = sorted(
        score
        for task in found.tasks
        for score in references[task].normalise(
            np.array([analysis.values[r.id] for r in content.comparison.runs(task, "ippo")])
        )
    )
    assert found.variants["ippo"]["iqm"].value == pytest.approx(np.mean(scores[1:-1]))
    verdict = judge(analysis)[0]
    assert verdict.task == "all 2 tasks with scores"
    assert verdict.outcome == "none"  # mappo might be ahead of both
    assert f"mappo lacks runs on {SEVEN}" in verdict.text


def test_a_variant_without_a_seed_on_every_task_is_said_to_lack_it(write: Write) -> None:
    full = [make_runs(v, level, range(4), t) for v, level in VARIANTS.items() for t in ("vmas/sampling", SEVEN)]
    apart = [make_runs("qmix", 20, [0, 1], "vmas/sampling"), make_runs("qmix", 20, [2, 3], SEVEN)]
    folder = write(*[run for runs in (*full, *apart) for run in runs])
    assert "qmix lacks a seed with runs on every task." in judge(analyse_runs(folder)[1])[0].text
    assert "qmix is left out: it lacks a seed with runs on every task." in page_of(folder)


def test_a_verdict_over_tasks_is_of_variants_that_have_runs_on_each(write: Write) -> None:
    both = [make_runs(v, level, range(4), t) for v, level in VARIANTS.items() for t in ("vmas/sampling", SEVEN)]
    content, analysis = analyse_runs(write(*[run for runs in both for run in runs]))
    assert judge(analysis)[0].outcome == "ahead"
    assert (
        list(analysis.min_max_iqm) == list(analysis.tasks[0].improvement) == ["mappo", "himppo", "ippo"]
    )  # best first
    matrices = next(s for s in write_results(content) if s.title == "Probability of improvement").tables
    assert matrices[0].columns == ["", "1.", "2.", "3."]
    assert [row[0] for row in matrices[0].rows] == ["1. mappo", "2. himppo", "3. ippo"]


def test_all_runs_are_held_to_one_measure(write: Write) -> None:
    folder = write(*make_runs("himppo", 20, range(2)), make_record("ippo", absolute_metric=None))
    _, analysis = analyse_runs(folder)
    assert analysis.measure.startswith("absolute metric")
    assert analysis.left_out == ["ippo-vmas_sampling-s0-00000000"]
    assert [row.variant for row in analysis.tasks[0].rows] == ["himppo"]
    assert judge(analysis)[0].text.startswith("No verdict: variants were not run and evaluated alike. fresh episodes")
    assert "because they lack this measure: ippo-vmas_sampling-s0-00000000." in page_of(folder)


def test_scores_are_between_the_reference_returns_of_the_kind_of_actions_that_was_played(write: Write) -> None:
    """QMIX has discrete actions whatever is preferred, and no difference in its label says so."""
    references = load_reference_returns()
    discrete = references.of("vmas/sampling[prefer_continuous_actions=false]")
    record = make_record("qmix", level=discrete.random)
    record.config["experiment"]["prefer_continuous_actions"] = True
    _, analysis = analyse_runs(write(record))
    assert analysis.tasks[0].reference_returns == discrete
    assert references.of("vmas/sampling") != discrete
    assert references.of("vmas/sampling[prefer_continuous_actions=false]", "continuous") == references.of(
        "vmas/sampling"
    )


def test_the_command_asks_its_own_tasks_and_algorithms_for_their_kind_of_actions(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[bool] = []
    monkeypatch.setattr(registration, "register", lambda: registered.append(True))
    page_of(write(*make_runs("ippo", 10, range(2))))
    assert registered


def test_pictures_of_an_earlier_report_do_not_stay(write: Write) -> None:
    folder = write(*make_runs("ippo", 10, range(2)), *make_runs("ippo", 10, range(2), "vmas/balance"))
    page_of(folder)
    figures = folder / "report" / "figures"
    assert (figures / "curves_1_frames.svg").is_file()
    for file in folder.glob("*balance*.json"):
        file.unlink()
    page_of(folder)
    assert (figures / "curves_0_frames.svg").is_file()
    assert not (figures / "curves_1_frames.svg").exists()


def test_without_absolute_metrics_the_last_evaluation_counts(write: Write) -> None:
    record = make_record(absolute_metric=None)
    _, analysis = analyse_runs(write(record))
    assert analysis.values == {record.id: pytest.approx(np.mean(record.evaluation_returns[-1]))}


# Curves


def test_curves_are_means_at_the_points_of_runs(write: Write) -> None:
    folder = write(*make_runs("himppo", 20, range(2)), make_record("himppo", seed=2, n_evaluations=3))
    curve = task_curves(collect([folder]), "vmas/sampling", 0.95)["frames"]["himppo"]
    records = [make_record("himppo", seed=seed, level=20.0) for seed in range(2)]
    assert curve.at == records[0].evaluation_frames  # the short run's are among them
    last = [np.mean(record.evaluation_returns[-1]) for record in records]
    assert curve.band.value[-1] == pytest.approx(np.mean(last))  # the short run has ended there
    assert set(curve.runs) == {0, 1, 2}


def test_runs_that_were_evaluated_once_have_no_curve_over_minutes(write: Write) -> None:
    """They have no time in common."""
    once = {"evaluation_frames": [0], "evaluation_returns": [[1.0, 2.0]]}
    folder = write(*(make_record(seed=seed, evaluation_seconds=[60.0 + seed], **once) for seed in range(2)))
    curves = task_curves(collect([folder]), "vmas/sampling", 0.95)
    assert (list(curves["frames"]), list(curves["minutes"])) == (["himppo"], [])


def test_nothing_is_made_up_before_and_after_a_run() -> None:
    assert interpolate(([10.0, 20.0], [1.0, 3.0]), [5.0, 10.0, 15.0, 20.0, 25.0]).tolist() == pytest.approx(
        [math.nan, 1.0, 2.0, 3.0, math.nan], nan_ok=True
    )


def test_sample_efficiency_is_the_iqm_of_scores_at_each_point(write: Write) -> None:
    folder = write(*make_runs("ippo", 20, range(4)))
    comparison, references = collect([folder]), {"vmas/sampling": load_reference_returns().tasks["vmas/sampling"]}
    found = sample_efficiency(comparison, references, ["ippo"], SETTINGS)
    assert found.frames == comparison.records[0].evaluation_frames
    first = np.array([np.mean(record.evaluation_returns[0]) for record in comparison.records])
    expected = stats.trim_mean(references["vmas/sampling"].normalise(first), 0.25)
    assert found.variants["ippo"].value[0] == pytest.approx(expected)
    assert found.variants["ippo"].low[0] < expected < found.variants["ippo"].high[0]


def test_runs_that_share_no_frame_have_no_sample_efficiency(write: Write) -> None:
    early, late = make_record(seed=0), make_record(seed=1)
    late = replace(late, evaluation_frames=[frames + 10**6 for frames in late.evaluation_frames])
    references = {"vmas/sampling": load_reference_returns().tasks["vmas/sampling"]}
    found = sample_efficiency(collect([write(early, late)]), references, ["himppo"], SETTINGS)
    assert (found.frames, found.variants) == ([], {})


def test_runs_without_evaluations_are_drawn_as_they_collected(write: Write) -> None:
    nothing = {"evaluation_frames": [], "evaluation_seconds": [], "evaluation_returns": []}
    folder = write(*make_runs("ippo", 20, range(2), **nothing))
    curve = task_curves(collect([folder]), "vmas/sampling", 0.95)["frames"]["ippo"]
    assert curve.at == make_record().frames[1:]  # no episode ended in the first batch
    assert "of the episodes that ended in each batch" in page_of(folder)


# Fairness and provenance


def test_only_keys_that_differ_are_listed() -> None:
    other = make_record().config | {"algorithm": {"name": "ippo", "gamma": 0.99, "lmbda": 0.9}, "seed": 7}
    variants, found = find_differences([make_record("himppo"), make_record("ippo", config=other)])
    assert variants == ["himppo", "ippo"]
    assert found == {"algorithm.name": ['"himppo"', '"ippo"'], "algorithm.lmbda": ["-", "0.9"]}


def test_options_that_only_some_have_stand_apart_and_equal_tables_once(write: Write) -> None:
    other = make_record().config | {"algorithm": {"name": "ippo", "lmbda": 0.9}}
    runs = [run for t in ("vmas/sampling", "vmas/wheel") for run in make_runs("himppo", 20, range(1), t)]
    runs += [run for t in ("vmas/sampling", "vmas/wheel") for run in make_runs("ippo", 20, range(1), t, config=other)]
    content, _ = analyse_runs(write(*runs))
    (section,) = (section for section in write_background(content) if section.title == "What differs")
    differing, lacking = section.tables
    assert differing.caption == "vmas/sampling, vmas/wheel: keys that differ"
    assert [row[0] for row in differing.rows] == ["algorithm.name"]
    assert [row[0] for row in lacking.rows] == ["algorithm.gamma", "algorithm.lmbda"]


def test_provenance_counts_what_differs() -> None:
    old = make_record().provenance | {"torch": "2.12.0", "load_average": 0.5}
    found = find_provenance([make_record(seed=0), make_record(seed=1), make_record(seed=2, provenance=old)])
    assert found["torch"] == "2.12.0 (1 runs), 2.13.0 (2 runs)"
    assert found["load_average"] == "0.5 to 1.5"
    assert found["python"] == "3.11.2"
    assert found["gpu"] == "unknown"


def test_few_runs_are_said_to_be_few(write: Write) -> None:
    content, _ = analyse_runs(write(*make_runs("ippo", 20, range(9))))
    assert "fewer than 10" in write_warnings(content)[0]
    content, _ = analyse_runs(write(*make_runs("ippo", 20, range(10))))
    assert write_warnings(content) == []


# Files


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in the middle of its way, reported once: other numbers of seeds, other lengths, a task that few have."""
    folder = tmp_path_factory.mktemp("ragged")
    runs = [
        *make_runs("himppo", 25, range(3)),
        *make_runs("himppo[goal_interval=10,2]", 24, range(1)),
        *make_runs("ippo", 20, range(2)),
        *make_runs("himppo", 23, range(2), SEVEN),
        make_record("ippo", SEVEN, 1, n_evaluations=3),
        *make_runs("ippo", 5, range(2), "vmas/wheel"),
    ]
    for record in runs:
        (folder / record.id).mkdir()
        record.save(folder / record.id / "record.json")
    page_of(folder)
    return folder


def test_a_half_finished_sweep_has_a_report(ragged: Path) -> None:
    page = (ragged / "report" / "report.html").read_text()
    assert "ippo on vmas/sampling: no record, though other variants have this seed (seed 2)" in page
    assert "himppo[goal_interval=10,2] on vmas/sampling: no record" in page
    assert "Unequal seeds: " in page
    assert "Unfinished: " not in page  # nobody began what is missing
    assert "No reference returns are stored for vmas/wheel" in page
    assert "No verdict: variants were not run and evaluated alike. experiment.max_n_frames differs" in page
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.n_pictures == 3 + 2 * 3 + 2  # returns, curves, profile and sample efficiency


def test_a_protocol_says_what_was_asked_and_tuned_and_which_runs_are_missing(write: Write, capsys) -> None:
    protocol = load_protocol("sampling_discrete")
    *there, (task, variant, seed) = sorted(run for run in protocol.runs if run[1] != "himppo_flat")
    foreign = make_record("himppo", "vmas/wheel", 0)
    records = [make_record(v, t, s, algorithm=v.partition("[")[0]) for t, v, s in there]
    page = page_of(write(foreign, *records), "protocol=sampling_discrete")
    flat = f"himppo_flat on {task}: no record (seed 0, 1, 2)"
    assert f"Unfinished: {flat}; {variant} on {task}: no record (seed {seed})." in capsys.readouterr().out
    assert "Unequal seeds" not in page
    assert "vmas/wheel" not in page
    assert protocol.question in page
    assert protocol.tuning["qmix"] in page
    assert "experiment.lr=0.0003" in page
    assert protocol.tuning["himppo_flat"] not in page  # which has no runs here


def test_several_protocols_are_one_comparison_of_algorithms(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def protocol_of(name: str, task: str, *variants: str) -> Protocol:
        tuning = {algorithm: f"{algorithm} as {name} tuned it" for algorithm in ("himppo_flat", "qmix")}
        runs = frozenset((task, variant, seed) for variant in variants for seed in range(3))
        return Protocol(name, f"What of {name}?", tuning, tuned={}, runs=runs)

    sampling = protocol_of("first", "vmas/sampling", "himppo_flat", "qmix")
    battles = protocol_of("second", "smax/smacv2_5_units", "himppo_flat[hidden_dim=128]", "qmix[experiment.lr=0.0003]")
    protocols = [sampling, battles]
    monkeypatch.setattr(protocol_module, "load_protocol", {p.name: p for p in protocols}.__getitem__)
    planned = [run for protocol in protocols for run in sorted(protocol.runs)]
    folder = write(*(make_record(v, t, s, algorithm=v.partition("[")[0]) for t, v, s in planned))
    page = page_of(folder, "protocol=[first,second]")
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["protocol"] == "first, second"
    assert {run["variant"] for run in report["runs"]} == {"himppo_flat", "qmix"}
    assert set(report["analysis"]["aggregates"]["variants"]) == {"himppo_flat", "qmix"}
    for protocol in protocols:
        assert protocol.question in page
        assert f"Tuning before the comparison: {protocol.name}" in page
        assert protocol.tuning["qmix"] in page


def test_a_protocol_that_does_not_exist_is_refused(ragged: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        command.main([str(ragged), "protocol=nonesuch"])
    said = str(exit_info.value.code)
    assert re.fullmatch(r"protocol=nonesuch does not exist: choose from [a-z_, ]+", said)
    assert {"foraging", "sampling_discrete"} <= set(said.partition("choose from ")[2].split(", "))


def test_the_same_runs_give_the_same_bytes(ragged: Path, tmp_path: Path, capsys) -> None:
    """Also where a report lies among the runs by now."""
    command.main([str(ragged), "repetitions=200", f"output={tmp_path}"])
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    first = {path.relative_to(ragged / "report"): path.read_bytes() for path in (ragged / "report").rglob("*.*")}
    assert first == {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert {"report.html", "report.md", "report.json", "report.csv", "marl_eval.json"} <= set(map(str, first))
    assert not any(str(ragged).encode() in content for content in first.values())  # no machine paths


class Outline(HTMLParser):
    """Follows what is open, and keeps what a browser would fetch or run."""

    VOID = ("meta", "link", "br", "img", "use", "path", "rect", "line", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.n_pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.look_at(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.look_at(tag, attrs)

    def look_at(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.n_pictures += tag == "figure"
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        self.fetched += re.findall(r"url\(([^)]*)\)", " ".join(v or "" for _, v in attrs))
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        self.scripts += [dict(attrs)] if tag == "script" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


HARMFUL = "ippo</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&$x_{$|*`"


def test_a_page_fetches_and_runs_nothing_whatever_variants_are_called(write: Write) -> None:
    folder = write(*make_runs(HARMFUL, 20, range(2)), *make_runs("himppo", 25, range(2)))
    page = page_of(folder, "title=<b>$bold")
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    assert parser.fetched
    assert all(target.startswith("#") for target in parser.fetched), parser.fetched
    assert parser.handlers == []
    assert [script["type"] for script in parser.scripts] == ["application/json"]
    assert "<img" not in page
    assert "<b>" not in page
    assert "@import" not in page
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert {target[1:] for target in parser.fetched} <= set(identifiers)
    raw = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert raw is not None
    assert json.loads(raw[1]) == json.loads((folder / "report" / "report.json").read_text())
    assert {run["variant"] for run in json.loads(raw[1])["runs"]} == {HARMFUL, "himppo"}
    markdown = (folder / "report" / "report.md").read_text()
    assert "<" not in markdown.replace("&lt;", "")
    assert_tables_are_whole(markdown)


def assert_tables_are_whole(markdown: str) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) > 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_tables_are_whole_and_pictures_exist(ragged: Path) -> None:
    text = (ragged / "report" / "report.md").read_text()
    assert_tables_are_whole(text)
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == 3 + 2 * 3 + 2
    assert all((ragged / "report" / picture).is_file() for picture in pictures)


def test_files_for_programs(ragged: Path) -> None:
    records = collect([ragged]).records
    rows = list(csv.DictReader(io.StringIO((ragged / "report" / "report.csv").read_text())))
    assert [row["id"] for row in rows] == [record.id for record in records]
    assert float(rows[0]["return_per_agent"]) == pytest.approx(np.mean(records[0].absolute_metric["returns"]))
    assert [row["score"] == "" for row in rows] == [record.task_label == "vmas/wheel" for record in records]
    marl_eval = json.loads((ragged / "report" / "marl_eval.json").read_text())
    assert set(marl_eval["vmas"]) == {"sampling", "sampling[n_agents=7]", "wheel"}
    run = marl_eval["vmas"]["sampling"]["himppo"]["seed_2"]
    (record,) = (r for r in records if (r.variant, r.task_label, r.seed) == ("himppo", "vmas/sampling", 2))
    assert run["step_1"]["return"] == record.evaluation_returns[1]
    assert run["step_1"]["step_count"] == record.evaluation_frames[1]
    assert run["absolute_metrics"]["return"] == record.absolute_metric["returns"]
    data = json.loads((ragged / "report" / "report.json").read_text())
    assert {v["task"]: v["outcome"] for v in data["verdicts"]} == {
        "vmas/sampling": "inconclusive",
        SEVEN: "none",
        "vmas/wheel": "none",
    }
    assert len(data["absent"]) == 4


@pytest.mark.slow
def test_a_report_that_cannot_be_written_prints_its_verdicts_and_leaves_the_old_one(
    ragged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main([str(ragged), "repetitions=200", f"output={tmp_path}"])
    verdicts = capsys.readouterr().out.partition("\n\nreport: ")[0]
    old = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}

    def raise_disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(SystemExit, match=rf"^output={tmp_path} could not be written .*No space left"):
        command.main([str(ragged), "repetitions=100", f"output={tmp_path}"])
    assert capsys.readouterr().out.strip().splitlines()[0] == verdicts.splitlines()[0]
    assert old == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def assert_marl_eval_reads(file: Path, measured: Callable[[RunRecord], list[float]], records: list[RunRecord]) -> None:
    """Steps in order, then the absolute metrics; no comma in names. marl-eval makes matrices of nothing else."""
    content = json.loads(file.read_text())
    for record in records:
        environment, _, task = record.task_label.partition("/")
        steps = content[environment][task][record.variant.replace(",", " ")][f"seed_{record.seed}"]
        assert list(steps) == [*(f"step_{i}" for i in range(len(record.evaluation_frames))), "absolute_metrics"]
        assert [step["step_count"] for step in list(steps.values())[:-1]] == record.evaluation_frames
        assert steps["absolute_metrics"] == {"return": measured(record)}


METRICS = {
    "measured": (lambda r: r.absolute_metric["returns"], {}),
    "not measured": (lambda r: r.evaluation_returns[-1], {"absolute_metric": None}),
}
MARL_EVAL_VARIANTS = ("himppo[goal_interval=10,2]", "ippo")


@pytest.mark.parametrize("absolute_metric", METRICS)
def test_marl_eval_json_has_an_absolute_metric_for_every_run(absolute_metric: str, write: Write) -> None:
    """Of twelve evaluations, whose names do not sort by their numbers."""
    measured, changes = METRICS[absolute_metric]
    runs = [r for v in MARL_EVAL_VARIANTS for r in make_runs(v, 20, range(2), n_evaluations=12, **changes)]
    folder = write(*runs)
    page_of(folder)
    assert_marl_eval_reads(folder / "report" / "marl_eval.json", measured, runs)


@pytest.mark.parametrize("absolute_metric", METRICS)
def test_marl_eval_itself_makes_matrices_of_its_json(absolute_metric: str, write: Write) -> None:
    processing = pytest.importorskip(
        "marl_eval.utils.data_processing_utils", reason="needs marl-eval: pip install id-marl-eval==0.0.4"
    )
    _, changes = METRICS[absolute_metric]
    folder = write(*[r for v in MARL_EVAL_VARIANTS for r in make_runs(v, 20, range(2), n_evaluations=12, **changes)])
    page_of(folder)
    raw = json.loads((folder / "report" / "marl_eval.json").read_text())
    data = processing.data_process_pipeline(raw, ["return"])
    final, over_steps = processing.create_matrices_for_rliable(data, "vmas", ["return"])
    assert {name: runs.shape for name, runs in final["mean_norm_return"].items()} == {
        "himppo[goal_interval=10 2]": (2, 1),
        "ippo": (2, 1),
    }
    assert over_steps["mean_norm_return"]["ippo"].shape == (2, 1, 12)
    (first, *_, last) = (over_steps["mean_norm_return"]["ippo"][0, 0, i] for i in range(12))
    assert first < last  # returns grow


def test_marl_eval_json_has_no_runs_that_the_report_leaves_out(write: Write) -> None:
    folder = write(*make_runs("himppo", 20, range(2)), make_record("ippo", absolute_metric=None))
    page_of(folder)
    assert set(json.loads((folder / "report" / "marl_eval.json").read_text())["vmas"]["sampling"]) == {"himppo"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUNS", "rounds=3"], "rounds"),
        (["RUNS", "confidence=95"], "confidence=95 must lie between 0 and 1"),
        (["RUNS", "seed=-1"], "seed=-1 must be 0 or more"),
        (["RUNS", "repetitions=10"], "repetitions=10 must be 100 or more"),
        (["repetitions=200"], "give at least one folder"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_reported_ends_with_a_sentence(arguments: list[str], message: str, ragged: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        command.main([str(ragged) if argument == "RUNS" else argument for argument in arguments])
    assert message in str(exit_info.value.code)


def test_costs_are_means_with_ranges_and_parameters_go_by_level(write: Write) -> None:
    """1,200 and 600 frames a second; levels that only one of the variants has."""
    slow = make_record("himppo", seed=1, seconds=[20.0 * (i + 1) for i in range(10)])
    for record in (fast := make_record("himppo", seed=0), slow):
        record.config.update(matmul_precision="high", update_step="eager")
    parts = {"agents/loss_objective/actor_network": 10, "agents/loss_critic/critic_network": 20}
    page = page_of(write(fast, slow, make_record("ippo", parameters=parts)))
    cells = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", page)
    rows = [[name, *re.findall(r"<td.*?>(.*?)</td>", rest)] for name, rest in cells]
    costs = ["900 (600-1,200)", "30", "70", "5.0", "300", "600", "1,900"]
    assert ["himppo", "high", "eager", *costs, "-", "-"] in rows
    assert ["agents/loss_objective/actor_network", "", "10"] in rows
    assert ["agents/loss_objective/level_0", "1,000", ""] in rows


def test_the_speed_is_that_of_the_logged_iterations() -> None:
    """Twelve thousand frames in ten seconds, also of a run whose first iterations were not logged."""
    record = make_record()
    late = replace(record, frames=record.frames[4:], seconds=record.seconds[:6], collection_return=[None] * 6)
    assert frames_per_second(record) == frames_per_second(late) == 1200


def test_messages_are_a_cost_where_records_have_them(write: Write) -> None:
    """Records from before they were counted have a dash."""
    known = {"communication": {"messages": 2.4, "bytes": 76.8}}
    content, _ = analyse_runs(write(make_record("himppo", **known), make_record("ippo")))
    (cost,) = (section for section in write_background(content) if section.title == "Cost")
    assert cost.tables[0].columns[-2:] == ["messages per agent and step", "bytes per agent and step"]
    assert {row[0]: row[-2:] for row in cost.tables[0].rows} == {"himppo": ["2.4", "77"], "ippo": ["-", "-"]}
    table = {row["variant"]: row for row in csv.DictReader(io.StringIO(as_csv(content)))}
    assert (table["himppo"]["messages"], table["himppo"]["bytes"], table["ippo"]["bytes"]) == ("2.4", "76.8", "")


def test_returns_are_drawn_over_bytes_with_the_front_of_who_gets_most_with_least(write: Write) -> None:
    """qmix sends as much as himppo for less; ippo sends nothing; of mappo nothing is known."""
    cases = {"ippo": (10, 0.0), "himppo": (20, 76.8), "qmix": (15, 76.8), "himppo_flat": (18, 5120.0)}
    runs = [
        run
        for variant, (level, n_bytes) in cases.items()
        for run in make_runs(variant, level, range(3), communication={"messages": 1.0, "bytes": n_bytes})
    ]
    content, analysis = analyse_runs(write(*runs, *make_runs("mappo", 30, range(3))))
    (section,) = (part for part in write_results(content) if part.title == "Return against communication")
    (picture,) = section.pictures
    assert picture.name == "communication_0"
    assert all(variant in picture.svg for variant in cases) and "mappo" not in picture.svg
    n_bytes = {variant: n for variant, (_, n) in cases.items()}
    rows = [row for row in analysis.tasks[0].rows if row.variant in n_bytes]
    assert [row.variant for row in communication_front(rows, n_bytes)] == ["ippo", "himppo"]


def test_returns_are_not_drawn_over_bytes_where_all_send_the_same(write: Write) -> None:
    runs = [run for v in ("ippo", "mappo") for run in make_runs(v, 1, range(2), communication={"bytes": 0.0})]
    content, _ = analyse_runs(write(*runs))
    assert "Return against communication" not in {section.title for section in write_results(content)}


HIERARCHY = {
    "n_nodes": [2, 1],
    "goal_interval": [5, 2],
    "observation": [["observation[0:2]"], None],
    "neighbours": ["none", "full"],
    "n_message_rounds": 1,
    "part_options": {},
    "team_state": False,
    "send_goals": True,
}
FLAT = HIERARCHY | {"n_nodes": [], "goal_interval": [], "neighbours": "none", "observation": [["observation[0:2]"]]}


def with_algorithm(variant: str, values: list[float], **algorithm) -> list[RunRecord]:
    config = make_record().config | {"algorithm": algorithm, "choices": {"algorithm": variant}}
    return with_returns(variant, values, config=config)


def test_variants_that_differ_from_the_default_in_one_option_are_listed_by_factor(write: Write) -> None:
    """Of two options or of another algorithm none is; fields of a part belong to the option that chooses it."""
    radius = "himppo[neighbours=radius; part_options.neighbours.radius.radius=0.4]"
    values = {
        "himppo[hidden_dim=128]": [20.0, 22.0, 24.0],
        "himppo[n_nodes=1,1; hidden_dim=128]": [10.0, 12.0, 14.0],
        f"{radius[:-1]}; hidden_dim=128]": [21.0, 22.0, 23.0],
        "himppo[neighbours=none; hidden_dim=128]": [9.0],
        "himppo[hidden_dim=128; experiment.lr=0.1]": [20.0, 22.0, 24.0],
        "himppo[neighbours=none; n_nodes=1,1; hidden_dim=128]": [1.0, 2.0],
        "ippo": [1.0, 2.0],
        "ippo[lmbda=0.5]": [1.0, 2.0],
    }
    runs = [run for variant, returns in values.items() for run in with_returns(variant, returns)]
    content, analysis = analyse_runs(write(*runs))
    found = {(c.setting.factor, c.setting.value): c.difference for c in analysis.tasks[0].changes}
    assert list(found) == [
        ("experiment.lr", "0.1"),
        ("n_nodes", "1,1"),
        ("neighbours", "none"),
        ("neighbours", "radius, radius=0.4"),
    ]
    half = stats.t.ppf(0.975, 4) * math.sqrt(2 * 4 / 3)
    fewer = found["n_nodes", "1,1"]
    assert (fewer.value, fewer.low, fewer.high) == pytest.approx((-10, -10 - half, -10 + half))
    (section,) = (section for section in write_results(content) if section.title == "Return by factor")
    (table,), (picture,) = section.tables, section.pictures
    assert table.rows[0][:3] == ["himppo[hidden_dim=128]", "default", "3"]
    assert {(row[0], row[1]): row[-1] for row in table.rows[1:]} == {
        ("experiment.lr", "0.1"): "no significant difference",
        ("n_nodes", "1,1"): "behind",
        ("neighbours", "none"): "-",
        ("neighbours", "radius, radius=0.4"): "no significant difference",
    }
    assert picture.name == "factors_0"
    assert "n_nodes: 1,1" in picture.svg


def test_a_factor_that_another_setting_allows_is_studied_beside_it(write: Write) -> None:
    """As lambda above the workers, which the default's credit rule does not allow."""
    values = {
        "himppo": [20.0, 22.0],
        "himppo[n_nodes=1,1]": [10.0, 12.0],
        "himppo[credit=uniform]": [15.0, 17.0],
        "himppo[credit=uniform; lmbda=0.95,0.5,0.5]": [16.0, 18.0],
    }
    runs = [run for variant, returns in values.items() for run in with_returns(variant, returns)]
    content, analysis = analyse_runs(write(*runs))
    changes = analysis.tasks[0].changes
    assert [(c.setting.default, c.setting.factor, c.setting.value, c.difference.value) for c in changes] == [
        ("himppo", "credit", "uniform", -5.0),
        ("himppo", "n_nodes", "1,1", -10.0),
        ("himppo[credit=uniform]", "lmbda", "0.95,0.5,0.5", 1.0),
    ]
    (section,) = (section for section in write_results(content) if section.title == "Return by factor")
    assert [row[0] for row in section.tables[0].rows] == [
        *("himppo", "credit", "n_nodes"),
        *("himppo[credit=uniform]", "lmbda"),
    ]


def test_variants_of_a_single_factor_are_no_study_of_factors(write: Write) -> None:
    content, analysis = analyse_runs(
        write(*with_returns("himppo", [1.0, 2.0]), *with_returns("himppo[credit=final]", [1.0, 2.0]))
    )
    assert analysis.tasks[0].changes == []
    assert "Return by factor" not in {section.title for section in write_results(content)}


def test_hierarchies_are_compared_with_what_does_without_goals(write: Write) -> None:
    """Welch's interval against the same with zeros, and against a flat one whose workers see and receive the same."""
    values = {"himppo": [20.0, 22.0, 24.0], "nogoal": [10.0, 12.0, 14.0], "flat": [21.0, 22.0, 23.0]}
    others = {
        "sighted": FLAT | {"observation": None},
        "talking": FLAT | {"neighbours": "full"},
        "other": HIERARCHY | {"send_goals": False, "n_message_rounds": 2},
        "pooled": FLAT | {"team_state": True},
    }
    runs = with_algorithm("himppo", values["himppo"], **HIERARCHY)
    runs += with_algorithm("nogoal", values["nogoal"], **HIERARCHY | {"send_goals": False})
    runs += with_algorithm("flat", values["flat"], **FLAT)
    runs += [run for name, options in others.items() for run in with_algorithm(name, [1.0, 2.0], **options)]
    runs += [*with_algorithm("once", [9.0], **FLAT, lr=0.1), *with_returns("ippo", [1.0, 2.0])]
    content, analysis = analyse_runs(write(*runs))
    found = {control.control: control for control in analysis.tasks[0].controls if control.variant == "himppo"}
    assert {name: control.kind for name, control in found.items()} == {
        "nogoal": "the same networks, zeros in place of goals",
        "flat": "flat, the same worker inputs",
        "pooled": "flat, the same worker inputs and the team's mean state",
    }
    assert {control.variant for control in analysis.tasks[0].controls} == {"himppo"}
    half = stats.t.ppf(0.975, 4) * math.sqrt(2 * 4 / 3)
    difference = found["nogoal"].difference
    assert (difference.value, difference.low, difference.high) == pytest.approx((10, 10 - half, 10 + half))
    (section,) = (section for section in write_results(content) if section.title == "Do goals help?")
    assert {row[2]: row[-1] for row in section.tables[0].rows} == {
        "nogoal": "ahead",
        "flat": "no significant difference",
        "pooled": "ahead",
    }


def test_without_controls_nothing_is_said_of_goals(write: Write) -> None:
    content, _ = analyse_runs(
        write(*with_algorithm("himppo", [1.0, 2.0], **HIERARCHY), *with_returns("ippo", [1.0, 2.0]))
    )
    assert "Do goals help?" not in [section.title for section in write_results(content)]
