"""Export a trained run as a bundle: step functions per level that need torch alone, checked against the policy.

    python -m benchmarl_himpo.export RUN_DIR
    python -m benchmarl_himpo.export RUN_DIR output=my_bundle task.n_agents=5

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/export.yaml;
anything with a dot changes the run's configuration. `--config-dir DIR` names a folder of YAML files of your own, as
for run. Prints what each node must receive per step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarl_himpo.harness.command_line import exit_on_interrupt, given_arguments, register_or_exit, take_config_dir
from benchmarl_himpo.harness.commands.options import sort_arguments
from benchmarl_himpo.harness.deployment import ExportError, export_run
from benchmarl_himpo.harness.deployment.report import format_report
from benchmarl_himpo.harness.output import check_output_folder
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.run_config import find_run


def read_arguments(arguments: Sequence[str]) -> tuple[Path, DictConfig, list[str]]:
    """Sort a command line into the folder, options and changes of the configuration.

    Args:
        arguments: the command line.

    Returns:
        The folder, the options over their defaults, and the changes.

    Raises:
        ValueError: if an option does not exist or has another type.
        ValueError: if there is not exactly one folder, or an option is out of range.
    """
    folders, options, changes = sort_arguments("export.yaml", arguments)
    if len(folders) != 1:
        raise ValueError("give the folder of one run")
    if options.episodes < 1:
        raise ValueError(f"episodes={options.episodes} must be 1 or more: a bundle is compared before it is kept")
    if not options.tolerance >= 0:
        raise ValueError(f"tolerance={options.tolerance} must be 0 or more")
    return folders[0], options, [f"{key}={value}" for key, value in changes]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    register_or_exit()
    try:
        with exit_on_interrupt("Interrupted: no bundle was written; the run is as it was."):
            folder, options, changes = read_arguments(take_config_dir(given))
            run = find_run(folder)
            output = Path(str(options.output)) if options.output else run / "bundle"
            check_output_folder("output", output)
            bundles = export_run(run, output, options.episodes, options.seed, options.tolerance, changes)
            for group, bundle in bundles.items():
                info = json.loads((bundle / "bundle.json").read_text())
                verified = info["verified"]
                print(
                    f"{group}: largest difference to the policy {verified['max_difference']:.1e} on "
                    f"{verified['env_steps']} env steps\n\n{format_report(info['messages'])}\n\nbundle: {bundle}\n"
                )
    except (CheckpointError, ExportError, ValueError, OSError, OmegaConfBaseException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
