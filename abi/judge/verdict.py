"""The verdict of one fit or study as a result file says it: from tables of evidence, or again from what is stored.

Both ways run the same code: a `Case` of `contrasts.FromTables` when a claim is judged, of `FromStored` when a file is
checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from abi.base.errors import EvidenceError, TamperError
from abi.base.names import ORACLE, RAW, SCOPES
from abi.base.regimes import Roles
from abi.judge.contrasts import (
    Answers,
    Contrast,
    Decision,
    Figures,
    FromTables,
    Key,
    Measure,
    Outcome,
    Plan,
    decide,
)
from abi.judge.fits import ArmFigures, ContrastFound, Counts, Figure, Fit, Ratio, Resolvable, Share
from abi.judge.intervals import (
    Array,
    Components,
    components,
    components_of,
    interval,
    interval_figures,
    interval_of,
    ratio_set,
    resolvable_gap,
)
from abi.judge.protocol import BPB
from abi.judge.reasons import reason_of
from abi.judge.tables import FitTables
from abi.plan.specs.judge import Criteria


class Word(NamedTuple):
    """The verdict of one fit or study at one level, why, and the id of the contrast that decides."""

    fit: str
    verdict: str
    reason: str
    decided_by: str


@dataclass(frozen=True)
class Case:
    """One fit or study before its verdict: what it is asked and what answers, at whatever level.

    Args: share: at the level of the criteria whatever the level: a stored fit holds no other, and a reason quotes it;
        stored_gap: what it could have resolved, where the figures do not give it.
    """

    name: str
    figures: Figures
    plan: Plan
    criteria: Criteria
    counts: Counts
    share: Share | None
    stored_gap: Resolvable | None = None

    @cached_property
    def small(self) -> str | None:
        """Why there is no interval, None where there is."""
        return too_few(self.counts, self.plan, self.criteria)

    @cached_property
    def gap(self) -> Resolvable:
        """The gap that it could have resolved."""
        return self.stored_gap or _resolvable(self.figures, self.plan, self.criteria, len(self.counts.seeds))

    def word(self, level: float) -> Word:
        """Return the verdict at a level; it is INCONCLUSIVE where there is too little for an interval."""
        if self.small:
            first = next(test for test in self.plan.own.tests if test.required)
            return Word(self.name, "INCONCLUSIVE", self.small, first.id)
        return self._word(decide(self.figures, self.plan, level=level))

    def strictly(self, usual: str, level: float) -> str:
        """Return the verdict at a stricter level; what is VACUOUS at the usual one stays so as intervals get wider.

        Args: usual: the verdict at the usual level.
        """
        return usual if usual == "VACUOUS" else self.word(level).verdict

    def _word(self, decision: Decision) -> Word:
        decides = decision.deciding()
        reason = reason_of(decision, decides, self.share, self.plan, self.gap)
        return Word(self.name, str(decision.verdict), reason, decides.contrast.id)

    def fit(self, level: float, closures: Mapping[str, Ratio], arms: Mapping[str, ArmFigures]) -> Fit:
        """Return the verdict at a level with everything it rests on. Args: arms: in natural signs, as reported."""
        found: dict[str, object] = {
            "kind": self.plan.kind,
            "regime": self.plan.regime,
            "fit": self.name,
            "level": level,
            "primary_metric": self.plan.measure.metric,
            "share": self.share,
            "gap_closure": closures.get(self.plan.roles.candidate),
            "gap_closures": dict(closures),
            "counts": self.counts,
            "arms": dict(arms),
        }
        if self.small:
            empty = {"interval": None, "limit": None, "passed": False}
            tests = [{**_about(test), "mean": self.figures.mean(test), **empty} for test in self.plan.own.tests]
            nothing: dict[str, object] = {"refutations": [], "vacuous": [], "secondary": {}, "resolvable_gap": None}
            return Fit.model_validate({**found, **self.word(level)._asdict(), "tests": tests, **nothing})
        decision = decide(self.figures, self.plan, level=level)
        secondary = {m: {**_answers(told), "refuted": bool(told.refuted())} for m, told in decision.secondary.items()}
        found |= {
            **self._word(decision)._asdict(),
            **_answers(decision.own),
            "vacuous": [_shown(item, "holds") for item in decision.vacuous],
            "secondary": secondary,
            "resolvable_gap": self.gap,
        }
        return Fit.model_validate(found)


def case_of(tables: FitTables, plan: Plan, criteria: Criteria) -> Case:
    """Return the case of some evidence. Raises: EvidenceError: an arm that the protocol asks for has no rows."""
    for contrast in plan.contrasts():
        tables.require(contrast)
    turned = tables.turned()
    small = too_few(tables.counts, plan, criteria)
    share = None if small else _share(turned[plan.measure], plan.roles, criteria.level)
    return Case(tables.fit, FromTables(turned), plan, criteria, tables.counts, share)


def stored_case(fit: Fit, plan: Plan, criteria: Criteria) -> Case:
    """Return the case of a stored fit: its contrasts' means and mean squares. What no contrast gives, it tells."""
    figures = FromStored(fit, plan)
    told = all(contrast.key in figures.found for contrast in _gaps(plan).values())
    share = None if too_few(fit.counts, plan, criteria) else fit.share
    return Case(fit.fit, figures, plan, criteria, fit.counts, share, None if told else fit.resolvable_gap)


