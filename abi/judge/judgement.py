"""From the files of a claim, of whatever kind, to its result: verdict, controls, the original's keys and the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from abi.base.catalogue import frozen_net
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file
from abi.base.job import InputFiles
from abi.base.manifests.alignments import AlignmentManifest
from abi.base.manifests.arms import ArmEntry, CalibrationManifest, LoraManifest
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest
from abi.base.manifests.experiments import FitsManifest
from abi.base.manifests.modules import ModulesManifest
from abi.base.manifests.pages import GenerationManifest
from abi.base.manifests.rates import ChosenRates, RatesManifest
from abi.base.names import AGREEMENT, ORACLE, RAW, UNFITTED
from abi.base.regimes import KINDS
from abi.base.typed import Provenance
from abi.judge.evidence_files import files_of
from abi.judge.fits import Fit
from abi.judge.kinds import OfClaims, OfFits, OfStudies, StudiesGiven, kind_of, words_of_rungs
from abi.judge.left_out import robustness_of
from abi.judge.published import figures_of
from abi.judge.results import (
    AlignmentFacts,
    BackboneFacts,
    ClaimFacts,
    LadderResult,
    Nib,
    NibCombined,
    NibOfSeed,
    PublishedFigure,
    Result,
    RowSum,
    Rung,
    StudyResult,
    Training,
    level_of_one,
    read_result,
)
from abi.judge.rows import read_promised
from abi.judge.studies import perplexities, update_table
from abi.judge.tables import fit_tables, published_criteria, thresholds_met
from abi.judge.verdict import case_of, check_frozen, fit_of
from abi.plan.specs.judge import JudgeClaim, JudgeLadder, JudgeStudy

RECORD_SEED = 7777
"""The draw that the record calls official."""


class Head(NamedTuple):
    """What a result repeats of its spec, and what was published for its claim."""

    claim: ClaimFacts
    scale: str
    meaningless: bool
    protocol: int
    record: Mapping[str, PublishedFigure]


def head_of(spec: JudgeClaim | JudgeStudy | JudgeLadder) -> Head:
    """Return the head of a result."""
    protocol, published = spec.protocol, spec.claim.record.claim
    return Head(
        claim=ClaimFacts.model_validate({"id": spec.id, **spec.claim.plain()}),
        scale=spec.scale,
        meaningless=spec.meaningless,
        protocol=protocol if isinstance(protocol, int) else protocol.protocol,
        record=figures_of(published) if published else {},
    )


# a claim with evidence of its own


def judge_claim(spec: JudgeClaim, inputs: InputFiles, provenance: Callable[[], Provenance]) -> Result:
    """Return the result of a claim from its evidence, draws, manifests of fits, modules by role, backbones and texts.

    Args: provenance: called last, so that it knows the time spent.
    Raises: DataError, EvidenceError: an input is not what it should be; TamperError: a net that is frozen changed.
    """
    evidence, draws = promised_rows(inputs)
    arms = fitted_arms(inputs)
    head, kind = head_of(spec), kind_of(spec.claim.kind, OfFits)
    givers = {giver for arm in arms if (giver := frozen_net(arm.arm, spec.claim.regime))}
    modules = {role: [m for path in inputs[role] for m in ModulesManifest.read(path).modules] for role in givers}
    check_frozen(kind.unmoved(arms, spec.claim.regime, modules))
    rates = rates_of(named(inputs, "rates"), arms)
    fits, strict, ppl = judged_fits(spec, head.claim, evidence)
    curves = kind.curves(spec, evidence, fits)
    primary = fits[spec.claim.fit]
    found = {
        **head._asdict(),
        "verdict": primary.verdict,
        "reason": primary.reason,
        "verdict_at_strict_level": strict,
        "fits": fits,
        "robustness": robustness_of(
            head.claim, [primary], evidence, inputs["texts"], inputs["overlaps"], spec.protocol.criteria
        ),
        **({"curves": curves} if curves else {}),
        "perplexity": ppl,
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        **original_keys(spec, draws, ppl, primary),
        "training": training_facts(arms),
        **({"alignments": aligned} if (aligned := alignment_facts(named(inputs, "alignments"))) else {}),
        **({"rates": rates} if rates else {}),
        "backbones": backbone_facts(inputs["backbones"]),
        "provenance": provenance(),
    }
    return Result.model_validate(found)


def promised_rows(inputs: InputFiles) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the evidence rows and draws among some inputs.

    Raises: DataError: a file that no manifest among them promises, or the other way; and as `read_promised`.
    """
    promised = [str(path) for manifest in inputs["manifests"] for path in files_of(manifest).values()]
    if wrong := sorted(set(promised) ^ {*inputs["evidence"], *inputs["draws"]}):
        raise DataError(f"{wrong[0]}: evidence and manifest come in pairs, one is not an input; rerun the evaluation")
    return read_promised(inputs["manifests"])


