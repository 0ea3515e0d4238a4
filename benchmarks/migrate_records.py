"""Give records that an older version made the names, labels and options of this one.

    python benchmarks/migrate_records.py benchmarks/results --also benchmarks/audits
    python benchmarks/migrate_records.py outputs/sweep

In version 0.1 the name of a run depended on the numerics fingerprint of its machine too, and some options had other
names, see benchmarl_himpo/harness/runs/older_configs.py. Records below the folders are read, whether published as
<id>.json, in the folders of sweeps' runs or in those of single runs. Their configurations get the options of this
version, names and labels follow from these as for a new run, and files, or the folders of sweeps' runs, are renamed.
Nothing is overwritten: where a name is taken nothing at all is changed. The same command again changes nothing.
Reports are made again by the commands in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.output import write_whole
from benchmarl_himpo.harness.records.record import RECORD_FILE, RUN_RECORD_FILE, RunRecord, load_record
from benchmarl_himpo.harness.records.spec import SPEC_FILE, comparable_config, hash_config, label, run_id
from benchmarl_himpo.harness.report.comparison import find_records
from benchmarl_himpo.harness.runs.older_configs import Config, update_config


class MigrationError(ValueError):
    """Records cannot be migrated; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """What becomes of one record.

    Args:
        file: where the record is.
        old: what it is.
        new: what it is to be.
    """

    file: Path
    old: RunRecord
    new: RunRecord

    @property
    def place(self) -> Path:
        """What is named after the run: the record, or the folder around it."""
        return self.file.parent if self.file.name == RECORD_FILE else self.file

    @property
    def target(self) -> Path:
        """Its new name; that of a single run was given by BenchMARL and stays."""
        if self.file.name == RUN_RECORD_FILE:
            return self.file
        return self.place.with_name(self.new.id if self.place.is_dir() else f"{self.new.id}.json")

    def take(self) -> None:
        """Write the record and rename what is named after it; may be cut off at any point and taken again."""
        self.new.save(self.file)
        spec = self.place / SPEC_FILE
        if spec.is_file():
            known = yaml.safe_load(spec.read_text())
            names = ("id", "variant", "task_label", "config", "config_hash")
            known.update({name: getattr(self.new, name) for name in names})
            write_whole(spec, yaml.safe_dump(known, sort_keys=False))
        if self.place != self.target:
            self.place.rename(self.target)


def migrate_record(record: RunRecord) -> RunRecord:
    """Give a record the options, labels and name of this version.

    Args:
        record: the record.

    Returns:
        The record of the same run.

    Raises:
        MigrationError: if its configuration has options that this version does not have, or lacks some.
    """
    config = update_config(record.config)
    _check_options(record, config)
    variant, task_label = label(config)
    return replace(
        record,
        id=run_id(config),
        config=config,
        config_hash=hash_config(config),
        variant=variant,
        task_label=task_label,
    )


def _check_options(record: RunRecord, config: Config) -> None:
    """Refuse a configuration that no run of this version could have."""
    for node, names in _options(config["choices"]["algorithm"]).items():
        if unlike := sorted(names ^ config[node].keys()):
            raise MigrationError(
                f"{record.id}: {', '.join(f'{node}.{name}' for name in unlike)} changed since its version: add the "
                "change to benchmarl_himpo/harness/runs/older_configs.py"
            )


@cache
def _options(algorithm: str) -> dict[str, set[str]]:
    """Names of the options of an algorithm and of its experiments, by node."""
    cfg = compose([f"algorithm={algorithm}"], return_hydra_config=True)
    config = comparable_config(cfg, cfg.hydra.runtime.choices)
    return {node: set(config[node]) for node in ("algorithm", "experiment")}


def plan(folders: Iterable[Path]) -> list[Step]:
    """Say what becomes of each record below some folders that is not as this version would make it.

    Args:
        folders: folders of records, of sweeps or of runs.

    Returns:
        The steps.

    Raises:
        MigrationError: if a name is taken, or an option is not known.
        RecordError: if a file that should be a record is none.
    """
    steps = []
    for file in (file for folder in folders for file in find_records(folder)):
        old = load_record(file)
        new = migrate_record(old)
        if file.name == RUN_RECORD_FILE:
            new = replace(new, id=old.id)
        step = Step(file, old, new)
        if new != old or step.place != step.target:
            steps.append(step)
    check_free((step.place, step.target) for step in steps)
    return steps


def check_free(renames: Iterable[tuple[Path, Path]]) -> None:
    """Check that no two files get one name, and that no name is taken.

    Args:
        renames: old and new paths.

    Raises:
        MigrationError: if one is.
    """
    changed = [(old, new) for old, new in renames if old != new]
    counts = Counter(new for _, new in changed)
    for old, new in changed:
        if new.exists() or counts[new] > 1:
            raise MigrationError(
                f"{old} would be called {new.name}, as another one in its folder: both are runs of one configuration, "
                "perhaps of two machines; move one of them to another folder. Nothing was changed"
            )


def find_named_after(steps: Sequence[Step], folders: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Find other files that are named after runs, such as audits.

    Args:
        steps: what becomes of the records.
        folders: where such files are.

    Returns:
        Their old and new paths.
    """
    names = {step.old.id: step.new.id for step in steps}
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.stem in names]
    renames = [(file, file.with_name(f"{names[file.stem]}{file.suffix}")) for file in files]
    check_free(renames)
    return renames


def list_unfinished(folders: Iterable[Path]) -> list[Path]:
    """List the folders of sweeps' runs that have no record and a name that this version does not give."""
    specs = [spec for folder in folders for spec in sorted(folder.rglob(SPEC_FILE))]
    return [
        spec.parent
        for spec in specs
        if not (spec.parent / RECORD_FILE).is_file()
        and run_id(update_config(yaml.safe_load(spec.read_text())["config"])) != spec.parent.name
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of records, of sweeps or of runs")
    parser.add_argument("--also", nargs="+", type=Path, default=[], help="folders of other files named after runs")
    given = parser.parse_args(arguments)
    try:
        steps = plan(given.folders)
        renames = find_named_after(steps, given.also)
        for step in steps:
            step.take()
        for old, new in renames:
            old.rename(new)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"{len(steps)} records migrated, {len(renames)} files renamed after them")
    for folder in list_unfinished(given.folders):
        print(f"{folder} is unfinished and stays as it is: a sweep of this version begins that run anew")


if __name__ == "__main__":
    main()
