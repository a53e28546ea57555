"""Job: the summary of all claims as Markdown, terminal text and JSON (no torch)."""

from collections.abc import Mapping, Sequence

from abi.claims import headline
from abi.provenance import Job, read_json, write_json, write_text
from abi.report import markdown, terminal
from abi.rules import Criteria


def run(job: Job, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `text` and `record` of the claims' result files."""
    results = [read_json(path, "result") for path in inputs]
    words = {result["claim"]["id"]: result["verdict"] for result in results}
    strict = {result["claim"]["id"]: result["verdict_at_strict_level"] for result in results}
    counted = headline(words, strict, Criteria.from_mapping(job.spec["protocol"]["criteria"]))
    write_text(outputs["markdown"], markdown(results, counted["sentence"]))
    write_text(outputs["text"], terminal(results, counted["sentence"]))
    write_json(outputs["record"], "summary", {"verdicts": words, "headline": counted, "provenance": job.provenance()})
