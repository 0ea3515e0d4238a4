"""Measure what a frame costs: HiMPPO beside BenchMARL's algorithms, in turn, on one machine.

    python benchmarks/throughput.py                        # six tables, about an hour on two cores
    python benchmarks/throughput.py --short                # small batches, under two minutes, indicative only
    python benchmarks/throughput.py --tables simulation    # one table: VMAS's sampling beside ours
    python benchmarks/throughput.py --tables foraging      # one table: lbforaging beside ours
    python benchmarks/throughput.py --tables threads       # one table: threads, alone and beside busy processes
    python benchmarks/throughput.py --device cuda --envs 6000 --output benchmarks/throughput_cuda.json

Every measurement is a process of its own that trains a few iterations and reports their parts; the first iteration
warms up and is not counted. Processes run in turn, round after round, so that a machine that slows down slows all of
them: ratios within a table are meaningful, seconds are not. What was measured is kept in the JSON file after every
process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarl_himpo.harness.output import OutputError, check_output_file, write_whole

REFERENCE = "ippo"
STOCK = "ippo, stock BenchMARL"
"""What a user would do instead: BenchMARL's own experiment, environment and loggers, with the same hyperparameters."""
ALGORITHMS: dict[str, list[str]] = {
    STOCK: ["algorithm=ippo"],
    REFERENCE: ["algorithm=ippo"],
    "mappo": ["algorithm=mappo"],
    "ippo, GATv2": ["algorithm=ippo", "model=gnn_mlp", "model@critic_model=gnn_mlp"],
    "himppo_flat": ["algorithm=himppo_flat"],
    "himppo_2l": ["algorithm=himppo_2l"],
    "himppo": ["algorithm=himppo"],
}
LOGGED_BY_BENCHMARL = ["experiment.loggers=[csv]", "experiment.create_json=true"]
TEAM_SIZES = (3, 7, 15, 31, 63)
LARGEST_GNN_TEAM = 15
DENSITIES = {
    "0": ["algorithm.neighbours=none"],
    "2": ["algorithm.neighbours={name:knn,k:2}"],
    "4": ["algorithm.neighbours={name:knn,k:4}"],
    "full": ["algorithm.neighbours=full"],
}
DENSITY_TEAM_SIZES = (15, 31)
LAYOUTS = {"8x8-2p-1f": "lbf/foraging_8x8_2p_1f", "15x15-4p-5f": "lbf/foraging_15x15_4p_5f"}
"""Tasks that lbforaging and we play, by lbforaging's pattern of names."""
OURS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300"}
"""What our commands set before they load torch, which this script loads first."""
BUSY = (0, 1, 2, 5)
"""Processes beside a run that keep a core busy each."""
WAITS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "all threads, spinning a little (our default)": OURS,
    "all threads, asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "all threads, as torch waits by itself": {},
}
"""Environments of a run: its threads, as many as there are cores if not said, and how they wait for each other."""
TABLES = ("simulation", "foraging", "algorithms", "team", "density", "threads")
PARTS = ("collection", "processing", "training", "total")
STEPS = 100
"""Steps of one episode and of each environment in one iteration."""


# One process: train a few iterations and report


def measure(overrides: list[str], n_iters: int, count_flops: bool, stock: bool) -> dict[str, Any]:
    """Train and time the parts of every iteration but the first.

    Args:
        overrides: the run, in Hydra's syntax.
        n_iters: iterations to time.
        count_flops: train one more iteration to count floating-point operations in.
        stock: build what BenchMARL's own command would build instead of what ours does.

    Returns:
        Seconds per 1,000 frames of every part and iteration, parameters, memory in MiB, messages and bytes that acting
        takes per agent and step, as far as they are known, and, where asked for, floating-point operations per frame of
        every part.
    """
    from benchmarl.hydra_config import load_experiment_from_hydra

    from benchmarl_himpo.harness.communication import communication_of
    from benchmarl_himpo.harness.composition import compose
    from benchmarl_himpo.harness.runs.training import load_experiment

    cfg = compose(overrides, return_hydra_config=True)
    choices = cfg.hydra.runtime.choices
    n_frames = cfg.experiment.on_policy_collected_frames_per_batch
    cfg.experiment.max_n_frames = n_frames * (1 + n_iters + count_flops)
    before = peak_memory(cfg.experiment.train_device)
    experiment = load_experiment_from_hydra(cfg, choices.task) if stock else load_experiment(cfg, choices)
    stopwatch = make_stopwatch(n_iters, n_frames, cfg.experiment.train_device, count_flops)
    stopwatch.experiment = experiment
    experiment.callbacks = [*experiment.callbacks, stopwatch]
    experiment.run()
    losses = experiment.losses.values()
    return {
        "seconds_per_1000_frames": stopwatch.seconds,
        "parameters": sum(p.numel() for loss in losses for p in loss.parameters()),
        "peak_memory_mib": stopwatch.peak_memory - before,
        "communication": {} if stock else communication_of(experiment),
        "flops_per_frame": stopwatch.flops_per_frame,
    }


