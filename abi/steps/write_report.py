"""Job: the report of a run as one HTML file, Markdown, figures with their numbers, and what made them (no torch)."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from abi.base.files import ROOT, sha256_file, write_text
from abi.base.job import Job
from abi.base.manifests.pages import FigureFile, ReportManifest, Summary
from abi.judge.results import read_result
from abi.plan.specs.report import WriteReport as Spec
from abi.report.blocks import html, markdown
from abi.report.figures import write
from abi.report.page import gather, page


def run(job: Job[Spec], inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write `html`, `markdown`, `record` and the folder `figures` from result files and the page that counts them."""
    results = [read_result(path) for path in inputs["results"]]
    counted = Summary.read(str(inputs["summary"])).headline.sentence
    committed = [read_result(path) for path in inputs["committed"]]
    made = page(gather(results, job.spec, counted, ROOT, committed))
    folder = Path(outputs["figures"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = {drawing.name: write(drawing, folder) for drawing in made.drawings()}
    write_text(outputs["html"], html(made, figures))
    write_text(outputs["markdown"], markdown(made))
    files = []
    for drawing in made.drawings():
        svg, csv = (sha256_file(folder / f"{drawing.name}.{kind}") for kind in ("svg", "csv"))
        files.append(FigureFile(name=drawing.name, caption=drawing.caption, svg=svg, csv=csv))
    verdicts = {result.claim.id: result.verdict for result in results}
    ReportManifest(verdicts=verdicts, figures=files, provenance=job.provenance(outputs)).write(outputs["record"])
