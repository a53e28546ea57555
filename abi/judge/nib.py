"""The original's keys of a result file: NIB means of random draws, as the record drew them, and its pass flags.

They are of the first seed's candidate, from held-out windows, and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abi.base.catalogue import KINDS, ORACLE, RAW
from abi.base.names import AGREEMENT, UNFITTED
from abi.judge.results import Nib, NibCombined, NibL2, NibOfSeed
from abi.judge.verdict import thresholds_met
from abi.plan.specs.judge import JudgeClaim

if TYPE_CHECKING:
    import pandas as pd

RECORD_SEED = 7777
"""The draw that the record calls official."""


def original_keys(
    spec: JudgeClaim, draws: pd.DataFrame, perplexity: Mapping[str, Mapping[str, Mapping[str, float]]], passed: bool
) -> dict[str, Any]:
    """Return the original's keys.

    Args: perplexity: fit -> arm -> scope -> figure; passed: whether the candidate meets all four thresholds.
    """
    claim, arm = spec.claim, KINDS[spec.claim.kind].claimed
    thresholds = dict(spec.protocol.published_criteria)
    own = draws[(draws["fit"] == claim.fit) & (draws["arm"] == arm) & (draws["seed"] == draws["seed"].min())]
    own = own[own["draw"] == own["draw"].max()]  # of a ladder of windows the largest
    chunks = own.pivot_table(index=["rng_seed", "chunk"], columns="metric", values="value")
    drawn = chunks.groupby(level="rng_seed", sort=False)
    per_seed = {int(str(seed)): _means(part, thresholds) for seed, part in drawn}
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
    plain = perplexity[UNFITTED]
    return {
        "nib_official": NibOfSeed(rng_seed=first, **dict(official)),
        "nib_extended": {str(seed): nib for seed, nib in per_seed.items() if seed != first},
        "nib_combined": _combined(chunks["top5"], per_seed),
        "nib_l2": NibL2.model_validate(l2),
        "overall_pass": passed,
        "source_model": claim.source,
        "target_model": claim.target,
        "d_abi": spec.d_abi,
        "domain_steps": spec.training_steps,
        "calibration_steps": spec.budget.steps_of("module"),
        "ppl_native": plain[ORACLE]["domain"],
        "ppl_calibrated": perplexity[claim.fit][arm]["domain"],
        "ppl_raw": plain[RAW]["domain"],
    }


def _means(chunks: pd.DataFrame, thresholds: Mapping[str, float]) -> Nib:
    """Return the record's NIB means of some chunks, and whether all four published thresholds are met."""
    js, top1, top5, entropy = (float(chunks[metric].mean()) for metric in AGREEMENT)
    met = thresholds_met(dict(zip(AGREEMENT, (js, top1, top5, entropy), strict=True)), thresholds)
    return Nib(
        n_chunks=len(chunks),
        mean_js=js,
        mean_top1=top1,
        mean_top5=top5,
        mean_ent=entropy,
        passed=all(met.values()),
    )


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