def measure_environment(overrides: list[str], n_iters: int) -> dict[str, Any]:
    """Time the environment alone, stepped with random actions.

    Args:
        overrides: the run whose environment is stepped.
        n_iters: rollouts to time.

    Returns:
        Seconds per 1,000 frames, as ``collection`` and ``total``.
    """
    from benchmarl_himpo.harness.composition import compose
    from benchmarl_himpo.harness.runs.training import load_experiment

    cfg = compose(overrides, return_hydra_config=True)
    experiment = load_experiment(cfg, cfg.hydra.runtime.choices)
    n_envs = cfg.experiment.on_policy_n_envs_per_worker
    env = experiment.task.get_env_fun(n_envs, True, 0, cfg.experiment.sampling_device)()
    env.rollout(STEPS, break_when_any_done=False)
    seconds = []
    for _ in range(n_iters):
        started = now(cfg.experiment.sampling_device)
        env.rollout(STEPS, break_when_any_done=False)
        seconds.append((now(cfg.experiment.sampling_device) - started) / (n_envs * STEPS) * 1000)
    nothing = [0.0] * n_iters
    parts = {"collection": seconds, "processing": nothing, "training": nothing, "total": seconds}
    return {"seconds_per_1000_frames": parts, "parameters": 0, "peak_memory_mib": None, "flops_per_frame": None}


def make_stopwatch(n_iters: int, n_frames: int, device: str, count_flops: bool) -> Any:
    """Build the callback that takes the times, through BenchMARL's hooks alone."""
    from benchmarl.experiment import Callback

    class Stopwatch(Callback):
        """Batch processing lies between collection and the first optimiser step, which takes as long as the others.

        In the iteration after those that are timed its clock counts the operations of matrix products.
        """

        def __init__(self) -> None:
            super().__init__()
            self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}
            self.clock: Callable[[], float] = partial(now, device)
            self.iteration, self.ended = 0, self.clock()
            self.steps: list[float] = []
            self.counter, self.peak_memory = FlopCounter(), 0.0
            self.flops_per_frame: dict[str, float] | None = None

        def on_batch_collected(self, batch: Any) -> None:
            self.collected = self.clock()

        def on_train_step(self, batch: Any, group: str) -> None:
            self.steps.append(self.clock())

        def on_train_end(self, training_td: Any, group: str) -> None:
            ended = self.clock()
            durations = [b - a for a, b in zip(self.steps, self.steps[1:], strict=False)]
            first_step = self.steps[0] - statistics.median(durations)
            taken = (self.collected - self.ended, first_step - self.collected, ended - first_step, ended - self.ended)
            if self.iteration > n_iters:
                self.counter.__exit__(None, None, None)
                self.flops_per_frame = {part: n / n_frames for part, n in zip(PARTS, taken, strict=True)}
            elif self.iteration > 0:
                for part, duration in zip(PARTS, taken, strict=True):
                    self.seconds[part].append(duration / n_frames * 1000)
            if self.iteration == n_iters:
                self.peak_memory = peak_memory(device)
                if count_flops:
                    self.counter.__enter__()
                    self.clock = lambda: self.counter.total
            self.iteration, self.steps, self.ended = self.iteration + 1, [], self.clock()

    return Stopwatch()


