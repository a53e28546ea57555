"""Claims made of several studies: each judged, then one verdict of all. Evidence rows carry the study in `fit`.

Source: protocol section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from abi.base.manifests.batches import BatchManifest
from abi.base.regimes import KINDS
from abi.judge.fits import Check, Fit, Row, TableShown
from abi.judge.kinds import Combine, Findings, OfStudies, StudiesGiven, kind_of, plan_of
from abi.judge.results import StudyResult, level_of_one
from abi.judge.tables import fit_tables, scoped_perplexities
from abi.judge.verdict import judge, published_criteria

if TYPE_CHECKING:
    import pandas as pd


def judge_studies(given: StudiesGiven) -> Findings:
    """Return verdict, reason, verdict at the strict level and every judged study of a claim.

    The kind says what each study is asked and how their words combine (`results.of_several`, `results.of_doses`). The
    strict level is that of a headline that counts several claims.
    """
    claim, criteria, how = given.claim, given.criteria, kind_of(given.claim.kind, OfStudies)
    tables = {study: fit_tables(given.evidence, fit=study, criteria=criteria) for study in given.studies}
    plans = {study: plan_of(claim, study, of.compared(), criteria) for study, of in tables.items()}

    def at(level: float) -> list[tuple[Fit, Fit]]:
        levels = (level, level_of_one(level, len(given.studies)))
        both = ([judge(of, plans[study], criteria, one) for study, of in tables.items()] for one in levels)
        return list(zip(*both, strict=True))

    found, kind = together(at(criteria.level), at(given.strict), how.combine), KINDS[claim.kind]
    met = {study: published_criteria(of, given.thresholds, kind.claimed, kind.controls) for study, of in tables.items()}
    fits = {study: fit.model_copy(update={"published_criteria": met[study]}) for study, fit in found.fits.items()}
    return replace(found, fits=fits)


def together(usual: Sequence[tuple[Fit, Fit]], strict: Sequence[tuple[Fit, Fit]], combine: Combine) -> Findings:
    """Return the verdict of all studies.

    Args: usual, strict: each at that level, beside it at one of k's; combine: one word of several.
    """
    fits, refuting = {own.fit: own for own, _ in usual}, [pair[1] for pair in usual if _refutes(*pair)]
    verdict, at_strict = (_combined(judged, combine) for judged in (usual, strict))
    return Findings(verdict, _reason(fits, refuting, verdict), at_strict, fits)


def same_words(stored: StudyResult) -> Findings:
    """Return verdict, reason and fits of a stored result as they stand: what is made again is set beside them."""
    return Findings(stored.verdict, stored.reason, stored.verdict_at_strict_level, stored.fits)


def _refutes(own: Fit, one_of_k: Fit) -> bool:
    """Return whether a study refutes the claim: at the level of one of k, and not vacuous at the level that decides."""
    return one_of_k.verdict == "REFUTED" and own.verdict != "VACUOUS"


def _combined(judged: Sequence[tuple[Fit, Fit]], combine: Combine) -> str:
    word: str = combine([own.verdict for own, _ in judged], any(_refutes(*pair) for pair in judged))
    return word


def _reason(fits: Mapping[str, Fit], refuting: Sequence[Fit], verdict: str) -> str:
    """Return why: the counts, and the first study that refutes, else one that is not SUPPORTED.

    What is vacuous comes last, unless it is why. Args: refuting: at one of k's level; verdict: of all.
    """
    empty = [fit for fit in fits.values() if fit.verdict == "VACUOUS"]
    short = [fit for fit in fits.values() if fit.verdict not in ("SUPPORTED", "VACUOUS")]
    counted = f"{len(fits) - len(short) - len(empty)} of {len(fits)} studies are SUPPORTED"
    if verdict == "SUPPORTED" and len(fits) > 1:
        return f"{counted} and {len(empty)} VACUOUS" if empty else f"all {len(fits)} studies are SUPPORTED"
    order = [*empty, *fits.values()] if verdict == "VACUOUS" else [*refuting, *short, *empty, *fits.values()]
    first = order[0]
    if len(fits) == 1:
        return first.reason
    aside = f" and {len(empty)} VACUOUS" if empty else ""
    return f"{counted}{aside}; {first.fit}: {first.reason}"


def perplexities(evidence: pd.DataFrame, min_positions: int) -> dict[str, dict[str, float]]:
    """Return study -> arm -> perplexity per token on the study's own text (`tables.scoped_perplexities`)."""
    found = scoped_perplexities(evidence, min_positions)
    return {study: {arm: of["domain"] for arm, of in arms.items()} for study, arms in found.items()}


def update_table(batches: Mapping[str, BatchManifest]) -> TableShown:
    """Return the table of what the updates did to the backbones: general loss, drift of the held states.

    Args: batches: `<...>/updates/<update>/<stage>/<batch>.json` -> the manifest.
    """
    rows: list[Row] = []
    for path, batch in batches.items():
        update, stage = path.split("/")[-3:-1]
        for member in batch.members:
            if (told := member.figures) is not None:
                losses = [told.general_loss_before, told.general_loss_after]
                rows.append([update, stage, member.seed, *losses, told.stability_mse, told.steps])
    columns = ["update", "stage", "seed", "general loss before", "after", "mean squared drift of held states", "steps"]
    caption = "Held-out general text in nats per token; stages `held` have the stability term, `free` ones do not."
    return TableShown(id="updates", title="What the updates did", caption=caption, columns=columns, rows=rows)


def check(
    id: str, words: str, value: float | None, threshold: float, *, above: bool = False, also: bool = True
) -> Check:
    """Return one pass rule of the original: at least its threshold, or above it; `also`: whatever else it asks."""
    passed = value is not None and (value > threshold if above else value >= threshold) and also
    return Check(id=id, words=words, value=value, threshold=threshold, passed=passed)
