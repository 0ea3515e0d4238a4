"""Check what only a GPU can show, then measure what it gives: one script for a few minutes on a fresh machine.

    python benchmarks/gpu.py                                         # six minutes on one CUDA device, to gpu.json
    python benchmarks/gpu.py --device cpu --envs 4 --algorithms himppo --minutes 1    # a rehearsal, as the tests do it

The checks come first: they compare the device with the CPU, with itself after a checkpoint, and updates that are
replayed with updates that are not. Rows of the table follow in the order of what they tell, each in turn in this
process; what the time does not allow is listed as left out, and what cannot be done here with the reason. The JSON file
is written after every answer, and ``throughput.py`` lays it out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from throughput import ALGORITHMS, REFERENCE, STOCK, describe_machine, format_tables, measure, row
from torchrl.envs.utils import ExplorationType, set_exploration_type

import benchmarl_himpo
from benchmarl_himpo.harness.checks import RequestError
from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.output import OutputError, check_output_file, write_whole
from benchmarl_himpo.harness.runs import ResumableExperiment
from benchmarl_himpo.harness.runs.training import config_to_continue, load_experiment
from benchmarl_himpo.harness.runs.update import UPDATE_STEPS
from benchmarl_himpo.hierarchy.keys import HierarchyKeys

WAYS = (("highest", "eager"), ("highest", "cudagraphs"), ("high", "cudagraphs"), ("high", "eager"), ("medium", "eager"))
"""Precisions of matrix products and ways to compute updates, in the order in which they are measured."""
RATIO_BOUNDS = {"highest": 1e-4, "high": 2.0**-10, "medium": 2.0**-10}
"""Largest log-ratio before the first update: of float32 summed in another order, a quarter of a step of bfloat16."""
TOLERANCE = 1e-4
"""Largest difference between devices, or between ways to compute an update, relative to the largest number."""
OF_CHANGE = 1e-2
"""Largest difference between what two ways to compute updates change, relative to the change: Adam's first steps
enlarge rounding where a gradient is next to zero."""
SMALL = [
    "task=vmas/sampling",
    "task.max_steps=20",
    "experiment.max_n_frames=800",
    "experiment.on_policy_n_envs_per_worker=20",
    "experiment.on_policy_collected_frames_per_batch=400",
    "experiment.on_policy_minibatch_size=100",
    "experiment.on_policy_n_minibatch_iters=2",
    "experiment.evaluation=false",
    "experiment.loggers=[]",
    "experiment.create_json=false",
    "experiment.checkpoint_interval=400",
]
"""Two iterations of eight minibatches, with a checkpoint after each."""


# Checks: each gives the number that decides, which must not be above a bound


class Checks:
    """Small experiments on a device, and what must hold of them.

    Args:
        device: the device.
        folder: where they write.
    """

    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder

    def build(self, *overrides: str, device: str | None = None) -> ResumableExperiment:
        """Build default HiMPPO with a dynamic graph, or what overrides say."""
        devices = [f"experiment.{kind}_device={device or self.device}" for kind in ("sampling", "train", "buffer")]
        own = ["algorithm=himppo", f"experiment.save_folder={self.folder}"]
        cfg = compose([*SMALL, *devices, *own, *overrides], return_hydra_config=True)
        return load_experiment(cfg, cfg.hydra.runtime.choices)

    def trained(self, *overrides: str) -> ResumableExperiment:
        """Run one to its end."""
        experiment = self.build(*overrides)
        experiment.run()
        return experiment

    def all(self) -> Iterator[tuple[str, float, Callable[[], float]]]:
        """Yield every check: its name, the bound, and what gives the number."""
        for precision, bound in RATIO_BOUNDS.items():
            yield f"log-ratio before the first update, {precision}", bound, lambda p=precision: self.log_ratio(p)
        yield "policy and dynamic graph against the CPU", TOLERANCE, self.policy_against_cpu
        yield "advantages, losses and gradients against the CPU", TOLERANCE, self.losses_against_cpu
        yield "two iterations against one that is resumed", 0.0, self.resumed
        for algorithm in ("himppo", "himppo_flat", REFERENCE):
            yield f"replayed updates against others, {algorithm}", OF_CHANGE, lambda a=algorithm: self.replayed(a)

    def log_ratio(self, precision: str) -> float:
        """How far the log-probabilities of a batch are from those it was collected with."""
        experiment = self.build(f"matmul_precision={precision}")
        keys, batch, policy = HierarchyKeys("agents"), next(iter(experiment.collector)), experiment.policy[0]
        largest = 0.0
        for level, actor in enumerate(policy.actors):
            rows = batch[policy.hierarchy.layout.is_due(batch.get(keys.clock).squeeze(-1), level)]
            with torch.no_grad():
                log_prob = actor.get_dist(rows.clone()).log_prob(rows.get(keys[level].action))
            largest = max(largest, (log_prob - rows.get(keys[level].log_prob)).abs().max().item())
        return largest

    def policy_against_cpu(self) -> float:
        """Clusterings, edges, goals and actions of the same observations and parameters, without sampling."""
        there, here, batch = self._pair()
        steps, differences = batch.select(*here.policy[0].in_keys), []
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            for step in steps.unbind(1):
                own, other = here.policy(step.clone()), there.policy(step.to(self.device))
                differences += [_difference(own.get(key), other.get(key)) for key in here.policy[0].held_keys]
                differences.append(_difference(own.get(("agents", "action")), other.get(("agents", "action"))))
        return max(differences)

    def losses_against_cpu(self) -> float:
        """What a batch is trained with and on, from the same parameters."""
        there, here, batch = self._pair("algorithm.critic_rows=all")
        losses, gradients = [], []
        for experiment, device in ((here, "cpu"), (there, self.device)):
            processed = experiment.algorithm.process_batch("agents", batch.clone().to(device))
            result = experiment.losses["agents"](processed.reshape(-1))
            total = sum(value for name, value in result.items() if name.startswith("loss_"))
            parameters = list(experiment.losses["agents"].parameters())
            gradients.append(torch.autograd.grad(total, parameters, allow_unused=True))
            known = [value for name, value in result.items() if "entropy" not in name]  # workers' is sampled
            losses.append([*known, processed.get(HierarchyKeys("agents")[0].advantage)])
        pairs = [*zip(*losses, strict=True), *((a, b) for a, b in zip(*gradients, strict=True) if a is not None)]
        return max(_difference(own, other) for own, other in pairs)

    def _pair(self, *overrides: str) -> tuple[ResumableExperiment, ResumableExperiment, Any]:
        """An experiment on the device and one on the CPU with the same parameters, and a batch from the CPU."""
        there, here = self.build(*overrides), self.build(*overrides, device="cpu")
        there.losses["agents"].load_state_dict(here.losses["agents"].state_dict())
        return there, here, next(iter(here.collector))

    def resumed(self) -> float:
        """Parameters after two iterations, and after one and one that goes on from its checkpoint."""
        whole, half = self.trained(), self.trained("experiment.max_n_frames=400")
        cfg, choices = config_to_continue(Path(half.folder_name), ["experiment.max_n_frames=800"])
        again = load_experiment(cfg, choices, resumes=True)
        again.run()
        return _difference_of_parameters(whole, again)

    def replayed(self, algorithm: str) -> float:
        """Changes of the parameters in eight updates, six of them replayed, beside those operation by operation."""
        runs = [self.build(f"algorithm={algorithm}", f"update_step={step}") for step in UPDATE_STEPS]
        batch = runs[0].algorithm.process_batch("agents", next(iter(runs[0].collector))).reshape(-1)
        changes = []
        for experiment in runs:
            parameters = list(experiment.losses["agents"].parameters())
            before = [parameter.detach().clone() for parameter in parameters]
            minibatches = iter(batch.split(len(batch) // 8))
            experiment.replay_buffers["agents"].sample = lambda minibatches=minibatches: next(minibatches).clone()
            for _ in range(8):
                experiment._optimizer_loop("agents")
            after = zip(parameters, before, strict=True)
            changes.append(torch.cat([(new.detach() - old).flatten() for new, old in after]))
        return float((changes[0] - changes[1]).norm() / changes[0].norm())


def _difference(own: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the largest number where that is above one."""
    own, other = own.detach().double().cpu(), other.detach().double().cpu()
    return float((own - other).abs().max() / own.abs().max().clamp(min=1))


