"""The quick part of the gate: repeatability of tiny runs, and learning of a toy task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from omegaconf import DictConfig

from benchmarl_himpo.harness.records.fingerprint import GOLDEN_RUNS, take_digests
from benchmarl_himpo.harness.regression.verdict import Finding, InconclusiveError, Verdict


def check_repeatability() -> tuple[Finding, dict[str, str]]:
    """Run all golden runs twice in new processes, compare them bitwise, and return the first digests by name.

    Raises:
        InconclusiveError: if a golden run fails.
    """
    try:
        first, second = (take_digests(*GOLDEN_RUNS) for _ in range(2))
    except RuntimeError as error:
        raise InconclusiveError(str(error)) from error
    different = [name for name in first if first[name] != second[name]]
    text = (
        f"the runs of {' and '.join(different)} gave other numbers the second time: something is not seeded"
        if different
        else f"{sum(map(len, GOLDEN_RUNS.values()))} tiny runs gave the same parameters and returns twice"
    )
    verdict = Verdict.REGRESSED if different else Verdict.OK
    return Finding("bit-equality", verdict, text, {"first": first, "second": second}), first


def judge_toy(values: Mapping[int, float], task: DictConfig, threshold: float) -> Finding:
    """Whether most seeds have learned the toy task, whose maximal return is 1 per step.

    Few seeds end in a bad policy, and which ones depends on rounding; broken code fails with every seed. The median of
    the last evaluations must reach ``threshold``, a fraction of the maximal return.
    """
    shares = {seed: value / task.max_steps for seed, value in values.items()}
    median, chance = float(np.median(list(shares.values()))), 1 / task.n_targets
    verdict = Verdict.OK if median >= threshold else Verdict.REGRESSED
    relation = "reaches" if verdict is Verdict.OK else "misses"
    seeds = ", ".join(f"{share:.3f}" for share in shares.values())
    text = f"the median of {seeds} of the best return {relation} {threshold}; chance is {chance:.2f}"
    return Finding(
        "toy task", verdict, text, {"shares": shares, "median": median, "threshold": threshold, "chance": chance}
    )
