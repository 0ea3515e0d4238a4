"""Pages of results say what reports and records say, and verdicts on the paper's claims follow from records."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import claims
import comparisons
import numpy as np
import pytest
from claims import Claim, ClaimTest, Finding, Verdict
from comparisons import PROTOCOLS, REPORTS, Published, Standing
from support.records import make_record

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.statistics import Estimate
from benchmarl_himpo.harness.sweeps.expansion import expand, make_specs

ROOT = Path(__file__).resolve().parents[2]
PAGES = comparisons.pages()


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Publish records of runs that never took place, with these mean returns of fresh episodes."""
    monkeypatch.setattr(claims, "RECORDS", tmp_path)
    claims.load_all.cache_clear()

    def publish_returns(variant: str, *returns: float, task: str = "vmas/sampling", folder: str = "study", **changes):
        (tmp_path / folder).mkdir(exist_ok=True)
        for seed, value in enumerate(returns):
            metric = {"frames": 0, "seed": 0, "returns": [value]}
            record = make_record(variant, task, seed, absolute_metric=metric, **changes)
            record.save(tmp_path / folder / f"{record.id}.json")

    yield publish_returns
    claims.load_all.cache_clear()


def claim_of(*tests: ClaimTest, measure: str = "return", claimed: str = "higher") -> Claim:
    return Claim("name", "A claim.", measure, list(tests), claimed)


def study(variant: str = "himppo", *against: str, **values) -> ClaimTest:
    return ClaimTest(["vmas/sampling"], variant, list(against or ("ippo",)), records="study", **values)


@pytest.mark.parametrize(
    ("own", "claimed", "verdict"),
    [
        ((24, 25, 26), "higher", Verdict.REPRODUCED),
        ((24, 25, 26), "lower", Verdict.OPPOSITE),
        ((14, 15, 16), "higher", Verdict.OPPOSITE),
        ((14, 15, 16), "lower", Verdict.REPRODUCED),
        ((18, 20, 23), "higher", Verdict.NOT_REPRODUCED),
        ((18, 20, 23), "lower", Verdict.NOT_REPRODUCED),
        ((25,), "higher", Verdict.UNTESTED),
        ((), "higher", Verdict.UNTESTED),
    ],
)
def test_the_side_on_which_the_interval_lies_gives_the_verdict(publish, own, claimed, verdict) -> None:
    publish("himppo", *own)
    publish("ippo", 19, 20, 21)
    claim = claim_of(study(), claimed=claimed)
    (finding,) = claim.findings
    assert finding.verdict == verdict
    assert finding.n_runs == [len(own), 3]
    assert claim.verdict("himppo") == (verdict, {verdict: 1})
    assert claim.verdict("himppo_paper") == (None, {})


def test_a_result_is_the_difference_of_fresh_returns_with_welchs_interval(publish) -> None:
    publish("himppo", 24, 25, 26)
    publish("ippo", 19, 20, 21)
    (finding,) = claim_of(study()).findings
    half_width = 2.776445 * (1 / 3 + 1 / 3) ** 0.5  # Student's quantile at 4 degrees of freedom
    assert finding.result == f"5.00 [{5 - half_width:.2f}, {5 + half_width:.2f}]"


def test_what_cannot_be_tested_here_is_judged_once_there_are_records(publish) -> None:
    claim = claim_of(study(obstacle="no game"))
    assert [(f.verdict, f.result) for f in claim.findings] == [(Verdict.IMPOSSIBLE, "no game")]
    assert claim.verdict("himppo")[0] == Verdict.IMPOSSIBLE
    publish("himppo", 24, 25, 26)
    publish("ippo", 19, 20, 21)
    claims.load_all.cache_clear()
    assert claim_of(study(obstacle="no game")).verdict("himppo")[0] == Verdict.REPRODUCED


def test_a_claim_is_reproduced_or_opposite_where_all_its_comparisons_are(publish) -> None:
    for variant, level in {"himppo": 20, "ippo": 10, "mappo": 11, "qmix": 30, "iql": 31}.items():
        publish(variant, level - 0.5, level, level + 0.5)

    def verdict(*against: str) -> Verdict | None:
        return claim_of(study("himppo", *against)).verdict("himppo")[0]

    assert verdict("ippo", "mappo") == Verdict.REPRODUCED
    assert verdict("qmix", "iql") == Verdict.OPPOSITE
    assert verdict("ippo", "qmix") == Verdict.NOT_REPRODUCED
    assert verdict("ippo", "vdn") == Verdict.REPRODUCED  # of what was tested
    assert verdict("vdn") == Verdict.UNTESTED


