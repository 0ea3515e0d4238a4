"""The quick part: the same numbers twice, and a toy task that is learned or not."""

from __future__ import annotations

from benchmarl_himpo.benchmark.fingerprint import GOLDEN_RUNS, take_digests
from benchmarl_himpo.benchmark.record import RunRecord
from benchmarl_himpo.benchmark.regression.baseline import last_value
from benchmarl_himpo.benchmark.regression.verdict import Finding, InconclusiveError, Verdict


def check_repeatability() -> tuple[Finding, dict[str, str]]:
    """Do all golden runs twice, in processes of their own, and compare every bit of parameters and returns.

    Returns:
        What was found, and the digests by name.

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


def judge_toy(record: RunRecord, threshold: float) -> Finding:
    """Say whether the toy task was learned.

    Args:
        record: the run.
        threshold: least share of the best return, 1 per step.

    Returns:
        What was found.
    """
    options = record.config["task"]
    share, chance = last_value(record) / options["max_steps"], 1 / options["n_targets"]
    verdict = Verdict.OK if share >= threshold else Verdict.REGRESSED
    relation = "reaches" if verdict is Verdict.OK else "misses"
    text = f"{share:.3f} of the best return {relation} {threshold}; chance is {chance:.2f}"
    return Finding("toy task", verdict, text, {"share": share, "threshold": threshold, "chance": chance})
