"""Film trained runs: one episode as mp4 and GIF, with the hierarchy drawn over the scene, and its goals and rewards.

    python -m benchmarl_himpo.film RUN_DIR
    python -m benchmarl_himpo.film RUN_DIR moment=20 seed=7

RUN_DIR is the folder of a run or the output folder around it. Options and their defaults are in conf/film.yaml;
anything with a dot changes the run's configuration, and values separated by commas are filmed one after another.
`--config-dir DIR` names a folder of YAML files of your own, as for run.
Needs the render extra. Only the films and a JSON file of their names and returns are written to a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarl_himpo.harness.command_line import (
    USUAL_ERRORS,
    exit_with_a_sentence,
    given_arguments,
    read_for_trained_runs,
)
from benchmarl_himpo.harness.commands.evaluate import INTERRUPTED
from benchmarl_himpo.harness.composition import combine_values
from benchmarl_himpo.harness.evaluation.combinations import load_combinations
from benchmarl_himpo.harness.films.drawing import write_film
from benchmarl_himpo.harness.films.episode import film_episode
from benchmarl_himpo.harness.output import OutputError, Results
from benchmarl_himpo.harness.rendering.display import RenderError, check_display
from benchmarl_himpo.harness.runs.run_config import find_run


@dataclass(frozen=True)
class FilmOptions:
    """Options of ``film``; see ``conf/film.yaml``."""

    seed: int
    moment: int | None
    output: Path | None

    def __post_init__(self) -> None:
        if self.moment is not None and self.moment < 1:
            raise ValueError(f"moment={self.moment} must be 1 or more: it counts steps")


def film_runs(folders: list[Path], options: FilmOptions, combinations: list[list[str]], results: Results) -> None:
    """Film one episode of every run with every combination of overrides; films are written next to the results."""
    stem, n_films = results.file.with_suffix(""), len(folders) * len(combinations)
    films = enumerate(load_combinations(folders, combinations, n_episodes=1, with_losses=True))
    for i, (run, changes, experiment) in films:
        check_display(experiment, "film")
        episode = film_episode(experiment, options.seed)
        returns = {name: group.external_reward.sum(0).tolist() for name, group in episode.groups.items()}
        film = stem if n_films == 1 else stem.with_name(f"{stem.name}_{i}")
        try:
            files = write_film(episode, film, options.moment)
        except OSError as error:
            print(f"{run} {' '.join(changes)}: returns {returns}")
            raise OutputError(f"{film}.* could not be written: {error}") from error
        results.keep({"run": run, "overrides": changes, "returns": returns, "files": [file.name for file in files]})
        print(f"{run} {' '.join(changes)}: {', '.join(map(str, files))}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = given_arguments(arguments, __doc__)
    with exit_with_a_sentence(INTERRUPTED, (*USUAL_ERRORS, RenderError)):
        folders, options, changes = read_for_trained_runs("film", FilmOptions, given)
        if find_spec("matplotlib") is None:
            raise ValueError("film needs matplotlib, which is not installed: pip install 'benchmarl_himpo[render]'")
        results = Results(options.output or find_run(folders[0]) / "video.json", asdict(options))
        film_runs(folders, options, combine_values(changes), results)
        results.finish()
