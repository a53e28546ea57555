"""Results in words: verdicts and reasons, each said in one way on every page."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from abi.base.catalogue import ARMS
from abi.base.diagnostics import METRICS
from abi.base.names import CLOSED_FORM
from abi.base.regimes import EXPERIMENT, KINDS
from abi.base.wording import number
from abi.judge.fits import Check, Fit
from abi.judge.results import AnyResult, LadderResult, PublishedFigure, Result, Rung, StudyResult, criteria_of
from abi.report.render import figure, listed
from abi.report.statements import statements_words, well_aligned
from abi.report.study_words import counts_words, met_words

T = TypeVar("T")
MEANINGLESS = "The budgets of this scale only test the machinery: its verdicts are no evidence about the claims."
PUBLISHED = (
    ("nib.top5", "top-5", ""),
    ("nib.js", "JS", ""),
    ("efficacy_pct", "efficacy", " %"),
    ("py_efficacy_pct", "py", " %"),
    ("md_efficacy_pct", "md", " %"),
    ("r2", "R2", ""),
    ("locality_ratio", "locality", ""),
    ("n_diag_pass", "passing", ""),
)
"""(figure of the record, its words, its unit)"""

ID = re.compile(r"\b((?:[0-6]|[a-egu])\.[a-z]+)((?:\.[\w-]+)*)")
"""The id of a test or refutation in a reason, then what it is about: a metric, an arm."""

TESTS = {
    "0.room": "the oracle gains anything over the plain backbone",
    "1.sensitivity": "even the right net beats the placebo {arm}, so this study may be blind to any net",
    "2.retention": "{it} keeps at least {half} of what the right net adds over the placebo {arm}",
    "3.parity": "{it} comes {parity} of the way from the plain backbone to the oracle",
    "4.share": "at least {share} of the gain is the moved net's own, against the placebo {arm}",
    "4.attribution": "{it} does better than {arm}",
    "5.benefit": "{it} improves held-out domain text over the plain backbone",
    "6.harm": "{it} spares general text as much as the oracle does",
    "u.efficacy": "{it} covers at least {half} of the way from no module to one trained there",
}
REFUTATIONS = {
    "a.retention": "{it} keeps less than {half} of what the right net adds over the placebo {arm}",
    "b.share": "less than {share} of the gain is the moved net's own: the placebo {arm}, which moves no knowledge, "
    "gains nearly as much or more",
    "c.parity": "{it} stays short of {parity} of the way from the plain backbone to the oracle",
    "d.benefit": "{it} does not improve held-out domain text over the plain backbone",
    "e.harm": "{it} makes general text worse than the oracle does, by more than is allowed",
    "g.attribution": "the control {arm} does at least as well",
    "u.efficacy": "{it} covers less than {half} of the way from the plain updated backbone to a module trained there",
}
PLAIN_REFUTED = {
    "b.share": "With {arm} in its place, the module gains nearly as much or more: "
    "under {share} of the gain is the net's own.",
    "a.retention": "The moved net keeps less than {half} of what a net of the target's own adds over {arm}.",
    "c.parity": "{It} stays short of {parity} of the way from the plain backbone to a module trained there.",
    "d.benefit": "{It} does not improve held-out text of the domain.",
    "e.harm": "{It} harms general text more than a module trained there does.",
    "g.attribution": "A placebo or a simpler control does at least as well, such as `{control}`.",
    "u.efficacy": "After an update the old module covers less than {half} of the way to one trained anew.",
}
"""Refutation -> what it means, for a first reader; of several the first here is said: (a) says less of the net."""
BEATS = "{It} beats every simpler form, and every placebo by at least {share} of what it gains."
BEATS_IN_BITS = (
    "In bits per byte, {it} beats every simpler form, and every placebo by at least {share} of what it gains."
)
SURVIVES = (
    "Wherever an update is not shown to be harmless, the old module covers at least {half} of the way "
    "to one trained anew."
)
PLAIN_SUPPORTED = {
    **dict.fromkeys(("transfer", "near_transfer", "reconstruction"), BEATS),
    **dict.fromkeys(("update", "succession"), SURVIVES),
}
"""Kind of claim -> what its required tests show together."""
PLAIN_OPEN = {"scaling_law": "The points show neither that the law holds nor that it does not."}
"""Kind of claim without registered tests -> what an INCONCLUSIVE one means."""
PLACEBOS = {
    "random": "a random net",
    "permuted": "a shuffled copy of the net",
    "random-net": "an untrained net",
}


# order


def in_order(arms: Iterable[str]) -> list[str]:
    """Return arms in the order that every table and figure shares; unknown ones last, by name."""
    order = {arm: place for place, arm in enumerate(ARMS)}
    return sorted(arms, key=lambda arm: (order.get(arm, len(order)), arm))


def grouped(items: Sequence[T], claim: Callable[[T], Any] = attrgetter("claim")) -> list[tuple[T, list[T]]]:
    """Return every claim with its other regimes, in the order given; a regime whose claim is not there stands alone.

    Args: claim: of an item, with `id` and `of`, the claim whose regime it is.
    """
    there = {claim(item).id for item in items}
    heads = [item for item in items if claim(item).of not in there]
    return [(head, [item for item in items if claim(item).of == claim(head).id]) for head in heads]


def in_groups(items: Sequence[T], claim: Callable[[T], Any] = attrgetter("claim")) -> list[T]:
    """Return results with every regime right after its claim."""
    return [item for head, others in grouped(items, claim) for item in (head, *others)]


def studies(result: AnyResult) -> dict[str, Fit]:
    """Return fit -> what it found, the deciding one first; nothing of a verdict without evidence of its own."""
    return dict(sorted(result.studies.items(), key=lambda named: named[0] != result.claim.fit))


def deciding(result: AnyResult) -> Fit | None:
    """Return what the fit that decides found; None where every study counts, or none does."""
    return result.studies.get(str(result.claim.fit))


def checks_of(result: AnyResult) -> Sequence[Check]:
    """Return the original's pass rules, applied here."""
    return () if isinstance(result, Result) else result.checks


