"""Write claims.md: what the paper claims, and what the committed records say of it.

    python docs/results/claims.py

The claims stand in claims.yaml, with the runs that test each; verdicts follow from the records by one rule, so that a
claim without runs has a verdict as soon as its records are published.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from comparisons import RECORDS, REPORTS, escape, read_protocol
from omegaconf import OmegaConf

from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.records.labels import flatten, option_of, split_label
from benchmarl_himpo.harness.records.record import RunRecord, load_record
from benchmarl_himpo.harness.statistics import Estimate, estimate_unpaired_difference
from benchmarl_himpo.hierarchy import clustering_registry

DATA = Path(__file__).with_suffix(".yaml")
DOCUMENT = Path(__file__).with_suffix(".md")
METHODS = ("himppo_paper", "himppo")
"""Whose verdicts are told apart: what the paper states, and what is recommended here."""
CONFIDENCE = 0.95
"""Coverage of intervals."""


class Verdict(StrEnum):
    """What records say of a claim."""

    OPPOSITE = "opposite"
    NOT_REPRODUCED = "not reproduced"
    REPRODUCED = "reproduced"
    UNTESTED = "not tested yet"
    IMPOSSIBLE = "cannot be tested here"


TESTED = (Verdict.OPPOSITE, Verdict.NOT_REPRODUCED, Verdict.REPRODUCED)
"""Verdicts of comparisons that were made."""
NODES = ("model", "critic_model", "experiment", "task")
"""Of a protocol's file, what all its methods share."""


@cache
def shared_options(protocol: str | None, overrides: str, algorithm: str) -> frozenset[str]:
    """Options, as labels name them, that a protocol sets for an algorithm, or an override for all methods."""
    keys = [option_of(override) for override in overrides.split() if not override.startswith("algorithm")]
    if protocol is not None:
        content = OmegaConf.to_container(read_protocol(protocol))
        keys += [key for key, _ in flatten({node: content.get(node, {}) for node in NODES})]
        keys += content["protocol"].get("tuned", {}).get(algorithm, {})
    nodes = ("algorithm", "experiment", "task")  # whose names labels leave out
    return frozenset([*keys, *(key.removeprefix(f"{node}.") for key in keys for node in nodes)])


@cache
def load_all(folder: Path) -> list[RunRecord]:
    """Read the records of a folder; none where there is no such folder."""
    return [load_record(file) for file in sorted(folder.glob("*.json"))]


@dataclass(frozen=True)
class Sample:
    """The runs of a method on a task, by their labels."""

    task: str
    variant: str


@dataclass(frozen=True)
class ClaimTest:
    """Runs that test a claim; see claims.yaml."""

    tasks: list[str]
    variant: str
    against: list[str] = field(default_factory=list)
    protocol: str | None = None
    records: str | None = None
    overrides: str = ""
    obstacle: str | None = None

    @property
    def method(self) -> str:
        """The algorithm that is tested."""
        return split_label(self.variant)[0]

    @property
    def folder(self) -> Path:
        """Where the records are."""
        return RECORDS / str(self.records or self.protocol)

    @property
    def command(self) -> str:
        """What does the runs and publishes their records."""
        given = [f"protocol={self.protocol}"] * (self.protocol is not None) + self.overrides.split()
        return shlex.join(
            ["python", "-m", "benchmarl_himpo.sweep", *given, f"publish=benchmarks/results/{self.folder.name}"]
        )

    def find(self, sample: Sample) -> list[RunRecord]:
        """The runs of a sample, by seed.

        Raises:
            ValueError: if labels do not say which are meant: runs on the task were not run and evaluated alike, or
                those of the method have different configurations.
        """
        on_task = [record for record in load_all(self.folder) if self.is_meant(record.task_label, sample.task)]
        if len(tasks := {record.task_label for record in on_task}) > 1:
            raise ValueError(f"{self.folder} has runs on {' and on '.join(sorted(tasks))}: say which is {sample.task}")
        found = [record for record in on_task if self.is_meant(record.variant, sample.variant)]
        if len({record.config_hash for record in found}) > 1:
            raise ValueError(f"{self.folder} has different configurations of {sample.variant} on {sample.task}")
        return sorted(found, key=lambda record: record.seed)

    def is_meant(self, label: str, wanted: str) -> bool:
        """Whether a label of a record is one of claims.yaml, with what the protocol sets on top."""
        (name, differences), (wanted_name, wanted_differences) = split_label(label), split_label(wanted)
        shared = shared_options(self.protocol, self.overrides, name)
        own = {difference for difference in differences if option_of(difference) not in shared}
        return name == wanted_name and own == set(wanted_differences)


