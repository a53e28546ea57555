"""What a fit's figures decide, as a result file says it: from tables of evidence, or again from what a file stores.

Both ways run the same code: `fit_of` on `contrasts.FromTables` when a claim is judged, on `FromStored` when a file is
checked.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from abi.base.errors import EvidenceError
from abi.judge.contrasts import (
    Answers,
    Contrast,
    Decision,
    Figures,
    Measure,
    Outcome,
    Plan,
    Questions,
    Refuted,
    Weights,
    decide_from,
)
from abi.judge.fits import (
    ArmFigures,
    Bound,
    ContrastFound,
    Counts,
    Fit,
    MetricAnswers,
    Ratio,
    RefutationFound,
    Resolvable,
    Share,
    Test,
)
from abi.judge.intervals import Array, Components, interval_of, resolvable_gap
from abi.judge.protocol import Asked
from abi.plan.specs.judge import Criteria


def fit_of(
    figures: Figures,
    asked: Asked,
    criteria: Criteria,
    *,
    name: str,
    level: float,
    share: Share | None,
    closures: Mapping[str, Ratio],
    counts: Counts,
    arms: Mapping[str, ArmFigures],
    gap: Resolvable | None = None,
) -> Fit:
    """Return the verdict of one fit or study with everything it rests on.

    It is INCONCLUSIVE where it is too small for an interval.

    Args: share, closures: None and nothing where it is too small; arms: in natural signs, as they are reported;
        gap: what it could have resolved, where the figures do not give it.
    """
    beside = {
        "kind": asked.kind,
        "regime": asked.regime,
        "fit": name,
        "level": level,
        "primary_metric": asked.own.metric,
        "share": share,
        "gap_closure": closures.get(asked.roles.candidate),
        "gap_closures": dict(closures),
        "counts": counts,
        "arms": dict(arms),
    }
    if small := too_few(counts, asked.plan, criteria):
        tests = [_untested(contrast, figures) for contrast in asked.plan.own.tests]
        empty: dict[str, object] = {"refutations": [], "vacuous": [], "secondary": {}, "resolvable_gap": None}
        return Fit.model_validate({**beside, **empty, "verdict": "INCONCLUSIVE", "reason": small, "tests": tests})
    decision = decide_from(figures, asked.plan, level=level)
    gap = gap or _resolvable(figures, asked, criteria, len(counts.seeds))
    found = {
        "verdict": str(decision.verdict),
        "reason": _reason(decision, share, gap),
        "tests": _tests(decision.own),
        "refutations": [_refutation(item) for item in decision.own.refutations],
        "vacuous": [_bound(item) for item in decision.vacuous],
        "secondary": {metric: _answers(answers) for metric, answers in decision.secondary.items()},
        "resolvable_gap": gap,
    }
    return Fit.model_validate({**beside, **found})


def too_few(counts: Counts, plan: Plan, criteria: Criteria) -> str | None:
    """Return why there is no interval, in words, or None where there are groups and seeds enough."""
    scopes = {contrast.measure.scope for contrast in plan.contrasts()}
    groups, seeds = min(counts.groups[scope] for scope in scopes), len(counts.seeds)
    if groups >= criteria.min_groups and seeds >= criteria.min_seeds:
        return None
    needed = f"{criteria.min_groups} groups and {criteria.min_seeds} seeds are needed"
    return f"{groups} groups and {seeds} seeds are too few for an interval; {needed}"


class FromStored:
    """Figures of the contrasts that a stored fit holds: what stands first of a contrast holds for all its places."""

    def __init__(self, fit: Fit, plan: Plan) -> None:
        self.fit, self.raw = fit, plan.raw
        self.found: dict[tuple[Measure, Weights], ContrastFound] = {}
        for contrast, stored in _paired(fit, plan):
            self.found.setdefault((contrast.measure, contrast.weights), stored)

    def parts(self, contrast: Contrast) -> Components:
        """Return the stored mean and mean squares. Raises: EvidenceError: the file has none of this contrast."""
        found = self._stored(contrast).interval
        if found is None:
            raise EvidenceError(f"fit {self.fit.fit}: {contrast.id} has no interval")
        mean, msd, mss, mse = (np.asarray(value) for value in (found.mean, found.msd, found.mss, found.mse))
        return Components(mean, msd, mss, mse, found.n_groups, found.n_seeds)

    def mean(self, contrast: Contrast) -> float:
        """Return the stored mean. Raises: EvidenceError: as `parts`."""
        return self._stored(contrast).mean

    def plain(self, measure: Measure) -> Array:
        """Return the mean of the plain backbone as it is reported."""
        return np.asarray(self.fit.arms[self.raw].of(measure.scope)[measure.metric].mean)

    def holds(self, contrast: Contrast) -> bool:
        """Return whether the file has figures of a contrast."""
        return (contrast.measure, contrast.weights) in self.found

    def _stored(self, contrast: Contrast) -> ContrastFound:
        found = self.found.get((contrast.measure, contrast.weights))
        if found is None:
            raise EvidenceError(f"fit {self.fit.fit}: holds no figures of {contrast.id} ({contrast.words()})")
        return found


def judged_again(fit: Fit, asked: Asked, criteria: Criteria) -> Fit:
    """Return what a stored fit must say: everything that follows from its means and mean squares, made once more.

    What follows from the evidence alone (arms, counts, shares, ratios) is taken as it stands; so are the published
    criteria.

    Raises: EvidenceError: figures of a contrast that the protocol asks for are not there.
    """
    figures = FromStored(fit, asked.plan)
    told = None if all(map(figures.holds, _gaps(asked).values())) else fit.resolvable_gap
    small = too_few(fit.counts, asked.plan, criteria) is not None
    again = fit_of(
        figures,
        asked,
        criteria,
        name=fit.fit,
        level=criteria.level,
        share=None if small else fit.share,
        closures={} if small else fit.gap_closures,
        counts=fit.counts,
        arms=fit.arms,
        gap=told,
    )
    return again.model_copy(update={"published_criteria": fit.published_criteria})


def mean_of_arms(fit: Fit, contrast: Contrast) -> float:
    """Return the mean of a contrast as the weighted sum of the arms' means, turned so that more is better."""
    measure = contrast.measure
    means = [weight * fit.arms[arm].of(measure.scope)[measure.metric].mean for arm, weight in contrast.weights]
    return measure.sign * sum(means)


