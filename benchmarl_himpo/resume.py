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

from benchmarl.hydra_config import load_algorithm_config_from_hydra, load_experiment_config_from_hydra
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.registration import register
from benchmarl_himpo.run import CommandError, exit_on_interrupt, train
from benchmarl_himpo.runs import CheckpointError
from benchmarl_himpo.runs.checkpoint import newest_checkpoint
from benchmarl_himpo.runs.run_config import find_run, load_run_config


def resume(folder: Path, overrides: list[str]) -> None:
    """Continue a run from its newest good checkpoint.

    Args:
        folder: the folder of the run or the output folder around it.
        overrides: values to change, such as ``experiment.max_n_frames=960000``.

    Raises:
        CheckpointError: if there is no run or no good checkpoint.
        CommandError: as :func:`benchmarl_himpo.run.train`.
    """
    run = find_run(folder)
    checkpoint = newest_checkpoint(run / "checkpoints")
    cfg, choices = load_run_config(run, overrides)
    cfg.experiment.restore_file, cfg.experiment.save_folder = str(checkpoint), str(run.resolve().parent)
    n_frames = int(checkpoint.stem.removeprefix("checkpoint_"))
    on_policy = load_algorithm_config_from_hydra(cfg.algorithm).on_policy()
    max_n_frames = load_experiment_config_from_hydra(cfg.experiment).get_max_n_frames(on_policy)
    if n_frames >= max_n_frames:
        print(
            f"{run} is finished: {n_frames:,} of {max_n_frames:,} frames. For more, add experiment.max_n_frames=... "
            "(and experiment.max_n_iters=..., where that was set) with a larger number."
        )
        return
    print(f"resumed: true, from {checkpoint}")
    train(cfg, choices)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="folder of the run, or the output folder around it")
    parser.add_argument("overrides", nargs="*", help="values to change, such as experiment.max_n_frames=960000")
    arguments = parser.parse_args()
    register()
    try:
        with exit_on_interrupt():
            resume(arguments.run_dir, arguments.overrides)
    except (CheckpointError, CommandError, OmegaConfBaseException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