def named(inputs: InputFiles, name: str) -> Sequence[str]:
    """Return the paths of an input that not every claim has."""
    return inputs[name] if name in inputs.keys() else ()


def fitted_arms(inputs: InputFiles) -> list[ArmEntry]:
    """Return the entries of every fitted arm, LoRA's last."""
    calibrated = [arm for path in inputs["calibration"] for arm in CalibrationManifest.read(path).arms]
    return [*calibrated, *(arm for path in named(inputs, "lora") for arm in LoraManifest.read(path).arms)]


def rates_of(paths: Sequence[str], arms: Sequence[ArmEntry]) -> ChosenRates | None:
    """Return the learning rates that the arms of a claim chose, None where nothing is calibrated.

    Raises: DataError: an arm chose none; TamperError: one was fitted at another rate than it chose.
    """
    if not paths:
        return None
    [path] = paths
    manifest, trained = RatesManifest.read(path), [arm for arm in arms if arm.lr is not None]
    own = manifest.rates(arm.arm for arm in trained)
    for arm in (arm for arm in trained if arm.lr != own[arm.arm]):
        raise TamperError(
            f"{path}: {arm.arm} of seed {arm.seed} was fitted at a rate of {arm.lr:g} and chose {own[arm.arm]:g}; "
            "rerun the calibration"
        )
    return manifest.chosen()


class JudgedFits(NamedTuple):
    """Fit -> verdict with the published criteria, and what else follows from the tables of the fits.

    Args: strict: the deciding fit's verdict at the strict level; perplexity: fit -> arm -> scope -> figure. That of
        arms of no fit is over documents and seeds of the deciding one: a fit in closed form may have more.
    """

    fits: dict[str, Fit]
    strict: str
    perplexity: dict[str, dict[str, dict[str, float]]]


def judged_fits(spec: JudgeClaim, claim: ClaimFacts, evidence: pd.DataFrame) -> JudgedFits:
    """Return every fit of a claim, judged."""
    criteria, entry, kind = spec.protocol.criteria, KINDS[claim.kind], kind_of(claim.kind, OfFits)
    fits, strict, ppl = {}, "", dict[str, dict[str, dict[str, float]]]()
    unfitted = set(evidence.loc[evidence["fit"] == UNFITTED, "arm"])
    for name in claim.fits:
        tables = fit_tables(evidence, fit=name, criteria=criteria)
        plan = kind.asked(claim, name, tables.arms, criteria)
        met = published_criteria(tables, dict(spec.protocol.published_criteria), entry.claimed, entry.controls)
        case = case_of(tables, plan, criteria)
        fits[name] = fit_of(case, tables, criteria.level).model_copy(update={"published_criteria": met})
        of_arms = tables.perplexities()
        ppl[name] = {arm: of for arm, of in of_arms.items() if arm not in unfitted}
        if name == claim.fit:
            strict = case.strictly(fits[name].verdict, level_of_one(criteria.level, spec.n_claims))
            ppl[UNFITTED] = {arm: of for arm, of in of_arms.items() if arm in unfitted}
    return JudgedFits(fits, strict, ppl)


def row_sums(rows: pd.DataFrame) -> dict[str, RowSum]:
    """Return metric -> number of rows and sum of values: every row enters a leaf, also those no figure rests on."""
    found = rows.groupby("metric")["value"].agg(["count", "sum"])
    return {str(metric): RowSum(n=int(n), sum=float(total)) for metric, n, total in found.itertuples()}


