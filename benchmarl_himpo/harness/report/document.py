"""Data structures of a report: its content, and the elements of pages and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarl_himpo.harness.reference_returns.reference_returns import ReferenceTable
from benchmarl_himpo.harness.report.analysis import Analysis
from benchmarl_himpo.harness.report.comparison import Comparison
from benchmarl_himpo.harness.report.figures import Picture
from benchmarl_himpo.harness.statistics import Bootstrap
from benchmarl_himpo.harness.sweeps.protocol import Protocol


@dataclass(frozen=True)
class Table:
    """A table: the first column names its rows."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: list[tuple[str, str]] = field(default_factory=list)  # summary, plain text


@dataclass(frozen=True)
class Content:
    """The content of a report."""

    comparison: Comparison
    analysis: Analysis
    references: ReferenceTable
    settings: Bootstrap
    protocols: Sequence[Protocol] = ()  # of the runs
