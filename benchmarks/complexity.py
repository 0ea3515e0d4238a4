"""Measure how the costs of an iteration grow with the team, and with what exponents.

    python benchmarks/complexity.py                                          # to complexity.json and complexity.svg
    python benchmarks/complexity.py --agents 3 5 --rounds 1 --output two.json

Every measurement is a process of its own on one thread, which trains a few small iterations on VMAS's sampling (as
``throughput.py`` does, whose stopwatch this is). Methods take turns, and every other round goes backwards, so that a
machine that slows down slows all of them. An exponent is the slope of a straight line through the logarithms, by least
squares. What was measured is kept in the JSON file after every process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from throughput import ALGORITHMS, DENSITIES, OURS, TEAM_SIZES, describe_machine, measure, median, merge, row

from benchmarl_himpo.harness.markdown import markdown_table
from benchmarl_himpo.harness.output import OutputError, check_output_file, write_whole
from benchmarl_himpo.harness.report.figures import COLOURS, DASHES, NO_METADATA, SETTINGS

N_ENVS, N_STEPS = 5, 20
"""Environments, and steps of each in an iteration: two intervals of the manager."""
N_FRAMES = N_ENVS * N_STEPS
SIZE = [
    f"experiment.on_policy_n_envs_per_worker={N_ENVS}",
    f"experiment.on_policy_collected_frames_per_batch={N_FRAMES}",
    f"experiment.on_policy_minibatch_size={N_FRAMES // 2}",
    "experiment.on_policy_n_minibatch_iters=2",
]
"""Four updates an iteration."""
GRAPHS = {"full": DENSITIES["full"], "knn 2": DENSITIES["2"], "none": DENSITIES["0"]}
TOPOLOGIES = {
    graph: [f"{model}.layers.l1.topology={topology}" for model in ("model", "critic_model")]
    for graph, topology in (("full", "full"), ("none", "empty"))
}
"""Graphs of BenchMARL's graph network, which has no nearest neighbours."""
GNN = ["model=gnn_mlp", "model@critic_model=gnn_mlp"]
METHODS: dict[str, list[str]] = {
    **{
        f"{name}, {graph}": [*ALGORITHMS[name], *own]
        for name in ("himppo", "himppo_flat")
        for graph, own in GRAPHS.items()
    },
    "ippo": ALGORITHMS["ippo"],
    "mappo": ALGORITHMS["mappo"],
    **{
        f"{name}, GATv2, {graph}": [*ALGORITHMS[name], *GNN, *own]
        for name in ("ippo", "mappo")
        for graph, own in TOPOLOGIES.items()
    },
}
"""Overrides by method and density of its graph."""
QUANTITIES = {
    "time": "seconds",
    "collection": "seconds",
    "update": "seconds",
    "memory": "MiB",
    "operations of acting": "GFLOP",
    "operations of an update": "GFLOP",
    "messages": "count",
    "bytes": "bytes",
}
"""What is measured of an iteration, and its unit; an update is all that follows its collection."""
DRAWN = ("time", "memory", "operations of an update", "bytes")


