"""Job: the transfer table of all pairs and regimes as Markdown, CSV and a figure (no torch)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from abi.base.files import sha256_file, write_text
from abi.base.job import Job
from abi.base.manifests.pages import TransfersManifest
from abi.base.tables import csv_text
from abi.judge.results import Result
from abi.plan.specs.report import TabulateTransfers as Spec
from abi.report.figures import svg_of
from abi.report.transfers import COLUMNS, drawing, page, rows


def run(job: Job[Spec], inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `csv` (six digits) and `figure` (SVG) of the transfers, and `record`: what made them."""
    results = [Result.read(path) for path in inputs]
    found = [[f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row[:-1]] for row in rows(results)]
    write_text(outputs["csv"], csv_text(COLUMNS, found))
    write_text(outputs["markdown"], page(results))
    write_text(outputs["figure"], svg_of(drawing(results)))
    files = {Path(outputs[key]).name: sha256_file(outputs[key]) for key in ("csv", "markdown", "figure")}
    TransfersManifest(rows=len(found), files=files, provenance=job.provenance(outputs)).write(outputs["record"])