def _difference_of_parameters(own: ResumableExperiment, other: ResumableExperiment) -> float:
    pairs = zip(own.losses["agents"].parameters(), other.losses["agents"].parameters(), strict=True)
    return max(_difference(a, b) for a, b in pairs)


# Rows of the table


def plan(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """List what to measure: first every algorithm as it is by default, then the other ways, small batches first."""
    stock = [(STOCK, n_envs, "highest", "eager") for n_envs in settings.envs]
    ours = [(name, n_envs, *way) for way in WAYS for n_envs in settings.envs for name in settings.algorithms]
    rows = []
    for name, n_envs, precision, step in [*stock, *ours]:
        size = argparse.Namespace(envs=n_envs, short=False, device=settings.device)
        own = [] if name == STOCK else [f"matmul_precision={precision}", f"update_step={step}"]
        task = row(name, "gpu", 3, [*ALGORITHMS[name], *own], size)
        rows.append(task | {"n_envs": n_envs, "matmul_precision": precision, "update_step": step})
    return rows


def measure_row(task: dict[str, Any], settings: argparse.Namespace, folder: str) -> None:
    """Measure one row in this process."""
    if settings.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    overrides = [*task["overrides"], f"experiment.save_folder={folder}"]
    task |= measure(overrides, settings.iters, count_flops=False, stock=task["name"] == STOCK)


class Budget:
    """Says what still fits: a row of ten times the environments is taken to last as long as six small ones."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.lasted: dict[int, float] = {}

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def fits(self, n_envs: int) -> bool:
        """Whether a row with so many environments is likely to end in time."""
        smaller = [6 * seconds for known, seconds in self.lasted.items() if known < n_envs]
        return self.left > self.lasted.get(n_envs, max(smaller, default=0.0))


def run_all(settings: argparse.Namespace) -> dict[str, Any]:
    """Do the checks and then the rows, and keep each answer at once."""
    budget, rows = Budget(settings.minutes), plan(settings)
    machine = describe_machine(argparse.Namespace(device=settings.device, threads=torch.get_num_threads()))
    shown = {"short": False} | vars(settings) | {"output": None}
    results: dict[str, Any] = {"settings": shown, "machine": machine, "checks": [], "rows": [], "left_out": []}

    def keep(said: str) -> None:
        print(f"[{60 * settings.minutes - budget.left:5.0f} s] {said}", file=sys.stderr, flush=True)
        write_whole(Path(settings.output), json.dumps(results, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        for name, bound, check in Checks(settings.device, Path(folder)).all():
            if budget.left <= 0:
                results["left_out"].append({"name": name, "reason": "no time"})
                continue
            try:
                found = check()
                results["checks"].append({"name": name, "found": found, "bound": bound, "passed": found <= bound})
                keep(f"{name}: {found:.2g}, at most {bound:.2g}: {'passed' if found <= bound else 'FAILED'}")
            except RequestError as error:
                results["left_out"].append({"name": name, "reason": str(error)})
                keep(f"{name}: left out, {error}")
            except Exception as error:  # what a check finds must not keep the others from being done
                results["checks"].append({"name": name, "error": repr(error)[:2000], "bound": bound, "passed": False})
                keep(f"{name}: FAILED, {error!r}"[:2000])
        for task in rows:
            name = f"{task['name']}, {task['n_envs']} envs, {task['matmul_precision']}, {task['update_step']}"
            if not budget.fits(task["n_envs"]):
                results["left_out"].append({"name": name, "reason": "no time"})
                continue
            started = time.monotonic()
            try:
                measure_row(task, settings, folder)
            except RequestError as error:
                results["left_out"].append({"name": name, "reason": str(error)})
                keep(f"{name}: left out, {error}")
                continue
            except Exception as error:  # nor a row
                results["left_out"].append({"name": name, "reason": f"failed: {error!r}"[:2000], "failed": True})
                keep(f"{name}: FAILED, {error!r}"[:2000])
                continue
            budget.lasted[task["n_envs"]] = time.monotonic() - started
            results["rows"].append(task)
            keep(f"{name}: {1000 / min(task['seconds_per_1000_frames']['total']):,.0f} frames per second")
    keep(f"{len(results['rows'])} rows measured, {len(results['left_out'])} left out")
    return results


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="of environments, networks and buffers")
    parser.add_argument("--minutes", type=float, default=6.0, help="after which nothing more is begun")
    parser.add_argument("--envs", type=int, nargs="+", default=[600, 6000], help="environments of the rows")
    algorithms = [name for name in ALGORITHMS if name != STOCK]
    parser.add_argument("--algorithms", nargs="+", choices=algorithms, default=["himppo", "himppo_flat", REFERENCE])
    parser.add_argument("--iters", type=int, default=1, help="iterations timed in a row, after one that is not")
    parser.add_argument("--output", default="gpu.json", help="where the numbers go")
    return parser.parse_args()


def main() -> None:
    """Check, measure and print the table; exits with 1 if a check or a row failed."""
    settings = parse_arguments()
    try:
        check_output_file("--output", Path(settings.output))
    except OutputError as error:
        sys.exit(str(error))
    benchmarl_himpo.register()
    results = run_all(settings)
    print(format_tables(results))
    has_failed = [not check["passed"] for check in results["checks"]] + ["failed" in row for row in results["left_out"]]
    sys.exit(any(has_failed))


if __name__ == "__main__":
    main()
