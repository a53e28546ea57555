"""The original's four-claim run `reproduce_abi.py` on our figures: R1 to R4, its pass rules and its exit rule (no torch).

Source: EXPERIMENTS T4. R1: E2 of the GPT-2 update at least 0.5. R2: with the stability term E2 at least 0.35 and a lower zero-shot
perplexity than without. R3, R4: E4 of the size and of the lineage transfer at least 0.7, and an alignment cosine of at least
8 times that of random directions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from abi.base.names import UNFITTED
from abi.judge.studies import efficacies

Record = dict[str, Any]
RULES = {"R1": 0.50, "R2": 0.35, "R3": 0.70, "R4": 0.70}
COSINE_MULTIPLE = 8.0
UPDATE, TRANSFERS = "gpt2_update", {"R3": "gpt2_to_gpt2_medium", "R4": "pythia_to_gpt2"}


def checks_of(results: Mapping[str, Record], alignments: Mapping[str, Sequence[Record]]) -> list[Record]:
    """Return R1 to R4 as checks: value, threshold, passed.

    Args: results: claim -> result file; alignments: claim -> `alignments` of its manifests.
    """
    [ppl] = results[UPDATE]["perplexity"].values()
    e2 = efficacies(ppl, None)["E2"]
    lower = ppl["zero-shot"] < ppl["zero-shot-free"]
    checks = [
        _check("R1", "E2 of the GPT-2 update", e2),
        _check(
            "R2",
            f"the same, and a {'lower' if lower else 'higher'} zero-shot perplexity than without the stability term",
            e2,
            lower,
        ),
    ]
    for name, claim in TRANSFERS.items():
        multiple = cosine_multiple(alignments[claim], results[claim]["d_abi"])
        words = f"E4 of {claim}; alignment cosine {multiple:.3g} times that of random directions"
        checks.append(_check(name, words, e4(results[claim]), multiple >= COSINE_MULTIPLE))
    return checks


def _check(id: str, words: str, value: float | None, also: bool = True) -> Record:
    passed = value is not None and value >= RULES[id] and also
    return {"id": id, "words": words, "value": value, "threshold": RULES[id], "passed": passed}


def e4(result: Record) -> float | None:
    """Return E4 of a transfer: the way from an untrained interface to the oracle, in perplexity (EXPERIMENTS section 0)."""
    ppl, fit = result["perplexity"], result["claim"]["fit"]
    start, end = ppl[UNFITTED]["untrained"]["domain"], ppl[UNFITTED]["oracle"]["domain"]
    moved = ppl[fit]["transferred"]["domain"]
    return (start - moved) / (start - end) if start > end else None


def cosine_multiple(alignments: Sequence[Record], d_abi: int) -> float:
    """Return the mean held-out cosine of the aligned spaces over that of random directions, 1 / sqrt(d_abi)."""
    found = [entry["cosine_held_out"] for entry in alignments if entry["rotation"] == "aligned"]
    return float(abs(sum(found) / len(found)) * d_abi**0.5)
