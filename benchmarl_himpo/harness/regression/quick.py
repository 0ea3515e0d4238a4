"""The quick part of the gate: repeatability of tiny runs, and learning of a toy task."""

from __future__ import annotations

from collections.abc import Mapping

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


def judge_toy(values: Mapping[int, float], n_seeds: int, task: DictConfig, threshold: float) -> Finding | None:
    """Whether most seeds have learned the toy task, whose maximal return is 1 per step.

    Few seeds end in a bad policy, and which ones depends on rounding; broken code fails with every seed. The last
    evaluation of most seeds must reach ``threshold``, a fraction of the maximal return.

    Args:
        values: return of the last evaluation by seed, of the seeds that were run.
        n_seeds: number of all seeds.
        task: options of the toy task.
        threshold: the fraction.

    Returns:
        The finding; None while the seeds that were not run decide.
    """
    shares = {seed: value / task.max_steps for seed, value in values.items()}
    n_learned, n_needed = sum(share >= threshold for share in shares.values()), n_seeds // 2 + 1
    if n_learned < n_needed <= n_learned + n_seeds - len(shares):
        return None
    seeds, chance = ", ".join(f"{share:.3f}" for share in shares.values()), 1 / task.n_targets
    text = (
        f"{seeds} of the best return: {n_learned} of {n_seeds} seeds reach {threshold}, and {n_needed} must; chance is "
        f"{chance:.2f}"
    )
    numbers = {"shares": shares, "n_learned": n_learned, "threshold": threshold, "chance": chance}
    return Finding("toy task", Verdict.OK if n_learned >= n_needed else Verdict.REGRESSED, text, numbers)
