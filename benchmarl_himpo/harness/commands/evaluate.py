"""Evaluate trained runs: returns with confidence intervals, transfer to other tasks, an audit of the hierarchy, films.

    python -m benchmarl_himpo.evaluate RUN_DIR
    python -m benchmarl_himpo.evaluate RUN_DIR_A RUN_DIR_B task.n_agents=3,5,7
    python -m benchmarl_himpo.evaluate RUN_DIR audit=true episodes=1000
    python -m benchmarl_himpo.evaluate RUN_DIR video=true

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/evaluate.yaml;
anything with a dot changes the run's configuration, and values separated by commas are evaluated one after another.
`--config-dir DIR` names a folder of YAML files of your own, as for run.
Every policy plays the same episodes. Nothing is written to a run but the results.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from benchmarl_himpo.harness.checks import check_drawing
from benchmarl_himpo.harness.command_line import exit_on_interrupt, given_arguments, take_config_dir
from benchmarl_himpo.harness.commands.options import sort_arguments
from benchmarl_himpo.harness.evaluation.audit import AuditRow, audit, judge
from benchmarl_himpo.harness.evaluation.episodes import load_trained, play
from benchmarl_himpo.harness.films.episode import film_episode
from benchmarl_himpo.harness.films.film import write_film
from benchmarl_himpo.harness.output import OutputError, check_output_file, write_whole
from benchmarl_himpo.harness.rendering.display import RenderError, check_display
from benchmarl_himpo.harness.runs import CheckpointError, ResumableExperiment
from benchmarl_himpo.harness.runs.run_config import find_run
from benchmarl_himpo.harness.statistics import Estimate, estimate_mean
from benchmarl_himpo.registration import register

Keep = Callable[[dict[str, Any]], None]
"""Takes one result."""

BETWEEN_VALUES = re.compile(r",(?![^\[]*\])")
"""A comma that is not inside brackets."""


def read_arguments(arguments: Sequence[str]) -> tuple[list[Path], DictConfig, list[list[str]]]:
    """Sort a command line into folders, options and changes of the task.

    Args:
        arguments: the command line.

    Returns:
        The folders, the options over their defaults, and the combinations of changes to evaluate.

    Raises:
        ValueError: if an option does not exist, has another type or is out of range, or no folder is given.
    """
    folders, options, given = sort_arguments("evaluate.yaml", arguments)
    if not folders:
        raise ValueError("give at least one folder of a run")
    if options.episodes < 2:
        raise ValueError(f"episodes={options.episodes} must be 2 or more: an interval needs as many")
    if not 0 < options.confidence < 1:
        raise ValueError(f"confidence={options.confidence} must lie between 0 and 1")
    if options.audit and options.video:
        raise ValueError("audit=true and video=true are two commands: give one of them")
    if options.moment is not None and not (isinstance(options.moment, int) and options.moment >= 1):
        raise ValueError(f"moment={options.moment} must be 1 or more, a whole number: it counts steps")
    if options.output is not None and not str(options.output).endswith(".json"):
        raise ValueError(
            f"output={options.output} must end in .json: films get the same name with endings of their own"
        )
    if options.video and find_spec("matplotlib") is None:
        raise ValueError("video=true needs matplotlib, which is not installed: pip install 'benchmarl_himpo[render]'")
    return folders, options, combine_changes([f"{key}={values}" for key, values in given])


def combine_changes(arguments: Sequence[str]) -> list[list[str]]:
    """Combine changes that have several values each, separated by commas: every value of one with every of another."""
    pairs = [argument.partition("=") for argument in arguments]
    changes = [[f"{key}={value}" for value in BETWEEN_VALUES.split(values)] for key, _, values in pairs]
    return [list(combination) for combination in product(*changes)]


def evaluate(folders: list[Path], options: DictConfig, combinations: list[list[str]], keep: Keep) -> None:
    """Play with every run under every combination of changes, and print a table.

    Args:
        folders: folders of runs.
        options: see ``conf/evaluate.yaml``.
        combinations: changes of the runs' configuration.
        keep: takes what was measured, as soon as it was: the returns of all episodes and their means.
    """
    table = []
    try:
        for run, overrides, experiment in _each(folders, options, combinations):
            returns = play(experiment, options.seed)
            means = {
                "per_agent": estimate_mean(returns.per_agent, options.confidence),
                "team": estimate_mean(returns.team, options.confidence),
            }
            episodes = {"per_agent": returns.per_agent.tolist(), "team": returns.team.tolist()}
            if returns.life is not None:
                means["life"] = estimate_mean(returns.life, options.confidence)
                episodes["life"] = returns.life.tolist()
            table.append((run, " ".join(overrides) or "as trained", means))
            keep(
                {
                    "run": run,
                    "overrides": overrides,
                    **{name: asdict(mean) for name, mean in means.items()},
                    "episodes": episodes,
                }
            )
    finally:  # what was measured is shown whatever stops the others
        if table:
            print(format_returns(table, options))
    if len(combinations) > 1:
        print(f"\n{format_transfer(table)}")


def format_returns(table: list[tuple[str, str, dict[str, Estimate]]], options: DictConfig) -> str:
    """Lay returns out as a Markdown table."""
    heading = f"return over {options.episodes} episodes, {options.confidence:.0%} interval of the mean"
    columns = {"per_agent": "per agent", "team": "team"}
    if any("life" in means for _, _, means in table):
        columns["life"] = "mean life of an agent, env steps"
    lines = [heading, "", f"| run | task | {' | '.join(columns.values())} |", f"|---|---|{'---|' * len(columns)}"]
    for run, task, means in table:
        lines.append(f"| {run} | {task} | {' | '.join(str(means.get(column, '-')) for column in columns)} |")
    return "\n".join(lines)


def format_transfer(table: list[tuple[str, str, dict[str, Estimate]]]) -> str:
    """Lay the team returns out as a matrix: a run per row, a task per column."""
    runs, tasks = list(dict.fromkeys(run for run, _, _ in table)), list(dict.fromkeys(task for _, task, _ in table))
    cells = {(run, task): means["team"] for run, task, means in table}
    lines = [f"| team return | {' | '.join(tasks)} |", f"|---|{'---|' * len(tasks)}"]
    return "\n".join(
        [*lines, *(f"| {run} | {' | '.join(f'{cells[run, task].value:.2f}' for task in tasks)} |" for run in runs)]
    )


def audit_runs(folders: list[Path], options: DictConfig, combinations: list[list[str]], keep: Keep) -> None:
    """Audit every run under every combination of changes, and print a table and verdicts for each.

    Args:
        folders: folders of runs.
        options: see ``conf/evaluate.yaml``.
        combinations: changes of the runs' configuration.
        keep: takes what was measured, as soon as it was.
    """
    for run, overrides, experiment in _each(folders, options, combinations):
        intact, rows = audit(experiment, options.seed, options.confidence)
        print(f"{run} {' '.join(overrides)}\n\n{format_audit(intact, rows, options)}\n")
        keep(
            {
                "run": run,
                "overrides": overrides,
                "intact": asdict(intact),
                "rows": [asdict(row) for row in rows],
                "verdicts": judge(rows),
            }
        )


def format_audit(intact: Estimate, rows: list[AuditRow], options: DictConfig) -> str:
    """Lay an audit out as a Markdown table, with the verdicts below it."""
    lines = [
        f"return per agent over {options.episodes} episodes, {options.confidence:.0%} intervals, effects paired",
        "",
        "| level | what is disturbed | return | effect |",
        "|---|---|---|---|",
        f"| | nothing | {intact} | |",
        *(f"| {'' if row.level is None else row.level} | {row.name} | {row.value} | {row.effect} |" for row in rows),
        "",
        *judge(rows),
    ]
    return "\n".join(lines)


def film_runs(folders: list[Path], options: DictConfig, combinations: list[list[str]], keep: Keep) -> None:
    """Film one episode of every run under every combination of changes.

    Args:
        folders: folders of runs.
        options: see ``conf/evaluate.yaml``.
        combinations: changes of the runs' configuration.
        keep: takes the names of the files and the returns, as soon as they are there.

    Raises:
        RenderError: if the task cannot be drawn here.
    """
    stem, n_films = _output(folders, options).with_suffix(""), len(folders) * len(combinations)
    films = enumerate(_each(folders, options, combinations, n_episodes=1, with_losses=True))
    for i, (run, overrides, experiment) in films:
        check_drawing(f"{experiment.environment_name}/{experiment.task_name}", "video")
        check_display(experiment, "video")
        episode = film_episode(experiment, options.seed)
        returns = {name: group.external_reward.sum(0).tolist() for name, group in episode.groups.items()}
        film = stem if n_films == 1 else stem.with_name(f"{stem.name}_{i}")
        try:
            files = write_film(episode, film, options.moment)
        except OSError as error:
            print(f"{run} {' '.join(overrides)}: returns {returns}")
            raise OutputError(f"{film}.* could not be written: {error}") from error
        keep({"run": run, "overrides": overrides, "returns": returns, "files": [file.name for file in files]})
        print(f"{run} {' '.join(overrides)}: {', '.join(map(str, files))}")


class Results:
    """The results of one call, as a file that is written anew with each of them.

    Args:
        file: the file.
        options: see ``conf/evaluate.yaml``.

    Raises:
        OutputError: if the file cannot be written.
    """

    def __init__(self, file: Path, options: DictConfig) -> None:
        check_output_file("output", file)
        self.file = file
        self._settings = {str(name): value for name, value in options.items() if name != "output"}  # no paths
        self._results: list[dict[str, Any]] = []
        self._error: OSError | None = None

    def keep(self, result: dict[str, Any]) -> None:
        """Add a result; a file that cannot be written now stops nothing, since the next result writes it again."""
        self._results.append(result)
        try:
            write_whole(self.file, json.dumps({"settings": self._settings, "results": self._results}, indent=1) + "\n")
            self._error = None
        except OSError as error:
            self._error = error

    def check_kept(self) -> None:
        """Raise :class:`OutputError` where the file lacks results."""
        if self._error is not None:
            raise OutputError(
                f"output={self.file} could not be written ({self._error}): what is printed is all there is"
            )


def _output(folders: list[Path], options: DictConfig) -> Path:
    """Where results go."""
    name = "audit.json" if options.audit else "video.json" if options.video else "evaluation.json"
    return Path(str(options.output)) if options.output else find_run(folders[0]) / name


def _each(
    folders: list[Path],
    options: DictConfig,
    combinations: list[list[str]],
    n_episodes: int | None = None,
    with_losses: bool = False,
) -> Iterator[tuple[str, list[str], ResumableExperiment]]:
    """Load every run under every combination of changes, one after another; the progress goes to stderr."""
    runs = [find_run(folder) for folder in folders]
    names = [run.name for run in runs]
    pairs = list(product(runs, combinations))
    for run, overrides in tqdm(pairs, desc="policies", disable=len(pairs) == 1):
        experiment = load_trained(run, n_episodes or options.episodes, overrides, with_losses)
        yield run.name if names.count(run.name) == 1 else str(run), overrides, experiment  # a copy has the same name
        experiment.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    register()
    try:
        with exit_on_interrupt(
            "Interrupted: what was finished before is in the output file; the runs are as they were."
        ):
            folders, options, combinations = read_arguments(take_config_dir(given))
            results = Results(_output(folders, options), options)
            command = audit_runs if options.audit else film_runs if options.video else evaluate
            command(folders, options, combinations, results.keep)
            results.check_kept()
            print(f"\nresults: {results.file}")
    except (CheckpointError, RenderError, ValueError, OSError, OmegaConfBaseException) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