def plan(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """List what to measure: every method at every size, smaller teams first."""
    size = argparse.Namespace(envs=10, short=False, device="cpu")
    return [
        row(name, "complexity", n_agents, [*overrides, *SIZE], size)
        for n_agents in settings.agents
        for name, overrides in METHODS.items()
        if settings.methods is None or name in settings.methods
    ]


def measure_all(settings: argparse.Namespace) -> dict[str, Any]:
    """Measure every row, round after round, and keep each answer at once."""
    rows = plan(settings)
    left_out = []
    if find_spec("torch_geometric") is None:
        left_out = [task["name"] for task in rows if "GATv2" in task["name"]]
        rows = [task for task in rows if task["name"] not in left_out]
    results = {
        "frames_per_iteration": N_FRAMES,
        "machine": describe_machine(argparse.Namespace(device="cpu", threads=1)),
        "left_out": sorted(set(left_out)),
        "rows": rows,
    }
    os.environ |= {"OMP_NUM_THREADS": "1", **OURS}
    context = get_context("forkserver")  # has imported everything once, and starts each process afresh
    context.set_forkserver_preload(["benchmarl_himpo.harness.runs.training", "benchmarl.hydra_config"])
    pool = ProcessPoolExecutor(1, context, initializer=silence, max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as folder, pool as processes:
        for number in range(settings.rounds):
            for task in rows if number % 2 == 0 else rows[::-1]:
                print(f"[round {number + 1}] {task['name']}, {task['n_agents']} agents", file=sys.stderr, flush=True)
                overrides = [*task["overrides"], f"experiment.save_folder={folder}"]
                merge(
                    task, processes.submit(measure, overrides, settings.iters, count_flops=True, stock=False).result()
                )
                write_whole(Path(settings.output), json.dumps(results, indent=1) + "\n")
    return results


def silence() -> None:
    """Throw away what this process prints; what it raises reaches its parent."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())


def costs_of(task: dict[str, Any]) -> dict[str, float]:
    """What an iteration of a row costs, by quantity; those that are not known are left out."""
    seconds = {part: median(task, part) * N_FRAMES / 1000 for part in ("collection", "total")}
    operations = {part: n * N_FRAMES / 1e9 for part, n in task["flops_per_frame"].items()}
    sent = {name: n * task["n_agents"] * N_FRAMES for name, n in task["communication"].items()}
    return {
        "time": seconds["total"],
        "collection": seconds["collection"],
        "update": seconds["total"] - seconds["collection"],
        "memory": task["peak_memory_mib"],
        "operations of acting": operations["collection"],
        "operations of an update": operations["total"] - operations["collection"],
        **sent,
    }


def curves_of(results: dict[str, Any]) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """Team sizes and costs, by quantity and method."""
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {quantity: {} for quantity in QUANTITIES}
    for task in results["rows"]:
        for quantity, cost in costs_of(task).items():
            sizes, costs = curves[quantity].setdefault(task["name"], ([], []))
            sizes.append(task["n_agents"])
            costs.append(cost)
    return curves


def exponent_of(sizes: list[int], costs: list[float]) -> float | None:
    """Slope of the line through the logarithms by least squares; None for a single size, or where something is free."""
    if len(sizes) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def format_tables(results: dict[str, Any]) -> str:
    """Lay out costs and exponents as Markdown, a dash where nothing is known or nothing is sent."""
    columns = [f"{quantity} ({unit})" for quantity, unit in QUANTITIES.items()]
    costs = [
        [str(task["n_agents"]), task["name"], *(_text(costs_of(task).get(quantity)) for quantity in QUANTITIES)]
        for task in results["rows"]
    ]
    curves = curves_of(results)
    exponents = [
        [name, *(_text(exponent_of(*of[name]) if name in of else None) for of in curves.values())]
        for name in dict.fromkeys(task["name"] for task in results["rows"])
    ]
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items() if value)
    said = [f"Left out, because torch_geometric is not installed: {'; '.join(results['left_out'])}."]
    return "\n\n".join(
        [
            machine,
            *(said if results["left_out"] else []),
            f"Costs of an iteration of {N_FRAMES} frames\n\n{markdown_table(['agents', 'method', *columns], costs)}",
            f"Exponents of the number of agents\n\n{markdown_table(['method', *QUANTITIES], exponents)}",
        ]
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def draw(results: dict[str, Any]) -> str:
    """Draw the costs over the number of agents, both in logarithms, with the exponents in the legends; gives SVG."""
    names = list(dict.fromkeys(task["name"] for task in results["rows"]))
    curves = curves_of(results)
    with rc_context(SETTINGS | {"legend.fontsize": 6}):
        figure = Figure(figsize=(9, 8), layout="constrained")
        for axes, quantity in zip(figure.subplots(2, 2).flat, DRAWN, strict=True):
            for number, name in enumerate(names):
                sizes, costs = curves[quantity].get(name, ([], []))
                exponent = exponent_of(sizes, costs)
                if exponent is None:
                    continue
                look = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS)]}
                axes.plot(sizes, costs, marker="o", ms=3, linewidth=1, label=f"{name}: {exponent:.2f}", **look)
            axes.set(xscale="log", yscale="log", xlabel="agents", title=f"{quantity} ({QUANTITIES[quantity]})")
            axes.set_xticks(sorted({task["n_agents"] for task in results["rows"]}))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            if axes.lines:
                axes.legend(frameon=False)
        figure.suptitle(f"Costs of an iteration of {N_FRAMES} frames, with exponents", fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    return buffer.getvalue()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=list(TEAM_SIZES), help="team sizes")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all")
    parser.add_argument("--rounds", type=int, default=2, help="processes per row")
    parser.add_argument("--iters", type=int, default=2, help="iterations timed in a process, after one that is not")
    parser.add_argument(
        "--output", default="complexity.json", help="where the numbers go; the picture beside it, as .svg"
    )
    return parser.parse_args()


def main() -> None:
    """Measure, draw and print the tables."""
    settings = parse_arguments()
    picture = Path(settings.output).with_suffix(".svg")
    try:
        for file in (Path(settings.output), picture):
            check_output_file("--output", file)
    except OutputError as error:
        sys.exit(str(error))
    results = measure_all(settings)
    write_whole(picture, draw(results))
    print(f"{format_tables(results)}\n\n![Costs over the number of agents]({picture.name})")


if __name__ == "__main__":
    main()