class FlopCounter(TorchDispatchMode):
    """Counts floating-point operations by torch's formulas: of products of matrices and convolutions, and nothing else.

    Torch's own ``FlopCounterMode`` also follows modules, and cannot where parameters are TensorDicts.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and do it."""
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def now(device: str) -> float:
    """Seconds on a clock, once the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(device: str) -> float:
    """Largest memory so far in MiB: of the CUDA allocator, or resident in this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_simulations(n_agents: int, n_envs: int, n_rounds: int, device: str) -> dict[str, Any]:
    """Time VMAS's sampling and ours in turn, in this process, on one thread.

    Args:
        n_agents: agents of each team.
        n_envs: environments side by side.
        n_rounds: how often to take turns.
        device: of the environments.

    Returns:
        Milliseconds of a step and of a full reset, for each simulation and round.
    """
    import vmas

    from benchmarl_himpo.environments.sampling_scenario import SamplingScenario

    torch.set_num_threads(1)
    settings = {"num_envs": n_envs, "device": device, "seed": 0, "n_agents": n_agents, "shared_rew": False}
    envs = {"vmas": vmas.make_env("sampling", **settings), "ours": vmas.make_env(SamplingScenario(), **settings)}
    actions = envs["vmas"].get_random_actions()
    taken: dict[str, dict[str, list[float]]] = {name: {"step": [], "reset": []} for name in envs}
    for _ in range(n_rounds):
        for name, env in envs.items():
            for part, act, repeats in (("step", partial(env.step, actions), 20), ("reset", env.reset, 1)):
                started = now(device)
                for _ in range(repeats):
                    act()
                taken[name][part].append((now(device) - started) / repeats * 1000)
    return taken


def measure_foraging(layout: str, n_envs: int, n_rounds: int) -> dict[str, list[float]]:
    """Step lbforaging and our Level-Based Foraging in turn, with random actions and resets, on one thread.

    Args:
        layout: a key of ``LAYOUTS``.
        n_envs: boards of ours stepped together; lbforaging has one.
        n_rounds: how often to take turns.

    Returns:
        Environment steps per second of this process, for each round: of lbforaging, of ours as TorchRL's collectors
        call it, and of ours without TorchRL's own bookkeeping around steps and resets.
    """
    from benchmarl.environments import task_config_registry
    from lbforaging.foraging.environment import ForagingEnv  # of the extra "test"
    from tensordict import TensorDict

    import benchmarl_himpo

    benchmarl_himpo.register()
    torch.set_num_threads(1)
    task = task_config_registry[LAYOUTS[layout]].get_task()
    options, env = task.options, task.get_env_fun(n_envs, False, 0, "cpu")()
    reference = ForagingEnv(
        players=options.n_agents,
        min_player_level=options.min_agent_level,
        max_player_level=options.max_agent_level,
        min_food_level=options.min_food_level,
        max_food_level=options.max_food_level,
        field_size=tuple(options.field_size),
        max_num_food=options.n_foods,
        sight=options.sight,
        max_episode_steps=options.max_steps,
        force_coop=options.force_coop,
    )
    actions = torch.randint(6, (STEPS, n_envs, options.n_agents))
    td = env.reset()
    reference.reset(seed=0)

    def step_reference() -> int:
        for action in actions[:, :20].flatten(0, 1).tolist():
            if reference.step(action)[2]:
                reference.reset()
        return STEPS * 20

    def step_collected() -> int:
        nonlocal td
        for action in actions:
            td.set(("agents", "action"), action)
            td = env.step_and_maybe_reset(td)[1]
        return STEPS * n_envs

    def step_alone() -> int:
        for action in actions:
            td.set(("agents", "action"), action)
            done = env._step(td).get("done")
            if done.any():
                env._reset(TensorDict({"_reset": done}, [n_envs]))
        return STEPS * n_envs

    rates: dict[str, list[float]] = {"lbforaging": [], "collected": [], "alone": []}
    for _ in range(n_rounds):
        for name, play in zip(rates, (step_reference, step_collected, step_alone), strict=True):
            started = time.process_time()
            n_steps = play()
            rates[name].append(n_steps / (time.process_time() - started))
    return rates


# All processes, in turn


