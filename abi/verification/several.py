"""Do the figures of a result made of several studies follow from its other leaves (standard library only).

Whatever rests on the evidence alone (every study's verdict, tables, curves, matrices) is made again by `--recompute`.
"""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from abi.verification.figures import check_arm, check_counts
from abi.verification.findings import Checks

Record = Mapping[str, Any]


def check_study(checks: Checks, result: Record, published: Record | None = None) -> None:
    """Add to `checks` whatever of a result made of several studies does not follow from its other leaves.

    Args: published: what the record says of the claim now, if it is to be compared.
    """
    for part in (_head, _studies, _checks_of_the_original):
        try:
            part(checks, result)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
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


def _studies(checks: Checks, result: Record) -> None:
    criteria = result["provenance"]["spec"]["protocol"]["criteria"]
    words = [fit["verdict"] for fit in result["fits"].values()]
    if words and set(words) <= {"SUPPORTED"}:
        checks.equal("verdict", result["verdict"], "SUPPORTED", "its studies")
    elif words:
        checks.holds("verdict", result["verdict"] != "SUPPORTED", "is SUPPORTED beside a study that is not")
    for name, fit in result["fits"].items():
        root = f"fits/{name}"
        checks.equal(f"{root}/fit", fit["fit"], name, "its key")
        study = SimpleNamespace(fit=fit, criteria=criteria, root=root, arms=fit["arms"])
        check_counts(checks, study)
        for arm, scopes in fit["arms"].items():
            for scope in scopes.keys() - {"draws"}:
                for metric, entry in scopes[scope].items():
                    check_arm(checks, study, f"{root}/arms/{arm}/{scope}/{metric}", entry)
        _decided(checks, root, fit)


def _decided(checks: Checks, root: str, fit: Record) -> None:
    """Check flags against intervals and the verdict word against flags."""
    for i, test in enumerate(fit["tests"]):
        if test["interval"] is not None:
            passed = test["interval"]["lower"] > test["limit"]
            checks.equal(f"{root}/tests/{i}/passed", test["passed"], passed, "its interval and limit")
            checks.equal(f"{root}/tests/{i}/mean", test["mean"], test["interval"]["mean"], "its interval")
    required = all(test["passed"] for test in fit["tests"] if test["required"])
    refuted = any(refutation["holds"] for refutation in fit["refutations"])
    vacuous = any(contrast["holds"] for contrast in fit["vacuous"])
    word = "VACUOUS" if vacuous else "REFUTED" if refuted else "SUPPORTED" if required else "INCONCLUSIVE"
    if fit["refutations"]:
        checks.equal(f"{root}/verdict", fit["verdict"], word, "its tests and refutations")
    for i, refutation in enumerate(fit["refutations"]):
        held = refutation["applies"] and any(contrast["holds"] for contrast in refutation["contrasts"])
        checks.equal(f"{root}/refutations/{i}/holds", refutation["holds"], held, "its contrasts")


def _checks_of_the_original(checks: Checks, result: Record) -> None:
    for i, item in enumerate(result["checks"]):
        if item["value"] is None or item["threshold"] is None:
            continue
        below = item["id"] == "S4"
        good = item["value"] < item["threshold"] if below else item["value"] >= item["threshold"]
        if not math.isclose(item["value"], item["threshold"]) and good != item["passed"]:
            checks.add(f"checks/{i}/passed", "is not what value and threshold say")
