"""Job: a page that lists verdicts and counts those of published claims: Markdown, terminal text, JSON (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.files import write_text
from abi.base.job import Job
from abi.base.manifests.pages import Summary
from abi.judge.results import read_result
from abi.plan.specs.judge import Summarise as Spec
from abi.report.verdicts import headline_of, summary_pages


def run(job: Job[Spec], inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `text` and `record` of the result files of claims, regimes and ladders."""
    results, spec = [read_result(path) for path in inputs], job.spec
    words = {result.claim.id: result.verdict for result in results}
    found = headline_of(results, spec)
    pages = summary_pages(results, found.sentence)
    write_text(outputs["markdown"], pages[".md"])
    write_text(outputs["text"], pages[".txt"])
    summary = {"verdicts": words, "headline": found, "provenance": job.provenance(outputs)}
    Summary.model_validate(summary).write(outputs["record"])