def judge(tables: FitTables, plan: Plan, criteria: Criteria, level: float | None = None) -> Fit:
    """Return the verdict of one fit or study with everything it rests on.

    Args: level: of the intervals, the criteria's unless a headline counts several claims (`results.level_of_one`).
    Raises: EvidenceError: as `case_of`.
    """
    return fit_of(case_of(tables, plan, criteria), tables, criteria.level if level is None else level)


def fit_of(case: Case, tables: FitTables, level: float) -> Fit:
    """Return the verdict of a case at a level with everything it rests on. Args: tables: those of the case."""
    return case.fit(level, gap_closures(case, tables, level), _arms(tables, case.criteria, level))


def decided_by(fit: Fit, plan: Plan, criteria: Criteria) -> str:
    """Return the id of the contrast that decides a stored fit: as it says, or by its figures if older code wrote it."""
    return fit.decided_by or stored_case(fit, plan, criteria).word(fit.level).decided_by


def rejudged(fit: Fit, plan: Plan, criteria: Criteria) -> Fit:
    """Return what a stored fit must say: everything that follows from its means and mean squares, made once more.

    What follows from the evidence alone (arms, counts, shares, ratios) is taken as it stands; so are the published
    criteria.

    Raises: EvidenceError: figures of a contrast that the protocol asks for are not there.
    """
    case = stored_case(fit, plan, criteria)
    again = case.fit(criteria.level, {} if case.small else fit.gap_closures, fit.arms)
    return again.model_copy(update={"published_criteria": fit.published_criteria})


def too_few(counts: Counts, plan: Plan, criteria: Criteria) -> str | None:
    """Return why there is no interval, in words, or None where there are groups and seeds enough."""
    scopes = sorted({contrast.measure.scope for contrast in plan.contrasts()})
    least = min(scopes, key=lambda scope: counts.groups[scope])
    groups, seeds = counts.groups[least], len(counts.seeds)
    if groups >= criteria.min_groups and seeds >= criteria.min_seeds:
        return None
    text = "" if least == SCOPES[0] else f" of {least} text"
    needed = f"{criteria.min_groups} groups and {criteria.min_seeds} seeds are needed"
    return f"{groups} groups{text} and {seeds} seeds are too few for an interval; {needed}"


class FromStored:
    """Figures of the contrasts that a stored fit holds: what stands first of a contrast holds for all its places."""

    def __init__(self, fit: Fit, plan: Plan) -> None:
        self.fit = fit
        self.found: dict[Key, ContrastFound] = {}
        asked = {contrast.id: contrast for contrast in plan.contrasts()}
        for _, stored in fit.contrasts():
            if stored.id in asked:
                self.found.setdefault(asked[stored.id].key, stored)

    def parts(self, contrast: Contrast) -> Components:
        """Return the stored mean and mean squares. Raises: EvidenceError: the file has none of this contrast."""
        found = self._stored(contrast).interval
        if found is None:
            raise EvidenceError(f"fit {self.fit.fit}: {contrast.id} has no interval")
        return components_of(found)

    def mean(self, contrast: Contrast) -> float:
        """Return the stored mean. Raises: EvidenceError: as `parts`."""
        return self._stored(contrast).mean

    def plain(self, measure: Measure) -> float:
        """Return the mean of the plain backbone as it is reported."""
        return self.fit.arms[RAW].of(measure.scope)[measure.metric].mean

    def _stored(self, contrast: Contrast) -> ContrastFound:
        found = self.found.get(contrast.key)
        if found is None:
            raise EvidenceError(f"fit {self.fit.fit}: holds no figures of {contrast.id} ({contrast.words()})")
        return found


def mean_of_arms(fit: Fit, contrast: Contrast) -> float:
    """Return the mean of a contrast as the weighted sum of the arms' means, turned so that more is better."""
    metric, scope = contrast.measure
    means = [weight * fit.arms[arm].of(scope)[metric].mean for arm, weight in contrast.weights.items()]
    return contrast.measure.sign * sum(means)


def means_of_seeds(fit: Fit, contrast: Contrast) -> list[float]:
    """Return the contrast's mean per seed from those of the arms (natural signs): `mss` is groups x their variance."""
    metric, scope = contrast.measure
    arms = [(weight, fit.arms[arm].of(scope)[metric].per_seed) for arm, weight in contrast.weights.items()]
    return [sum(weight * values[str(seed)] for weight, values in arms) for seed in fit.counts.seeds]


# what the evidence alone gives


