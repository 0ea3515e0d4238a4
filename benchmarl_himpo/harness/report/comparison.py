"""The runs of a comparison: all records and runs below some folders, including unfinished and missing runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import yaml

from benchmarl_himpo.harness.output import files_below
from benchmarl_himpo.harness.records.json_runs import read_json_runs
from benchmarl_himpo.harness.records.labels import differing_keys, option_of, strip_common
from benchmarl_himpo.harness.records.ledger import Ledger, State
from benchmarl_himpo.harness.records.lifecycle import is_recorded
from benchmarl_himpo.harness.records.record import (
    RECORD_FILE,
    RUN_RECORD_FILE,
    RecordError,
    RunRecord,
    load_record,
)
from benchmarl_himpo.harness.records.spec import SPEC_FILE
from benchmarl_himpo.harness.reference_returns.reference_returns import NOT_PLAYED
from benchmarl_himpo.harness.runs.experiment_options import OF_ONE_KIND
from benchmarl_himpo.harness.runs.run_config import CONFIG_FILE
from benchmarl_himpo.harness.sweeps.protocol import RunLabel

RECORD_NAME = re.compile(r"-s\d+-[0-9a-f]{8}$")
"""Suffix of a record's id, which is its file name if records are kept without their runs."""


class ComparisonError(ValueError):
    """Runs cannot be compared; the message gives the reason."""


@dataclass(frozen=True)
class Absent:
    """A run without a record: of a protocol or a sweep, or with a seed that other variants of the task have."""

    task: str
    variant: str
    seed: int
    reason: str
    planned: bool  # by a protocol or a sweep

    def __str__(self) -> str:
        return f"{self.variant} on {self.task}, seed {self.seed}: {self.reason}"

    @property
    def label(self) -> RunLabel:
        """Labels and seed, which identify the run in a comparison."""
        return self.task, self.variant, self.seed


@dataclass(frozen=True)
class Comparison:
    """Runs to compare.

    Absent runs are runs of the protocol without a record; without a protocol, unfinished runs and missing seeds that
    other variants of the task have.
    """

    records: list[RunRecord]  # sorted by task, variant and seed
    files: dict[str, str]  # path of each record, relative to the given folder, by id
    absent: list[Absent]
    common: list[str]  # differences removed from the labels, because all have them

    @property
    def tasks(self) -> list[str]:
        """Labels of the tasks, in order."""
        return list(dict.fromkeys(record.task_label for record in self.records))

    @property
    def variants(self) -> list[str]:
        """Labels of the variants, in order."""
        return sorted({record.variant for record in self.records}, key=natural_order)

    def runs_on(self, task: str) -> list[RunRecord]:
        """The runs of all variants on a task."""
        return [record for record in self.records if record.task_label == task]

    def variants_of(self, task: str) -> list[str]:
        """Labels of the variants with runs on a task."""
        return list(dict.fromkeys(record.variant for record in self.runs_on(task)))

    def runs(self, task: str, variant: str) -> list[RunRecord]:
        """The runs of a variant on a task, by seed."""
        return [record for record in self.records if (record.task_label, record.variant) == (task, variant)]


