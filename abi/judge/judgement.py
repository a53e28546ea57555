"""From the files of a claim, of whatever kind, to its result: verdict, controls, the record beside them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from abi.base.catalogue import KINDS, frozen_net
from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.manifests import (
    AlignmentEntry,
    AlignmentManifest,
    ArmEntry,
    BackboneManifest,
    BatchManifest,
    CalibrationManifest,
    GenerationManifest,
    LoraManifest,
    ModulesManifest,
)
from abi.base.typed import Provenance
from abi.judge.combined import judge_rungs, strict_level
from abi.judge.curves import steps_of
from abi.judge.evidence_files import files_of
from abi.judge.fits import Fit
from abi.judge.kind import OfClaims, OfFits, OfStudies, StudiesGiven
from abi.judge.kinds import kind_of
from abi.judge.nib import original_keys
from abi.judge.published import figures_of
from abi.judge.results import (
    BackboneFacts,
    ClaimFacts,
    LadderResult,
    Result,
    RowSum,
    Rung,
    StudyResult,
    Training,
    read_result,
)
from abi.judge.studies import perplexities, update_table
from abi.judge.tables import fit_tables, read_promised, scoped_perplexities
from abi.judge.verdict import check_frozen, judge, published_criteria
from abi.plan.specs.judge import JudgeClaim, JudgeLadder, JudgeStudy

Inputs = Mapping[str, Sequence[str]]
"""Name of an input -> paths."""

Said = JudgeClaim | JudgeStudy | JudgeLadder


def facts_of(spec: Said) -> ClaimFacts:
    """Return a claim as its result repeats it."""
    return ClaimFacts.model_validate({"id": spec.id, **spec.claim.plain()})


def head_of(spec: Said) -> dict[str, object]:
    """Return what a result repeats of its spec, and what was published for its claim."""
    protocol, published = spec.protocol, spec.claim.record.claim
    return {
        "claim": facts_of(spec),
        "scale": spec.scale,
        "meaningless": spec.meaningless,
        "protocol": protocol if isinstance(protocol, int) else protocol.protocol,
        "record": figures_of(published) if published else {},
    }


def judge_claim(spec: JudgeClaim, inputs: Inputs, provenance: Callable[[], Provenance]) -> Result:
    """Return the result of a claim from its evidence, draws, manifests of fits, modules by role, and backbones.

    Args: provenance: called last, so that it knows the time spent.
    Raises: DataError, EvidenceError: an input is not what it should be; TamperError: a net that is frozen changed.
    """
    check_promised(inputs)
    evidence, draws = read_promised(inputs["manifests"])
    arms = fitted_arms(inputs)
    claim, kind = facts_of(spec), kind_of(spec.claim.kind, OfFits)
    givers = {giver for arm in arms if (giver := frozen_net(arm.arm, spec.claim.regime))}
    modules = {role: [m for path in inputs[role] for m in ModulesManifest.read(path).modules] for role in givers}
    check_frozen(kind.unmoved(arms, spec.claim.regime, modules))
    criteria, ppl = spec.protocol.criteria, scoped_perplexities(evidence, spec.protocol.criteria.min_positions)
    fits, strict = judged_fits(spec, claim, evidence)
    curves = kind.curves(claim, evidence, fits, steps_of(spec), criteria)
    primary = fits[spec.claim.fit]
    assert primary.published_criteria is not None
    passed = primary.published_criteria.arms[KINDS[claim.kind].claimed].passed
    found = {
        **head_of(spec),
        "verdict": primary.verdict,
        "reason": primary.reason,
        "verdict_at_strict_level": strict,
        "fits": fits,
        **({"curves": curves} if curves else {}),
        "perplexity": ppl,
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        **original_keys(spec, draws, ppl, passed),
        "training": training_facts(arms),
        "backbones": backbone_facts(inputs["backbones"]),
        "provenance": provenance(),
    }
    return Result.model_validate(found)


def check_promised(inputs: Inputs) -> None:
    """Raise DataError for evidence or draws among the inputs that no manifest among them promises, or the other way."""
    promised = [str(path) for manifest in inputs["manifests"] for path in files_of(manifest).values()]
    if wrong := sorted(set(promised) ^ {*inputs["evidence"], *inputs["draws"]}):
        raise DataError(f"{wrong[0]}: evidence and manifest come in pairs, one is not an input; rerun the evaluation")


def fitted_arms(inputs: Inputs) -> list[ArmEntry]:
    """Return the entries of every fitted arm, LoRA's last."""
    calibrated = [arm for path in inputs["calibration"] for arm in CalibrationManifest.read(path).arms]
    return [*calibrated, *(arm for path in inputs.get("lora", ()) for arm in LoraManifest.read(path).arms)]


def judged_fits(spec: JudgeClaim, claim: ClaimFacts, evidence: pd.DataFrame) -> tuple[dict[str, Fit], str]:
    """Return fit -> verdict with the published criteria, and the deciding fit's verdict at the strict level."""
    criteria, kind, fits, strict = spec.protocol.criteria, kind_of(claim.kind, OfFits), {}, ""
    claimed, controls = KINDS[claim.kind].claimed, KINDS[claim.kind].controls
    for name in claim.fits:
        tables = fit_tables(evidence, fit=name, criteria=criteria)
        asked = kind.asked(claim, name, tables.compared(), criteria)
        met = published_criteria(tables, dict(spec.protocol.published_criteria), claimed, controls)
        fits[name] = judge(tables, asked, criteria).model_copy(update={"published_criteria": met})
        if name == claim.fit:
            strict = judge(tables, asked, criteria, strict_level(criteria, spec.n_claims)).verdict
    return fits, strict


