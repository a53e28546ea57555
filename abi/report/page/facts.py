"""Everything a report is made of, read once."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from abi.audit.record.data import Judgement
from abi.audit.record.judgement import judge, load
from abi.judge.results import AnyResult
from abi.plan.measured import Measured, measured_jobs
from abi.plan.specs.report import WriteReport
from abi.report.figures.graph import Edge
from abi.report.words import in_groups


@dataclass(frozen=True)
class Citation:
    """How this repository is cited (CITATION.cff)."""

    title: str = "abi"
    version: str = "unknown"
    authors: tuple[str, ...] = ("The abi maintainers",)


@dataclass(frozen=True)
class Facts:
    """Results with every regime after its claim, configuration, the record's judgement, and what the run took.

    Args: headline: the sentence that counts claims; edges, deviations, citation: from documents.
    """

    results: Sequence[AnyResult]
    spec: WriteReport
    headline: str
    judgement: Judgement
    jobs: Sequence[Measured] = ()
    edges: Sequence[Edge] = ()
    deviations: Sequence[Sequence[str]] = ()
    citation: Citation = Citation()


def gather(results: Sequence[AnyResult], spec: WriteReport, headline: str, root: Path) -> Facts:
    """Return the facts of a report. Args: root: of the checkout, whose documents are quoted where they are there."""
    graph, deviations, cited = (root / name for name in ("docs/architecture.md", "docs/deviations.md", "CITATION.cff"))
    return Facts(
        results=in_groups(results),
        spec=spec,
        headline=headline,
        judgement=judge(load()),
        jobs=measured_jobs(spec.benchmarks),
        edges=rule_edges(_text(graph)),
        deviations=table_rows(_text(deviations)),
        citation=citation_of(_text(cited)),
    )


def citation_of(text: str) -> Citation:
    """Return what a CITATION.cff says, a default of nothing."""
    found = yaml.safe_load(text)
    if not found:
        return Citation()
    authors = [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in found["authors"]]
    return Citation(found["title"], str(found["version"]), tuple(authors))


def rule_edges(text: str) -> list[Edge]:
    """Return the edges of the graph of rules that docs/architecture.md quotes."""
    part = text.partition("<!-- dag:begin")[2].partition("<!-- dag:end")[0]
    return [(start, end) for start, end in re.findall(r"^\s+(\w+) --> (\w+)$", part, re.MULTILINE)]


def table_rows(text: str) -> list[list[str]]:
    """Return the rows of the first Markdown table of a text, its head first."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    reader = csv.reader((line.strip("|") for line in lines), delimiter="|", quoting=csv.QUOTE_NONE)
    rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if not set("".join(row)) <= set("-: ")]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