def natural_order(text: str) -> list[tuple[int, str]]:
    """Sort key that orders numbers by value: 7 before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def collect(
    folders: Sequence[Path],
    planned: Set[RunLabel] | None = None,
    names: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Comparison:
    """Read all records below some folders, and all JSON files of BenchMARL's own runs.

    Args:
        folders: folders of sweeps, of runs or of records, or files of records.
        planned: the runs of protocols, which restrict the comparison; None: all runs.
        names: other names of variants, by the labels of task and variant.

    Returns:
        The comparison.

    Raises:
        ComparisonError: if there is no record, or two different records of the same run.
        RecordError: if a file with the name of a record is not a record.
    """
    found: dict[RunLabel, tuple[RunRecord, str]] = {}
    begun: list[Absent] = []
    for folder in folders:
        if not folder.exists():
            raise ComparisonError(f"{folder} does not exist: give folders of sweeps, of runs or of records")
        recorded = [(load_record(path), path) for path in find_records(folder)]
        for record, path in [*recorded, *read_json_runs(folder)]:
            name = str(path.relative_to(folder)) if path != folder else path.name
            key = (record.task_label, record.variant, record.seed)
            if planned is not None and key not in planned:
                continue
            other, other_name = found.setdefault(key, (record, name))
            if other != record:
                raise ComparisonError(
                    f"{other_name} and {name} are both {record.variant} on {record.task_label} with seed "
                    f"{record.seed}, and differ (ids {other.id} and {record.id}): a comparison has one run of each; "
                    "leave one of them out"
                )
        specs = files_below(folder, SPEC_FILE)
        begun += [_read_plan(spec) for spec in specs if not (spec.parent / RECORD_FILE).is_file()]
        begun += [_read_beginning(run) for run in _single_runs(folder) if not is_recorded(run)]
    if not found:
        of_protocol = "" if planned is None else " of the protocol"
        where = ", ".join(map(str, folders))
        named = "; ".join(sorted(map(str, begun)))
        raise ComparisonError(
            f"no record of a finished run{of_protocol} below {where}"
            f"{f', where these are unfinished: {named}' if named else ': give folders of runs, sweeps or records'}"
        )
    kept = [(replace(r, variant=names.get((r.task_label, r.variant), r.variant)), name) for r, name in found.values()]
    kept.sort(key=lambda of: (natural_order(of[0].task_label), natural_order(of[0].variant), of[0].seed))
    kept = list(_with_distinct_ids(kept))
    records, files = [record for record, _ in kept], {record.id: name for record, name in kept}
    _check_configs(records)
    unfinished = {run.label: run for run in begun if run.label not in found}
    if planned is None:
        absent = [*unfinished.values(), *_missing_seeds(records, list(unfinished.values()))]
    else:
        absent = [unfinished.get(key, Absent(*key, "no record", planned=True)) for key in planned - found.keys()]
    absent = [replace(run, variant=names.get((run.task, run.variant), run.variant)) for run in absent]
    return _shorten_labels(records, files, sorted(absent, key=lambda a: natural_order(str(a))))


def _with_distinct_ids(found: Iterable[tuple[RunRecord, str]]) -> Iterator[tuple[RunRecord, str]]:
    """Yield records and their files; an id that an earlier record has, from a folder of the same name, is numbered."""
    seen: Counter[str] = Counter()
    for record, name in found:
        seen[record.id] += 1
        number = seen[record.id]
        yield (record if number == 1 else replace(record, id=f"{record.id} ({number})")), name


def _shorten_labels(records: list[RunRecord], files: dict[str, str], absent: list[Absent]) -> Comparison:
    """Remove from labels the differences that all variants share, and settings of runs that all tasks share."""
    labels = [(r.variant, r.task_label) for r in records] + [(a.variant, a.task) for a in absent]
    options = {record.variant: record.config["experiment"] for record in records if record.config}

    def concerns(difference: str, variant: str) -> bool:
        option = option_of(difference).removeprefix("experiment.")
        return option not in OF_ONE_KIND or option in options.get(variant, option)

    variants, of_variants = strip_common((variant for variant, _ in labels), concerns=concerns)
    tasks, of_tasks = strip_common((task for _, task in labels), lambda part: option_of(part) in NOT_PLAYED)
    return Comparison(
        records=[replace(r, variant=variants[r.variant], task_label=tasks[r.task_label]) for r in records],
        files=files,
        absent=[replace(a, variant=variants[a.variant], task=tasks[a.task]) for a in absent],
        common=[*of_variants, *of_tasks],
    )


def find_records(folder: Path) -> list[Path]:
    """List the files with names of records below a folder, or the given file itself.

    Includes published records, records of sweeps, and records of single runs that were not restarted since.
    """
    if folder.is_file():
        return [folder]
    of_sweeps = (p for p in files_below(folder, "*.json") if p.name == RECORD_FILE or RECORD_NAME.search(p.stem))
    single = (p for p in files_below(folder, RUN_RECORD_FILE) if is_recorded(p.parent) and not _is_of_sweep(p.parent))
    return sorted([*of_sweeps, *single])


def _single_runs(folder: Path) -> list[Path]:
    """Folders of runs outside sweeps."""
    return [file.parent for file in files_below(folder, CONFIG_FILE) if not _is_of_sweep(file.parent)]


def _is_of_sweep(run: Path) -> bool:
    return any((around / SPEC_FILE).is_file() for around in run.resolve().parents)


def _read_beginning(run: Path) -> Absent:
    """Read the identity of a run outside a sweep that has no record."""
    ledger = Ledger(run)
    started = [event for event in ledger.events() if "task_label" in event]
    if started:
        labels = {name: started[-1][name] for name in ("task_label", "variant", "seed")}
        return Absent(labels["task_label"], labels["variant"], labels["seed"], _describe_state(ledger), planned=True)
    try:
        config = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
        choices, seed = config["choices"], int(config["seed"])
        unknown = "no record yet, which python -m benchmarl_himpo.resume leaves when it has ended the run"
        reason = _describe_state(ledger) if ledger.events() else unknown
        return Absent(choices["task"], choices["algorithm"], seed, reason, planned=True)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise RecordError(f"{run / CONFIG_FILE} does not say what its run was to be: {error}") from error


def _read_plan(spec: Path) -> Absent:
    """Read the identity of a run of a sweep that has no record."""
    try:
        plan = yaml.safe_load(spec.read_text(encoding="utf-8"))
        task, variant, seed = plan["task_label"], plan["variant"], int(plan["config"]["seed"])
        return Absent(task, variant, seed, _describe_state(Ledger(spec.parent)), planned=True)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise RecordError(f"{spec} does not say what its run was to be: {error}") from error


def _describe_state(ledger: Ledger) -> str:
    """Short reason why a run has no record."""
    status = ledger.status()
    return {
        State.NEW: "not started",
        State.RUNNING: "running, or killed (no exit event)",
        State.INTERRUPTED: "interrupted",
        State.FAILED: f"failed: {status.reason}",
        State.FINISHED: status.reason or "finished, and its record is gone",
    }[status.state]


def _missing_seeds(records: list[RunRecord], unfinished: list[Absent]) -> list[Absent]:
    """Seeds that a variant of a task lacks but another variant has."""
    known = {run.label for run in unfinished}
    known |= {(record.task_label, record.variant, record.seed) for record in records}
    seeds = {task: {s for t, _, s in known if t == task} for task, _, _ in known}
    return [
        Absent(task, variant, seed, "no record, though other variants have this seed", planned=False)
        for task, variant in {(task, variant) for task, variant, _ in known}
        for seed in seeds[task]
        if (task, variant, seed) not in known
    ]


def _check_configs(records: list[RunRecord]) -> None:
    """Check that runs with equal labels have equal configurations."""
    first: dict[tuple[str, str], RunRecord] = {}
    for record in records:
        other = first.setdefault((record.task_label, record.variant), record)
        if other.config_hash != record.config_hash:
            differing = [key for key in differing_keys(record.config, other.config) if key != "seed"]
            raise ComparisonError(
                f"{other.id} and {record.id} are both called {record.variant} on {record.task_label} and have "
                f"different configurations ({', '.join(differing[:5])}): they are no runs of one variant; report them "
                "apart"
            )