def plan(tables: list[str], settings: argparse.Namespace) -> list[dict[str, Any]]:
    """List what to measure: a name, a table, a team size and overrides each."""
    rows: list[dict[str, Any]] = []
    if "simulation" in tables:
        sizes = [(n_agents, n_envs) for n_agents in (3, 7) for n_envs in (60, 120, 600)]
        rows += [{"table": "simulation", "n_agents": n, "n_envs": envs, "name": f"{envs} envs"} for n, envs in sizes]
    if "foraging" in tables:
        sizes = [(layout, n_envs) for layout in LAYOUTS for n_envs in (256, 1024)]
        rows += [{"table": "foraging", "n_agents": 0, "n_envs": envs, "name": layout} for layout, envs in sizes]
    if "algorithms" in tables:
        rows.append(row("environment alone", "algorithms", 3, ["algorithm=ippo"], settings))
        rows += [row(name, "algorithms", 3, overrides, settings) for name, overrides in ALGORITHMS.items()]
    if "team" in tables:
        for n_agents in TEAM_SIZES:
            names = [REFERENCE, "himppo", *(["ippo, GATv2"] if n_agents <= LARGEST_GNN_TEAM else [])]
            rows.append(row("environment alone", "team", n_agents, ["algorithm=ippo"], settings))
            rows += [row(name, "team", n_agents, ALGORITHMS[name], settings) for name in names]
    if "density" in tables:
        for n_agents in DENSITY_TEAM_SIZES:
            rows += [
                row(f"himppo, {degree} neighbours", "density", n_agents, ["algorithm=himppo", *overrides], settings)
                for degree, overrides in DENSITIES.items()
            ]
    if "threads" in tables:
        overrides = ["algorithm=himppo", "experiment.on_policy_n_minibatch_iters=1"]
        for n_busy in BUSY:
            for name, environment in WAITS.items():
                task = row(name, "threads", 3, overrides, settings)
                rows.append(task | {"n_busy": n_busy, "environment": environment})
    return rows


