"""Does the result file of a ladder follow from the result files of its rungs, which lie beside it (standard library only)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from abi.audit.results.findings import NOTE, Checks
from abi.audit.results.heads import check_head, check_parts
from abi.judge.ladder import judge_ladder

Record = Mapping[str, Any]
WORDS = ("verdict", "verdict_at_strict_level", "reason")


class Rung(NamedTuple):
    """The result file of a claim: its document and the hash of its bytes."""

    result: Record
    sha256: str


def check_ladder(checks: Checks, ladder: Record, beside: Mapping[str, Rung], published: Record | None = None) -> None:
    """Add to `checks` whatever of a ladder does not follow from its own leaves and from the results beside it.

    Args: beside: claim id -> result file; published: what the record says of the claim now, if it is to be compared.
    """
    parts = [partial(_head, checks, ladder), partial(_rungs, checks, ladder, beside)]
    check_parts(checks, ladder, parts, published)


def _head(checks: Checks, ladder: Record) -> None:
    check_head(checks, ladder, "judge_ladder")
    provenance, rungs = ladder["provenance"], ladder["rungs"]
    checks.equal("rungs", [rung["id"] for rung in rungs], ladder["claim"]["rungs"], "claim/rungs")
    hashes = sorted(digest for path, digest in provenance["inputs"].items() if "/alignments/" not in path)
    checks.equal("provenance/inputs", hashes, sorted(rung["sha256"] for rung in rungs), "rungs")
    for key, value in judge_ladder(rungs).items():
        checks.equal(key, ladder[key], value, "its rungs")


def _rungs(checks: Checks, ladder: Record, beside: Mapping[str, Rung]) -> None:
    """Compare what is said of every rung with its result file."""
    for i, rung in enumerate(ladder["rungs"]):
        found, leaf = beside.get(rung["id"]), f"rungs/{i}"
        if found is None:
            checks.add(leaf, f"the result file of {rung['id']} is not beside it or cannot be read", NOTE)
            continue
        for key in WORDS:
            checks.equal(f"{leaf}/{key}", rung[key], found.result[key], f"the result file of {rung['id']}")
        checks.equal(f"{leaf}/sha256", rung["sha256"], found.sha256, f"the result file of {rung['id']}")
        for key in ("scale", "meaningless", "protocol"):
            checks.equal(key, ladder[key], found.result[key], f"the result file of {rung['id']}")