# a result


def regime_of(result: AnyResult) -> str:
    """Return the regime of a result, or its kind where there are no regimes."""
    return result.claim.regime or result.claim.kind


def verdict_words(result: AnyResult) -> str:
    """Return the verdict, marked where the scale is too small to mean anything."""
    return result.verdict + (" (meaningless scale)" if result.meaningless else "")


def published_words(figures: dict[str, PublishedFigure], none: str = "-") -> str:
    """Return which figures of a claim, quoted here, the original published. Args: none: where there is none."""
    words = [f"{name} {figures[key].value}{unit}" for key, name, unit in PUBLISHED if key in figures]
    return ", ".join(words[:2]) or none


def criteria_words(result: AnyResult) -> str:
    """Return what meets the published criteria here; of a ladder how many rungs are supported."""
    checks, fit = checks_of(result), deciding(result)
    passed = [f"{sum(check.passed for check in checks)} of {len(checks)} rules of the original met"] if checks else []
    if isinstance(result, LadderResult):
        return "; ".join([f"{how_many(result.rungs)} of {len(result.rungs)} rungs SUPPORTED", *passed])
    return met_words(fit) if fit else "".join(passed) or "-"


def units_words(result: AnyResult) -> str:
    """Return what a verdict rests on: groups, documents and seeds, or rungs."""
    if isinstance(result, LadderResult):
        return ", ".join(rung.id for rung in result.rungs)
    fit = deciding(result)
    return counts_words(fit) if fit else number(len(result.fits), "study", "studies") if result.fits else "-"


def fit_words(result: AnyResult, fit: str) -> str:
    """Return what a fit is for: it decides, or it stands beside as a variant or in closed form."""
    if deciding(result) is None:
        return "a study of its own"
    if fit == result.claim.fit:
        return "primary"
    how = "fitted without gradient steps" if fit == CLOSED_FORM else "a variant, other steps, less text or other text"
    return f"{how}; decides nothing"


def in_words(result: AnyResult) -> str:
    """Return why a verdict is what it is as a plain sentence, or "" where its reason names no test of the protocol.

    What refutes one claim of several need not refute the others, so a claim about others names them and their verdicts.
    """
    if result.claim.kind in ("dose", EXPERIMENT):
        return ""
    if isinstance(result, LadderResult):
        words = {rung.verdict: [r.id for r in result.rungs if r.verdict == rung.verdict] for rung in result.rungs}
        found = [f"{listed(ids)} {'is' if len(ids) == 1 else 'are'} {word}" for word, ids in words.items()]
        return f"Of the claims that it combines, {', and '.join(found)}; each says why."
    if result.verdict == "SUPPORTED":
        return "Every required test holds."
    if result.verdict == "REFUTED":
        return _asked_words("Refuted: ", REFUTATIONS, list(ID.finditer(result.reason)), result)
    if result.verdict == "INCONCLUSIVE":
        first = list(ID.finditer(result.reason))[:1]
        return _asked_words("Undecided: it is not shown that ", TESTS, first, result)
    return ""


