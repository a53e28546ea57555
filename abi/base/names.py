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
MAKE_WORDS = frozenset({"test", "quick", "kills", "lint", "setup", "verify", "smoke", "lock", "docs", "clean"})
"""Words of the Makefile that no claim may take: `make <claim>` would do something else.

`reproduce` is a word of it and a claim of the original; `snakemake reproduce` builds the claim.
"""

CLOSED_FORM = "closed-form"
"""The `fit` without gradient steps, reported beside every other."""
