"""A run of the command that is of no sweep: its ledger and its record are in the folder that BenchMARL writes to."""

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
from benchmarl_himpo.harness.records.ledger import Ledger, State
from benchmarl_himpo.harness.records.provenance import peak_memory, provenance
from benchmarl_himpo.harness.records.record import RUN_RECORD_FILE, RunRecord
from benchmarl_himpo.harness.records.spec import RunSpec, make_spec
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.origin import add_origin, read_origin
from benchmarl_himpo.host.benchmarl_files import run_of


def is_recorded(run: Path) -> bool:
    """Tell whether a run has a record, and was not begun again since.

    Args:
        run: the folder of the run.

    Returns:
        Whether its record says how it ended.
    """
    return (run / RUN_RECORD_FILE).is_file() and Ledger(run).status().state in (State.NEW, State.FINISHED)


class SingleRun:
    """Keeps what happens to a run, from when its folder is there, and its record at the end.

    Args:
        cfg: the composed config.
        choices: the file chosen for each group.
    """

    def __init__(self, cfg: DictConfig, choices: Mapping[str, str]) -> None:
        self.cfg, self.choices = cfg, choices

    @contextmanager
    def watch(self, experiment: ResumableExperiment) -> Iterator[None]:
        """Note that an experiment starts, and how its training ends.

        Args:
            experiment: the experiment, about to run.

        Yields:
            Nothing.
        """
        self.spec = _spec_of(Path(experiment.folder_name), self.cfg, self.choices)
        ledger = Ledger(self.spec.folder)
        if not ledger.events() and _goes_on_in(self.spec.folder, experiment.config):
            ledger.add("unrecorded")
        ledger.add_start(
            experiment.total_frames,
            variant=self.spec.variant,
            task_label=self.spec.task_label,
            seed=self.spec.seed,
            gradient_steps=gradient_steps_of_iteration(experiment),
            provenance=provenance({experiment.config.sampling_device, experiment.config.train_device}),
        )
        before = peak_memory()
        with ledger.note_failure():
            yield
        after = peak_memory()
        # The largest size of the process is this run's only if it grew
        ledger.add("trained", peak_memory=after if after > before else None)

    def measure(self) -> AbsoluteMetric | None:
        """Measure the absolute metric of the run, which is trained.

        Returns:
            The metric; None: the run was configured without.
        """
        with Ledger(self.spec.folder).note_failure():
            return measure_absolute_metric(self.spec.folder, self.cfg, self.choices)

    def save_record(self, experiment: ResumableExperiment, metric: AbsoluteMetric | None) -> RunRecord | None:
        """Leave the record of the run.

        Args:
            experiment: the experiment that was watched.
            metric: the absolute metric, where it was measured.

        Returns:
            The record; None: the run has not logged what a record is made of.
        """
        with Ledger(self.spec.folder).note_failure():
            return _save_record(self.spec, self.cfg, experiment, metric)


def finish_run(run: Path, cfg: DictConfig, choices: Mapping[str, str]) -> AbsoluteMetric | None:
    """Do what is left of a run that another process trained: its absolute metric and its record.

    Args:
        run: the folder of the run.
        cfg: its composed config.
        choices: the file chosen for each group.

    Returns:
        The metric; None: the run was configured without.
    """
    metric = measure_absolute_metric(run, cfg, choices)
    if not is_recorded(run):
        experiment = build_quietly(cfg, choices, n_episodes=1)
        _save_record(_spec_of(run, cfg, choices), cfg, experiment, metric)
        experiment.close()
    return metric


def _save_record(
    spec: RunSpec, cfg: DictConfig, experiment: ResumableExperiment, metric: AbsoluteMetric | None
) -> RunRecord | None:
    ledger = Ledger(spec.folder)
    lack = describe_lack_of_record(cfg.experiment)
    if lack is not None:
        ledger.add("finished", reason=f"finished without a record: {lack}")
        return None
    made_with: dict[str, Any] = next(
        (event["provenance"] for event in reversed(ledger.events()) if "provenance" in event), {}
    )
    record = collect_record(spec, spec.folder, experiment, metric, made_with)
    record.save(spec.folder / RUN_RECORD_FILE)
    ledger.add("finished")
    return record


def _spec_of(run: Path, cfg: DictConfig, choices: Mapping[str, str]) -> RunSpec:
    """Name a run by its folder, which BenchMARL named; what it began from is part of what it is."""
    known = add_origin(cfg, read_origin(run))
    return replace(make_spec(known, choices, [], run.parent, fingerprint=None), id=run.name)


def _goes_on_in(run: Path, config: ExperimentConfig) -> bool:
    """Tell whether an experiment goes on from a checkpoint in its own folder."""
    file = config.restore_file
    return file is not None and run_of(Path(file)) == run.resolve()
