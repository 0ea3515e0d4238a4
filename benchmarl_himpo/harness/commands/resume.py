"""Continue a run that was killed or interrupted, or extend a finished run.

    python -m benchmarl_himpo.resume outputs/2026-01-01/12-00-00
    python -m benchmarl_himpo.resume RUN_DIR experiment.max_n_frames=960000

RUN_DIR is the folder of the run or the output folder around it, which may have been moved. The run continues from the
newest checkpoint that matches its checksum, with the configuration of the run's own YAML and the given overrides; rows
that were logged after the checkpoint are written again. Works for every algorithm. `--config-dir DIR` names a folder of
YAML files of your own, as for run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, split_folders, take_config_dir
from benchmarl_himpo.harness.commands.run import RESUMABLE, describe_metric, train_and_summarise
from benchmarl_himpo.harness.records.lifecycle import finish_run, spec_of
from benchmarl_himpo.harness.runs.run_config import find_run, load_run_config
from benchmarl_himpo.harness.runs.training import config_to_continue, n_frames_done, n_frames_of
from benchmarl_himpo.registration import register


def resume(folder: Path, overrides: list[str]) -> None:
    """Continue the run in a folder, or in the output folder around it, from its newest intact checkpoint."""
    run = find_run(folder)
    cfg, choices = config_to_continue(run, overrides)
    n_done, n_frames = n_frames_done(cfg), n_frames_of(cfg)
    if n_done >= n_frames:
        trusted = [override for override in overrides if override.partition("=")[0].endswith("class")]
        cfg, choices = load_run_config(run, trusted)
        metric = finish_run(spec_of(run, cfg, choices), run, cfg, choices)  # may have been stopped after its training
        print(
            f"{run} is finished: {n_done:,} of {n_frames:,} frames. For more, add experiment.max_n_frames=... "
            "(and experiment.max_n_iters=..., where that was set) with a larger number."
            f"{'' if metric is None else f' Absolute metric: {describe_metric(metric)}.'}"
            f"{' Nothing was changed.' if overrides else ''}"
        )
        return
    print(f"resumed: true, from {cfg.experiment.restore_file}")
    train_and_summarise(cfg, choices, resumes=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence(RESUMABLE):
        register()
        folders, changes = split_folders(take_config_dir(given))
        if len(folders) != 1:
            raise ValueError("give the folder of one run, and changes as name=value, such as experiment.lr=1e-4")
        resume(folders[0], changes)
