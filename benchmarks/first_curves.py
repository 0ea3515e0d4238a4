"""Train the first curves, keep their numbers as small CSV files, and draw the picture of the README.

    python benchmarks/first_curves.py train     # four runs at the reference setting, one seed each, in turn
    python benchmarks/first_curves.py collect   # finished runs -> benchmarks/first_curves/<algorithm>.csv
    python benchmarks/first_curves.py draw      # benchmarks/first_curves/*.csv -> benchmarks/first_curves.svg

Needs the render extra for the picture.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
RUNS = Path("outputs") / "first_curves"
CURVES = BENCHMARKS / "first_curves"
ALGORITHMS = {
    "himppo": "HiMPPO (our default)",
    "himppo_paper": "HiMPPO (paper)",
    "himppo_flat": "flat message passing",
    "ippo": "IPPO",
}
# Column of the CSV file -> what BenchMARL's CSV logger calls it; an evaluation has a value every few iterations
COLUMNS = {
    "frames": "counters_total_frames",
    "collection_return": "collection_reward_episode_reward_mean",
    "evaluation_return": "eval_reward_episode_reward_mean",
    "collection_seconds": "timers_collection_time",
    "training_seconds": "timers_training_time",
}


def train() -> None:
    """Run every algorithm at the reference setting, seed 0, one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for algorithm in ALGORITHMS:
        command = [
            sys.executable,
            "-m",
            "benchmarl_himpo.run",
            f"algorithm={algorithm}",
            "task=vmas/sampling",
            "seed=0",
        ]
        subprocess.run([*command, f"hydra.run.dir={RUNS / algorithm}"], check=True, env=environment)


def collect() -> None:
    """Copy the curves of finished runs into one small CSV file per algorithm."""
    CURVES.mkdir(exist_ok=True)
    for algorithm in ALGORITHMS:
        (folder,) = (RUNS / algorithm).glob("*/*/scalars")
        columns = {column: read_scalar(folder / f"{name}.csv") for column, name in COLUMNS.items()}
        with (CURVES / f"{algorithm}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for step in columns["frames"]:
                writer.writerow(f"{values[step]:.6g}" if step in values else "" for values in columns.values())


def read_scalar(path: Path) -> dict[int, float]:
    """Read one scalar of BenchMARL's CSV logger: value by iteration."""
    with path.open(newline="") as file:
        return {int(step): float(value) for step, value in csv.reader(file)}


def draw() -> None:
    """Draw collection returns over frames, with the evaluations as dots."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    from benchmarl_himpo.benchmark.anchors import load_anchors

    anchors = load_anchors().tasks["vmas/sampling"]

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarl_himpo"})
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for algorithm, label in ALGORITHMS.items():
        with (CURVES / f"{algorithm}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        frames = [float(row["frames"]) / 1000 for row in rows]
        (line,) = axes.plot(frames, [float(row["collection_return"]) for row in rows], label=label)
        evaluated = [
            (x, float(row["evaluation_return"]))
            for x, row in zip(frames, rows, strict=True)
            if row["evaluation_return"]
        ]
        axes.plot(*zip(*evaluated, strict=True), ".", color=line.get_color())
    axes.axhline(anchors.scripted, color="grey", linestyle="--", linewidth=1, label="greedy script")
    axes.axhline(anchors.random, color="grey", linestyle=":", linewidth=1, label="random")
    axes.set(xlabel="frames (thousands)", ylabel="return per agent", title="vmas/sampling, 3 agents, one seed")
    axes.legend(loc="lower right", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(BENCHMARKS / "first_curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    steps: dict[str, Callable[[], None]] = {"train": train, "collect": collect, "draw": draw}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        sys.exit(f"usage: python {sys.argv[0]} {{{','.join(steps)}}}")
    steps[sys.argv[1]]()
