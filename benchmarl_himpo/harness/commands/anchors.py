"""Measure the returns that scores are held against: uniform actions, scripts and an upper bound where they are known.

    python -m benchmarl_himpo.anchors task=vmas/sampling task.n_agents=3,5,7
    python -m benchmarl_himpo.anchors task=lbfws/easy,lbfws/medium,lbfws/hard

Anything that changes the task can stand on that line; values separated by commas are measured one after another.
`episodes` and `seed` are those of conf/anchors.yaml, where the results belong: reports read them there. They change
with the version of that file, and not by themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from benchmarl_himpo.harness.command_line import exit_on_interrupt, given_arguments, register_or_exit
from benchmarl_himpo.harness.commands.evaluate import combine_changes
from benchmarl_himpo.harness.commands.options import read_options
from benchmarl_himpo.harness.reference_returns.measurement import measure_anchors
from benchmarl_himpo.harness.reference_returns.reference_returns import ANCHORS_FILE

OPTIONS = ("episodes", "seed")
CONFIDENCE = 0.95


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    register_or_exit()
    own = [argument for argument in given if argument.partition("=")[0] in OPTIONS]
    try:
        with exit_on_interrupt("Interrupted: the rows above are whole."):
            options = read_options(ANCHORS_FILE, own)
            if options.episodes < 2:
                raise ValueError(f"episodes={options.episodes} must be 2 or more: an interval needs as many")
            print(f"{options.episodes} episodes, seed {options.seed}, {CONFIDENCE:.0%} intervals\n")
            print("| task | anchor | return per agent | mean life of an agent, env steps |\n|---|---|---|---|")
            for overrides in tqdm(combine_changes([argument for argument in given if argument not in own])):
                for name, anchor in measure_anchors(overrides, options.episodes, options.seed, CONFIDENCE).items():
                    print(f"| {' '.join(overrides)} | {name} | {anchor.per_agent} | {anchor.life or '-'} |", flush=True)
    except (ValueError, OSError, OmegaConfBaseException, HydraException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
