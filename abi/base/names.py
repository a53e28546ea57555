"""Names that several modules share, each written once (no imports of abi, so that any module may use them)."""

from collections.abc import Mapping
from typing import Any

AGREEMENT = ("js_nats", "top1", "top5", "entropy_diff_nats")
"""The four NIB metrics in the record's order; the first is the primary one of the protocol."""

SCOPES = ("domain", "general", "on_training_text")
VERDICTS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS")
UNFITTED = "-"
"""The `fit` of arms that no fit made: raw, oracle, reference."""

PAGES = ("summary", "headline")
"""The pages that count claims: of all claims, and of those that `headline` of config/claims.yaml names."""

ASIDE = frozenset({*(f"{page}.json" for page in PAGES), "verify.json", "report.json", "transfer.json"})
"""JSON files of a scale that are no results, so that no claim may take their names."""

CLOSED_FORM = "closed-form"
"""The `fit` without gradient steps, reported beside every other."""


def written_variants(claim: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the variants of a claim whose lesson is on text that its source writes. Args: variants: what each one changes."""
    return [name for name in claim.get("variants", ()) if variants[name].get("text") == "written"]


def fits_of(claim: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fits of a claim: the one that decides, its variants, and the closed form where there is a teacher."""
    closed = () if claim["regime"] == "few-shot" else (CLOSED_FORM,)
    return (claim["fit"], *claim.get("variants", ()), *closed)