def means_of_seeds(fit: Fit, contrast: Contrast) -> list[float]:
    """Return the contrast's mean per seed from those of the arms (natural signs): `mss` is groups x their variance."""
    measure = contrast.measure
    arms = [(weight, fit.arms[arm].of(measure.scope)[measure.metric].per_seed) for arm, weight in contrast.weights]
    return [sum(weight * values[str(seed)] for weight, values in arms) for seed in fit.counts.seeds]


def _paired(fit: Fit, plan: Plan) -> Iterator[tuple[Contrast, ContrastFound]]:
    """Yield every contrast that is asked with what is stored of it, in the engine's order."""
    yield from _paired_answers(plan.own, fit.tests, fit.refutations)
    for metric, questions in plan.secondary.items():
        if (told := fit.secondary.get(metric)) is not None:
            yield from _paired_answers(questions, told.tests, told.refutations)
    yield from _by_id(plan.vacuous, fit.vacuous)


def _paired_answers(
    questions: Questions, tests: Sequence[Test], refutations: Sequence[RefutationFound]
) -> Iterator[tuple[Contrast, ContrastFound]]:
    yield from _by_id(questions.tests, tests)
    told = {item.id: item for item in refutations}
    for refutation in questions.refutations:
        if refutation.id in told:
            yield from _by_id(refutation.contrasts, told[refutation.id].contrasts)


def _by_id(contrasts: Sequence[Contrast], stored: Sequence[ContrastFound]) -> Iterator[tuple[Contrast, ContrastFound]]:
    told = {item.id: item for item in stored}
    yield from ((contrast, told[contrast.id]) for contrast in contrasts if contrast.id in told)


def _about(contrast: Contrast) -> dict[str, str | bool]:
    """Return what was asked: the figure is turned so that more is better where `turned` is true."""
    metric, scope = contrast.measure
    about = {"id": contrast.id, "contrast": contrast.words(), "metric": metric, "scope": scope}
    return {**about, "turned": contrast.measure.sign < 0, "required": contrast.required}


def _untested(contrast: Contrast, figures: Figures) -> Test:
    empty = {"interval": None, "limit": None, "passed": False}
    return Test.model_validate({**_about(contrast), "mean": figures.mean(contrast), **empty})


