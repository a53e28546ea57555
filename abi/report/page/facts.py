"""Everything a report is made of, read once."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from abi.audit.record.data import Judgement
from abi.audit.record.judgement import judge, load
from abi.plan.estimate import Measured, measured_jobs
from abi.report.figures.graph import Edge
from abi.report.tables import in_groups

Record = Mapping[str, Any]
CITATION = {"title": "abi", "version": "unknown", "authors": [{"name": "The abi maintainers"}]}


@dataclass(frozen=True)
class Facts:
    """Results with every regime after its claim, configuration, the record's judgement, and what the run took.

    Args: spec: of `Study.report_spec`; headline: the sentence that counts claims; edges, deviations, citation: from documents.
    """

    results: Sequence[Record]
    spec: Record
    headline: str
    judgement: Judgement
    jobs: Sequence[Measured] = ()
    edges: Sequence[Edge] = ()
    deviations: Sequence[Sequence[str]] = ()
    citation: Record = field(default_factory=lambda: CITATION)

    @property
    def criteria(self) -> Record:
        """The numbers of the protocol."""
        found: Record = self.spec["criteria"]
        return found


def gather(results: Sequence[Record], spec: Record, headline: str, root: Path) -> Facts:
    """Return the facts of a report. Args: root: of the checkout, whose documents are quoted where they are there."""
    graph, deviations, cited = (root / name for name in ("docs/architecture.md", "docs/deviations.md", "CITATION.cff"))
    return Facts(
        results=in_groups([usable(result) for result in results]),
        spec=spec,
        headline=headline,
        judgement=judge(load()),
        jobs=measured_jobs(spec["benchmarks"]),
        edges=rule_edges(_text(graph)),
        deviations=table_rows(_text(deviations)),
        citation=yaml.safe_load(_text(cited)) or CITATION,
    )


def usable(result: Record) -> dict[str, Any]:
    """Return a result with the parts that every page reads; a deciding fit that is not among its fits is none."""
    claim = dict(result["claim"])
    fits = result.get("fits", {})
    if claim.get("fit") not in fits:
        claim.pop("fit", None)
    return {
        "record": {},
        "meaningless": False,
        **result,
        "claim": {"statement": "", "title": claim["id"], **claim},
        "fits": fits,
    }


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
