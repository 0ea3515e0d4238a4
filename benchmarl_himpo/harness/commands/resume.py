"""Continue a run that was killed, interrupted or is to be longer.

    python -m benchmarl_himpo.resume outputs/2026-01-01/12-00-00
    python -m benchmarl_himpo.resume RUN_DIR experiment.max_n_frames=960000

RUN_DIR is the folder of the run or the output folder around it, wherever it is now. The newest checkpoint that matches
its checksum is taken, the configuration comes from the run's own YAML, and rows that were logged after the checkpoint
are written again. Works for every algorithm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.harness.command_line import exit_on_interrupt, register_or_exit
from benchmarl_himpo.harness.commands.run import RESUMABLE, describe_metric, train_and_summarise
from benchmarl_himpo.harness.composition import search_in
from benchmarl_himpo.harness.records.single_run import finish_run
from benchmarl_himpo.harness.runs.run_config import find_run, load_run_config
from benchmarl_himpo.harness.runs.training import CommandError, config_to_continue, n_frames_done, n_frames_of


def resume(folder: Path, overrides: list[str]) -> None:
    """Continue a run from its newest good checkpoint.

    Args:
        folder: the folder of the run or the output folder around it.
        overrides: values to change, such as ``experiment.max_n_frames=960000``.

    Raises:
        CheckpointError: if there is no run or no good checkpoint.
        CommandError: as :func:`benchmarl_himpo.harness.runs.training.train`.
    """
    run = find_run(folder)
    cfg, choices = config_to_continue(run, overrides)
    n_done, n_frames = n_frames_done(cfg), n_frames_of(cfg)
    if n_done >= n_frames:
        trusted = [override for override in overrides if override.partition("=")[0].endswith("class")]
        metric = finish_run(run, *load_run_config(run, trusted))  # which may have been stopped after its training
        print(
            f"{run} is finished: {n_done:,} of {n_frames:,} frames. For more, add experiment.max_n_frames=... "
            "(and experiment.max_n_iters=..., where that was set) with a larger number."
            f"{'' if metric is None else f' Absolute metric: {describe_metric(metric)}.'}"
            f"{' Nothing was changed.' if overrides else ''}"
        )
        return
    print(f"resumed: true, from {cfg.experiment.restore_file}")
    train_and_summarise(cfg, choices, resumes=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="folder of the run, or the output folder around it")
    parser.add_argument("overrides", nargs="*", help="values to change, such as experiment.max_n_frames=960000")
    parser.add_argument("--config-dir", "-cd", type=Path, help="folder of YAML files of your own, as for run")
    arguments = parser.parse_args()
    register_or_exit()
    try:
        search_in(arguments.config_dir)
        with exit_on_interrupt(RESUMABLE):
            resume(arguments.run_dir, arguments.overrides)
    except (ValueError, OSError, CommandError, OmegaConfBaseException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