@dataclass(frozen=True)
class Finding:
    """What one comparison says."""

    test: ClaimTest
    samples: list[Sample]
    n_runs: list[int]  # of each sample
    result: str
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, in our words; see claims.yaml."""

    name: str
    claim: str
    measure: Literal["return", "share_kept", "centre"]
    tests: list[ClaimTest]
    claimed: Literal["higher", "lower"] = "higher"
    remark: str = ""

    @cached_property
    def findings(self) -> list[Finding]:
        """What each comparison says, in the order of the data."""
        return [self._judge(test, samples) for test in self.tests for samples in MEASURES[self.measure].samples(test)]

    def verdict(self, method: str) -> tuple[Verdict | None, Counter[Verdict]]:
        """The verdict on the claim for a method, None without a comparison, and those of its comparisons.

        A claim is reproduced where every comparison that was made reproduces it, and opposite where all are.
        """
        found = Counter(finding.verdict for finding in self.findings if finding.test.method == method)
        made = [verdict for verdict in TESTED if found[verdict]]
        if len(made) > 1:
            return Verdict.NOT_REPRODUCED, found
        return next(
            (verdict for verdict in (*made, Verdict.UNTESTED, Verdict.IMPOSSIBLE) if found[verdict]), None
        ), found

    def _judge(self, test: ClaimTest, samples: list[Sample]) -> Finding:
        measure = MEASURES[self.measure]
        runs = measure.usable([test.find(sample) for sample in samples])
        counts = [len(of) for of in runs]
        if min(counts) >= measure.n_least:
            return Finding(test, samples, counts, *measure.judge(runs, self.claimed))
        if test.obstacle:
            return Finding(test, samples, counts, test.obstacle, Verdict.IMPOSSIBLE)
        needed = f"needs {measure.n_least} or more runs" + " of each" * (len(samples) > 1)
        return Finding(test, samples, counts, needed, Verdict.UNTESTED)


@dataclass(frozen=True)
class Measure:
    """How a claim is held against records.

    Args:
        heading: what the result is.
        n_least: runs that each sample needs.
        samples: gives the samples of each comparison of a test.
        usable: keeps of each sample the runs that have what is measured.
        judge: gives the result and the verdict, from the runs of each sample and the side that is claimed.
    """

    heading: str
    n_least: int
    samples: Callable[[ClaimTest], Iterator[list[Sample]]]
    usable: Callable[[list[list[RunRecord]]], list[list[RunRecord]]]
    judge: Callable[[list[list[RunRecord]], str], tuple[str, Verdict]]


def judge_difference(difference: Estimate, claimed: str) -> Verdict:
    """Say what the interval of a difference says of a claim that it is above zero (higher) or below (lower)."""
    if not difference.excludes(0.0):
        return Verdict.NOT_REPRODUCED
    return Verdict.REPRODUCED if (difference.value > 0) == (claimed == "higher") else Verdict.OPPOSITE


def _judge_returns(runs: list[list[RunRecord]], claimed: str) -> tuple[str, Verdict]:
    own, other = ([record.best_evaluated for record in of] for of in runs)
    difference = estimate_unpaired_difference(own, other, CONFIDENCE)
    return str(difference), judge_difference(difference, claimed)


def _judge_shares(runs: list[list[RunRecord]], claimed: str) -> tuple[str, Verdict]:
    """Shares of the return at the first task that are left at the last one, one per seed: tasks share nothing else."""
    first, last, other_first, other_last = ({r.seed: r.best_evaluated for r in of} for of in runs)
    own, other = (
        [after[seed] / before[seed] for seed in before] for before, after in ((first, last), (other_first, other_last))
    )
    difference = estimate_unpaired_difference(own, other, CONFIDENCE)
    return f"{sum(own) / len(own):.2f} against {sum(other) / len(other):.2f}: {difference}", judge_difference(
        difference, claimed
    )


def _judge_centre(runs: list[list[RunRecord]], _: str) -> tuple[str, Verdict]:
    record = runs[0][0]
    clustering = record.config["algorithm"]["clustering"]
    name = clustering["name"] if isinstance(clustering, Mapping) else clustering
    needs_centre = not clustering_registry[name].is_local
    counted = "{messages:.1f} messages, {bytes:.0f} bytes".format(**record.communication)
    text = f"{counted}; `clustering={name}` needs {'a' if needs_centre else 'no'} centre"
    return text, Verdict.NOT_REPRODUCED if needs_centre else Verdict.REPRODUCED


def _with_returns(runs: list[list[RunRecord]]) -> list[list[RunRecord]]:
    return [[record for record in of if record.best_evaluated is not None] for of in runs]


def _on_both_tasks(runs: list[list[RunRecord]]) -> list[list[RunRecord]]:
    """Of each method, the runs with returns whose seed has one on the first task and on the last."""
    known = _with_returns(runs)
    pairs = [known[:2], known[2:]]
    common = [set.intersection(*({record.seed for record in of} for of in pair)) for pair in pairs]
    return [
        [record for record in of if record.seed in seeds]
        for pair, seeds in zip(pairs, common, strict=True)
        for of in pair
    ]


MEASURES = {
    "return": Measure(
        "difference of returns",
        2,
        lambda test: (
            [Sample(task, variant) for variant in (test.variant, other)]
            for task in test.tasks
            for other in test.against
        ),
        _with_returns,
        _judge_returns,
    ),
    "share_kept": Measure(
        "share kept, and difference",
        2,
        lambda test: (
            [Sample(task, variant) for variant in (test.variant, other) for task in (test.tasks[0], test.tasks[-1])]
            for other in test.against
        ),
        _on_both_tasks,
        _judge_shares,
    ),
    "centre": Measure(
        "per agent and step",
        1,
        lambda test: ([Sample(task, test.variant)] for task in test.tasks),
        lambda runs: [[record for record in of if record.communication] for of in runs],
        _judge_centre,
    ),
}
"""By their names in claims.yaml."""

TEXT = f"""# Claims of the paper

