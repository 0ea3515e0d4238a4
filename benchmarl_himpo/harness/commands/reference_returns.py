"""Measure the reference returns of a task: of the random policy, of heuristic policies and an upper bound, if known.

    python -m benchmarl_himpo.reference_returns task=vmas/sampling task.n_agents=3,5,7
    python -m benchmarl_himpo.reference_returns task=lbfws/easy,lbfws/medium,lbfws/hard

All overrides of the task are accepted; values separated by commas are measured one after another. `episodes` and `seed`
default to the values in conf/reference_returns.yaml, from which reports read the results; change them only with the
version of that file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from benchmarl_himpo.environments.metrics import heading_of
from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_for_new_runs
from benchmarl_himpo.harness.composition import combine_values
from benchmarl_himpo.harness.reference_returns.measurement import CONFIDENCE, measure_reference_returns


@dataclass(frozen=True)
class ReferenceReturnsOptions:
    """Options of ``reference_returns``; ``conf/reference_returns.yaml`` also contains the measured results."""

    episodes: int
    seed: int

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise ValueError(f"episodes={self.episodes} must be 2 or more: an interval needs as many")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence("Interrupted: the rows above are whole."):
        options, overrides = read_for_new_runs("reference_returns", ReferenceReturnsOptions, given)
        print(f"{options.episodes} episodes, seed {options.seed}, {CONFIDENCE:.0%} intervals\n")
        print("| task | reference | return per agent | other metrics |\n|---|---|---|---|")
        for task in tqdm(combine_values(overrides)):
            found = measure_reference_returns(task, options.episodes, options.seed)
            for name, reference in found.items():
                metrics = "; ".join(f"{heading_of(metric)} {mean}" for metric, mean in reference.metrics.items())
                row = [" ".join(task), name, str(reference.per_agent), metrics or "-"]
                print(f"| {' | '.join(row)} |", flush=True)
