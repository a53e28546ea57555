"""Job: a page that lists verdicts and counts those of published claims, as Markdown, terminal text and JSON (no torch)."""

from collections.abc import Mapping, Sequence

from abi.claims import headline
from abi.provenance import Job, read_result, write_json, write_text
from abi.report import markdown, terminal
from abi.rules import Criteria


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