def row(name: str, table: str, n_agents: int, overrides: list[str], settings: argparse.Namespace) -> dict[str, Any]:
    """Complete one row's overrides: the reference setting, or a tenth of it where teams grow or time is short."""
    n_envs = settings.envs
    minibatch, epochs = n_envs * STEPS // 6, 10
    if settings.short or table not in ("algorithms", "gpu", "threads"):
        n_envs, epochs = max(1, n_envs // 10), 3
        minibatch = n_envs * STEPS // 3
    common = [
        "task=vmas/sampling",
        f"task.n_agents={n_agents}",
        f"task.max_steps={STEPS}",
        f"experiment.on_policy_n_envs_per_worker={n_envs}",
        f"experiment.on_policy_collected_frames_per_batch={n_envs * STEPS}",
        f"experiment.on_policy_minibatch_size={minibatch}",
        f"experiment.on_policy_n_minibatch_iters={epochs}",
        *(f"experiment.{kind}_device={settings.device}" for kind in ("sampling", "train", "buffer")),
        "experiment.evaluation=false",
        "experiment.checkpoint_interval=0",
        "experiment.checkpoint_at_end=false",
        *(LOGGED_BY_BENCHMARL if name == STOCK else ["experiment.loggers=[]", "experiment.create_json=false"]),
    ]
    return {"name": name, "table": table, "n_agents": n_agents, "overrides": [*common, *overrides]}


def measure_in_a_process(task: dict[str, Any], settings: argparse.Namespace) -> dict[str, Any]:
    """Measure one row in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "environment_only": task["name"] == "environment alone",
            "overrides": [*task["overrides"], f"experiment.save_folder={folder}"],
            "n_iters": settings.iters,
            "count_flops": task["table"] == "density",
            "stock": task["name"] == STOCK,
        }
        waits = {} if task["name"] == STOCK else OURS
        given = task.get("environment", {"OMP_NUM_THREADS": str(settings.threads), **waits})
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        with busy_processes(task.get("n_busy", 0)):
            done = subprocess.run(
                [sys.executable, __file__, "--request", json.dumps(request)],
                env=kept | given,
                capture_output=True,
                text=True,
            )
    if done.returncode != 0:
        raise RuntimeError(f"{task['name']} with {task['n_agents']} agents failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep as many cores busy with other work."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def measure_all(settings: argparse.Namespace) -> dict[str, Any]:
    """Measure every row, round after round, and keep each answer at once, or say in the end that it was not kept."""
    rows = plan(settings.tables, settings)
    results = {"settings": vars(settings) | {"output": None}, "machine": describe_machine(settings), "rows": rows}
    for number in range(settings.rounds):
        for i, task in enumerate(rows, start=1):
            done = f"round {number + 1}/{settings.rounds}, {i}/{len(rows)}"
            team = f", {task['n_agents']} agents" if task["n_agents"] else ""
            print(f"[{done}] {task['name']}{team}", file=sys.stderr, flush=True)
            if task["table"] == "simulation":
                task["milliseconds"] = measure_simulations(task["n_agents"], task["n_envs"], 5, settings.device)
            elif task["table"] == "foraging":
                task["steps_per_second"] = measure_foraging(task["name"], task["n_envs"], 15)
            else:
                merge(task, measure_in_a_process(task, settings))
            try:
                write_whole(Path(settings.output), json.dumps(results, indent=1) + "\n")
            except OSError as error:  # the next answer writes the file again
                print(f"--output {settings.output} could not be written: {error}", file=sys.stderr)
    return results


def merge(task: dict[str, Any], answer: dict[str, Any]) -> None:
    """Add one process's answer to a row."""
    seconds = task.setdefault("seconds_per_1000_frames", {part: [] for part in PARTS})
    for part in PARTS:
        seconds[part] += answer["seconds_per_1000_frames"][part]
    task |= {key: value for key, value in answer.items() if key != "seconds_per_1000_frames"}


def describe_machine(settings: argparse.Namespace) -> dict[str, Any]:
    """Say what the numbers were taken on."""
    from benchmarl_himpo.harness.records.provenance import provenance

    of_runs = provenance({settings.device})
    known = ("cpu", "cpu_capability", "gpu", "torch", "torchrl", "benchmarl", "preloaded")
    return {"threads": settings.threads, "precision": torch.get_float32_matmul_precision()} | {
        name: of_runs[name] for name in known
    }


# What a person reads


def format_tables(results: dict[str, Any]) -> str:
    """Lay the measurements out as Markdown tables: medians, and the range of the total."""
    short = results["settings"]["short"]
    machine = {name: value for name, value in results["machine"].items() if value}
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["Indicative only: small batches, one round.", ""] if short else []
    if any(row["table"] == "simulation" for row in results["rows"]):
        lines += [*format_simulations([row for row in results["rows"] if row["table"] == "simulation"]), ""]
    if any(row["table"] == "foraging" for row in results["rows"]):
        lines += [*format_foraging([row for row in results["rows"] if row["table"] == "foraging"]), ""]
    if any(row["table"] == "gpu" for row in results["rows"]):
        lines += [*format_gpu(results), ""]
    if any(row["table"] == "threads" for row in results["rows"]):
        lines += [*format_threads([row for row in results["rows"] if row["table"] == "threads"]), ""]
    others = ("simulation", "foraging", "gpu", "threads")
    trained = [row["table"] for row in results["rows"] if row["table"] not in others]
    for table in dict.fromkeys(trained):
        rows = [row for row in results["rows"] if row["table"] == table and "seconds_per_1000_frames" in row]
        references = [
            {row["n_agents"]: median(row, "total") for row in rows if row["name"] == name}
            for name in (REFERENCE, STOCK)
        ]
        lines += [
            "| agents | | collection | processing | training | total (range) | ratio to IPPO | to stock | parameters | "
            "memory | GFLOP / frame |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *(format_row(row, [totals.get(row["n_agents"]) for totals in references]) for row in rows),
            "",
        ]
    return "\n".join(lines)


def format_simulations(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the two simulations out as a Markdown table, in milliseconds and as ratios of medians."""
    lines = [
        "| agents | environments | step, VMAS | step, ours | ratio | reset, VMAS | reset, ours | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [str(row["n_agents"]), str(row["n_envs"])]
        for part in ("step", "reset"):
            stock, ours = (statistics.median(row["milliseconds"][name][part]) for name in ("vmas", "ours"))
            cells += [f"{stock:.1f} ms", f"{ours:.1f} ms", f"{stock / ours:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def format_foraging(rows: list[dict[str, Any]]) -> list[str]:
    """Lay lbforaging and ours out as a Markdown table, in environment steps per second and as ratios of medians."""
    lines = [
        "| layout | boards of ours | lbforaging | ours, collected | ratio | ours alone | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        reference, collected, alone = (statistics.median(rates) for rates in row["steps_per_second"].values())
        cells = [row["name"], str(row["n_envs"]), f"{reference:,.0f}"]
        for rate in (collected, alone):
            cells += [f"{rate:,.0f}", f"{rate / reference:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def format_threads(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the times of training out as a Markdown table, in seconds per 1,000 frames: a line per busy processes."""
    lines = [f"| busy processes | {' | '.join(WAITS)} |", f"|---|{'---|' * len(WAITS)}"]
    for n_busy in BUSY:
        cells = [f"{median(row, 'training'):.3f}" for row in rows if row["n_busy"] == n_busy]
        lines.append(f"| {n_busy} | {' | '.join(cells)} |")
    return lines


def format_gpu(results: dict[str, Any]) -> list[str]:
    """Lay out what ``gpu.py`` wrote: checks, frames per second with ratios to stock BenchMARL, what was left out."""
    lines = ["| check | found | bound | |", "|---|---|---|---|"]
    for check in results["checks"]:
        found = f"{check['found']:.2g}" if "found" in check else check["error"]
        lines.append(f"| {check['name']} | {found} | {check['bound']:.2g} | {'ok' if check['passed'] else 'FAILED'} |")
    columns = "environments | matmul_precision | update_step | frames per second | to stock | training | memory"
    lines += ["", f"| | {columns} |", "|---|---|---|---|---|---|---|---|"]
    stock = {row["n_envs"]: median(row, "total") for row in results["rows"] if row["name"] == STOCK}
    for row in results["rows"]:
        total, reference = median(row, "total"), stock.get(row["n_envs"])
        cells = [
            row["name"],
            f"{row['n_envs']:,}",
            row["matmul_precision"],
            row["update_step"],
            f"{1000 / total:,.0f}",
            "-" if reference is None else f"{reference / total:.2f}",
            f"{median(row, 'training') / total:.0%}",
            f"{row['peak_memory_mib']:.0f} MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *(f"- left out: {left['name']}: {left['reason']}" for left in results["left_out"])]


def median(row: dict[str, Any], part: str) -> float:
    """Median over all timed iterations."""
    return statistics.median(row["seconds_per_1000_frames"][part])


def format_row(row: dict[str, Any], references: list[float | None]) -> str:
    """One line of a table, with ratios to the totals of references; a dash where nothing was measured."""
    total = row["seconds_per_1000_frames"]["total"]
    cells = [
        str(row["n_agents"]),
        row["name"],
        *(f"{median(row, part):.3f}" for part in PARTS[:-1]),
        f"{median(row, 'total'):.3f} ({min(total):.3f}-{max(total):.3f})",
        *("-" if reference is None else f"{median(row, 'total') / reference:.2f}" for reference in references),
        f"{row['parameters']:,}" if row["parameters"] else "-",
        "-" if row["peak_memory_mib"] is None else f"{row['peak_memory_mib']:.0f} MiB",
        "-" if row["flops_per_frame"] is None else f"{row['flops_per_frame']['total'] / 1e9:.4f}",
    ]
    return f"| {' | '.join(cells)} |"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small batches, one round, the algorithms alone")
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="default: all")
    parser.add_argument("--device", default="cpu", help="of environments, networks and buffers")
    parser.add_argument("--threads", type=int, default=2, help="per process; simulation and foraging take one")
    parser.add_argument("--envs", type=int, default=120, help="environments of the algorithms; a tenth in other tables")
    parser.add_argument("--rounds", type=int, help="processes per row; default 3, short 1")
    parser.add_argument("--iters", type=int, default=3, help="iterations timed in a process")
    parser.add_argument("--output", default="throughput.json", help="where the numbers go")
    parser.add_argument("--request", help=argparse.SUPPRESS)  # what a process of this script is asked for, as JSON
    settings = parser.parse_args()
    settings.tables = settings.tables or (["algorithms"] if settings.short else list(TABLES))
    settings.rounds = settings.rounds or (1 if settings.short else 3)
    return settings


def main() -> None:
    """Measure all rows, or answer the request of a parent process."""
    settings = parse_arguments()
    if settings.request is None:
        try:
            check_output_file("--output", Path(settings.output))
        except OutputError as error:
            sys.exit(str(error))
        print(format_tables(measure_all(settings)))
        return
    request = json.loads(settings.request)
    environment_only = request.pop("environment_only")
    if environment_only:
        request = {name: request[name] for name in ("overrides", "n_iters")}
    print(json.dumps((measure_environment if environment_only else measure)(**request)))


if __name__ == "__main__":
    main()
