"""Keep what trials showed: one row per finished run, with its settings, curve and diagnostics.

    python -m benchmarl_himpo.run ... seed=100 hydra.run.dir=outputs/trials/<name>  # a trial, seeds from 100 up
    python benchmarks/trials.py outputs/trials  # adds the rows of finished runs to benchmarks/trials.csv

A row is recognised by its settings, so that nothing is listed twice and what is listed stays when the runs are gone.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

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
        name: f"algorithm.{name}"
        for name in (
            "gamma",
            "lmbda",
            "entropy_coef",
            "credit",
            "local_reward",
            "n_nodes",
            "goal_interval",
            "goal_dim",
            "goal_init_scale",
            "critic_rows",
            "critic_phase",
            "hidden_dim",
            "goal_actor_width",
            "assignment",
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
    "collection_return": "collection_reward_episode_reward_mean",
    "evaluation_return": "eval_reward_episode_reward_mean",
    **{
        f"{name}_level_{level}": f"train_agents_{name}_level_{level}"
        for name, levels in PER_LEVEL.items()
        for level in levels
    },
}
"""Column -> scalar of BenchMARL's CSV logger; empty where an algorithm or a level has none."""

COLUMNS = [*SETTINGS, "collection_return_at_half", *SCALARS]
LAST = 5
"""Iterations that a number is the mean of: the last ones, and the last ones of the first half."""


def read_trial(run: Path) -> dict[str, str]:
    """Read one run: the folder that Hydra made for it."""
    config, hydra = OmegaConf.load(run / ".hydra" / "config.yaml"), OmegaConf.load(run / ".hydra" / "hydra.yaml")
    row = {column: setting(config, key) for column, key in SETTINGS.items()}
    row |= {name: hydra.hydra.runtime.choices[name] for name in ("task", "algorithm")}
    (scalars,) = run.glob("*/*/scalars")
    for column, name in SCALARS.items():
        if (scalars / f"{name}.csv").exists():
            values = list(read_scalar(scalars / f"{name}.csv").values())
            row[column] = mean(values[-LAST:])
            if column == "collection_return":
                row["collection_return_at_half"] = mean(values[len(values) // 2 - LAST : len(values) // 2])
    return row


def setting(config: DictConfig, key: str) -> str:
    """One setting as it stands in the table."""
    value = OmegaConf.select(config, key)
    return "" if value is None else str(value)


def read_scalar(path: Path) -> dict[int, float]:
    """Read one scalar of BenchMARL's CSV logger: value by iteration."""
    with path.open(newline="") as file:
        return {int(step): float(value) for step, value in csv.reader(file)}


def mean(values: list[float]) -> str:
    """Mean as it stands in the table."""
    return f"{sum(values) / len(values):.4g}" if values else ""


def main(folder: Path) -> None:
    """Add the finished runs below a folder."""
    rows: list[dict[str, str]] = []
    if TRIALS.exists():
        with TRIALS.open(newline="") as file:
            rows = list(csv.DictReader(file))
    known = {tuple(row[name] for name in SETTINGS) for row in rows}
    for run in sorted(path.parent.parent for path in folder.glob("*/.hydra/config.yaml")):
        row = read_trial(run)
        if tuple(row[name] for name in SETTINGS) not in known:
            rows.append(row)
            print(run.name, row["collection_return"])
    with TRIALS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: [row[name] for name in SETTINGS]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