What HiMPo ([arXiv 2507.23604](https://arxiv.org/abs/2507.23604)) claims, in our words, and what the records committed
here say of it. Written by `python docs/results/claims.py` from `docs/results/claims.yaml` and `benchmarks/results`; not
to be edited.

**Two methods, two verdicts.** `himppo_paper` is what the paper states, with our choices where it is silent; it is
frozen and was not tuned. `himppo` is our default, which distributes advantages in another way and gives every level a
horizon of its own: what it shows is no evidence for what the paper states. The paper's code is not public, and tasks,
sizes and budgets are ours, so that *not reproduced* refers to our setting only.

**The rule.** A comparison is judged by Welch's {CONFIDENCE:.0%} interval of a difference of means over runs (fresh
episodes of the policy that was best in an evaluation), not corrected for the number of comparisons: *reproduced* where
the interval lies on the side that is claimed, *opposite* where it lies on the other side, *not reproduced* where it
includes zero. A claim is reproduced where every comparison that was made reproduces it, and opposite where every one is
opposite. *runs* counts those of the method and of what it is compared with. Rows without a verdict get one when their
runs are published and this page is written again.
"""


def read_claims(file: Path = DATA) -> list[Claim]:
    """Read the claims."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [
        Claim(name, **{**entry, "tests": [ClaimTest(**test) for test in entry["tests"]]})
        for name, entry in content.items()
    ]


def document(claims: list[Claim]) -> str:
    """The whole page."""
    return "\n\n".join([TEXT.rstrip(), _summary(claims), *map(_section, claims)]) + "\n"


def _summary(claims: list[Claim]) -> str:
    rows = (
        [f"[{claim.claim}](#{_anchor(claim)})", *(_cell(*claim.verdict(method)) for method in METHODS)]
        for claim in claims
    )
    return markdown_table(("claim", *map(escape, METHODS)), rows)


def _cell(verdict: Verdict | None, found: Counter[Verdict]) -> str:
    """The verdict on a claim, and what comparisons say where one was made."""
    if verdict is None:
        return "-"
    said = [f"{found[each]} {each}" for each in Verdict if found[each]]
    return f"**{verdict}**" + (f" ({', '.join(said)})" if verdict in TESTED else "")


def _anchor(claim: Claim) -> str:
    """Where the heading of a claim is found, on the site as on a forge."""
    return re.sub(r"[^\w\- ]", "", claim.claim.lower()).replace(" ", "-")


def _section(claim: Claim) -> str:
    parts = [f"## {claim.claim.rstrip('.')}", claim.remark]
    columns = ("task", "compared with", "runs", MEASURES[claim.measure].heading, "verdict")
    for test in claim.tests:
        folder = test.folder.name
        report = f"[{folder}](../../benchmarks/reports/{folder}/report.md)"
        records = report if (REPORTS / folder).is_dir() else f"`{folder}`"
        rows = (_row(finding) for finding in claim.findings if finding.test is test)
        parts += [f"**`{test.variant}`** in {records}:", markdown_table(columns, rows)]
    commands = dict.fromkeys(test.command for test in claim.tests)
    return "\n\n".join([*parts, "\n".join(["```bash", *commands, "```"])])


def _row(finding: Finding) -> list[str]:
    tasks, variants = (
        list(dict.fromkeys(getattr(sample, key) for sample in finding.samples)) for key in ("task", "variant")
    )
    return [
        escape(" to ".join(tasks)),
        escape(", ".join(variants[1:])) or "-",
        ", ".join(map(str, finding.n_runs)),
        finding.result,
        f"**{finding.verdict}**",
    ]


if __name__ == "__main__":
    DOCUMENT.write_text(document(read_claims()), encoding="utf-8")