def test_methods_are_told_apart(publish) -> None:
    for variant, level in {"himppo": 30, "himppo_paper": 10, "ippo": 20}.items():
        publish(variant, level - 0.5, level, level + 0.5)
    claim = claim_of(study("himppo_paper"), study("himppo"), study("himppo[gamma=0.9]"))
    assert claim.verdict("himppo_paper") == (Verdict.OPPOSITE, {Verdict.OPPOSITE: 1})
    assert claim.verdict("himppo") == (Verdict.REPRODUCED, {Verdict.REPRODUCED: 1, Verdict.UNTESTED: 1})


def test_shares_kept_are_compared_seed_by_seed(publish) -> None:
    seven = "vmas/sampling[n_agents=7]"
    publish("himppo", 10, 20, 40)
    publish("himppo", 9, 18.2, 35.6, task=seven)  # keeps 0.9, 0.91 and 0.89
    publish("ippo", 30, 40, 50)
    publish("ippo", 15, 20.4, 24.5, task=seven)  # 0.5, 0.51 and 0.49
    test = ClaimTest(["vmas/sampling", seven], "himppo", ["ippo"], records="study")
    (finding,) = claim_of(test, measure="share_kept").findings
    assert finding.verdict == Verdict.REPRODUCED
    assert finding.result.startswith("0.90 against 0.50: 0.40 [0.38, 0.42]")
    assert claim_of(test, measure="share_kept", claimed="lower").findings[0].verdict == Verdict.OPPOSITE


def test_shares_kept_need_seeds_on_both_tasks(publish) -> None:
    """Two runs on each task, of which one has a partner."""
    seven = "vmas/sampling[n_agents=7]"
    publish("himppo", 10, 20)
    publish("himppo", 9, 18, 30, task=seven)
    (claims.RECORDS / "study" / f"{make_record('himppo', seven, 0).id}.json").unlink()
    publish("ippo", 30, 40)
    publish("ippo", 15, 20, task=seven)
    test = ClaimTest(["vmas/sampling", seven], "himppo", ["ippo"], records="study")
    (finding,) = claim_of(test, measure="share_kept").findings
    assert (finding.verdict, finding.n_runs) == (Verdict.UNTESTED, [1, 1, 2, 2])


@pytest.mark.parametrize(
    ("clustering", "verdict"),
    [("kmeans", Verdict.NOT_REPRODUCED), ("static", Verdict.REPRODUCED), ({"name": "regions"}, Verdict.REPRODUCED)],
)
def test_a_clustering_that_receives_all_positions_is_a_centre(publish, clustering, verdict) -> None:
    counts = {"communication": {"messages": 3.25, "bytes": 331.6}, "config": {"algorithm": {"clustering": clustering}}}
    publish("himppo", 20.0, **counts)
    (finding,) = claim_of(ClaimTest(["vmas/sampling"], "himppo", records="study"), measure="centre").findings
    assert finding.verdict == verdict
    assert finding.result.startswith("3.2 messages, 332 bytes")


def test_labels_leave_out_what_a_protocol_sets_for_all_and_nothing_else(publish) -> None:
    of_foraging = "model.num_cells=128,128; experiment.on_policy_n_minibatch_iters=4"
    task = "lbfws/hard[evaluation_interval=48000; max_n_frames=1008000]"
    publish(f"himppo[hidden_dim=128; {of_foraging}]", 1, 2, task=task, folder="foraging")
    publish(f"himppo[alive=null; hidden_dim=128; {of_foraging}]", 3, 4, 5, task=task, folder="foraging")
    publish(f"himppo_paper[hidden_dim=64; {of_foraging}]", 6, task=task, folder="foraging")  # not set for it
    test = ClaimTest(["lbfws/hard"], "himppo", ["ippo"], protocol="foraging")

    def returns(variant: str, task: str = "lbfws/hard") -> list[float | None]:
        return [record.best_evaluated for record in test.find(claims.Sample(task, variant))]

    assert returns("himppo") == [1, 2]
    assert returns("himppo[alive=null]") == [3, 4, 5]
    assert returns("himppo_paper") == []
    assert returns("himppo_paper[hidden_dim=64]") == [6]
    assert returns("himppo", "lbfws/easy") == []


