"""Job: the result file of a claim about several others: a ladder of sizes, or the original's aggregate (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

from abi.base.files import read_json, read_result, sha256_file, write_json
from abi.base.job import Job
from abi.judge.aggregate import checks_of
from abi.judge.ladder import judge_ladder
from abi.judge.published import figures_of

Record = dict[str, Any]


def run(job: Job, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, str]) -> None:
    """Write the result file of a ladder or an aggregate from the result files of its rungs."""
    spec: Record = dict(job.spec)
    claim, rungs, results = spec["claim"], [], {}
    for path in inputs["rungs"]:
        result = read_result(path)
        known = {key: result[key] for key in ("verdict", "verdict_at_strict_level", "reason")}
        rungs.append({"id": result["claim"]["id"], **known, "sha256": sha256_file(path)})
        results[result["claim"]["id"]] = result
    checks = {"checks": checks_of(results, alignments_of(inputs))} if "checks" in claim else {}
    write_json(outputs["result"], "ladder", {
        "claim": {"id": spec["id"], **claim}, "scale": spec["scale"], "meaningless": spec["meaningless"],
        "protocol": spec["protocol"], **judge_ladder(rungs), "rungs": rungs, **checks,
        "record": figures_of(claim["record"]["claim"]) if "claim" in claim["record"] else {},
        "provenance": job.provenance(),
    })  # fmt: skip


def alignments_of(inputs: Mapping[str, Sequence[str]]) -> dict[str, list[Record]]:
    """Return claim -> what the manifests of its alignments say: `<...>/alignments/<claim>/<batch>.json`."""
    found: dict[str, list[Record]] = {}
    for path in inputs["alignments"]:
        found.setdefault(path.split("/")[-2], []).extend(read_json(path, "alignment")["alignments"])
    return found
