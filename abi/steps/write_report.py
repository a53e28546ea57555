"""Job: the report of a run as one HTML file, Markdown, figures with their numbers, and what made them (no torch)."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from abi.base.files import ROOT, read_json, read_result, sha256_file, write_json, write_text
from abi.base.job import Job
from abi.report.figures.canvas import write
from abi.report.page import html, markdown
from abi.report.page.build import page
from abi.report.page.facts import gather


def run(job: Job, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write `html`, `markdown`, `record` and the folder `figures` from result files and the page that counts them."""
    results = [read_result(path) for path in inputs["results"]]
    counted = read_json(str(inputs["summary"]), "summary")["headline"]["sentence"]
    made = page(gather(results, job.spec, counted, ROOT))
    folder = Path(outputs["figures"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {drawing.name: write(drawing, folder) for drawing in made.drawings()}
    write_text(outputs["html"], html.render(made, figures))
    write_text(outputs["markdown"], markdown.render(made))
    listed = [
        {
            "name": d.name,
            "caption": d.caption,
            **{kind: sha256_file(folder / f"{d.name}.{kind}") for kind in ("svg", "csv")},
        }
        for d in made.drawings()
    ]
    verdicts = {result["claim"]["id"]: result["verdict"] for result in results}
    write_json(outputs["record"], "report", {"verdicts": verdicts, "figures": listed, "provenance": job.provenance()})
