"""Engines of the tests: one that makes records up, one that trains in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import numpy as np
from records import make_record

from benchmarl_himpo.benchmark.engines import Ended
from benchmarl_himpo.benchmark.record import RECORD_FILE
from benchmarl_himpo.benchmark.run_one import run_one
from benchmarl_himpo.benchmark.spec import RunSpec

TOY_SEED = 0
BEST = 20.0
"""Best return of the toy task."""

Value = Callable[[RunSpec], float]
"""The value of a run: mean return of its last evaluation."""


def usual_value(spec: RunSpec) -> float:
    """The toy task solved, other runs around 10 with a coefficient of variation of 0.1."""
    if is_toy(spec):
        return BEST
    return 10 + float(np.random.default_rng([spec.seed, *spec.choice("task").encode()]).normal())


def is_toy(spec: RunSpec) -> bool:
    """Whether this is the run of the quick part."""
    return spec.choice("task") == "toy/cue" and spec.seed == TOY_SEED


def make_up(spec: RunSpec, value: float) -> Ended:
    """Write the record of a run that never took place."""
    record = make_record(
        variant=spec.variant,
        task_label=spec.task_label,
        seed=spec.seed,
        id=spec.id,
        task=spec.choice("task"),
        config=spec.config,
        config_hash=spec.config_hash,
        group_sizes={"agents": 2},
        frames=[spec.n_frames],
        seconds=[1.0],
        collection_return=[None],
        evaluation_frames=[spec.n_frames],
        evaluation_seconds=[1.0],
        evaluation_returns=[[value - 1, value + 1]],
    )
    record.save(spec.folder / RECORD_FILE)
    return Ended(spec, True)


class MadeUpEngine:
    """An engine whose runs have the values it is told.

    Attributes:
        value: says what a run is worth; NaN makes it fail.
        done: ids of the runs it was asked for.
    """

    def __init__(self) -> None:
        self.value: Value = usual_value
        self.done: list[str] = []

    def __call__(
        self, specs: Sequence[RunSpec], n_workers: int | None, n_retries: int
    ) -> Generator[Ended | None, None, None]:
        """Make records up."""
        for spec in specs:
            self.done.append(spec.id)
            value = self.value(spec)
            yield Ended(spec, False, "lightning") if np.isnan(value) else make_up(spec, value)


def train_here(specs: Sequence[RunSpec], n_workers: int | None, n_retries: int) -> Generator[Ended | None, None, None]:
    """Train in this process, which knows the algorithms that a test registered."""
    for spec in specs:
        run_one(spec)
        yield Ended(spec, True)


def train_here_but_the_toy(
    specs: Sequence[RunSpec], n_workers: int | None, n_retries: int
) -> Generator[Ended | None, None, None]:
    """The same, with the toy task made up."""
    for spec in specs:
        if is_toy(spec):
            yield make_up(spec, BEST)
        else:
            yield from train_here([spec], n_workers, n_retries)
