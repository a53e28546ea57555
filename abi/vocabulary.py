"""Names that several modules share, each written once (no imports, so that any module may use them)."""

AGREEMENT = ("js_nats", "top1", "top5", "entropy_diff_nats")
"""The four NIB metrics in the record's order; the first is the primary one of the protocol."""

SCOPES = ("domain", "general", "on_training_text")
UNFITTED = "-"
"""The `fit` of arms that no fit made: raw, oracle, reference."""

CLOSED_FORM = "closed-form"
"""The `fit` without gradient steps, reported beside every other."""
