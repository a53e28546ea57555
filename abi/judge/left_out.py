"""A verdict judged once more without some of its test documents: those close to train, and one package at a time.

The engine is the verdict's own (`case_of`), on the tables of fewer documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from abi.base.errors import EvidenceError
from abi.base.manifests.overlaps import OverlapManifest
from abi.base.manifests.texts import HeldOutDocument, TextManifest
from abi.base.names import TASKS, UNFITTED
from abi.judge.contrasts import Plan
from abi.judge.fits import Fit, LeftOut, Robustness
from abi.judge.intervals import interval
from abi.judge.kinds import plan_of
from abi.judge.results import ClaimFacts
from abi.judge.tables import HELD_OUT, FitTables, fit_tables
from abi.judge.verdict import case_of, gap_closures
from abi.plan.specs.judge import Criteria

if TYPE_CHECKING:
    import pandas as pd

CLOSE_TEXT = 0.3
"""A document is close where train holds more than this share of its scored passages; it is reported, no criterion."""
MOST_UNITS = 12
"""Packages that are left out one by one; more are left out in so many folds."""
Scopes = Mapping[str, Mapping[str, HeldOutDocument]]
"""Scope -> document -> what the text's record says of it."""


def robustness_of(
    claim: ClaimFacts,
    fits: Iterable[Fit],
    evidence: pd.DataFrame,
    records: Iterable[str],
    overlaps: Iterable[str],
    criteria: Criteria,
    general: str | None = None,
) -> dict[str, Robustness]:
    """Return fit or study -> what its test text shares with train, and its verdict without some of that text.

    Args: fits: judged from the rows of `evidence`; records: paths of the records of texts; overlaps: paths of the
        manifests of what is scored of them; general: the general text, if None that of a record that no study is about,
        or else the claim's one text.
    Raises: EvidenceError: no record tells of a fit's text, or of a document.
    """
    told, found = scored({Path(path).stem: TextManifest.read(path).held_out for path in records}, overlaps), {}
    general = general or next((text for text in told if text not in (claim.text, *claim.texts)), claim.text)
    for fit in fits:
        names = {"domain": text_of(claim, fit.fit), "general": general}
        known = {scope: told[text] for scope, text in names.items() if text in told and scope in fit.counts.documents}
        if "domain" not in known:
            raise EvidenceError(f"claim {claim.id}: the record of text {names['domain']} is no input of its verdict")
        plan = plan_of(claim, fit.fit, set(fit.arms), criteria)
        found[fit.fit] = robustness(evidence, fit, plan, known, criteria)
    return found


def scored(told: Scopes, overlaps: Iterable[str]) -> dict[str, dict[str, HeldOutDocument]]:
    """Return text -> test document that is scored -> what its record says, the share in train that of the scored part.

    Of the shares on several backbones, whose windows reach differently far, the largest.
    Raises: EvidenceError: an overlap is of a text or document that no record knows.
    """
    shares: dict[tuple[str, str], float] = {}
    for overlap in map(OverlapManifest.read, overlaps):
        for name, of in overlap.documents.items():
            shares[overlap.text, name] = max(of.in_train, shares.get((overlap.text, name), 0.0))
    found: dict[str, dict[str, HeldOutDocument]] = {text: {} for text in told}
    for (text, name), share in shares.items():
        known = _known([name], told.get(text, {}), text)[name]
        found[text][name] = known.model_copy(update={"in_train": share})
    return found


def text_of(claim: ClaimFacts, study: str) -> str:
    """Return the text of a fit, which is its claim's, or of a study, whose name is its text or ends with it.

    Raises: EvidenceError: it is neither.
    """
    ends = [text for text in claim.texts if study == text or study.endswith(f"-{text}")]
    if found := claim.text or max(ends, key=len, default=None):
        return found
    raise EvidenceError(f"claim {claim.id}: study {study} ends with none of its texts {', '.join(claim.texts)}")