def training_facts(arms: Sequence[ArmEntry]) -> list[Training]:
    """Return per fit and arm what its training was: steps, parameters, last loss, seconds (means over seeds)."""
    by_arm: dict[tuple[str, str], list[ArmEntry]] = {}
    for arm in arms:
        by_arm.setdefault((arm.fit, arm.arm), []).append(arm)
    return [_training(entries) for entries in by_arm.values()]


def _training(entries: Sequence[ArmEntry]) -> Training:
    told = Training(**entries[0].given("fit", "arm", "steps", "n_trainable", "lr"))
    if any(entry.final_loss is None for entry in entries):
        return told
    means = {
        "final_loss": float(pd.Series([entry.final_loss for entry in entries]).mean()),
        "elapsed_s": float(pd.Series([entry.elapsed_s for entry in entries]).mean()),
        "phase_floors": [float(x) for x in pd.DataFrame([entry.phase_floors for entry in entries]).mean()],
    }
    return told.model_copy(update=means)


def alignment_facts(paths: Sequence[str]) -> list[AlignmentFacts]:
    """Return per rotation how good it is, means over seeds."""
    entries = [entry for path in paths for entry in AlignmentManifest.read(path).alignments]
    if not entries:
        return []
    frame = pd.DataFrame([entry.plain() for entry in entries]).drop(columns="seed")
    means = frame.groupby("rotation", sort=False).mean().reset_index()
    return [AlignmentFacts.model_validate(row) for row in means.to_dict("records")]


def backbone_facts(paths: Sequence[str]) -> dict[str, BackboneFacts]:
    """Return backbone -> class and sizes, of its manifest."""
    found = (BackboneManifest.read(path) for path in paths)
    return {
        b.name: BackboneFacts.model_validate({key: getattr(b, key) for key in BackboneFacts.model_fields})
        for b in found
    }


# the original's keys of a result file: of the first seed's candidate, from held-out windows; they decide nothing


def original_keys(
    spec: JudgeClaim, draws: pd.DataFrame, perplexity: Mapping[str, Mapping[str, Mapping[str, float]]], fit: Fit
) -> dict[str, Any]:
    """Return NIB means of random draws, as the record drew them, its pass flags, and what it names at the top.

    Args: perplexity: fit -> arm -> scope -> figure; fit: the one that decides.
    """
    claim, arm = spec.claim, KINDS[spec.claim.kind].claimed
    thresholds = dict(spec.protocol.published_criteria)
    own = draws[(draws["fit"] == claim.fit) & (draws["arm"] == arm) & (draws["seed"] == draws["seed"].min())]
    own = own[own["draw"] == own["draw"].max()]  # of a ladder of windows the largest
    chunks = own.pivot_table(index=["rng_seed", "chunk"], columns="metric", values="value")
    drawn = chunks.groupby(level="rng_seed", sort=False)
    per_seed = {int(str(seed)): _nib(part, thresholds) for seed, part in drawn}
    first = RECORD_SEED if RECORD_SEED in per_seed else next(iter(per_seed))
    official = per_seed[first]
    l2 = {
        "mean_js": official.mean_js,
        "mean_top1_agree": official.mean_top1,
        "mean_top5_overlap": official.mean_top5,
        "mean_entropy_diff": official.mean_ent,
        "pass": official.passed,
        "thresholds": thresholds,
    }
    assert fit.published_criteria is not None
    plain = perplexity[UNFITTED]
    return {
        "nib_official": NibOfSeed(rng_seed=first, **dict(official)),
        "nib_extended": {str(seed): nib for seed, nib in per_seed.items() if seed != first},
        "nib_combined": _combined(chunks["top5"], per_seed),
        "nib_l2": l2,
        "overall_pass": fit.published_criteria.arms[arm].passed,
        "source_model": claim.source,
        "target_model": claim.target,
        "d_abi": spec.d_abi,
        "domain_steps": spec.training_steps,
        "calibration_steps": spec.calibration_steps,
        "ppl_native": plain[ORACLE]["domain"],
        "ppl_calibrated": perplexity[claim.fit][arm]["domain"],
        "ppl_raw": plain[RAW]["domain"],
    }


