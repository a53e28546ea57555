"""Names that several modules share, each written once (no imports of abi, so that any module may use them)."""

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

PORTABLE = "portable"
"""The fit of a portable module: on the target there is none."""
CLOSED_FORM = "closed-form"
"""The `fit` without gradient steps, reported beside every other."""