def _share(arms: Mapping[str, Array], roles: Roles, level: float) -> Share:
    """Return s = (C - P) / (C - R) with the best placebo: the part of the gain that it does not reach.

    The placebo is chosen by the means that the share is made of: that makes the share smaller, never larger, and the
    interval does not count the choice.
    Where C - R is below 0 there is no gain, and the ratio of two losses would read like a share of one.
    """
    placebo = max(roles.placebos, key=lambda arm: float(arms[arm].mean()))
    c = arms[roles.candidate]
    gain = interval_of(components(c - arms[RAW]), level)
    if gain.upper <= 0:
        return Share(placebo=placebo, estimate=None, pieces=[], bounded=False, level=level)
    return Share(placebo=placebo, **dict(ratio_set(c - arms[placebo], c - arms[RAW], level=level)))


def gap_closures(case: Case, tables: FitTables, level: float) -> dict[str, Ratio]:
    """Return arm with every group -> (raw - arm) / (raw - oracle) in bits per byte; nothing where no room is shown."""
    if case.small:
        return {}
    arms, criteria = {arm: BPB.sign * table for arm, table in tables.tables[BPB].items()}, case.criteria
    room = arms[ORACLE] - arms[RAW]
    shown = interval(room, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
    if shown is None or shown.lower <= 0:
        return {}
    closing = sorted(arm for arm in set(arms) - {RAW, ORACLE} if arms[arm].shape == room.shape)
    return {arm: ratio_set(arms[arm] - arms[RAW], room, level=level) for arm in closing}


def _arms(found: FitTables, criteria: Criteria, level: float) -> dict[str, ArmFigures]:
    """Return mean, interval, mean squares and per-seed means of every arm, scope and metric, in natural signs."""
    arms: dict[str, dict[str, dict[str, Figure]]] = {}
    for measure, tables in sorted(found.tables.items()):
        for arm, table in sorted(tables.items()):
            bounds = interval(table, level=level, min_groups=criteria.min_groups, min_seeds=criteria.min_seeds)
            seeds = {str(seed): float(mean) for seed, mean in zip(found.counts.seeds, table.mean(0), strict=True)}
            squares = {key: getattr(bounds, key, None) for key in ("lower", "upper", "msd", "mss", "mse")}
            fewer = {} if len(table) == found.counts.groups[measure.scope] else {"n_groups": len(table)}
            figure = Figure.model_validate({"mean": float(table.mean()), "per_seed": seeds, **squares, **fewer})
            arms.setdefault(arm, {}).setdefault(measure.scope, {})[measure.metric] = figure
    return {arm: ArmFigures.model_validate({"draws": found.draws[arm], **scopes}) for arm, scopes in arms.items()}


# what a decision says, as a file holds it


def _about(contrast: Contrast) -> dict[str, object]:
    """Return what was asked: the figure is turned so that more is better where `turned` is true."""
    metric, scope = contrast.measure
    about = {"id": contrast.id, "contrast": contrast.words(), "metric": metric, "scope": scope}
    return {**about, "turned": contrast.measure.sign < 0, "required": contrast.required}


def _shown(outcome: Outcome, word: str) -> dict[str, object]:
    """Return one outcome. Args: word: the key of whether it holds: a test `passed`, a bound `holds`."""
    found = interval_figures(outcome.parts, outcome.level)
    said = {"mean": found["mean"], "interval": found, "limit": float(outcome.limit), word: bool(outcome.holds)}
    return {**_about(outcome.contrast), **said}


def _answers(answers: Answers) -> dict[str, object]:
    refutations = [
        {
            "id": item.id,
            "level": item.outcomes[0].level,
            "applies": bool(item.applies),
            "holds": bool(item.holds),
            "contrasts": [_shown(outcome, "holds") for outcome in item.outcomes],
        }
        for item in answers.refutations
    ]
    return {"tests": [_shown(outcome, "passed") for outcome in answers.tests], "refutations": refutations}


def _gaps(plan: Plan) -> dict[str, Contrast]:
    """Return placebo -> U - P; C - P without a positive control."""
    best = plan.roles.home or plan.roles.candidate
    return {p: Contrast("gap", plan.measure, {best: 1.0, p: -1.0}) for p in plan.roles.placebos}


def _resolvable(figures: Figures, plan: Plan, criteria: Criteria, n_seeds: int) -> Resolvable:
    """Return the gap this study could have resolved, for its widest placebo."""
    gaps = _gaps(plan)
    errors = {p: float(figures.parts(contrast).standard_error()) for p, contrast in gaps.items()}
    placebo = max(errors, key=lambda arm: errors[arm])
    multiples = [(point.seeds, point.standard_errors) for point in criteria.resolvable]
    return Resolvable(
        contrast=gaps[placebo].words(),
        metric=plan.measure.metric,
        gap=resolvable_gap(errors[placebo], n_seeds, multiples),
        standard_error=errors[placebo],
        standard_errors=resolvable_gap(1.0, n_seeds, multiples),
        n_seeds=n_seeds,
    )


# beside the verdict


def check_frozen(unmoved: bool) -> None:
    """Raise TamperError where a backbone or a frozen net changed (protocol test 7): there is no verdict."""
    if not unmoved:
        raise TamperError("claim: test 7 fails: a backbone or domain net hash changed; the run is invalid, rerun it")
