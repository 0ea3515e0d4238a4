"""Pages of the published comparisons, one per report of ``benchmarks/reports``, and their index.

docs/generate.py puts them into the site. What they say is read from the reports, the records and the protocols.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.algorithms import algorithm_config_registry
from benchmarl_himpo.config import CONF_DIR
from benchmarl_himpo.environments.metrics import heading_of
from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.records.labels import split_label
from benchmarl_himpo.harness.records.record import LAST_ITERATIONS, RunRecord, load_record
from benchmarl_himpo.harness.report.background import COSTS, mean_and_range
from benchmarl_himpo.harness.report.fairness import find_provenance
from benchmarl_himpo.harness.statistics import Estimate, as_percent, estimate_mean, estimate_unpaired_difference

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
REPORTS, RECORDS = BENCHMARKS / "reports", BENCHMARKS / "results"
PROTOCOLS = CONF_DIR / "protocol"

OURS = frozenset(algorithm_config_registry)
"""Algorithms of this package."""
CONTROL = "himppo_flat"
"""The same networks without a hierarchy."""

BEHIND, EQUAL, AHEAD, SINGLE = "behind", "no significant difference", "ahead", "not judged: a single run"
"""What an interval of a difference says."""
OUTCOMES = (BEHIND, EQUAL, AHEAD, SINGLE)
"""In the order of tables, losses first."""

SCRIPTED = "scripted policy"
"""What stands before the name of one."""

FIGURES = {
    "curves_{}_frames": "mean return over frames",
    "returns_{}": "mean, interval and runs",
    "communication_{}": "return over the bytes that acting takes",
}
"""Pictures of a task that a page shows, where the report has them, by its number there."""


@cache
def read_protocol(name: str) -> DictConfig:
    """Read the file of a protocol, on those of the protocols that it inherits from."""
    file = OmegaConf.load(PROTOCOLS / f"{name}.yaml")
    parents = [entry for entry in file.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return cast("DictConfig", OmegaConf.merge(*map(read_protocol, parents), file))


@dataclass(frozen=True)
class Standing:
    """How the method that a comparison is about stands to another one on a task."""

    other: str  # the label of its variant, or what plays instead
    difference: Estimate  # of mean returns per agent, the other's taken off

    @property
    def outcome(self) -> str:
        """What the interval says."""
        if math.isnan(self.difference.low):
            return SINGLE
        return EQUAL if not self.difference.excludes(0.0) else AHEAD if self.difference.value > 0 else BEHIND


@dataclass(frozen=True)
class Published:
    """A comparison with its report.

    Args:
        folder: the folder of its report, which has the name of its protocol.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Its protocol."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The heading of its report."""
        return (self.folder / "report.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")

    @cached_property
    def protocol(self) -> DictConfig:
        """What it asks, and what was tuned for whom before."""
        return read_protocol(self.name).protocol

    @cached_property
    def report(self) -> dict[str, Any]:
        """What came out."""
        return dict(json.loads((self.folder / "report.json").read_text(encoding="utf-8")))

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """What came out on each task."""
        return list(self.report["analysis"]["tasks"])

    @property
    def subject(self) -> str:
        """The algorithm that it is about: the first that its protocol names."""
        return str(self.protocol.grids[0].algorithm).partition(",")[0]

    def records(self, task: str | None = None) -> dict[str, list[RunRecord]]:
        """The records of a task, or of all, by the label of their variant."""
        found: dict[str, list[RunRecord]] = {}
        for run in self.report["runs"]:
            if task in (None, run["task"]):
                record = replace(_load(RECORDS / run["file"]), variant=run["variant"], task_label=run["task"])
                found.setdefault(run["variant"], []).append(record)
        return found

    def subject_on(self, task: dict[str, Any]) -> dict[str, Any] | None:
        """The row of the subject on a task: of its variants, the one that differs least from the plain one."""
        labels = {row["variant"]: split_label(row["variant"]) for row in task["rows"]}
        own = [row for row in task["rows"] if labels[row["variant"]][0] == self.subject]
        return min(own, key=lambda row: len(labels[row["variant"]][1]), default=None)

    def standings(self, task: dict[str, Any]) -> list[Standing]:
        """How the subject stands on a task, losses first, to every other variant and to the best scripted policy."""
        row = self.subject_on(task)
        if row is None or task["unequal"]:
            return []
        returns: dict[str, list[float]] = {}
        for run in self.report["runs"]:
            if run["task"] == task["label"] and run["return_per_agent"] is not None:
                returns.setdefault(run["variant"], []).append(run["return_per_agent"])
        own = returns.pop(row["variant"])
        confidence = self.report["settings"]["confidence"]
        found = [
            Standing(other, estimate_unpaired_difference(own, values, confidence)) for other, values in returns.items()
        ]
        scripts = (task["reference_returns"] or {}).get("scripts")
        if scripts:
            best = max(scripts, key=scripts.__getitem__)
            mean = _estimate(row["per_agent"])
            limits = (value - scripts[best] for value in (mean.value, mean.low, mean.high))
            found.append(Standing(f"{SCRIPTED} {best}", Estimate(*limits)))
        return sorted(found, key=lambda standing: (OUTCOMES.index(standing.outcome), standing.difference.value))

    def control(self, task: dict[str, Any]) -> Standing | None:
        """How the subject stands on a task to the best of its flat controls."""
        return self._closest(task, lambda algorithm: algorithm == CONTROL)

    def rival(self, task: dict[str, Any]) -> Standing | None:
        """How the subject stands on a task to the best method of others."""
        return self._closest(task, lambda algorithm: algorithm not in OURS)

    def _closest(self, task: dict[str, Any], accepts: Callable[[str], bool]) -> Standing | None:
        trained = [standing for standing in self.standings(task) if not standing.other.startswith(SCRIPTED)]
        found = [standing for standing in trained if accepts(split_label(standing.other)[0])]
        # Those that are judged first
        return min(found, key=lambda standing: (standing.outcome == SINGLE, standing.difference.value), default=None)

    def counts(self) -> Counter[str]:
        """How often each outcome occurs over all tasks."""
        return Counter(standing.outcome for task in self.tasks for standing in self.standings(task))

    def page(self) -> str:
        """Its page, in Markdown."""
        sections = (self._answer, self._returns, self._cost, self._tuning, self._versions, self._commands)
        return "\n\n".join(
            [
                f"# {self.title}",
                f"`protocol={self.name}`. {self.protocol.question}",
                *(text for write in sections for text in write()),
            ]
        )

    def _answer(self) -> Iterator[str]:
        counts, coverage = self.counts(), as_percent(self.report["settings"]["confidence"])
        yield "## Answer"
        single = f" ({counts[SINGLE]} more, with a single run, not judged)" if counts[SINGLE] else ""
        yield (
            f"In {counts[BEHIND] + counts[EQUAL] + counts[AHEAD]} comparisons over {_count(len(self.tasks), 'task')}, "
            f"`{self.subject}` is behind in {counts[BEHIND]}, shows no significant difference in {counts[EQUAL]} and "
            f"is ahead in {counts[AHEAD]}{single}. Differences are of mean returns per agent, with Welch's {coverage} "
            "CI (to scripted policies, Student's), not corrected for multiple comparisons. Losses stand first."
        )
        for warning in self.report["warnings"]:
            yield f"> {escape(warning)}"
        for number, task in enumerate(self.tasks):
            yield f"### {_heading(task)}"
            row = self.subject_on(task)
            if row is None:
                yield f"`{self.subject}` has no runs on this task."
            elif task["unequal"]:
                yield f"No verdict: variants were not run and evaluated alike. {escape('. '.join(task['unequal']))}."
            else:
                runs = _count(len(row["seeds"]), "run")
                yield f"`{row['variant']}` has {_estimate(row['per_agent'])} per agent over {runs}."
            if found := self.standings(task):
                yield markdown_table(
                    (escape(self.subject), "compared with", "difference"),
                    ((standing.outcome, escape(standing.other), standing.difference) for standing in found),
                )
            for name, shown in FIGURES.items():
                file = f"figures/{name.format(number)}.svg"
                if (self.folder / file).is_file():
                    yield f"![{escape(task['label'])}: {shown}](../benchmarks/reports/{self.name}/{file})"

    def _returns(self) -> Iterator[str]:
        yield "## Returns"
        yield (
            f"Per agent, means over runs with Student's CI. *Return*: {self.report['analysis']['measure']}. "
            f"*End of training*: episodes of the last {LAST_ITERATIONS} batches, actions and goals sampled. Scores are "
            "0 at the random policy and 1 at the best scripted one. Probabilities of improvement, aggregates over "
            "tasks, every configuration key that differs and every run are in the "
            f"[report](../benchmarks/reports/{self.name}/report.md)."
        )
        confidence = self.report["settings"]["confidence"]
        for task in self.tasks:
            records = self.records(task["label"])
            metrics = dict.fromkeys(name for runs in records.values() for record in runs for name in record.metrics)
            rows = []
            for row in task["rows"]:
                told = [[r.metrics[name] for r in records[row["variant"]] if name in r.metrics] for name in metrics]
                rows.append(
                    [
                        escape(row["variant"]),
                        len(row["seeds"]),
                        *(_cell(row[key]) for key in ("per_agent", "last_collection")),
                        *(estimate_mean(values, confidence) if values else "-" for values in told),
                        _cell(row["score"]),
                    ]
                )
            yield f"**{_heading(task)}**"
            yield markdown_table(
                ["variant", "runs", "return", "end of training", *map(heading_of, metrics), "score"], rows
            )

    def _cost(self) -> Iterator[str]:
        yield "## Cost"
        yield (
            "Means over runs, and in brackets the range where it is wider than a tenth of the mean. Speeds compare "
            "where the machine and its load were the same. Messages and bytes are what acting takes, at most, if every "
            "agent and every node of an upper level is a machine of its own; a dash where they were not counted."
        )
        for task in self.tasks:
            yield f"**{_heading(task)}**"
            yield markdown_table(
                ["variant", *COSTS],
                (
                    [escape(variant), *(mean_and_range(runs, value_of) for value_of in COSTS.values())]
                    for variant, runs in self.records(task["label"]).items()
                ),
            )

    def _tuning(self) -> Iterator[str]:
        protocol, algorithms = self.protocol, {split_label(variant)[0] for variant in self.records()}
        yield "## Tuning"
        yield "What was tried before ([trials](../benchmarks/trials.md)), and taken beside an algorithm's own values."
        yield markdown_table(
            ["algorithm", "settings tried", "tuned values"],
            (
                [
                    escape(algorithm),
                    tried,
                    ", ".join(f"`{k}={v}`" for k, v in protocol.get("tuned", {}).get(algorithm, {}).items()) or "-",
                ]
                for algorithm, tried in protocol.tuning.items()
                if algorithm in algorithms
            ),
        )

    def _versions(self) -> Iterator[str]:
        found = find_provenance([record for runs in self.records().values() for record in runs])
        yield "## Versions"
        yield (
            "What the runs were made with. The fingerprint is a digest of two tiny runs, and another one where a "
            "processor or a version computes other numbers."
        )
        yield markdown_table(("", ""), ((escape(key), text) for key, text in found.items()))

    def _commands(self) -> Iterator[str]:
        yield "## Reproduce"
        yield f"""```bash
# the report, from the committed records
python -m benchmarl_himpo.report benchmarks/results protocol={self.name} output=outputs/{self.name}_report
# all runs again, and their report
python -m benchmarl_himpo.sweep protocol={self.name} 'results=[]' folder=outputs/{self.name}
python -m benchmarl_himpo.report outputs/{self.name} protocol={self.name}
```"""


