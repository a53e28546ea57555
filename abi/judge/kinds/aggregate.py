"""Claims about others: a ladder of sizes, and the original's four-claim run `reproduce_abi.py` with its pass rules.

R1: E2 of the GPT-2 update at least 0.5. R2: with the stability term E2 at least 0.35 and a lower zero-shot perplexity
than without. R3, R4: E4 of the size and of the lineage transfer at least 0.7, and an alignment cosine of at least 8
times that of random directions.
"""

from collections.abc import Mapping

from abi.base.errors import EvidenceError
from abi.base.names import ORACLE, TRANSFERRED, UNFITTED, UNTRAINED, ZERO_SHOT, ZERO_SHOT_FREE
from abi.judge.fits import Check
from abi.judge.kinds import OfClaims
from abi.judge.kinds.update import efficacies
from abi.judge.results import AnyResult, Result, StudyResult
from abi.judge.studies import check

RULES = {"R1": 0.50, "R2": 0.35, "R3": 0.70, "R4": 0.70}
COSINE_MULTIPLE = 8.0
UPDATE, RULED = "gpt2_update", {"R3": "gpt2_to_gpt2_medium", "R4": "pythia_to_gpt2"}


def checks_of(results: Mapping[str, AnyResult]) -> list[Check]:
    """Return R1 to R4. Args: results: claim -> its result."""
    update = results[UPDATE]
    if not isinstance(update, StudyResult):
        raise EvidenceError(f"{UPDATE}: is no result of several studies; rebuild it")
    ppl = update.perplexity[next(iter(update.fits))]  # of the first dose, the original's
    e2, lower = efficacies(ppl, None).e2, ppl[ZERO_SHOT] < ppl[ZERO_SHOT_FREE]
    compared = f"a {'lower' if lower else 'higher'} zero-shot perplexity than without the stability term"
    checks = [
        check("R1", "E2 of the GPT-2 update", e2, RULES["R1"]),
        check("R2", f"the same, and {compared}", e2, RULES["R2"], also=lower),
    ]
    for name, claim in RULED.items():
        result = results[claim]
        if not isinstance(result, Result):
            raise EvidenceError(f"{claim}: is no result of a transfer; rebuild it")
        multiple = cosine_multiple(result)
        cosine = f"alignment cosine {multiple:.3g} times that of random directions ({COSINE_MULTIPLE:g} asked)"
        words = f"E4 of {claim}; {cosine}"
        checks.append(check(name, words, e4(result), RULES[name], also=multiple >= COSINE_MULTIPLE))
    return checks


def e4(result: Result) -> float | None:
    """Return E4 of a transfer: the way from an untrained interface to the oracle, in perplexity."""
    plain = result.perplexity[UNFITTED]
    start, end = plain[UNTRAINED]["domain"], plain[ORACLE]["domain"]
    moved = result.perplexity[str(result.claim.fit)][TRANSFERRED]["domain"]
    return (start - moved) / (start - end) if start > end else None


def cosine_multiple(result: Result) -> float:
    """Return the mean held-out cosine of the aligned spaces over that of random directions, 1 / sqrt(d_abi)."""
    [cosine] = [entry.cosine_held_out for entry in result.alignments if entry.rotation == "aligned"]
    return float(abs(cosine) * result.d_abi**0.5)


JUDGED = (OfClaims("ladder"), OfClaims("aggregate", checks_of))
