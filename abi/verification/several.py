"""Do the figures of a result made of several studies follow from its other leaves (standard library only).

Whatever rests on the evidence alone (tables, curves, matrices, a refutation at the level of one of k) is made again by `--recompute`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from abi.ladders import of_several
from abi.verification.figures import check_fit
from abi.verification.findings import Checks

Record = Mapping[str, Any]


def check_study(checks: Checks, result: Record, published: Record | None = None) -> None:
    """Add to `checks` whatever of a result made of several studies does not follow from its other leaves.

    Args: published: what the record says of the claim now, if it is to be compared.
    """
    studies: list[Callable[[Checks, Record], None]] = [partial(check_fit, fit=fit) for fit in result["fits"]]
    for part in [_head, *studies, _combined, _checks_of_the_original]:
        try:
            part(checks, result)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, StopIteration, ZeroDivisionError) as error:
            checks.add("", f"lacks a part or holds one of another kind ({type(error).__name__}: {error})")
    if published is not None:
        checks.equal("record", result["record"], published, "config/record")


def _head(checks: Checks, result: Record) -> None:
    provenance = result["provenance"]
    spec = provenance["spec"]
    expected = {"claim": {"id": spec["id"], **spec["claim"]}, "protocol": spec["protocol"]["protocol"]}
    expected |= {key: spec[key] for key in ("scale", "meaningless")}
    for key, value in expected.items():
        checks.equal(key, result[key], value, "provenance/spec")
    checks.equal("provenance/rule", provenance["rule"], "judge_study", "the workflow")


def _combined(checks: Checks, result: Record) -> None:
    """Check the verdict of all studies, as far as theirs decide it: a refutation is found at the level of one of k."""
    fits = result["fits"]
    words = [fit["verdict"] for fit in fits.values()]
    if words:
        possible = {of_several(words, refuted) for refuted in (False, "REFUTED" in words)}
        sentence = f"is {result['verdict']}, with studies that are {', '.join(sorted(set(words)))}"
        checks.holds("verdict", result["verdict"] in possible, sentence)
    if set(words) == {"SUPPORTED"}:
        [first, *others] = fits.values()
        reason = f"all {len(fits)} studies are SUPPORTED" if others else first["reason"]
        checks.equal("reason", result["reason"], reason, "its studies")
    if result["verdict_at_strict_level"] == "SUPPORTED":
        good = result["verdict"] == "SUPPORTED"
        checks.holds("verdict_at_strict_level", good, "SUPPORTED with wider intervals, yet not with these")


def _checks_of_the_original(checks: Checks, result: Record) -> None:
    for i, item in enumerate(result["checks"]):
        if item["value"] is None or item["threshold"] is None:
            continue
        below = item["id"] == "S4"
        good = item["value"] < item["threshold"] if below else item["value"] >= item["threshold"]
        if not math.isclose(item["value"], item["threshold"]) and good != item["passed"]:
            checks.add(f"checks/{i}/passed", "is not what value and threshold say")
