"""Evidence -> verdict, as a plain dictionary that goes into a result file as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from abi.base.errors import EvidenceError, TamperError
from abi.base.names import AGREEMENT
from abi.judge.contrasts import Answers, Contrast, Criteria, Decision, Measure, Outcome, Plan, Refuted, decide
from abi.judge.intervals import Array, components, interval, interval_of, ratio_set, resolvable_gap
from abi.judge.protocol import BPB, RECONSTRUCTION, TRANSFER, Roles, reconstruction_plan, transfer_plan
from abi.judge.tables import LOWER_IS_BETTER, Study, read_evidence, study

__all__ = ["Criteria", "headline", "judge_reconstruction", "judge_transfer", "published_criteria", "read_evidence"]

Record = dict[str, Any]
CONTROLS = ("raw", "random", "permuted", "linear", "bias", "no-domain")
RECONSTRUCTION_CONTROLS = ("raw", "random", "linear", "before")


def judge_transfer(
    evidence: pd.DataFrame, *, regime: str, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Record:
    """Return the verdict of a transfer claim in one regime and one way of fitting.

    Args: evidence: rows of `read_evidence`; frozen: whether backbone and domain net hashes are unchanged (test 7);
        level: of the intervals, the criteria's unless a headline counts several claims (`strict_level`).
    Raises: TamperError: something frozen changed, so there is no verdict; EvidenceError: no honest verdict from these.
    """
    found = _study(evidence, fit, criteria, frozen)
    roles = TRANSFER
    if regime == "general-only" and not _has_native(found):
        roles = replace(TRANSFER, native=None)
    plan = transfer_plan(regime, criteria, roles)
    record = _judge(found, plan, roles, criteria, level, own=BPB if regime == "general-only" else None)
    return {"kind": "transfer", "regime": regime, **record}


def judge_reconstruction(
    evidence: pd.DataFrame, *, fit: str, criteria: Criteria, frozen: bool, level: float | None = None
) -> Record:
    """Return the verdict of a reconstruction: a candidate regressed on a reference module's corrections.

    The candidate's arm is `candidate`; U is the candidate too, P is `random`, Q are `linear` and `before`. With U = C
    test 2 reduces to C > P and coincides with 1 and the placebo part of 4; nothing is said about parity, since A is
    teacher and reference by definition (see `plans.reconstruction_plan`).

    Args and Raises: as `judge_transfer`.
    """
    found = _study(evidence, fit, criteria, frozen)
    record = _judge(found, reconstruction_plan(criteria), RECONSTRUCTION, criteria, level, own=None)
    return {"kind": "reconstruction", "regime": None, **record}


def judge_study(
    evidence: pd.DataFrame, *, kind: str, study: str, plan: Plan, roles: Roles, own: Measure, criteria: Criteria,
    level: float | None = None,
) -> Record:  # fmt: skip
    """Return the verdict of one study of a claim that is made of several (protocol section 6).

    Args: study: the `fit` of its evidence rows; plan, roles: of `plans.update_plan` or `plans.atlas_plan`; own: the measure
        that decides. Raises: EvidenceError: no honest verdict from these.
    """
    found = _study(evidence, study, criteria, True)
    return {"kind": kind, "regime": None, **_judge(found, plan, roles, criteria, level, own=own)}


def published_criteria(
    evidence: pd.DataFrame,
    *,
    fit: str,
    criteria: Criteria,
    thresholds: Mapping[str, float],
    candidate: str = "transferred",
    controls: tuple[str, ...] = CONTROLS,
) -> Record:
    """Return which of the four published thresholds each arm's means meet: means over documents and seeds.

    Args: thresholds: js_nats and entropy_diff_nats are met below, top1 and top5 at or above their figure.
        controls: arms that move no knowledge; those that are missing are not counted.
    """
    means = study(evidence, fit=fit, criteria=criteria).document_means
    arms: Record = {}
    for arm in sorted(means[Measure(AGREEMENT[0], "domain")]):
        values = {metric: means[Measure(metric, "domain")][arm] for metric in AGREEMENT}
        met = thresholds_met(values, thresholds)
        arms[arm] = {"means": values, "met": met, "passed": all(met.values())}
    if candidate not in arms:
        raise EvidenceError(f"evidence, fit {fit}: arm {candidate!r} has no agreement; arms: {', '.join(arms)}")
    counted = [arm for arm in controls if arm in arms]
    passed = [arm for arm in counted if arms[arm]["passed"]]
    word = "yes" if arms[candidate]["passed"] else "no"
    sentence = f"published criteria met by: {candidate} {word}; control arms {len(passed)} of {len(counted)}"
    return {"sentence": sentence, "thresholds": dict(thresholds), "controls": counted, "arms": arms}


def thresholds_met(means: Mapping[str, float], thresholds: Mapping[str, float]) -> dict[str, bool]:
    """Return which published thresholds some means meet: js_nats and entropy_diff_nats below, top1 and top5 at or above."""
    return {m: v < thresholds[m] if m in LOWER_IS_BETTER else v >= thresholds[m] for m, v in means.items()}


def strict_level(criteria: Criteria, n_claims: int) -> float:
    """Return the level 1 - alpha / m of the intervals of a headline that counts m claims."""
    return 1 - (1 - criteria.level) / n_claims


def headline(
    verdicts: Mapping[str, str], strict: Mapping[str, str], criteria: Criteria, n_claims: int | None = None
) -> Record:
    """Return "k of m SUPPORTED", and how many stay so with intervals of `strict_level`.

    Args: verdicts: claim -> verdict at the criteria's level; strict: the same claims, judged at the strict level.
        n_claims: how many claims that level was made for, at least as many as are counted; all that are counted if None.
    Raises: EvidenceError: the two do not hold the same claims, or none, or the level is for fewer.
    """
    if not verdicts or set(verdicts) != set(strict):
        raise EvidenceError("headline: both sets of verdicts must hold the same claims, at least one")
    total = len(verdicts)
    if n_claims is not None and n_claims < total:
        raise EvidenceError(f"headline: a level for {n_claims} claims is too low for {total}; judge them again")
    level = strict_level(criteria, n_claims or total)
    supported = sorted(name for name, verdict in verdicts.items() if verdict == "SUPPORTED")
    staying = [name for name in supported if strict[name] == "SUPPORTED"]
    stay = f"{len(staying)} of {total} stay SUPPORTED with intervals of {level:.5g}"
    sentence = f"{len(supported)} of {total} claims SUPPORTED; {stay}"
    return {"sentence": sentence, "n": total, "supported": supported, "level": level, "stay_supported": staying}


def _study(evidence: pd.DataFrame, fit: str, criteria: Criteria, frozen: bool) -> Study:
    if not frozen:
        raise TamperError("claim: test 7 fails: a backbone or domain net hash changed; the run is invalid, rerun it")
    return study(evidence, fit=fit, criteria=criteria)


def _has_native(found: Study) -> bool:
    return all("native" in found.tables.get(Measure(metric, "domain"), {}) for metric in AGREEMENT)


def _judge(
    found: Study, plan: Plan, roles: Roles, criteria: Criteria, level: float | None, *, own: Measure | None
) -> Record:
    """Return the verdict with everything it rests on; `own` is the measure that decides, the primary one if None."""
    level = criteria.level if level is None else level
    own = own or Measure(criteria.primary_metric, "domain")
    for contrast in plan.contrasts():
        found.require([contrast.measure], [arm for arm, _ in contrast.weights])
    tables = found.turned()
    record: Record = {"fit": found.fit, "level": level, "primary_metric": own.metric}
    scopes = {contrast.measure.scope for contrast in plan.contrasts()}
    n_groups, n_seeds = min(found.groups[scope] for scope in scopes), len(found.seeds)
    if n_groups < criteria.min_groups or n_seeds < criteria.min_seeds:
        reason = (
            f"{n_groups} groups and {n_seeds} seeds are too few for an interval; "
            f"{criteria.min_groups} groups and {criteria.min_seeds} seeds are needed"
        )
        means = [_contrast_record(test, float(test.table(tables).mean())) for test in plan.own.tests]
        record |= {"verdict": "INCONCLUSIVE", "reason": reason, "tests": means, "refutations": [], "vacuous": []}
        record |= {"share": None, "gap_closure": None, "gap_closures": {}, "resolvable_gap": None, "secondary": {}}
    else:
        decision = decide(tables, plan, level=level)
        record |= _decision_record(decision)
        record["share"] = _share(tables[own], roles, level)
        closures = _gap_closures(tables[BPB], roles, criteria, level)
        record["gap_closure"], record["gap_closures"] = closures.get(roles.candidate), closures
        record["resolvable_gap"] = _resolvable(tables[own], roles, criteria, n_seeds, own.metric)
        record["reason"] = _reason(decision, record)
    return record | {"counts": _counts(found), "arms": _arms(found, criteria, level)}


def _decision_record(decision: Decision) -> Record:
    secondary = {}
    for metric, answers in decision.secondary.items():
        refutations = [_refutation_record(item) for item in answers.refutations]
        tests = [_outcome_record(outcome) for outcome in answers.tests]
        secondary[metric] = {"tests": tests, "refutations": refutations, "refuted": bool(answers.refuted())}
    return {
        "verdict": str(decision.verdict),
        "reason": "",
        "tests": [_outcome_record(outcome) for outcome in decision.own.tests],
        "refutations": [_refutation_record(item) for item in decision.own.refutations],
        "vacuous": [_outcome_record(outcome, "holds") for outcome in decision.vacuous],
        "secondary": secondary,
    }


def _contrast_record(contrast: Contrast, mean: float) -> Record:
    """Return what was asked: the figure is turned so that more is better where `turned` is true."""
    metric, scope = contrast.measure
    about = {"id": contrast.id, "contrast": contrast.words(), "metric": metric, "scope": scope}
    turned = {"turned": metric in LOWER_IS_BETTER, "required": contrast.required}
    return {**about, **turned, "mean": mean, "interval": None, "limit": None, "passed": False}


def _outcome_record(outcome: Outcome, verb: str = "passed") -> Record:
    record = _contrast_record(outcome.contrast, float(outcome.parts.mean))
    del record["passed"]
    record["interval"] = asdict(interval_of(outcome.parts, outcome.level))
    return {**record, "limit": float(outcome.limit), verb: bool(outcome.holds)}


def _refutation_record(item: Refuted) -> Record:
    contrasts = [_outcome_record(outcome, "holds") for outcome in item.outcomes]
    level = item.outcomes[0].level
    about = {"id": item.id, "level": level, "applies": bool(item.applies), "holds": bool(item.holds)}
    return {**about, "contrasts": contrasts}


def _share(arms: Mapping[str, Array], roles: Roles, level: float) -> Record:
    """Return s = (C - P) / (C - R) with the best placebo: the part of the gain that is the moved net's."""
    placebo = max(roles.placebos, key=lambda arm: float(arms[arm].mean()))
    c = arms[roles.candidate]
    return {"placebo": placebo, **_ratio(c - arms[placebo], c - arms[roles.raw], level)}


