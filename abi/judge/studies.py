"""Claims made of several studies: each judged, then one verdict of all. Evidence rows carry the study in `fit`.

Source: protocol section 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from abi.base.manifests.batches import BatchManifest
from abi.base.regimes import KINDS
from abi.judge.fits import Check, Row, TableShown
from abi.judge.kinds import Combine, Findings, OfStudies, StudiesGiven, kind_of, plan_of
from abi.judge.results import StudyResult, level_of_one
from abi.judge.tables import fit_tables, published_criteria
from abi.judge.verdict import Case, Word, case_of, fit_of

if TYPE_CHECKING:
    import pandas as pd


def judge_studies(given: StudiesGiven) -> Findings:
    """Return verdict, reason, verdict at the strict level and every judged study of a claim.

    The kind says what each study is asked and how their words combine (`results.of_several`, `results.of_doses`). The
    strict level is that of a headline that counts several claims.
    """
    claim, criteria, how = given.claim, given.criteria, kind_of(given.claim.kind, OfStudies)
    kind = KINDS[claim.kind]
    tables = {study: fit_tables(given.evidence, fit=study, criteria=criteria) for study in given.studies}
    plans = {study: plan_of(claim, study, of.arms, criteria) for study, of in tables.items()}
    cases = {study: case_of(of, plans[study], criteria) for study, of in tables.items()}

    met = {study: published_criteria(of, given.thresholds, kind.claimed, kind.controls) for study, of in tables.items()}
    fits = {
        study: fit_of(cases[study], of, criteria.level).model_copy(update={"published_criteria": met[study]})
        for study, of in tables.items()
    }
    return replace(together(list(cases.values()), criteria.level, given.strict, how.combine), fits=fits)


def together(cases: Sequence[Case], usual: float, strict: float, combine: Combine) -> Findings:
    """Return the verdict of all studies, without their fits. Args: usual, strict: levels; combine: one word of several.

    At either level a study refutes the claim where it is REFUTED at the level of one of k, and not VACUOUS at it.
    """

    def at(level: float, verdicts: list[str]) -> tuple[list[Word], list[Word], str]:
        one_of_k = [case.word(level_of_one(level, len(cases))) for case in cases]
        pairs = list(zip(verdicts, one_of_k, strict=True))
        refuting = [one for own, one in pairs if one.verdict == "REFUTED" and own != "VACUOUS"]
        alone = [one for own, one in pairs if own == "REFUTED" and one.verdict != "REFUTED"]
        return refuting, alone, combine(verdicts, bool(refuting))

    words = [case.word(usual) for case in cases]
    refuting, alone, verdict = at(usual, [word.verdict for word in words])
    stricter = [case.strictly(word.verdict, strict) for case, word in zip(cases, words, strict=True)]
    return Findings(verdict, _reason(words, refuting, alone, verdict), at(strict, stricter)[-1])


def same_words(stored: StudyResult) -> Findings:
    """Return verdict, reason and fits of a stored result as they stand: what is made again is set beside them."""
    return Findings(stored.verdict, stored.reason, stored.verdict_at_strict_level, stored.fits)


def _reason(words: Sequence[Word], refuting: Sequence[Word], alone: Sequence[Word], verdict: str) -> str:
    """Return why: the counts, and the first study that refutes, else one that is not SUPPORTED.

    What is vacuous comes last, unless it is why. Args: refuting: at one of k's level; alone: at that level, of studies
    that are REFUTED only if asked alone: what they say at their own level does not decide; verdict: of all.
    """
    empty = [word for word in words if word.verdict == "VACUOUS"]
    short = [word for word in words if word.verdict not in ("SUPPORTED", "VACUOUS")]
    counted = f"{len(words) - len(short) - len(empty)} of {len(words)} studies are SUPPORTED"
    aside = f" and {len(empty)} VACUOUS" if empty else ""
    if verdict == "SUPPORTED" and len(words) > 1:
        every = "both" if len(words) == 2 else f"all {len(words)}"
        return f"{counted}{aside}" if empty else f"{every} studies are SUPPORTED"
    undecided = [word for word in short if word.verdict == "INCONCLUSIVE"]
    first = [*empty, *words][0] if verdict == "VACUOUS" else [*refuting, *undecided, *alone, *empty, *words][0]
    return first.reason if len(words) == 1 else f"{counted}{aside}; {first.fit}: {first.reason}"


def perplexities(evidence: pd.DataFrame, min_positions: int) -> dict[str, dict[str, float]]:
    """Return study -> arm -> perplexity per token on the study's own text: exp of the mean loss over long documents."""
    rows = evidence[(evidence["metric"] == "loss_nats") & (evidence["scope"] == "domain")]
    found: dict[str, dict[str, float]] = {}
    for (study, arm), losses in rows[rows["n_positions"] >= min_positions].groupby(["fit", "arm"])["value"]:
        found.setdefault(str(study), {})[str(arm)] = math.exp(float(losses.mean()))
    return found


def update_table(batches: Mapping[str, BatchManifest]) -> TableShown:
    """Return the table of what the updates did to the backbones: loss on their own text, drift of the held states.

    Args: batches: `<...>/updates/<update>/<stage>/<batch>.json` -> the manifest.
    """
    rows: list[Row] = []
    for path, batch in batches.items():
        update, stage = path.split("/")[-3:-1]
        for member in batch.members:
            if (told := member.figures) is not None:
                losses = [told.general_loss_before, told.general_loss_after]
                rows.append([update, stage, member.seed, *losses, told.stability_mse, told.steps])
    columns = ["update", "stage", "seed", "loss before", "after", "mean squared drift of held states", "steps"]
    caption = (
        "Loss on calibration text of the kind that the update reads, in nats per token (its first 64 windows, packed); "
        "stages `held` have the stability term, `free` ones do not."
    )
    return TableShown(id="updates", title="What the updates did", caption=caption, columns=columns, rows=rows)


def check(
    id: str, words: str, value: float | None, threshold: float, *, above: bool = False, also: bool = True
) -> Check:
    """Return one pass rule of the original: at least its threshold, or above it; `also`: whatever else it asks."""
    passed = value is not None and (value > threshold if above else value >= threshold) and also
    return Check(id=id, words=words, value=value, threshold=threshold, passed=passed)
