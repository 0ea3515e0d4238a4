"""From the start of a run to its record: events in the ledger, and the record.

For a run of a sweep both are in the folder that the sweep named, otherwise in BenchMARL's output folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarl.experiment import ExperimentConfig
from omegaconf import DictConfig

from benchmarl_himpo.harness.checks import describe_lack_of_record
from benchmarl_himpo.harness.evaluation.absolute_metric import AbsoluteMetric, measure_absolute_metric
from benchmarl_himpo.harness.evaluation.episodes import build_quietly
from benchmarl_himpo.harness.records.collect import collect_record, gradient_steps_of_iteration
from benchmarl_himpo.harness.records.labels import split_label
from benchmarl_himpo.harness.records.ledger import Ledger, State
from benchmarl_himpo.harness.records.provenance import peak_memory, provenance
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, RunRecord
from benchmarl_himpo.harness.records.spec import RunSpec, make_spec
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.origin import add_past
from benchmarl_himpo.harness.runs.run_config import COMPUTATION
from benchmarl_himpo.host.benchmarl_files import run_of


class SingleRun:
    """Writes ledger and record of a run outside a sweep."""

    def __init__(self, cfg: DictConfig, choices: Mapping[str, str]) -> None:
        self.cfg, self.choices = cfg, choices

    @contextmanager
    def watch(self, experiment: ResumableExperiment) -> Iterator[None]:
        """Log the start of an experiment and the end of its training."""
        self.spec = spec_of(Path(experiment.folder_name), self.cfg, self.choices)
        ledger = Ledger(self.spec.folder)
        if not ledger.events() and _goes_on_in(self.spec.folder, experiment.config):
            ledger.add("unrecorded")
        note_start(
            self.spec,
            experiment.total_frames,
            self.cfg,
            variant=self.spec.variant,
            task_label=self.spec.task_label,
            seed=self.spec.seed,
            gradient_steps=gradient_steps_of_iteration(experiment),
        )
        before = peak_memory()
        with ledger.note_failure():
            yield
        after = peak_memory()
        # The largest size of the process is this run's only if it grew
        ledger.add("trained", peak_memory=after if after > before else None)

    def measure(self) -> AbsoluteMetric | None:
        """Measure the absolute metric of the trained run; None if it is not configured."""
        with Ledger(self.spec.folder).note_failure():
            return measure_absolute_metric(self.spec.folder, self.cfg, self.choices)

    def save_record(self, experiment: ResumableExperiment, metric: AbsoluteMetric | None) -> RunRecord | None:
        """Write the record of the run; None if the run's logs do not suffice."""
        with Ledger(self.spec.folder).note_failure():
            return _save_record(self.spec, self.spec.folder, self.cfg, experiment, metric, RUN_RECORD_FILE)


def note_start(spec: RunSpec, n_frames: int, cfg: DictConfig, **content: Any) -> None:
    """Log the start of an attempt at a number of frames, with its software and machine."""
    task, _ = split_label(spec.task_label)
    made_with = provenance({cfg.experiment.sampling_device, cfg.experiment.train_device}, task)
    made_with |= {option: cfg[option] for option in COMPUTATION}
    Ledger(spec.folder).add_start(n_frames, provenance=made_with, **content)


def finish_run(
    spec: RunSpec, run: Path, cfg: DictConfig, choices: Mapping[str, str], file: str = RUN_RECORD_FILE
) -> AbsoluteMetric | None:
    """Complete a trained run: measure its absolute metric and write its record, unless they exist.

    Args:
        spec: the run.
        run: BenchMARL's output folder.
        cfg: the run's composed config.
        choices: the file chosen for each group.
        file: name of the record, in the folder of the spec.
    """
    metric = measure_absolute_metric(run, cfg, choices)
    if not is_recorded(spec.folder, file):
        experiment = build_quietly(cfg, choices, n_episodes=1)
        _save_record(spec, run, cfg, experiment, metric, file)
        experiment.close()
    return metric


def is_recorded(folder: Path, file: str = RUN_RECORD_FILE) -> bool:
    """Whether the folder of a run has a record, and the run was not restarted since."""
    return (folder / file).is_file() and Ledger(folder).status().state in (State.NEW, State.FINISHED)


def spec_of(run: Path, cfg: DictConfig, choices: Mapping[str, str]) -> RunSpec:
    """Spec of a run outside a sweep, named by its folder; its origin is part of its identity."""
    return replace(make_spec(add_past(cfg, run), choices, [], run.parent, fingerprint=None), id=run.name)


def _save_record(
    spec: RunSpec,
    run: Path,
    cfg: DictConfig,
    experiment: ResumableExperiment,
    metric: AbsoluteMetric | None,
    file: str,
) -> RunRecord | None:
    ledger = Ledger(spec.folder)
    lack = describe_lack_of_record(cfg.experiment)
    if lack is not None:
        ledger.add("finished", reason=f"finished without a record: {lack}")
        return None
    made_with: dict[str, Any] = next(
        (event["provenance"] for event in reversed(ledger.events()) if "provenance" in event), {}
    )
    record = collect_record(spec, run, experiment, metric, made_with)
    record.save(spec.folder / file)
    ledger.add("finished")
    return record


def _goes_on_in(run: Path, config: ExperimentConfig) -> bool:
    """Whether an experiment continues from a checkpoint in its own folder."""
    file = config.restore_file
    return file is not None and run_of(Path(file)) == run.resolve()
