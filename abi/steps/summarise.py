"""Job: a page that lists verdicts and counts those of published claims, as Markdown, terminal text and JSON (no torch)."""

from collections.abc import Mapping, Sequence

from abi.base.files import read_result, write_json, write_text
from abi.base.job import Job
from abi.judge.contrasts import Criteria
from abi.judge.verdict import headline
from abi.report.tables import markdown, terminal


def run(job: Job, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
    """Write `markdown`, `text` and `record` of the result files of claims, regimes and ladders."""
    results = [read_result(path) for path in inputs]
    words = {result["claim"]["id"]: result["verdict"] for result in results}
    strict = {result["claim"]["id"]: result["verdict_at_strict_level"] for result in results}
    spec, counted = job.spec, set(job.spec["counted"])
    found = headline(
        {name: word for name, word in words.items() if name in counted},
        {name: word for name, word in strict.items() if name in counted},
        Criteria.from_mapping(spec["protocol"]["criteria"]),
        spec["n_claims"],
    )
    write_text(outputs["markdown"], markdown(results, found["sentence"]))
    write_text(outputs["text"], terminal(results, found["sentence"]))
    write_json(outputs["record"], "summary", {"verdicts": words, "headline": found, "provenance": job.provenance()})