def published() -> list[Published]:
    """The comparisons that have a report, by name."""
    return [Published(file.parent) for file in sorted(REPORTS.glob("*/report.json"))]


def task_by_task() -> str:
    """Table of all tasks: how a comparison's subject stands to its flat control and to the best of the others."""
    rows = []
    for comparison in published():
        for task in comparison.tasks:
            control, rival = comparison.control(task), comparison.rival(task)
            found = [standing for standing in (control, rival) if standing is not None]
            if found:
                row = comparison.subject_on(task)
                assert row is not None  # it stands to another
                where = f"{_heading(task)} ([{comparison.name}]({comparison.name}.md))"
                method = f"{escape(row['variant'])}, {_estimate(row['per_agent'])}"
                worst = min(OUTCOMES.index(standing.outcome) for standing in found)
                rows.append((worst, [where, method, _judged(control, name=False), _judged(rival)]))
    header = ("task", "method and its return per agent", "to its flat control", "to the best of the other methods")
    return markdown_table(header, (row for _, row in sorted(rows, key=lambda entry: entry[0])))


def index() -> str:
    """The page that leads to all others."""
    comparisons = published()
    rows = []
    for comparison in comparisons:
        counts, n_runs = comparison.counts(), len(comparison.report["runs"])
        n_absent = sum(run["planned"] for run in comparison.report["absent"])
        rows.append(
            [
                f"[{comparison.name}]({comparison.name}.md): {comparison.protocol.question}",
                escape(comparison.subject),
                ", ".join(str(counts[outcome]) for outcome in (BEHIND, EQUAL, AHEAD)),
                f"{n_runs} of {n_runs + n_absent}" if n_absent else n_runs,
            ]
        )
    known = {comparison.name for comparison in comparisons}
    n_records = {folder.name: len(list(folder.glob("*.json"))) for folder in sorted(RECORDS.iterdir())}
    begun = [f"`{name}` ({_count(n, 'run')})" for name, n in n_records.items() if name not in known]
    parts = [
        "# Results",
        "Every comparison here is written from committed records when the site is built; no number is typed. "
        "[Claims of the paper](claims.md) says which of its claims were reproduced, by what the paper states and by "
        "our default.",
        "## Published comparisons",
        markdown_table(["comparison", "method", f"how often it is {BEHIND}, {EQUAL}, {AHEAD}", "runs"], rows),
        *([f"Begun, without a report: {', '.join(begun)}."] if begun else []),
        "## Task by task",
        "Every task of every comparison, with the method that it is about. *Flat control*: `himppo_flat`, the same "
        "networks without a hierarchy; of several, the one with the highest return. *Other methods*: BenchMARL's, of "
        "which the one with the highest return is named. Differences as above; tasks stand in the order of their worst "
        "verdict. [Where HiMPPO is ahead, and where not](where.md) says what we make of them.",
        task_by_task(),
        "## More",
        "- [Benchmarks](../benchmarks/README.md): what the results say and do not say, audits of goals, scripted "
        "policies, the regression gate\n"
        "- [Trials](../benchmarks/trials.md): everything that was tried before\n"
        "- [Throughput](../benchmarks/throughput/README.md): what a run costs",
    ]
    return "\n\n".join(parts)


def pages() -> dict[str, str]:
    """All pages, by the names of their files; the index first."""
    return {"index.md": index(), **{f"{comparison.name}.md": comparison.page() for comparison in published()}}


@cache
def _load(path: Path) -> RunRecord:
    return load_record(path)


def _cell(limits: dict[str, float | None] | None) -> str:
    return "-" if limits is None else str(_estimate(limits))


def _estimate(limits: dict[str, float | None]) -> Estimate:
    """Read an estimate, of which JSON cannot hold an unknown limit."""
    return Estimate(*(math.nan if (value := limits[key]) is None else value for key in ("value", "low", "high")))


def _judged(standing: Standing | None, *, name: bool = True) -> str:
    """A verdict with its difference, and with what was compared."""
    if standing is None:
        return "-"
    return f"**{standing.outcome}**, {standing.difference}" + (f" ({escape(standing.other)})" if name else "")


def _heading(task: dict[str, Any]) -> str:
    return f"`{task['label']}`" + (f", {task['n_agents']} agents" if task["n_agents"] else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def escape(text: str) -> str:
    """Write text so that Markdown shows it as it is; labels in tables are no code, which would be broken anywhere."""
    return re.sub(r"([\[\]_*|])", r"\\\1", text)