def _nib(chunks: pd.DataFrame, thresholds: Mapping[str, float]) -> Nib:
    """Return the record's NIB means of some chunks, and whether all four published thresholds are met."""
    means = {metric: float(chunks[metric].mean()) for metric in AGREEMENT}
    js, top1, top5, entropy = means.values()
    passed = all(thresholds_met(means, thresholds).values())
    return Nib(n_chunks=len(chunks), mean_js=js, mean_top1=top1, mean_top5=top5, mean_ent=entropy, passed=passed)


def _combined(top5: pd.Series[float], per_seed: Mapping[int, Nib]) -> NibCombined:
    mean, std = float(top5.mean()), float(top5.std(ddof=1))
    se = float(top5.std(ddof=1) / math.sqrt(len(top5)))
    return NibCombined(
        n_chunks=len(top5),
        mean_top5=mean,
        std_top5=std,
        se_top5=se,
        ci_95_low=mean - 1.96 * se,
        ci_95_high=mean + 1.96 * se,
        per_rng_mean_top5={str(seed): nib.mean_top5 for seed, nib in per_seed.items()},
    )


# a claim made of several studies


def judge_study(spec: JudgeStudy, inputs: InputFiles, provenance: Callable[[], Provenance]) -> StudyResult:
    """Return the result of a claim made of several studies from its evidence, texts, generated texts and updates.

    Args and Raises: as `judge_claim`.
    """
    evidence, draws = promised_rows(inputs)
    head, kind, criteria = head_of(spec), kind_of(spec.claim.kind, OfStudies), spec.protocol.criteria
    texts = [GenerationManifest.read(path) for path in named(inputs, "generation")]
    given = StudiesGiven(
        spec=spec,
        claim=head.claim,
        evidence=evidence,
        studies=kind.studies(head.claim, spec.rounds),
        perplexity=perplexities(evidence, criteria.min_positions),
        strict=level_of_one(criteria.level, spec.n_claims),
        generation=texts[0] if texts else None,
    )
    made = kind.judge(given)
    updates = {path: BatchManifest.read(path) for path in named(inputs, "updates")}
    found = {
        **head._asdict(),
        **{key: value for key, value in vars(made).items() if value is not None},
        "robustness": robustness_of(
            head.claim, made.fits.values(), evidence, inputs["texts"], inputs["overlaps"], criteria, spec.general
        ),
        **({"rates": tried.chosen()} if (tried := fits_of(named(inputs, "fits"))) and tried.tried else {}),
        "perplexity": given.perplexity,
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        "tables": [*made.tables, *([update_table(updates)] if updates else [])],
        "provenance": provenance(),
    }
    return StudyResult.model_validate(found)


def fits_of(paths: Sequence[str]) -> FitsManifest | None:
    """Return what was fitted for an experiment, None for any other claim."""
    return FitsManifest.read(paths[0]) if paths else None


# a claim about others


def judge_ladder(spec: JudgeLadder, inputs: InputFiles, provenance: Callable[[], Provenance]) -> LadderResult:
    """Return the result of a claim about others, from the result files of its rungs (`rungs`).

    Args: provenance: called last, so that it knows the time spent.
    """
    results = {path: read_result(path) for path in inputs["rungs"]}
    rungs = [
        Rung(
            id=result.claim.id,
            verdict=result.verdict,
            verdict_at_strict_level=result.verdict_at_strict_level,
            reason=result.reason,
            sha256=sha256_file(path),
        )
        for path, result in results.items()
    ]
    by_claim = {result.claim.id: result for result in results.values()}
    found = {**head_of(spec)._asdict(), **words_of_rungs(spec, by_claim, rungs), "rungs": rungs}
    rule = kind_of(spec.claim.kind, OfClaims).checks
    if rule is not None:
        found["checks"] = rule(by_claim)
    return LadderResult.model_validate({**found, "provenance": provenance()})
