"""Names that several modules share, each written once (no imports of abi, so that any module may use them)."""

AGREEMENT = ("js_nats", "top1", "top5", "entropy_diff_nats")
"""The four NIB metrics in the record's order; the first is the primary one of the protocol."""

SCOPES = ("domain", "general", "on_training_text", "tasks")
TASKS = "tasks"
"""The scope of figures of generated code: its documents, each a group of its own, are tasks."""
VERDICTS = ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS")
UNFITTED = "-"
"""The `fit` of arms that no fit made: raw, oracle, reference."""

PAGES = ("summary", "headline")
"""The pages that count claims: of all claims, and of those that `headline` of config/claims.yaml names."""

ASIDE = frozenset({*(f"{page}.json" for page in PAGES), "report.json", "transfer.json"})
"""JSON files of a scale that are no results, so that no claim may take their names."""

PORTABLE = "portable"
"""The fit of a portable module: on the target there is none."""

CLOSED_FORM = "closed-form"
"""The `fit` without gradient steps, reported beside every other."""

# The arms; `base/catalogue.py` says what each is.
RAW, RAW_BEFORE, RAW_FREE, UNTRAINED = "raw", "raw-before", "raw-free", "untrained"
REFERENCE, ORACLE, ORACLE_BEFORE, BEFORE = "reference", "oracle", "oracle-before", "before"
HOME, HOME_IDENTITY, SOURCE_ALONE, NGRAM = "home", "home-identity", "source-alone", "n-gram"
NATIVE, CANDIDATE, TRANSFERRED, ZERO_SHOT, CHART = "native", "candidate", "transferred", "zero-shot", "chart"
ZERO_SHOT_FREE, RANDOM, RANDOM_NET, PERMUTED = "zero-shot-free", "random", "random-net", "permuted"
IDENTITY, AS_PUBLISHED, SHARED, NO_DOMAIN = "identity", "published", "shared", "no-domain"
ZERO_SHOT_OFF, ORACLE_OFF = "zero-shot-off", "oracle-off"
BEFORE_OFF, RANDOM_OFF, LINEAR, BIAS, UNFROZEN = "before-off", "random-off", "linear", "bias", "unfrozen"
LINEAR_NARROW = "linear-narrow"
DIRECT, LORA, WRONG_DOMAIN = "direct", "lora", "wrong-domain"
CARRIED = "carried"
SOURCE_TAUGHT, PERMUTED_TAUGHT, WRONG_TAUGHT = "source-taught", "permuted-taught", "wrong-domain-taught"

CHART_OF, RANDOM_OF, MIXED = "chart-of-", "random-of-", "mix-"
"""How the arms of an atlas that are named after a domain (or a share of two) begin."""
CALIBRATED = "-calibrated"
"""How the placebos of a portable module end that were calibrated on general text of the target."""
CALIBRATED_TOO = (RANDOM, PERMUTED, NO_DOMAIN, BIAS)
"""The arms of a portable module that are there a second time, calibrated."""
