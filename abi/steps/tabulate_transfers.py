"""Job: the transfer table of all pairs and regimes as Markdown, CSV and a figure (no torch)."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from abi.base.files import read_json, sha256_file, write_json, write_text
from abi.base.job import Job
from abi.report.figures.closures import transfer_figure
from abi.report.transfers import COLUMNS, markdown, rows


def run(job: Job, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `csv` and `figure` (SVG) of the transfers' result files, and `record`, which says what made them."""
    results = [read_json(path, "result") for path in inputs]
    found = rows(results)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in found])
    write_text(outputs["csv"], text.getvalue())
    write_text(outputs["markdown"], markdown(results))
    transfer_figure(found, outputs["figure"])
    kept = ("csv", "markdown", "figure")
    files = {Path(outputs[key]).name: sha256_file(outputs[key]) for key in kept}
    write_json(outputs["record"], "transfers", {"rows": len(found), "files": files, "provenance": job.provenance()})
