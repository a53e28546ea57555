"""From evidence rows to everything of a result file that follows from them: one claim of one kind of fit."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from abi.base.errors import DataError
from abi.base.files import read_json
from abi.base.names import CLOSED_FORM, UNFITTED, fits_of
from abi.judge.contrasts import Criteria
from abi.judge.curves import curves_of
from abi.judge.evidence_files import files_of
from abi.judge.published import figures_of
from abi.judge.tables import scoped_perplexities
from abi.judge.verdict import (
    CONTROLS,
    RECONSTRUCTION_CONTROLS,
    judge_reconstruction,
    judge_transfer,
    published_criteria,
    strict_level,
)

Record = dict[str, Any]
CANDIDATE = {"transfer": "transferred", "reconstruction": "candidate"}


def check_promised(inputs: Mapping[str, Any]) -> None:
    """Raise DataError for evidence or draws among the inputs that no manifest among them promises, or the other way."""
    promised = [str(path) for manifest in inputs["manifests"] for path in files_of(manifest).values()]
    if wrong := sorted(set(promised) ^ {*inputs["evidence"], *inputs["draws"]}):
        raise DataError(f"{wrong[0]}: evidence and manifest come in pairs, one is not an input; rerun the evaluation")


def judged(spec: Mapping[str, Any], evidence: pd.DataFrame, draws: pd.DataFrame, *, frozen: bool) -> Record:
    """Return everything of a result file that follows from the evidence: `verify --recompute` calls the same."""
    claim, protocol = spec["claim"], spec["protocol"]
    criteria, kind = Criteria.from_mapping(protocol["criteria"]), claim["kind"]
    fits: Record = {}
    for fit in fits_of(claim):
        if kind == "transfer":
            fits[fit] = judge_transfer(evidence, regime=claim["regime"], fit=fit, criteria=criteria, frozen=frozen)
        else:
            fits[fit] = judge_reconstruction(evidence, fit=fit, criteria=criteria, frozen=frozen)
        fits[fit]["published_criteria"] = published_criteria(
            evidence, fit=fit, criteria=criteria, thresholds=protocol["published_criteria"], candidate=CANDIDATE[kind],
            controls=RECONSTRUCTION_CONTROLS if kind == "reconstruction" else CONTROLS,
        )  # fmt: skip
    curves = curves_of(claim, evidence, fits, steps_of(spec), criteria)
    primary = fits[claim["fit"]]
    strict = judge_at(evidence, claim, criteria, strict_level(criteria, spec["n_claims"]), frozen=frozen)
    return {
        "claim": {"id": spec["id"], **claim},
        "scale": spec["scale"],
        "meaningless": spec["meaningless"],
        "protocol": protocol["protocol"],
        "verdict": primary["verdict"],
        "reason": primary["reason"],
        "verdict_at_strict_level": strict,
        "fits": fits,
        **({"curves": [curve for curve in curves if curve["series"]]} if any(c["series"] for c in curves) else {}),
        "perplexity": scoped_perplexities(evidence, criteria.min_positions),
        "rows": {"evidence": row_sums(evidence), "draws": row_sums(draws)},
        "record": figures_of(claim["record"]["claim"]) if "claim" in claim["record"] else {},
        **legacy(spec, evidence, draws, primary["published_criteria"]),
    }


def steps_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return fit -> steps of the fits that differ in steps alone: the deciding one, its variants, the closed form with none."""
    claim, budget = spec["claim"], spec["budget"]
    found = {claim["fit"]: sum(phase["steps"] for phase in budget["phases"]["module"])}
    for name in claim.get("variants", ()):
        change = budget["variants"][name]
        if set(change) == {"steps"}:
            found[name] = change["steps"]
    return {CLOSED_FORM: 0, **found} if len(found) > 1 else found


def judge_at(
    evidence: pd.DataFrame, claim: Mapping[str, Any], criteria: Criteria, level: float, *, frozen: bool
) -> str:
    """Return the verdict word with intervals of another level."""
    if claim["kind"] == "transfer":
        return str(
            judge_transfer(
                evidence, regime=claim["regime"], fit=claim["fit"], criteria=criteria, frozen=frozen, level=level
            )["verdict"]
        )
    return str(
        judge_reconstruction(evidence, fit=claim["fit"], criteria=criteria, frozen=frozen, level=level)["verdict"]
    )


def nets_unmoved(kind: str, arms: list[Record], inputs: Mapping[str, Any]) -> bool:
    """Return whether every frozen net is bit-identical to the one it came from (protocol test 7).

    In a reconstruction the placebo's net is drawn once per seed: both fits must still hold it.
    """
    if kind == "reconstruction":
        nets = {(arm["seed"], arm["domain_sha256"]) for arm in arms if arm["arm"] == "random" and arm["draw"] == 0}
        return len(nets) == len({seed for seed, _ in nets})
    givers = {"transferred": "source", "identity": "source", "native": "oracle", "wrong-domain": "wrong"}
    known = {
        role: {m["seed"]: m["domain_sha256"] for path in inputs[role] for m in read_json(path, "modules")["modules"]}
        for role in set(givers.values()) & set(inputs.keys())
    }
    checked = [arm for arm in arms if arm["arm"] in givers]
    return all(arm["domain_sha256"] == known[givers[arm["arm"]]][arm["seed"]] for arm in checked)