def test_runs_that_a_label_does_not_tell_apart_are_refused(publish) -> None:
    publish("himppo[hidden_dim=128]", 1, 2, task="lbfws/hard", folder="foraging")
    publish("himppo[hidden_dim=64]", 1, 2, task="lbfws/hard", folder="foraging")
    publish("ippo", 1, 2, task="lbfws/easy[max_n_frames=1008000]", folder="foraging")
    publish("mappo", 1, 2, task="lbfws/easy[max_n_frames=300000]", folder="foraging")
    test = ClaimTest([], "himppo", protocol="foraging")
    with pytest.raises(ValueError, match="different configurations of himppo on lbfws/hard"):
        test.find(claims.Sample("lbfws/hard", "himppo"))
    with pytest.raises(
        ValueError, match=r"lbfws/easy\[max_n_frames=1008000\] and on lbfws/easy\[max_n_frames=300000\]"
    ):
        test.find(claims.Sample("lbfws/easy", "ippo"))


def test_the_ledger_that_is_published_is_the_one_that_the_records_give() -> None:
    assert claims.DOCUMENT.read_text(encoding="utf-8") == claims.document(claims.read_claims())


def test_every_claim_is_tested_with_what_the_paper_states_and_with_the_default() -> None:
    for claim in claims.read_claims():
        assert {test.method for test in claim.tests} == set(claims.METHODS), claim.name


OPEN: dict[str, list[Finding]] = {}
"""Comparisons without a verdict, by what does their runs."""
for claim in claims.read_claims():
    for finding in claim.findings:
        if finding.verdict not in claims.TESTED:
            OPEN.setdefault(finding.test.command, []).append(finding)


@pytest.mark.slow
@pytest.mark.parametrize("command", OPEN)
def test_the_command_of_a_claim_does_the_runs_that_its_labels_name(command: str) -> None:
    """A label that no run has would stay untested for ever."""
    test = OPEN[command][0].test
    overrides = [word for word in shlex.split(command)[3:] if not word.startswith("publish=")]
    specs = make_specs(expand(overrides), Path(), fingerprint=None, are_to_run=False)
    for sample in (sample for finding in OPEN[command] for sample in finding.samples):
        done = any(
            test.is_meant(spec.task_label, sample.task) and test.is_meant(spec.variant, sample.variant)
            for spec in specs
        )
        assert done or test.find(sample), sample


@pytest.mark.parametrize("protocol", ["sampling_long", "suite_discrete"])
def test_a_protocol_is_read_as_hydra_composes_it(protocol: str) -> None:
    assert comparisons.read_protocol(protocol).protocol == compose([f"protocol={protocol}"]).protocol


def test_a_method_that_is_judged_is_shown_before_a_closer_one_of_a_single_run(monkeypatch: pytest.MonkeyPatch) -> None:
    single, judged = Standing("ippo[a=1]", Estimate(1, np.nan, np.nan)), Standing("ippo", Estimate(2, 1, 3))
    monkeypatch.setattr(Published, "standings", lambda self, task: [single, judged])
    assert Published(REPORTS / "any").rival({}) is judged


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ((-2, -3, -1), comparisons.BEHIND),
        ((0.5, -1, 2), comparisons.EQUAL),
        ((2, 1, 3), comparisons.AHEAD),
        ((2, np.nan, np.nan), comparisons.SINGLE),
    ],
)
def test_an_interval_says_who_is_ahead(limits: tuple[float, float, float], outcome: str) -> None:
    assert Standing("ippo", Estimate(*limits)).outcome == outcome


def estimate(limits: dict[str, float | None]) -> Estimate:
    return Estimate(*(np.nan if limits[key] is None else limits[key] for key in ("value", "low", "high")))


def test_every_report_has_a_page_that_the_index_leads_to() -> None:
    names = sorted(folder.name for folder in REPORTS.iterdir())
    assert [*PAGES] == ["index.md", *(f"{name}.md" for name in names)]
    assert all(f"| [{name}]({name}.md): " in PAGES["index.md"] for name in names)