def _shown(outcome: Outcome) -> dict[str, object]:
    found = {"mean": float(outcome.parts.mean), "interval": interval_of(outcome.parts, outcome.level)}
    return {**_about(outcome.contrast), **found, "limit": float(outcome.limit)}


def _bound(outcome: Outcome) -> Bound:
    return Bound.model_validate({**_shown(outcome), "holds": bool(outcome.holds)})


def _tests(answers: Answers) -> list[Test]:
    return [Test.model_validate({**_shown(outcome), "passed": bool(outcome.holds)}) for outcome in answers.tests]


def _refutation(item: Refuted) -> RefutationFound:
    contrasts, level = [_bound(outcome) for outcome in item.outcomes], item.outcomes[0].level
    return RefutationFound(
        id=item.id, level=level, applies=bool(item.applies), holds=bool(item.holds), contrasts=contrasts
    )


def _answers(answers: Answers) -> MetricAnswers:
    tests, refutations = _tests(answers), [_refutation(item) for item in answers.refutations]
    return MetricAnswers(tests=tests, refutations=refutations, refuted=bool(answers.refuted()))


def _gaps(asked: Asked) -> dict[str, Contrast]:
    """Return placebo -> U - P; C - P without a positive control."""
    best = asked.roles.native or asked.roles.candidate
    return {p: Contrast("gap", asked.own, ((best, 1.0), (p, -1.0))) for p in asked.roles.placebos}


def _resolvable(figures: Figures, asked: Asked, criteria: Criteria, n_seeds: int) -> Resolvable:
    """Return the gap this study could have resolved, for its widest placebo."""
    gaps = _gaps(asked)
    errors = {p: float(figures.parts(contrast).standard_error()) for p, contrast in gaps.items()}
    placebo = max(errors, key=lambda arm: errors[arm])
    return Resolvable(
        contrast=gaps[placebo].words(),
        metric=asked.own.metric,
        gap=resolvable_gap(errors[placebo], n_seeds, criteria.points),
        standard_error=errors[placebo],
        standard_errors=resolvable_gap(1.0, n_seeds, criteria.points),
        n_seeds=n_seeds,
    )


def _reason(decision: Decision, share: Share | None, gap: Resolvable) -> str:
    """Return why the verdict is what it is, with the figures of the contrast that decides."""
    verdict, required = str(decision.verdict), [o for o in decision.own.tests if o.contrast.required]
    if verdict == "VACUOUS":
        return "nothing to transfer: " + _figure(next(o for o in decision.vacuous if o.holds))
    if verdict == "REFUTED":
        item = next(r for r in decision.own.refutations if r.holds)
        return f"({item.id}) " + _figure(next(o for o in item.outcomes if o.holds))
    if verdict == "SUPPORTED":
        weakest = min(required, key=lambda o: float((o.parts.mean - o.limit) / o.parts.half(o.level)))
        whole = any(test.contrast.id.startswith("6.") for test in decision.own.tests)
        words = "tests 0 to 7 hold" if whole else "every required test holds"
        part = float("nan") if share is None or share.estimate is None else share.estimate
        return f"{words}, the closest is {_figure(weakest)}; share {part:.3g}"
    could = (
        f"this study could have resolved a gap {gap.contrast} of {gap.gap:.3g} in {gap.metric} "
        f"({gap.standard_errors:.3g} standard errors with {gap.n_seeds} seeds)"
    )
    failed = next((o for o in required if not o.holds), None)
    if failed is not None:
        return f"test {_figure(failed)} is not shown to be above its limit; {could}"
    metric, item = next((m, r) for m, a in decision.secondary.items() for r in a.refutations if r.holds)
    return f"tests 0 to 7 hold, but {metric} is refuted by ({item.id}): {_figure(item.outcomes[0])}; {could}"


def _figure(outcome: Outcome) -> str:
    """Return one contrast with its figures as words."""
    bounds, measure = interval_of(outcome.parts, outcome.level), outcome.contrast.measure
    limit = f", limit {float(outcome.limit):.3g}" if outcome.contrast.margin else ""
    turned = ", sign turned" if measure.sign < 0 else ""
    figures = f"{bounds.mean:.3g} [{bounds.lower:.3g}, {bounds.upper:.3g}] at {outcome.level:.6g}"
    named = f"{outcome.contrast.id}: {outcome.contrast.words()}"
    return f"{named} = {figures}{limit} ({measure.metric} on {measure.scope}{turned})"