def row_sums(rows: pd.DataFrame) -> Record:
    """Return metric -> number of rows and sum of values: every row enters a leaf, also those no figure rests on."""
    found = rows.groupby("metric")["value"].agg(["count", "sum"])
    return {str(metric): {"n": int(n), "sum": float(total)} for metric, n, total in found.itertuples()}


def training_facts(arms: list[Record]) -> list[Record]:
    """Return per fit and arm what its training was: steps, trainable parameters, last loss, seconds (means over seeds)."""
    frame = pd.DataFrame(arms)
    facts = []
    for (fit, arm), part in frame.groupby(["fit", "arm"], sort=False):
        row: Record = {
            "fit": fit,
            "arm": arm,
            "steps": int(part["steps"].iloc[0]),
            "n_trainable": int(part["n_trainable"].iloc[0]),
        }
        if "final_loss" in part and part["final_loss"].notna().all():
            row |= {"final_loss": float(part["final_loss"].mean()), "elapsed_s": float(part["elapsed_s"].mean())}
            row["phase_floors"] = [float(v) for v in pd.DataFrame(part["phase_floors"].tolist()).mean()]
        facts.append(row)
    return facts


def legacy(spec: Mapping[str, Any], evidence: pd.DataFrame, draws: pd.DataFrame, criteria: Record) -> Record:
    """Return the original's keys (`nib_official`, `nib_extended`, `nib_combined`, `nib_l2`, ...) for the first seed's candidate.

    They are drawn as the record was, from held-out windows, and decide nothing (EXPERIMENTS sections 0 and 7).
    """
    claim = spec["claim"]
    arm, fit = CANDIDATE[claim["kind"]], claim["fit"]
    own = draws[(draws["fit"] == fit) & (draws["arm"] == arm) & (draws["seed"] == draws["seed"].min())]
    own = own[own["draw"] == own["draw"].max()]  # of a ladder of windows the largest
    chunks = own.pivot_table(index=["rng_seed", "chunk"], columns="metric", values="value")
    per_seed = {int(str(seed)): _nib(part, spec) for seed, part in chunks.groupby(level="rng_seed", sort=False)}
    first = 7777 if 7777 in per_seed else next(iter(per_seed))
    top5 = chunks["top5"]
    se = float(top5.std(ddof=1) / math.sqrt(len(top5)))
    combined = {
        "n_chunks": len(top5), "mean_top5": float(top5.mean()), "std_top5": float(top5.std(ddof=1)), "se_top5": se,
        "ci_95_low": float(top5.mean()) - 1.96 * se, "ci_95_high": float(top5.mean()) + 1.96 * se,
        "per_rng_mean_top5": {str(seed): nib["mean_top5"] for seed, nib in per_seed.items()},
    }  # fmt: skip
    official = per_seed[first]
    ppl = scoped_perplexities(evidence, spec["protocol"]["criteria"]["min_positions"])
    return {
        "nib_official": {"rng_seed": first, **official},
        "nib_extended": {str(seed): nib for seed, nib in per_seed.items() if seed != first},
        "nib_combined": combined,
        "nib_l2": {
            "mean_js": official["mean_js"], "mean_top1_agree": official["mean_top1"], "mean_top5_overlap": official["mean_top5"],
            "mean_entropy_diff": official["mean_ent"], "pass": official["pass"], "thresholds": spec["protocol"]["published_criteria"],
        },
        "overall_pass": bool(criteria["arms"][arm]["passed"]),
        "source_model": claim["source"], "target_model": claim["target"], "d_abi": spec["d_abi"],
        "domain_steps": spec["training_steps"], "calibration_steps": sum(p["steps"] for p in spec["budget"]["phases"]["module"]),
        "ppl_native": ppl[UNFITTED]["oracle"]["domain"], "ppl_calibrated": ppl[fit][arm]["domain"], "ppl_raw": ppl[UNFITTED]["raw"]["domain"],
    }  # fmt: skip


def _nib(chunks: pd.DataFrame, spec: Mapping[str, Any]) -> Record:
    """Return the record's NIB means of some chunks and whether all four published thresholds are met."""
    limits = spec["protocol"]["published_criteria"]
    js, top1, top5, entropy = (float(chunks[m].mean()) for m in ("js_nats", "top1", "top5", "entropy_diff_nats"))
    passed = (
        js < limits["js_nats"]
        and top1 >= limits["top1"]
        and top5 >= limits["top5"]
        and entropy < limits["entropy_diff_nats"]
    )
    return {
        "n_chunks": len(chunks),
        "mean_js": js,
        "mean_top1": top1,
        "mean_top5": top5,
        "mean_ent": entropy,
        "pass": bool(passed),
    }