def _gap_closures(arms: Mapping[str, Array], roles: Roles, criteria: Criteria, level: float) -> Record:
    """Return arm -> (raw - arm) / (raw - oracle) in bits per byte with its set of g; nothing where no room is shown."""
    room = arms[roles.oracle] - arms[roles.raw]
    shown = interval(room, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
    if shown is None or shown.lower <= 0:
        return {}
    others = sorted(set(arms) - {roles.raw, roles.oracle})
    return {arm: _ratio(arms[arm] - arms[roles.raw], room, level) for arm in others}


def _ratio(num: Array, den: Array, level: float) -> Record:
    found = ratio_set(num, den, level=level)
    pieces = [[_finite(low), _finite(high)] for low, high in found.pieces]
    return {"estimate": _finite(found.estimate), "pieces": pieces, "bounded": found.bounded, "level": level}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _resolvable(arms: Mapping[str, Array], roles: Roles, criteria: Criteria, n_seeds: int, metric: str) -> Record:
    """Return the gap U - P this study could have resolved, for its widest placebo; C - P without a positive control."""
    best = roles.native or roles.candidate
    errors = {p: float(components(arms[best] - arms[p]).standard_error()) for p in roles.placebos}
    placebo = max(errors, key=lambda arm: errors[arm])
    gap = resolvable_gap(errors[placebo], n_seeds, criteria.resolvable)
    times = resolvable_gap(1.0, n_seeds, criteria.resolvable)
    about = {"contrast": f"{best} - {placebo}", "metric": metric, "gap": gap}
    return {**about, "standard_error": errors[placebo], "standard_errors": times, "n_seeds": n_seeds}


def _counts(found: Study) -> Record:
    dropped = {
        "seeds": list(found.dropped_seeds),
        "documents": dict(found.dropped_documents),
        "documents_too_short": dict(found.short_documents),
    }
    about = {"groups": dict(found.groups), "documents": dict(found.documents), "seeds": list(found.seeds)}
    return {**about, "dropped": dropped}


def _arms(found: Study, criteria: Criteria, level: float) -> Record:
    """Return mean, interval, mean squares and per-seed means of every arm, scope and metric, in natural signs."""
    arms: Record = {}
    for measure, tables in sorted(found.tables.items()):
        for arm, table in sorted(tables.items()):
            bounds = interval(table, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
            seeds = {str(seed): float(mean) for seed, mean in zip(found.seeds, table.mean(0), strict=True)}
            figure = {"mean": float(table.mean()), "per_seed": seeds}
            figure |= {key: getattr(bounds, key, None) for key in ("lower", "upper", "msd", "mss", "mse")}
            scope = arms.setdefault(arm, {"draws": found.draws[arm]}).setdefault(measure.scope, {})
            scope[measure.metric] = figure
    return arms


def _reason(decision: Decision, record: Record) -> str:
    verdict = record["verdict"]
    if verdict == "VACUOUS":
        return "nothing to transfer: " + _figure(next(o for o in decision.vacuous if o.holds))
    if verdict == "REFUTED":
        item = next(r for r in decision.own.refutations if r.holds)
        return f"({item.id}) " + _figure(next(o for o in item.outcomes if o.holds))
    if verdict == "SUPPORTED":
        weakest = min(_required(decision.own), key=lambda o: float((o.parts.mean - o.limit) / o.parts.half(o.level)))
        whole = any(test.contrast.id.startswith("6.") for test in decision.own.tests)
        words = "tests 0 to 7 hold" if whole else "every required test holds"
        return f"{words}, the closest is {_figure(weakest)}; share {record['share']['estimate']:.3g}"
    gap = record["resolvable_gap"]
    could = (
        f"this study could have resolved a gap {gap['contrast']} of {gap['gap']:.3g} in {gap['metric']} "
        f"({gap['standard_errors']:.3g} standard errors with {gap['n_seeds']} seeds)"
    )
    failed = next((o for o in _required(decision.own) if not o.holds), None)
    if failed is not None:
        return f"test {_figure(failed)} is not shown to be above its limit; {could}"
    metric, item = next((m, r) for m, a in decision.secondary.items() for r in a.refutations if r.holds)
    return f"tests 0 to 7 hold, but {metric} is refuted by ({item.id}): {_figure(item.outcomes[0])}; {could}"


def _required(answers: Answers) -> list[Outcome]:
    return [outcome for outcome in answers.tests if outcome.contrast.required]


def _figure(outcome: Outcome) -> str:
    """Return one contrast with its figures as words."""
    bounds, metric, scope = interval_of(outcome.parts, outcome.level), *outcome.contrast.measure
    limit = f", limit {float(outcome.limit):.3g}" if outcome.contrast.margin else ""
    turned = ", sign turned" if metric in LOWER_IS_BETTER else ""
    figures = f"{bounds.mean:.3g} [{bounds.lower:.3g}, {bounds.upper:.3g}] at {outcome.level:.6g}"
    return f"{outcome.contrast.id}: {outcome.contrast.words()} = {figures}{limit} ({metric} on {scope}{turned})"
