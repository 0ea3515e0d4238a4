"""One call of the gate: its checks in order, each before the next costs time."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

from omegaconf import DictConfig

from benchmarl_himpo.benchmark.anchor_measurement import measure_anchors
from benchmarl_himpo.benchmark.expansion import SweepError, read_values
from benchmarl_himpo.benchmark.ledger import now
from benchmarl_himpo.benchmark.provenance import provenance, source_digest
from benchmarl_himpo.benchmark.regression.baseline import (
    Baseline,
    TaskBaseline,
    baseline_file,
    find_baseline,
    load_baseline,
    values_by_task,
)
from benchmarl_himpo.benchmark.regression.quick import check_repeatability, judge_toy
from benchmarl_himpo.benchmark.regression.runs import GateRuns
from benchmarl_himpo.benchmark.regression.stages import Rule, judge_first, judge_second
from benchmarl_himpo.benchmark.regression.verdict import Finding, InconclusiveError, Verdict, overall
from benchmarl_himpo.benchmark.spec import RunSpec

SEED_LISTS = ("baseline_seeds", "first_seeds", "second_seeds")
RESULT_FILE = "regression.json"
CONFIDENCE = 0.95
"""Of the intervals that come with the returns of random actions, which no baseline keeps."""


class Gate:
    """The checks of one call, and what they found so far.

    Args:
        options: see ``conf/regression.yaml``.
        overrides: changes of the runs that are compared with the baseline, in Hydra's syntax.

    Raises:
        ValueError: if an option is out of range, or the mode has no runs to change.
    """

    def __init__(self, options: DictConfig, overrides: Sequence[str]) -> None:
        if overrides and options.mode == "quick":
            raise ValueError(
                f"mode=quick has nothing to change, and {overrides[0]} is none of its options: leave it out"
            )
        self.options, self.overrides = options, overrides
        self.rule = Rule(options.first_alpha, options.second_alpha, options.least_drop)
        self.seeds = _read_seeds(options)
        self.source = source_digest()
        self.folder = Path(options.folder) / self.source
        self.baselines = Path(options.baselines)
        self.findings: list[Finding] = []
        self.digests: dict[str, str] = {}

    @property
    def verdict(self) -> Verdict:
        """What the checks say together."""
        return overall(self.findings)

    def run_quick(self) -> None:
        """The same numbers twice, and the toy task."""
        self._check_repeatability()
        self._check_toy()

    def run_full(self) -> None:
        """The quick part, and where it finds nothing the comparison with the baseline."""
        self.run_quick()
        if self.verdict is not Verdict.OK:
            return
        baseline = find_baseline(self.baselines, self.digests["host"])
        specs = self._plan("first_seeds", "second_seeds")
        baseline.check_configs(specs)
        first = [spec for spec in specs if spec.seed in self.seeds["first_seeds"]]
        second = [spec for spec in specs if spec.seed in self.seeds["second_seeds"]]
        say(f"first stage: {len(first)} runs")
        records = self._runs.do(first)
        is_alarm, finding = judge_first(values_by_task(records), baseline, self.rule)
        self.findings.append(finding)
        if is_alarm:
            say(f"an alarm; second stage: {len(second)} runs")
            records += self._runs.do(second)
            self.findings.append(judge_second(values_by_task(records), baseline, self.rule))

    def take_baseline(self) -> Path:
        """The runs of a new baseline of this machine, and its file.

        Returns:
            The file.

        Raises:
            ValueError: if no reason is given, or a baseline is there and may not be replaced.
            InconclusiveError: if the quick part finds something, or runs failed.
        """
        if not self.options.reason:
            raise ValueError("mode=baseline needs reason='...', a sentence that is kept in the file")
        self._check_repeatability()
        reasons = self._reasons()
        self._check_toy()
        if self.verdict is not Verdict.OK:
            raise InconclusiveError("no baseline is taken of code that does not pass the quick part")
        specs = self._plan("baseline_seeds")
        say(f"baseline: {len(specs)} runs")
        values = values_by_task(self._runs.do(specs))
        made_with = provenance({"cpu"})
        reasons.append({"date": now()[:10], "commit": made_with["git_commit"], "reason": str(self.options.reason)})
        tasks = {spec.choice("task"): spec for spec in specs}
        say("random actions")
        return Baseline(
            host=self.digests["host"],
            provenance=made_with,
            random={"episodes": self.options.random_episodes, "seed": self.options.random_seed},
            reasons=reasons,
            tasks={task: self._task_baseline(spec, values[task]) for task, spec in sorted(tasks.items())},
        ).save(self.baselines)

    def save_result(self) -> Path:
        """Write what was found, and give the path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "mode": self.options.mode,
            "verdict": self.verdict.name.lower(),
            "exit_code": int(self.verdict),
            "source": self.source,
            "digests": self.digests,
            "provenance": provenance({"cpu"}),
            "findings": [{**asdict(finding), "verdict": finding.verdict.name.lower()} for finding in self.findings],
        }
        file = self.folder / RESULT_FILE
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        return file

    @property
    def _runs(self) -> GateRuns:
        options = self.options
        return GateRuns(
            self.folder,
            self.digests["fingerprint"],
            options.engine,
            options.workers,
            options.retries,
        )

    def _check_repeatability(self) -> None:
        say("bit-equality of tiny runs")
        finding, self.digests = check_repeatability()
        self.findings.append(finding)

    def _check_toy(self) -> None:
        say("toy task")
        (record,) = self._runs.do(self._runs.plan(self.options.toy_protocol))
        self.findings.append(judge_toy(record, self.options.toy_threshold))

    def _plan(self, *seed_lists: str) -> list[RunSpec]:
        seeds = [seed for name in seed_lists for seed in self.seeds[name]]
        specs = self._runs.plan(self.options.protocol, seeds, self.overrides)
        if len({spec.choice("task") for spec in specs}) * len(seeds) != len(specs):
            raise ValueError(
                f"protocol={self.options.protocol} has several runs of one task and seed: the gate takes one"
            )
        return specs

    def _reasons(self) -> list[dict[str, object]]:
        """Why there were baselines of this machine before; refuses one that is there unless it may be replaced."""
        file = baseline_file(self.baselines, self.digests["host"])
        if not file.is_file():
            return []
        if not self.options.replace:
            raise ValueError(f"{file} is there: replace=true and a reason replace it, in a commit that is reviewed")
        return list(load_baseline(file).reasons)

    def _task_baseline(self, spec: RunSpec, values: dict[str, float]) -> TaskBaseline:
        experiment, task = spec.config["experiment"], spec.config["task"]
        overrides = [f"task={spec.choice('task')}", *(f"task.{key}={json.dumps(value)}" for key, value in task.items())]
        overrides.append(f"experiment.prefer_continuous_actions={experiment['prefer_continuous_actions']}")
        found = measure_anchors(overrides, self.options.random_episodes, self.options.random_seed, CONFIDENCE)
        config = {key: value for key, value in spec.config.items() if key != "seed"}
        return TaskBaseline(config, spec.config_hash, found["random"].per_agent.value, values)


def say(text: str) -> None:
    """Show what is being done."""
    print(text, file=sys.stderr, flush=True)


def _read_seeds(options: DictConfig) -> dict[str, list[int]]:
    """Read the three lists of seeds; refuses a seed that is in two of them.

    Raises:
        ValueError: naming the lists.
    """
    try:
        seeds = {name: [int(seed) for seed in read_values(name, options[name])] for name in SEED_LISTS}
    except (SweepError, TypeError, ValueError) as error:
        raise ValueError(f"{', '.join(SEED_LISTS)} must be whole numbers such as range(0,20): {error}") from error
    for one, other in combinations(SEED_LISTS, 2):
        both = sorted(set(seeds[one]) & set(seeds[other]))
        if both:
            raise ValueError(f"{one} and {other} both have seed {both[0]}: runs must be fresh in every list")
    return seeds
