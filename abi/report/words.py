"""Tests, refutations and arms in plain words."""

import re
from collections.abc import Mapping
from typing import Any

from abi.base.names import AGREEMENT
from abi.report.tables import figure

Record = Mapping[str, Any]
CARRIED = ("zero-shot", "the module carried over the update")
CLAIMED = {
    "transfer": ("transferred", "the moved module"), "reconstruction": ("candidate", "the regressed module"), "update": CARRIED,
    "succession": CARRIED, "atlas": ("chart", "the domain's own chart"),
}  # fmt: skip
METRICS = frozenset({*AGREEMENT, "bits_per_byte"})
ID = re.compile(r"\b((?:[0-6]|[a-egu])\.[a-z]+)((?:\.[\w-]+)*)")

TESTS = {
    "0.room": "the oracle gains anything over the plain backbone",
    "1.sensitivity": "even the right net beats the placebo {arm}, so this study may not see any net",
    "2.retention": "{it} keeps at least {half} of what the right net adds over the placebo {arm}",
    "3.parity": "{it} comes {parity} of the way from the plain backbone to the oracle",
    "4.attribution": "{it} does better than {arm}",
    "5.benefit": "{it} improves held-out domain text over the plain backbone",
    "6.harm": "{it} spares general text as much as the oracle does",
    "u.efficacy": "{it} covers at least {half} of the way from the plain updated backbone to a module trained there",
}
REFUTATIONS = {
    "a.retention": "{it} keeps less than {half} of what the right net adds over the placebo {arm}",
    "b.share": "less than {share} of the gain is the moved net's own: the placebo {arm}, which moves no knowledge, gains nearly as much",
    "c.parity": "{it} stays short of {parity} of the way from the plain backbone to the oracle",
    "d.benefit": "{it} does not improve held-out domain text over the plain backbone",
    "e.harm": "{it} makes general text worse than the oracle does, by more than is allowed",
    "g.attribution": "the control {arm} does at least as well",
    "u.efficacy": "{it} covers less than {half} of the way from the plain updated backbone to a module trained there",
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
    "untrained": "an interface nobody trained, without a net: where the original's E4 starts",
}
OF_UPDATES = {
    "raw": "the plain backbone after the update, nothing added",
    "raw-before": "the plain backbone before any update",
    "raw-free": "the plain backbone after an update without the stability term",
    "oracle": "a module trained on the updated backbone with the whole budget",
    "oracle-before": "a module trained on the backbone before any update",
    "before": "the module on the backbone it was trained beside",
    "zero-shot": "the claimed arm: the module as it is, on the updated backbone",
    "zero-shot-free": "control: the module as it is, after an update without the stability term",
    "random": "placebo: a module nobody trained",
    "random-net": "placebo: the module's own interface around a net of random weights",
    "zero-shot-off": "the module without its net",
    "oracle-off": "the oracle without its net",
    "before-off": "the module without its net, before any update",
    "random-off": "an interface nobody trained, without a net",
}
OF_ATLASES = {
    "oracle": "a module trained on the domain with the whole budget; its corrections are what charts are solved for",
    "chart": "the claimed arm: the shared module with the domain's own chart",
    "random": "placebo: a net of random weights in the shared interface, with the domain's own chart",
    "permuted": "placebo: the shared net with its weights shuffled, with the domain's own chart",
    "shared": "the shared module as it is, no chart",
}


def arm_words(kind: str, arm: str) -> str:
    """Return what an arm is in a claim of some kind."""
    if kind in {"update", "succession"}:
        return OF_UPDATES.get(arm, "-")
    if kind == "atlas" and arm.startswith(("chart-of-", "random-of-")):
        return f"the chart of {arm.rpartition('-of-')[2]}" + (" with a random net" if arm.startswith("random") else "")
    if kind == "atlas" and arm.startswith("mix-"):
        return f"two charts mixed, the first by {arm[4:]} %"
    own = OF_ATLASES if kind == "atlas" else {}
    return own.get(arm) or ARMS.get(arm, "-")


def in_words(result: Record, criteria: Record) -> str:
    """Return why a verdict is what it is as a plain sentence, or "" where its reason names no test of the protocol."""
    named = ID.search(str(result["reason"]))
    if result["verdict"] == "SUPPORTED":
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
