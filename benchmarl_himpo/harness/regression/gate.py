"""One call of the gate: its checks, cheapest first."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path

from benchmarl_himpo.harness.composition import compose
from benchmarl_himpo.harness.records.provenance import provenance
from benchmarl_himpo.harness.reference_returns.measurement import measure_reference_returns
from benchmarl_himpo.harness.regression.checkout import OWN_ROOT, resolve_commit, worktree
from benchmarl_himpo.harness.regression.comparison import Rule, Values, judge_first, judge_second
from benchmarl_himpo.harness.regression.quick import check_repeatability, judge_toy
from benchmarl_himpo.harness.regression.runs import GateRun, Side, do, make_side, plan
from benchmarl_himpo.harness.regression.verdict import Finding, Verdict, overall
from benchmarl_himpo.harness.sweeps.execution import check_workers
from benchmarl_himpo.harness.sweeps.expansion import SweepError, read_values

MODES = ("quick", "full")
SEED_LISTS = ("toy_seeds", "first_seeds", "second_seeds")
RESULT_FILE = "regression.json"


@dataclass(frozen=True)
class GateOptions:
    """Options of the gate; see ``conf/regression.yaml``."""

    mode: str
    base: str | None
    folder: Path
    workers: int | None
    retries: int
    protocol: str
    first_seeds: str
    second_seeds: str
    first_alpha: float
    second_alpha: float
    least_drop: float
    random_episodes: int
    random_seed: int
    toy_protocol: str
    toy_seeds: str
    toy_threshold: float

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode} does not exist: choose from {', '.join(MODES)}")
        if self.mode == "full" and self.base is None:
            raise ValueError("mode=full needs base=..., the commit, tag or branch to compare with, such as base=main")
        if self.mode == "quick" and self.base is not None:
            raise ValueError(f"base={self.base} is compared with in mode=full alone: add mode=full, or leave it out")
        if self.random_episodes < 1:
            raise ValueError(f"random_episodes={self.random_episodes} must be 1 or more")
        if not 0 <= self.toy_threshold <= 1:
            raise ValueError(f"toy_threshold={self.toy_threshold:g} must lie between 0 and 1")
        check_workers(self.workers, self.retries)


class Gate:
    """The checks of one call, and their findings so far.

    Args:
        options: see ``conf/regression.yaml``.
        overrides: overrides of the runs of both sides, in Hydra's syntax.

    Raises:
        ValueError: if an option is out of range, or the mode has no runs to override.
        InconclusiveError: if there is no checkout to compare.
    """

    def __init__(self, options: GateOptions, overrides: Sequence[str]) -> None:
        if overrides and options.mode == "quick":
            raise ValueError(
                f"mode=quick has nothing to change, and {overrides[0]} is none of its options: leave it out"
            )
        self.options, self.overrides = options, overrides
        self.rule = Rule(options.first_alpha, options.second_alpha, options.least_drop)
        self.seeds = _read_seeds(options)
        self.base = None if options.base is None else resolve_commit(options.base)
        self.own = make_side("now", OWN_ROOT, options.folder)
        self.findings: list[Finding] = []
        self.digests: dict[str, str] = {}

    @property
    def verdict(self) -> Verdict:
        """Overall verdict of the checks."""
        return overall(self.findings)

    def run_quick(self) -> None:
        """Check repeatability and the toy task."""
        say("bit-equality of tiny runs")
        finding, self.digests = check_repeatability()
        self.findings.append(finding)
        say("toy task")
        self.findings.append(self._check_toy())

    def run_full(self) -> None:
        """The quick part, and, if it passes, the comparison with the base."""
        assert self.base is not None, "the command asks for it"
        first, second = (
            plan(self.options.protocol, self.seeds[name], self.overrides) for name in ("first_seeds", "second_seeds")
        )
        self.run_quick()
        if self.verdict is Verdict.OK:
            with worktree(self.base, self.options.folder / f"base-{self.base[:12]}") as root:
                self._compare(make_side("base", root, self.options.folder), first, second)

    def save_result(self) -> Path:
        """Write the findings, and return the path."""
        self.own.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "mode": self.options.mode,
            "verdict": self.verdict.name.lower(),
            "exit_code": int(self.verdict),
            "base": self.options.base and {"name": self.options.base, "commit": self.base},
            "digests": self.digests,
            "provenance": provenance({"cpu"}),
            "findings": [{**asdict(finding), "verdict": finding.verdict.name.lower()} for finding in self.findings],
        }
        file = self.own.folder / RESULT_FILE
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        return file

    def _compare(self, base: Side, first: Sequence[GateRun], second: Sequence[GateRun]) -> None:
        """Run both stages; without runs if both sides have the same code."""
        if base.folder == self.own.folder:
            text = f"{self.options.base} has the same code and configuration: there is nothing to compare"
            self.findings.append(Finding("comparison", Verdict.OK, text))
            return
        say(f"first stage: {len(first)} pairs of runs")
        sides = self._do([base, self.own], first)
        random = self._random_returns(first)
        is_alarm, finding = judge_first(sides[self.own], sides[base], random, self.rule)
        self.findings.append(finding)
        if is_alarm:
            say(f"an alarm; second stage: {len(second)} pairs of runs")
            sides = self._do([base, self.own], [*first, *second])
            self.findings.append(judge_second(sides[self.own], sides[base], random, self.rule))

    def _check_toy(self) -> Finding:
        """Train as few seeds of the toy task as decide."""
        task, seeds = compose([f"protocol={self.options.toy_protocol}"]).task, self.seeds["toy_seeds"]
        n_most = len(seeds) // 2 + 1
        values: dict[int, float] = {}
        for part in (seeds[:n_most], seeds[n_most:]):
            (found,) = self._do([self.own], plan(self.options.toy_protocol, part))[self.own].values()
            values |= found
            finding = judge_toy(values, len(seeds), task, self.options.toy_threshold)
            if finding is not None:
                return finding
        raise AssertionError("all seeds together decide")

    def _do(self, sides: Sequence[Side], runs: Sequence[GateRun]) -> dict[Side, Values]:
        """Values of the same runs on each side, by task and seed."""
        jobs = [(side, run) for run, side in product(runs, sides)]
        done = do(jobs, self.options.workers, self.options.retries)
        values: dict[Side, dict[str, dict[int, float]]] = {side: {} for side in sides}
        for (side, run), value in done.items():
            values[side].setdefault(run.task, {})[run.seed] = value
        return dict(values)

    def _random_returns(self, runs: Sequence[GateRun]) -> dict[str, float]:
        """The return of the random policy on the task of each run."""
        say("random policy")
        options, returns = self.options, {}
        for run in {run.task: run for run in runs}.values():
            task = [line for line in run.overrides if line.startswith(("task", "experiment.prefer_continuous"))]
            found = measure_reference_returns(task, options.random_episodes, options.random_seed)
            returns[run.task] = found["random"].per_agent.value
        return returns


def say(text: str) -> None:
    """Print the current check."""
    print(text, file=sys.stderr, flush=True)


def _read_seeds(options: GateOptions) -> dict[str, list[int]]:
    """Read the lists of seeds; ValueError if a seed is in two of them."""
    try:
        seeds = {name: [int(seed) for seed in read_values(name, getattr(options, name))] for name in SEED_LISTS}
    except (SweepError, TypeError, ValueError) as error:
        raise ValueError(f"{', '.join(SEED_LISTS)} must be whole numbers such as range(0,20): {error}") from error
    for name in ("first_seeds", "second_seeds"):
        if len(seeds[name]) < 2:
            raise ValueError(
                f"{name}={getattr(options, name)} must be two seeds or more: one pair of runs tests nothing"
            )
    for one, other in combinations(SEED_LISTS, 2):
        both = sorted(set(seeds[one]) & set(seeds[other]))
        if both:
            raise ValueError(f"{one} and {other} both have seed {both[0]}: runs must be fresh in every list")
    return seeds
