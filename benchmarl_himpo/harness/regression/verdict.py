"""Findings of the gate, and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from benchmarl_himpo.harness.markdown import markdown_table


class Verdict(IntEnum):
    """Verdict of a check; its number is the exit code."""

    OK = 0
    REGRESSED = 1
    INCONCLUSIVE = 2


class InconclusiveError(RuntimeError):
    """The gate cannot decide; the message says what to do."""


@dataclass(frozen=True)
class Finding:
    """Finding of one check."""

    check: str  # its name
    verdict: Verdict
    text: str  # why, in a sentence
    numbers: dict[str, Any] = field(default_factory=dict)  # evidence for the verdict, as JSON


def overall(findings: Sequence[Finding]) -> Verdict:
    """One verdict of several: regressed if a check says so, else inconclusive if one does."""
    verdicts = {finding.verdict for finding in findings}
    return next(v for v in (Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.OK) if v in verdicts or v is Verdict.OK)


def format_findings(findings: Sequence[Finding]) -> str:
    """Format findings as a Markdown table."""
    rows = [(finding.check, finding.verdict.name.lower(), finding.text) for finding in findings]
    return markdown_table(["check", "verdict", ""], rows)