def row_sums(rows: pd.DataFrame) -> dict[str, RowSum]:
    """Return metric -> number of rows and sum of values: every row enters a leaf, also those no figure rests on."""
    found = rows.groupby("metric")["value"].agg(["count", "sum"])
    return {str(metric): RowSum(n=int(n), sum=float(total)) for metric, n, total in found.itertuples()}


def training_facts(arms: Sequence[ArmEntry]) -> list[Training]:
    """Return per fit and arm what its training was: steps, parameters, last loss, seconds (means over seeds)."""
    by_arm: dict[tuple[str, str], list[ArmEntry]] = {}
    for arm in arms:
        by_arm.setdefault((arm.fit, arm.arm), []).append(arm)
    return [_training(fit, arm, entries) for (fit, arm), entries in by_arm.items()]


def _training(fit: str, arm: str, entries: Sequence[ArmEntry]) -> Training:
    first = entries[0]
    sizes = {"steps": first.steps, "n_trainable": first.n_trainable}
    if any(entry.final_loss is None for entry in entries):
        return Training.model_validate({"fit": fit, "arm": arm, **sizes})
    means = {name: float(pd.Series([getattr(e, name) for e in entries]).mean()) for name in ("final_loss", "elapsed_s")}
    floors = [float(value) for value in pd.DataFrame([entry.phase_floors for entry in entries]).mean()]
    return Training.model_validate({"fit": fit, "arm": arm, **sizes, **means, "phase_floors": floors})


def backbone_facts(paths: Sequence[str]) -> dict[str, BackboneFacts]:
    """Return backbone -> class and sizes, of its manifest."""
    found = (BackboneManifest.read(path) for path in paths)
    return {
        b.name: BackboneFacts.model_validate({key: getattr(b, key) for key in BackboneFacts.model_fields})
        for b in found
    }


def judge_study(spec: JudgeStudy, inputs: Inputs, provenance: Callable[[], Provenance]) -> StudyResult:
    """Return the result of a claim made of several studies from its evidence, generated texts and updates.

    Args: provenance: called last, so that it knows the time spent.
    Raises: DataError, EvidenceError, TamperError: an input is not what it should be.
    """
    check_promised(inputs)
    evidence, draws = read_promised(inputs["manifests"])
    claim, kind = facts_of(spec), kind_of(spec.claim.kind, OfStudies)
    criteria = spec.protocol.criteria
    texts = [GenerationManifest.read(path) for path in inputs.get("generation", ())]
    given = StudiesGiven(
        spec=spec,
        claim=claim,
        evidence=evidence,
        studies=kind.studies(claim, spec.rounds),
        perplexity=perplexities(evidence, criteria.min_positions),
        strict=strict_level(criteria, spec.n_claims),
        generation=texts[0] if texts else None,
    )
    made = kind.judge(given)
    updates = {path: BatchManifest.read(path) for path in inputs.get("updates", ())}
    found = {
        **head_of(spec),
        "verdict": made.verdict,
        "reason": made.reason,
        "verdict_at_strict_level": made.verdict_at_strict_level,
        "fits": dict(made.fits),
        **({} if made.law is None else {"law": made.law}),
        "perplexity": given.perplexity,
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        "tables": [*made.tables, *([update_table(updates)] if updates else [])],
        **{name: list(getattr(made, name)) for name in ("checks", "curves", "matrices")},
        "provenance": provenance(),
    }
    return StudyResult.model_validate(found)


def judge_ladder(spec: JudgeLadder, inputs: Inputs, provenance: Callable[[], Provenance]) -> LadderResult:
    """Return the result of a claim about others, from the result files of its rungs (`rungs`) and their `alignments`.

    Args: provenance: called last, so that it knows the time spent.
    """
    files = {path: read_result(path) for path in inputs["rungs"]}
    rungs = [
        Rung(
            id=result.claim.id,
            verdict=result.verdict,
            verdict_at_strict_level=result.verdict_at_strict_level,
            reason=result.reason,
            sha256=sha256_file(path),
        )
        for path, result in files.items()
    ]
    results = {result.claim.id: result for result in files.values()}
    rule = kind_of(spec.claim.kind, OfClaims).checks if spec.claim.checks else None
    checks = {"checks": rule(results, alignments_of(inputs.get("alignments", ())))} if rule else {}
    found = {
        **head_of(spec),
        **judge_rungs(rungs),
        "rungs": rungs,
        **checks,
        "provenance": provenance(),
    }
    return LadderResult.model_validate(found)


def alignments_of(paths: Sequence[str]) -> dict[str, list[AlignmentEntry]]:
    """Return claim -> what the manifests of its alignments say: `<...>/alignments/<claim>/<batch>.json`."""
    found: dict[str, list[AlignmentEntry]] = {}
    for path in paths:
        found.setdefault(Path(path).parent.name, []).extend(AlignmentManifest.read(path).alignments)
    return found
