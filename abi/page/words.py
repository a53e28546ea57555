"""Tests, refutations and arms in plain words."""

import re
from collections.abc import Mapping
from typing import Any

from abi.report import figure
from abi.vocabulary import AGREEMENT

Record = Mapping[str, Any]
CLAIMED = {"transfer": ("transferred", "the moved module"), "reconstruction": ("candidate", "the regressed module")}
METRICS = frozenset({*AGREEMENT, "bits_per_byte"})
ID = re.compile(r"\b((?:[0-6]|[a-eg])\.[a-z]+)((?:\.[\w-]+)*)")

TESTS = {
    "0.room": "the oracle gains anything over the plain backbone",
    "1.sensitivity": "even the right net beats the placebo {arm}, so this study may not see any net",
    "2.retention": "{it} keeps at least {half} of what the right net adds over the placebo {arm}",
    "3.parity": "{it} comes {parity} of the way from the plain backbone to the oracle",
    "4.attribution": "{it} does better than {arm}",
    "5.benefit": "{it} improves held-out domain text over the plain backbone",
    "6.harm": "{it} spares general text as much as the oracle does",
}
REFUTATIONS = {
    "a.retention": "{it} keeps less than {half} of what the right net adds over the placebo {arm}",
    "b.share": "less than {share} of the gain is the moved net's own: the placebo {arm}, which moves no knowledge, gains nearly as much",
    "c.parity": "{it} stays short of {parity} of the way from the plain backbone to the oracle",
    "d.benefit": "{it} does not improve held-out domain text over the plain backbone",
    "e.harm": "{it} makes general text worse than the oracle does, by more than is allowed",
    "g.attribution": "the control {arm} does at least as well in bits per byte",
}
ARMS = {
    "raw": "the plain backbone, nothing added",
    "reference": "a second module trained on the target itself; agreement is measured against it, and it teaches nobody",
    "oracle": "a module trained on the target itself with the whole budget",
    "before": "the regressed module as it was before the regression",
    "native": "positive control: the oracle's own net behind a redrawn interface, calibrated like the moved one",
    "candidate": "the claimed arm of a reconstruction: the second module, regressed",
    "transferred": "the claimed arm of a transfer: the source's net, its interface calibrated",
    "random": "placebo: a net of random weights, calibrated with the same budget",
    "permuted": "placebo: the source's net with its weights shuffled, calibrated with the same budget",
    "identity": "the source's net without the rotation between the two spaces",
    "published": "the original's recipe as it is, which also trains the net it calls frozen",
    "no-domain": "the interface alone, no net between its projections",
    "linear": "one linear map instead of a module",
    "bias": "one constant shift of the next-token scores",
    "unfrozen": "the moved net, free to train",
    "direct": "a fresh module trained on the target with the budget of the calibration",
    "lora": "LoRA adapters on the target with the budget of the calibration",
    "wrong-domain": "a net that learned other text, moved the same way",
}


def in_words(result: Record, criteria: Record) -> str:
    """Return why a verdict is what it is as a plain sentence, or "" where its reason names no test of the protocol."""
    named = ID.search(str(result["reason"]))
    if result["verdict"] == "SUPPORTED" and named is None:
        return "Every required test holds."
    if named is None or result["verdict"] not in {"REFUTED", "INCONCLUSIVE"}:
        return ""
    words = (REFUTATIONS if result["verdict"] == "REFUTED" else TESTS).get(named[1])
    if words is None:
        return ""
    arms = [part for part in named[2].split(".") if part and part not in METRICS]
    it = CLAIMED.get(result["claim"]["kind"], ("", "the claimed arm"))[1]
    numbers = {key: figure(criteria.get(key)) for key in ("half", "share", "parity")}
    told = words.format(it=it, arm=f"`{arms[-1]}`" if arms else "a control", **numbers)
    metric = next((part for part in named[2].split(".") if part in METRICS), None)
    where = f" (measured in `{metric}`)" if metric else ""
    return (
        f"Refuted: {told}{where}."
        if result["verdict"] == "REFUTED"
        else f"Undecided: it is not shown that {told}{where}."
    )


def listed(words: list[str]) -> str:
    """Return words joined with commas and an `and`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def number(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"
