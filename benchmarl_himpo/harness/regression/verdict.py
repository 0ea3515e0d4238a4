"""What the gate found, and how that becomes an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from benchmarl_himpo.harness.markdown import markdown_table


class Verdict(IntEnum):
    """What a check says; its number is the exit code."""

    OK = 0
    REGRESSED = 1
    INCONCLUSIVE = 2


class InconclusiveError(RuntimeError):
    """The gate cannot judge; the message says what to do."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str  # its name
    verdict: Verdict
    text: str  # why, in a sentence
    numbers: dict[str, Any] = field(default_factory=dict)  # what the verdict rests on, as JSON


def overall(findings: Sequence[Finding]) -> Verdict:
    """One verdict of several: regressed if a check says so, else inconclusive if one does."""
    verdicts = {finding.verdict for finding in findings}
    return next(v for v in (Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.OK) if v in verdicts or v is Verdict.OK)


def format_findings(findings: Sequence[Finding]) -> str:
    """Lay findings out as a Markdown table."""
    rows = [(finding.check, finding.verdict.name.lower(), finding.text) for finding in findings]
    return markdown_table(["check", "verdict", ""], rows)
