"""Keep what trials showed: one row per finished run, with its settings, curve and diagnostics.

    python -m benchmarl_himpo.run ... seed=100 hydra.run.dir=outputs/trials/<name>  # a trial, seeds from 100 up
    python benchmarks/trials.py outputs/trials  # adds the rows of finished runs to benchmarks/trials.csv

Runs are found at any depth, those of sweeps too. A row is recognised by its settings and labels, so that nothing is
listed twice; what is listed stays when the runs are gone.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from benchmarl_himpo.harness.output import check_output_file, write_whole
from benchmarl_himpo.harness.records.spec import comparable_config, label
from benchmarl_himpo.harness.runs import CheckpointError
from benchmarl_himpo.harness.runs.run_config import CONFIG_FILE, load_run_config
from benchmarl_himpo.harness.runs.run_logs import read_scalars
from benchmarl_himpo.harness.runs.training import n_frames_of

TRIALS = Path(__file__).resolve().parent / "trials.csv"
SETTINGS = {
    "task": "task",
    "algorithm": "algorithm",
    "seed": "seed",
    "frames": "experiment.max_n_frames",
    "n_agents": "task.n_agents",
    "lr": "experiment.lr",
    "num_cells": "model.num_cells",
    "epochs": "experiment.on_policy_n_minibatch_iters",
    "experiment_gamma": "experiment.gamma",
    **{
        name.replace("part_options.goal.normal", "goal").replace(".", "_"): f"algorithm.{name}"
        for name in (
            "gamma",
            "lmbda",
            "entropy_coef",
            "credit",
            "local_reward",
            "n_nodes",
            "goal_interval",
            "goal_dim",
            "part_options.goal.normal.init_scale",
            "critic_rows",
            "critic_phase",
            "hidden_dim",
            "goal_actor_width",
            "clustering",
            "neighbours",
            "n_message_rounds",
            "team_state",
        )
    },
}
"""Column -> key of the composed config; empty where an algorithm has none. The first two are choices of files."""

PER_LEVEL = {
    "explained_variance": (0, 1, 2),
    "reward_std": (0, 1, 2),
    "advantage_std": (0, 1, 2),
    "entropy": (0, 1, 2),
    "kl_approx": (0, 1, 2),
    "goal_norm": (1, 2),
    "goal_change": (1, 2),
}
SCALARS = {
    "collection_return": "collection/reward/episode_reward_mean",
    "evaluation_return": "eval/reward/episode_reward_mean",
    **{
        f"{name}_level_{level}": f"train/agents/{name}_level_{level}"
        for name, levels in PER_LEVEL.items()
        for level in levels
    },
}
"""Column -> scalar of BenchMARL's CSV logger; empty where an algorithm or a level has none."""

LABELS = ("variant", "task_label")
"""Columns that name whatever else differs from the plain configuration; empty in older rows."""
COLUMNS = [*LABELS, *SETTINGS, "collection_return_at_half", *SCALARS]
LAST = 5
"""Iterations that a number is the mean of: the last ones, and the last ones of the first half."""


def read_trial(run: Path) -> dict[str, str] | None:
    """Read one run.

    Args:
        run: the folder in which BenchMARL writes.

    Returns:
        Its row; None: it is not finished.
    """
    config, choices = load_run_config(run)
    frames = read_scalars(run, "counters/total_frames")
    if max(frames.values(), default=0) < n_frames_of(config):
        return None
    row = {column: setting(config, key) for column, key in SETTINGS.items()}
    row |= {name: choices[name] for name in ("task", "algorithm")}
    row["variant"], row["task_label"] = label(comparable_config(config, choices))
    for column, name in SCALARS.items():
        values = list(read_scalars(run, name).values())
        row[column] = mean(values[-LAST:])
        if column == "collection_return":
            row["collection_return_at_half"] = mean(values[len(values) // 2 - LAST : len(values) // 2])
    return row


def setting(config: DictConfig, key: str) -> str:
    """One setting as it stands in the table."""
    value = OmegaConf.select(config, key)
    return "" if value is None else str(value)


def mean(values: list[float]) -> str:
    """Mean as it stands in the table."""
    return f"{sum(values) / len(values):.4g}" if values else ""


def key_of(row: dict[str, str], with_labels: bool = True) -> tuple[str, ...]:
    """What a row is recognised by; older rows have settings alone."""
    return tuple(row[name] if name in SETTINGS or with_labels else "" for name in (*LABELS, *SETTINGS))


def main(folder: Path) -> None:
    """Add the finished runs below a folder."""
    check_output_file("TRIALS", TRIALS)
    with TRIALS.open(newline="") as file:
        rows = {key_of(row): row for row in csv.DictReader(file)}
    for run in sorted(path.parent for path in folder.rglob(CONFIG_FILE)):
        try:
            row = read_trial(run)
        except CheckpointError as error:
            print(f"{run.name}: left out, {error}")
            continue
        if row is None:
            print(f"{run.name}: left out, not finished")
        elif key_of(row) not in rows and key_of(row, with_labels=False) not in rows:
            rows[key_of(row)] = row
            print(f"{run.name}: {row['collection_return']}")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=lambda row: [row[name] for name in SETTINGS]))
    write_whole(TRIALS, text.getvalue())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    try:
        main(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(str(error))
