"""Do the figures of a result made of several studies follow from its other leaves (standard library only).

Whatever rests on the evidence alone (tables, curves, matrices, a refutation at the level of one of k) is made again by `--recompute`.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from abi.audit.results.figures import check_fit
from abi.audit.results.findings import Checks
from abi.audit.results.heads import check_head, check_parts, check_strict_level
from abi.judge.ladder import of_several

Record = Mapping[str, Any]


def check_study(checks: Checks, result: Record, published: Record | None = None) -> None:
    """Add to `checks` whatever of a result made of several studies does not follow from its other leaves.

    Args: published: what the record says of the claim now, if it is to be compared.
    """
    studies = [partial(check_fit, checks, result, fit) for fit in result["fits"]]
    head = partial(check_head, checks, result, "judge_study")
    own = [partial(part, checks, result) for part in (_combined, _checks_of_the_original)]
    check_parts(checks, result, [head, *studies, *own], published)


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
    check_strict_level(checks, result)


def _checks_of_the_original(checks: Checks, result: Record) -> None:
    for i, item in enumerate(result["checks"]):
        if item["value"] is None or item["threshold"] is None:
            continue
        below = item["id"] == "S4"
        good = item["value"] < item["threshold"] if below else item["value"] >= item["threshold"]
        if not math.isclose(item["value"], item["threshold"]) and good != item["passed"]:
            checks.add(f"checks/{i}/passed", "is not what value and threshold say")