def robustness(evidence: pd.DataFrame, fit: Fit, plan: Plan, known: Scopes, criteria: Criteria) -> Robustness:
    """Return how close to train the test text of a judged fit is, and its verdict without close text and packages.

    Args: evidence: the rows it was judged from; known: of the texts behind its scopes, the domain's at least; of other
        scopes nothing is left out.
    Raises: EvidenceError: a document that no record knows.
    """
    held_out = evidence[evidence["scope"].isin((*HELD_OUT, TASKS)) & evidence["fit"].isin((fit.fit, UNFITTED))]
    whole = fit_tables(held_out, fit=fit.fit, criteria=criteria)
    judged = {scope: _known(whole.documents[scope], told, scope) for scope, told in known.items()}
    again = Again(whole, fit, plan, criteria)
    packages = sorted({of.package for of in judged["domain"].values()})
    folds = folds_of(packages)
    close = {scope: {name for name, of in told.items() if of.in_train > CLOSE_TEXT} for scope, told in judged.items()}
    return Robustness(
        in_train={scope: sum(of.in_train for of in told.values()) / len(told) for scope, told in judged.items()},
        close_text=CLOSE_TEXT,
        close={scope: len(documents) for scope, documents in close.items()},
        contrast=again.contrast.id,
        mean=float(again.contrast.table(whole.turned()).mean()),
        without_close=again.without("close text", close),
        unit="package" if len(folds) == len(packages) else "fold of packages",
        without=[
            again.without(
                ", ".join(fold),
                {scope: {name for name, of in told.items() if of.package in fold} for scope, told in judged.items()},
            )
            for fold in folds
        ],
    )


def folds_of(packages: Collection[str]) -> list[list[str]]:
    """Return what is left out in turn: every package, or folds of them by hash where there are many."""
    if len(packages) <= MOST_UNITS:
        return [[package] for package in sorted(packages)]
    folds: dict[int, list[str]] = {}
    for package in sorted(packages):
        point = int.from_bytes(hashlib.sha256(package.encode()).digest()[:8], "big")
        folds.setdefault(point % MOST_UNITS, []).append(package)
    return [folds[key] for key in sorted(folds)]


class Again:
    """A fit that is judged again on fewer documents."""

    def __init__(self, whole: FitTables, fit: Fit, plan: Plan, criteria: Criteria) -> None:
        self.whole, self.plan, self.criteria = whole, plan, criteria
        self.contrast = next(contrast for contrast in plan.contrasts() if contrast.id == fit.decided_by)
        stored = next(found.interval for _, found in fit.contrasts() if found.id == self.contrast.id)
        self.level = fit.level if stored is None else stored.level

    def without(self, name: str, gone: Mapping[str, Collection[str]]) -> LeftOut:
        """Return the verdict without some documents of each scope."""
        tables, criteria = self.whole.without(gone), self.criteria
        counts = tables.counts
        counted = {"left_out": name, "documents": counts.documents["domain"], "groups": counts.groups["domain"]}
        if empty := [scope for scope in gone if not counts.documents[scope]]:
            nothing = dict.fromkeys(("mean", "interval", "gap_closure", "share"))
            reason = f"too few: no document of {empty[0]} text is left"
            return LeftOut.model_validate({**counted, **nothing, "verdict": "INCONCLUSIVE", "reason": reason})
        case = case_of(tables, self.plan, criteria)
        word = case.word(criteria.level)
        closure = gap_closures(case, tables, criteria.level).get(self.plan.roles.candidate)
        table = self.contrast.table(tables.turned())
        bounds = interval(table, level=self.level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
        return LeftOut.model_validate(
            {
                **counted,
                "verdict": word.verdict,
                "reason": word.reason,
                "mean": float(table.mean()),
                "interval": bounds,
                "gap_closure": closure and closure.shown,
                "share": case.share and case.share.shown,
            }
        )


def _known(documents: Iterable[str], told: Mapping[str, HeldOutDocument], scope: str) -> dict[str, HeldOutDocument]:
    """Return what is told of some documents. Raises: EvidenceError: nothing is told of one."""
    names = list(documents)
    if lacking := [name for name in names if name not in told or told[name].split != "test"]:
        raise EvidenceError(
            f"evidence: {lacking[0]!r} on {scope} is no test document of the text's record; rerun the evaluation"
        )
    return {name: told[name] for name in names}
