"""Job: the result file of a claim made of several studies: verdict, studies, what the original computes (no torch)."""

from collections.abc import Mapping
from typing import Any

from abi.base.files import read_json, write_json
from abi.base.job import Job
from abi.judge.judgement import check_promised
from abi.judge.judgement_of_studies import judged, update_table
from abi.judge.tables import read_promised

Record = dict[str, Any]


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write the result file of a claim made of several studies."""
    spec: Record = dict(job.spec)
    check_promised(inputs)
    evidence, draws = read_promised(inputs["manifests"])
    generation = [
        read_json(path, "generation") for path in (inputs["generation"] if "generation" in inputs.keys() else [])
    ]
    result = judged(spec, evidence, draws, generation[0] if generation else None)
    if "updates" in inputs.keys():
        result["tables"].append(update_table([(path, read_json(path, "batch")) for path in inputs["updates"]]))
    write_json(outputs["result"], "study", {**result, "provenance": job.provenance()})
