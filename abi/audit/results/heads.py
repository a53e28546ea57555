"""What every result file says of itself, of whatever kind: claim, scale, protocol and rule; and checking it part by part."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from abi.audit.results.findings import Checks

Record = Mapping[str, Any]


def check_parts(
    checks: Checks, result: Record, parts: Iterable[Callable[[], None]], published: Record | None = None
) -> None:
    """Run checks of the parts of a result; one that lacks a leaf becomes a finding and does not end the others.

    Args: published: what the record says of the claim now, if it is to be compared.
    """
    for part in parts:
        try:
            part()
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, StopIteration, ZeroDivisionError) as error:
            checks.add("", f"lacks a part or holds one of another kind ({type(error).__name__}: {error})")
    if published is not None:
        stored = {name: {key: f.get(key) for key in published.get(name, f)} for name, f in result["record"].items()}
        checks.equal("record", stored, published, "config/record")


def check_head(checks: Checks, result: Record, rule: str, *own: str) -> None:
    """Check what a result repeats of the spec it records. Args: rule: that makes such results; own: more leaves it repeats."""
    provenance = result["provenance"]
    spec = provenance["spec"]
    given = spec["protocol"]  # a ladder records its number, a claim all of it
    protocol = given["protocol"] if isinstance(given, Mapping) else given
    checks.equal("claim", result["claim"], {"id": spec["id"], **spec["claim"]}, "provenance/spec")
    checks.equal("protocol", result["protocol"], protocol, "provenance/spec")
    for key in ("scale", "meaningless", *own):
        checks.equal(key, result[key], spec[key], "provenance/spec")
    checks.equal("provenance/rule", provenance["rule"], rule, "the workflow")


def check_strict_level(checks: Checks, result: Record) -> None:
    """Check that a result is not SUPPORTED at the strict level, whose intervals are wider, and at its own is not."""
    if result["verdict_at_strict_level"] == "SUPPORTED":
        good = result["verdict"] == "SUPPORTED"
        checks.holds("verdict_at_strict_level", good, "SUPPORTED with wider intervals, yet not with these")
