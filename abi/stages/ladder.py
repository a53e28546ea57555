"""Job: the result file of a claim about several others, a ladder of sizes (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

from abi import record
from abi.ladders import judge_ladder
from abi.provenance import Job, read_json, sha256_file, write_json

Record = dict[str, Any]


def run(job: Job, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write the result file of a ladder from the result files of its rungs."""
    spec: Record = dict(job.spec)
    claim, rungs = spec["claim"], []
    for path in inputs["rungs"]:
        result = read_json(path, "result")
        known = {key: result[key] for key in ("verdict", "verdict_at_strict_level", "reason")}
        rungs.append({"id": result["claim"]["id"], **known, "sha256": sha256_file(path)})
    write_json(outputs["result"], "ladder", {
        "claim": {"id": spec["id"], **claim}, "scale": spec["scale"], "meaningless": spec["meaningless"],
        "protocol": spec["protocol"], **judge_ladder(rungs), "rungs": rungs,
        "record": record.figures_of(claim["record"]["claim"]) if "claim" in claim["record"] else {},
        "provenance": job.provenance(),
    })  # fmt: skip
