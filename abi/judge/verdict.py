"""Evidence -> the verdict of one fit or study, typed as it stands in a result file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from abi.base.catalogue import ORACLE, RAW, Roles
from abi.base.errors import EvidenceError, TamperError
from abi.base.names import AGREEMENT
from abi.judge.contrasts import FromTables, Measure, lower_is_better
from abi.judge.decided import fit_of, too_few
from abi.judge.fits import ArmFigures, Figure, Fit, PublishedCriteria, Ratio, Share
from abi.judge.intervals import Array, interval, ratio_set
from abi.judge.protocol import BPB, Asked
from abi.judge.tables import FitTables
from abi.plan.specs.judge import Criteria


def judge(tables: FitTables, asked: Asked, criteria: Criteria, level: float | None = None) -> Fit:
    """Return the verdict of one fit or study with everything it rests on.

    Args: level: of the intervals, the criteria's unless a headline counts several claims (`strict_level`).
    Raises: EvidenceError: an arm that the protocol asks for has no rows.
    """
    level = criteria.level if level is None else level
    for contrast in asked.plan.contrasts():
        tables.require([contrast.measure], [arm for arm, _ in contrast.weights])
    turned, counts = tables.turned(), tables.counts()
    small = too_few(counts, asked.plan, criteria) is not None
    return fit_of(
        FromTables(turned, asked.plan.raw),
        asked,
        criteria,
        name=tables.fit,
        level=level,
        share=None if small else _share(turned[asked.own], asked.roles, level),
        closures={} if small else _gap_closures(turned[BPB], asked.roles, criteria, level),
        counts=counts,
        arms=_arms(tables, criteria, level),
    )


def check_frozen(unmoved: bool) -> None:
    """Raise TamperError where a backbone or a frozen net changed (protocol test 7): there is no verdict."""
    if not unmoved:
        raise TamperError("claim: test 7 fails: a backbone or domain net hash changed; the run is invalid, rerun it")


def published_criteria(
    tables: FitTables, thresholds: Mapping[str, float], candidate: str, controls: Collection[str]
) -> PublishedCriteria:
    """Return which of the four published thresholds each arm's means meet: means over documents and seeds."""
    measured = {metric: tables.document_means[Measure(metric, "domain")] for metric in AGREEMENT}
    means = {arm: {metric: measured[metric][arm] for metric in AGREEMENT} for arm in sorted(measured[AGREEMENT[0]])}
    if candidate not in means:
        words = f"arm {candidate!r} has no agreement; arms: {', '.join(means)}"
        raise EvidenceError(f"evidence, fit {tables.fit}: {words}")
    return criteria_met(means, thresholds, candidate, controls)


def criteria_met(
    means: Mapping[str, Mapping[str, float]], thresholds: Mapping[str, float], candidate: str, controls: Collection[str]
) -> PublishedCriteria:
    """Return which arms meet the published thresholds. Args: means: arm -> the four metrics of the NIB.

    thresholds: js_nats and entropy_diff_nats are met below, top1 and top5 at or above their figure; controls: arms that
    move no knowledge; those that are missing are not counted.
    """
    arms = {}
    for arm, values in means.items():
        met = thresholds_met(values, thresholds)
        arms[arm] = {"means": values, "met": met, "passed": all(met.values())}
    counted = [arm for arm in controls if arm in arms]
    passed = [arm for arm in counted if arms[arm]["passed"]]
    word = "yes" if arms[candidate]["passed"] else "no"
    sentence = f"published criteria met by: {candidate} {word}; control arms {len(passed)} of {len(counted)}"
    found = {"sentence": sentence, "thresholds": dict(thresholds), "controls": counted, "arms": arms}
    return PublishedCriteria.model_validate(found)


def thresholds_met(means: Mapping[str, float], thresholds: Mapping[str, float]) -> dict[str, bool]:
    """Return which published thresholds some means meet: below where less is better, else at or above."""
    return {m: v < thresholds[m] if lower_is_better(m) else v >= thresholds[m] for m, v in means.items()}


def _share(arms: Mapping[str, Array], roles: Roles, level: float) -> Share:
    """Return s = (C - P) / (C - R) with the best placebo: the part of the gain that is the moved net's."""
    placebo = max(roles.placebos, key=lambda arm: float(arms[arm].mean()))
    c = arms[roles.candidate]
    found = _ratio(c - arms[placebo], c - arms[roles.raw], level)
    return Share(placebo=placebo, **dict(found))


def _gap_closures(arms: Mapping[str, Array], roles: Roles, criteria: Criteria, level: float) -> dict[str, Ratio]:
    """Return arm -> (raw - arm) / (raw - oracle) in bits per byte with its set of g; nothing where no room is shown."""
    room = arms[roles.oracle] - arms[roles.raw]
    shown = interval(room, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
    if shown is None or shown.lower <= 0:
        return {}
    others = sorted(set(arms) - {RAW, ORACLE})
    return {arm: _ratio(arms[arm] - arms[roles.raw], room, level) for arm in others}


def _ratio(num: Array, den: Array, level: float) -> Ratio:
    found = ratio_set(num, den, level=level)
    pieces = [[_finite(low), _finite(high)] for low, high in found.pieces]
    return Ratio(estimate=_finite(found.estimate), pieces=pieces, bounded=found.bounded, level=level)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _arms(found: FitTables, criteria: Criteria, level: float) -> dict[str, ArmFigures]:
    """Return mean, interval, mean squares and per-seed means of every arm, scope and metric, in natural signs."""
    arms: dict[str, dict[str, dict[str, Figure]]] = {}
    for measure, tables in sorted(found.tables.items()):
        for arm, table in sorted(tables.items()):
            bounds = interval(table, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
            seeds = {str(seed): float(mean) for seed, mean in zip(found.seeds, table.mean(0), strict=True)}
            squares = {key: getattr(bounds, key, None) for key in ("lower", "upper", "msd", "mss", "mse")}
            figure = Figure.model_validate({"mean": float(table.mean()), "per_seed": seeds, **squares})
            arms.setdefault(arm, {}).setdefault(measure.scope, {})[measure.metric] = figure
    return {arm: ArmFigures.model_validate({"draws": found.draws[arm], **scopes}) for arm, scopes in arms.items()}
