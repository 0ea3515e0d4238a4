"""Combinations of runs and configuration overrides for one call of a command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from tqdm import tqdm

from benchmarl_himpo.harness.evaluation.episodes import load_trained
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.run_config import find_run


def load_combinations(
    folders: Sequence[Path], combinations: Sequence[list[str]], n_episodes: int, with_losses: bool = False
) -> Iterator[tuple[str, list[str], ResumableExperiment]]:
    """Load every run with every combination of overrides, one after another; progress is printed to stderr.

    Yields:
        Name of the run, overrides, and the experiment of
        :func:`~benchmarl_himpo.harness.evaluation.episodes.load_trained`, which is closed afterwards.
    """
    runs = [find_run(folder) for folder in folders]
    names = [run.name for run in runs]
    pairs = list(product(runs, combinations))
    for run, changes in tqdm(pairs, desc="policies", disable=len(pairs) == 1):
        experiment = load_trained(run, n_episodes, changes, with_losses)
        yield run.name if names.count(run.name) == 1 else str(run), changes, experiment  # a copy has the same name
        experiment.close()
