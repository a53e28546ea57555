"""Job: the transfer table of all pairs and regimes as Markdown, CSV and a figure (no torch)."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from abi.base.files import sha256_file, write_text
from abi.base.job import Job
from abi.base.page_manifests import TransfersManifest
from abi.base.typed import Provenance
from abi.judge.results import Result
from abi.plan.specs.report import TabulateTransfers as Spec
from abi.report.figures.closures import transfer_figure
from abi.report.transfer_table import COLUMNS, Row, page, rows


def run(job: Job[Spec], inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `csv` and `figure` (SVG) of the transfers' results, and `record`, which says what made them."""
    results = [Result.read(path) for path in inputs]
    found = rows(results)
    write_text(outputs["csv"], as_csv(found))
    write_text(outputs["markdown"], page(results))
    transfer_figure(found, outputs["figure"])
    files = {Path(outputs[key]).name: sha256_file(outputs[key]) for key in ("csv", "markdown", "figure")}
    made = Provenance.model_validate(job.provenance())
    TransfersManifest(rows=len(found), files=files, provenance=made).write(outputs["record"])


def as_csv(found: Sequence[Row]) -> str:
    """Return the rows of the table with six significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found:
        cells = [getattr(row, column) for column in COLUMNS]
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()