def _asked_words(
    begin: str, words: Mapping[str, str], named: Sequence[re.Match[str]], result: Result | StudyResult
) -> str:
    """Return what tests or refutations ask as one sentence, or "" where the first has no words.

    Args: named: matches of `ID`.
    """
    if not named or named[0][1] not in words:
        return ""
    criteria = criteria_of(result)
    numbers = {key: figure(getattr(criteria, key)) for key in ("half", "share", "parity")}
    found: dict[str, list[str]] = {}
    for name in (name for name in named if name[1] in words):
        about = name[2].split(".")[1:]
        arms, metrics = [part for part in about if part not in METRICS], [part for part in about if part in METRICS]
        it, arm = claimed_words(result), f"`{arms[-1]}`" if arms else "a control"
        where = f" (measured in `{metrics[0]}`)" if metrics else ""
        found.setdefault(where, []).append(words[name[1]].format(it=it, arm=arm, **numbers))
    return f"{begin}{'; and '.join('; and '.join(one) + where for where, one in found.items())}."


def how_many(of: Iterable[AnyResult | Rung | Fit], word: str = "SUPPORTED") -> int:
    """Return how many have a verdict."""
    return sum(one.verdict == word for one in of)


def are_words(count: int) -> str:
    """Return `none is`, `1 is`, `2 are`."""
    return f"{count or 'none'} {'is' if count < 2 else 'are'}"


def strictly_words(results: Sequence[AnyResult]) -> str:
    """Return how many results are refuted, and how many supported, with the intervals that several together need."""
    refuted, supported = (sum(r.verdict_at_strict_level == word for r in results) for word in ("REFUTED", "SUPPORTED"))
    return f"{are_words(refuted)} REFUTED and {are_words(supported)} SUPPORTED"


def claimed_words(result: AnyResult) -> str:
    """Return what the claimed arm of a result is called."""
    return KINDS[result.claim.kind].words


def plain_words(result: AnyResult) -> str:
    """Return in one sentence, without terms of the protocol, what came out of a claim: one ground alone."""
    if isinstance(result, LadderResult) and result.claim.kind != "dose":
        word = "REFUTED" if result.verdict == "REFUTED" else "SUPPORTED"
        n, found = len(result.rungs), how_many(result.rungs, word)
        if n == found > 1:
            return f"All {n} claims that it combines are {word}."
        return f"Of the {n} claims that it combines, {are_words(found)} {word}."
    if isinstance(result, StudyResult) and result.claim.kind == EXPERIMENT:
        return sentence_of(statements_words(result))
    if isinstance(result, LadderResult) and result.verdict == "SUPPORTED":
        aligned = f"{well_aligned(result)} aligned well enough"
        return f"Of {len(result.rungs)} rungs {aligned}; there the moved net beats every placebo."
    named = ID.search(result.reason)
    template = PLAIN_SUPPORTED.get(result.claim.kind) if result.verdict == "SUPPORTED" else None
    if template == BEATS and isinstance(result, Result) and result.deciding.primary_metric == "bits_per_byte":
        template = BEATS_IN_BITS
    if result.verdict == "REFUTED":
        grounds = {name[1]: name for name in reversed(list(ID.finditer(result.reason)))}
        named = next((grounds[ground] for ground in PLAIN_REFUTED if ground in grounds), None)
        template = PLAIN_REFUTED[named[1]] if named else None
    if result.verdict == "INCONCLUSIVE":
        asked = TESTS.get(named[1]) if named else None
        template = f"It is not shown that {asked}." if asked else PLAIN_OPEN.get(result.claim.kind)
    if template is None or isinstance(result, LadderResult):
        return sentence_of(re.split(r"[;:] ", result.reason)[0])
    criteria = criteria_of(result)
    arm = next((part for part in (named[2].split(".")[1:] if named else ()) if part not in METRICS), "a control")
    it = claimed_words(result)
    numbers = {key: f"{100 * getattr(criteria, key):g} %" for key in ("half", "share", "parity")}
    arms = {"arm": PLACEBOS[arm] if arm in PLACEBOS and result.verdict == "REFUTED" else f"`{arm}`", "control": arm}
    told = template.format(it=it, It=sentence_of(it, ""), **arms, **numbers)
    if result.verdict != "REFUTED" or not isinstance(result, StudyResult):
        return told
    of = [{name[1] for name in ID.finditer(fit.reason)} for fit in result.fits.values() if fit.verdict == "REFUTED"]
    refuted = sum(named is not None and named[1] in grounds for grounds in of)
    return f"{told.rstrip('.')} ({refuted} of {number(len(result.fits), 'study', 'studies')})."


def sentence_of(words: str, end: str = ".") -> str:
    """Return words with a capital at their beginning and one full stop at their end."""
    return words[:1].upper() + words[1:].rstrip(".") + end
