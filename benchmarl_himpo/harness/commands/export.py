"""Export a trained run as a bundle: step functions per level that need only torch, checked against the policy.

    python -m benchmarl_himpo.export RUN_DIR
    python -m benchmarl_himpo.export RUN_DIR output=my_bundle task.n_agents=5

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/export.yaml;
anything with a dot changes the run's configuration. `--config-dir DIR` names a folder of YAML files of your own, as
for run. Prints the messages that each node receives per step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarl_himpo.harness.command_line import exit_with_a_sentence, given_arguments, read_for_trained_runs
from benchmarl_himpo.harness.deployment import export_run
from benchmarl_himpo.harness.deployment.report import format_report
from benchmarl_himpo.harness.output import check_output_folder
from benchmarl_himpo.harness.runs.run_config import find_run


@dataclass(frozen=True)
class ExportOptions:
    """Options of ``export``; see ``conf/export.yaml``."""

    output: Path | None
    episodes: int
    seed: int
    tolerance: float

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes={self.episodes} must be 1 or more: a bundle is compared before it is kept")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance={self.tolerance:g} must be 0 or more")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence("Interrupted: no bundle was written; the run is as it was."):
        folders, options, changes = read_for_trained_runs("export", ExportOptions, given)
        if len(folders) > 1:
            raise ValueError(f"give the folder of one run instead of {len(folders)}")
        run = find_run(folders[0])
        output = options.output or run / "bundle"
        check_output_folder("output", output)
        bundles = export_run(run, output, options.episodes, options.seed, options.tolerance, changes)
        for group, bundle in bundles.items():
            info = json.loads((bundle / "bundle.json").read_text())
            verified = info["verified"]
            print(
                f"{group}: largest difference to the policy {verified['max_difference']:.1e} on "
                f"{verified['env_steps']} env steps\n\n{format_report(info['messages'])}\n\nbundle: {bundle}\n"
            )