@pytest.mark.parametrize("comparison", comparisons.published(), ids=lambda comparison: comparison.name)
def test_a_page_has_the_question_every_estimate_and_every_variant_with_losses_first(comparison: Published) -> None:
    page = PAGES[f"{comparison.name}.md"]
    assert comparison.protocol.question in page
    order = [comparisons.BEHIND, comparisons.EQUAL, comparisons.AHEAD, comparisons.SINGLE]
    for task in comparison.tasks:
        found = comparison.standings(task)
        if comparison.subject_on(task) is not None and not task["unequal"]:
            assert len(found) == len(task["rows"]) - 1 + bool((task["reference_returns"] or {}).get("scripts"))
        assert sorted(found, key=lambda standing: order.index(standing.outcome)) == found
        for standing in found:
            assert f"| {standing.outcome} | {comparisons.escape(standing.other)} | {standing.difference} |" in page
        if comparison.subject_on(task) == task["leader"]:  # the report has the same differences
            for rival in task["rivals"]:
                assert f"| {comparisons.escape(rival['variant'])} | {estimate(rival['difference'])} |" in page
        for row in task["rows"]:
            assert (
                f"| {comparisons.escape(row['variant'])} | {len(row['seeds'])} | {estimate(row['per_agent'])} |" in page
            )
    for record in (record for runs in comparison.records().values() for record in runs):
        assert record.provenance["benchmarl_himpo"] in page and str(record.fingerprint) in page


def test_the_index_shows_every_task_with_its_control_and_its_best_rival_losses_first() -> None:
    order = [comparisons.BEHIND, comparisons.EQUAL, comparisons.AHEAD, comparisons.SINGLE]
    rows = [line.split(" | ") for line in comparisons.task_by_task().splitlines()[2:]]
    worst = [min(order.index(outcome) for outcome in re.findall(r"\*\*(.*?)\*\*", " ".join(row))) for row in rows]
    assert worst == sorted(worst)
    (row,) = [row for row in rows if row[0].startswith("| `lbfws/hard`, 6 agents ([foraging]")]
    (foraging,) = [comparison for comparison in comparisons.published() if comparison.name == "foraging"]
    task = next(task for task in foraging.tasks if task["label"] == "lbfws/hard")
    found = {standing.other: standing for standing in foraging.standings(task)}
    means = {row["variant"]: row["per_agent"]["value"] for row in task["rows"]}
    control = found["himppo_flat[hidden_dim=128]"]
    assert row[2] == f"**{control.outcome}**, {control.difference}"
    best = max(("ippo", "mappo", "qmix[experiment.lr=0.0003]"), key=lambda other: means.get(other, -1.0))
    assert row[3] == f"**{found[best].outcome}**, {found[best].difference} ({best}) |"


NAMES = {"`himppo_flat`, its flat control": "himppo_flat", "IPPO": "ippo", "MAPPO": "mappo"}
"""Methods of tables that are typed, by what stands in their first column."""


def typed_rows(file: str, header: str) -> dict[str, list[str]]:
    """Rows of the table with a header, by their method."""
    lines = (ROOT / file).read_text(encoding="utf-8").partition(header)[2].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in takewhile(lambda line: line.startswith("|"), lines)]
    return {NAMES.get(name, name.partition(",")[0].strip("`")): cells for name, *cells in rows}


@pytest.mark.parametrize(
    ("file", "header", "measures"),
    [
        ("README.md", "| | 3 agents | 5 agents | 7 agents |", ["per_agent"]),
        (
            "benchmarks/README.md",
            "| | 3 agents, batches | fresh | 5 agents, batches | fresh | 7 agents, batches | fresh |",
            ["last_collection", "per_agent"],
        ),
    ],
)
def test_typed_tables_of_the_main_comparison_have_the_numbers_of_its_report(
    file: str, header: str, measures: list[str]
) -> None:
    (main,) = [comparison for comparison in comparisons.published() if comparison.name == "sampling_continuous"]
    typed = typed_rows(file, header)
    for method in ("himppo", "himppo_flat", "ippo", "mappo", "himppo_paper"):
        rows = [row for task in main.tasks for row in task["rows"] if row["variant"].partition("[")[0] == method]
        found = [row[measure][limit] for row in rows for measure in measures for limit in ("value", "low", "high")]
        numbers = [float(number) for number in re.findall(r"[\d.]+", " ".join(typed[method]))]
        assert numbers == pytest.approx(found, abs=0.056)  # one decimal, of a report's two


def test_pages_link_to_what_is_there() -> None:
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                is_page = target in (*PAGES, "claims.md", "where.md")
                assert is_page or (ROOT / target.removeprefix("../")).is_file(), (name, target)


def test_the_commands_of_a_page_name_its_protocol() -> None:
    for comparison in comparisons.published():
        assert (PROTOCOLS / f"{comparison.name}.yaml").is_file()
        lines = [line for line in PAGES[f"{comparison.name}.md"].splitlines() if line.startswith("python -m")]
        assert len(lines) == 3
        assert all(f" protocol={comparison.name}" in line for line in lines)
