"""A fit judged again from what its file stores: means, mean squares and counts, by the code that judges evidence."""

import math
from collections.abc import Mapping, Sequence

from abi.audit.results.findings import Checks, show
from abi.base.files import Json
from abi.base.names import SCOPES
from abi.base.regimes import KINDS
from abi.judge.contrasts import Contrast, Measure, Plan, Refutation
from abi.judge.fits import ContrastFound, Figure, Fit, Ratio, RefutationFound
from abi.judge.intervals import Components
from abi.judge.kinds import Findings, OfStudies, kind_of, plan_of
from abi.judge.protocol import BPB
from abi.judge.results import ClaimFacts, StudyResult, level_of_one
from abi.judge.rows import APART, largest
from abi.judge.studies import together
from abi.judge.tables import criteria_met
from abi.judge.verdict import Case, mean_of_arms, means_of_seeds, rejudged, stored_case, too_few
from abi.plan.specs.judge import Criteria, JudgeStudy, Protocol, Thresholds

Named = Contrast | ContrastFound | Refutation | RefutationFound
AS_STORED = frozenset({"fit", "counts", "arms", "share", "gap_closures", "published_criteria"})
"""Parts of a fit that are checked one by one; all others follow from them and the mean squares, and are made again."""


def check_fit(
    checks: Checks, leaf: str, stored: Mapping[str, Json], name: str, claim: ClaimFacts, fit: Fit, protocol: Protocol
) -> None:
    """Add to `checks` whatever of a fit or study does not follow from its other figures.

    Args: leaf: where it stands; stored: its JSON; name: its key.
    """
    criteria, plan = protocol.criteria, plan_of(claim, name, set(fit.arms), protocol.criteria)
    checks.equal(f"{leaf}/fit", fit.fit, name, "its key")
    seeds, documents = fit.counts.seeds, fit.counts.documents
    different = len(set(seeds)) == len(seeds) > 0
    checks.holds(f"{leaf}/counts/seeds", different, f"{show(seeds)} are not different seeds")
    for scope, n in fit.counts.groups.items():
        sentence = f"{n} groups do not fit into {documents[scope]} documents"
        checks.holds(f"{leaf}/counts/groups/{scope}", n <= documents[scope], sentence)
    most = max((figures.draws for figures in fit.arms.values()), default=1)
    for arm, figures in fit.arms.items():
        drawn = figures.draws in (1, most)
        checks.holds(f"{leaf}/arms/{arm}/draws", drawn, f"{figures.draws} draws, where arms have 1 or all {most}")
        for scope in SCOPES:
            for metric, figure in figures.of(scope).items():
                place, fewer = f"{leaf}/arms/{arm}/{scope}/{metric}", figure.n_groups
                fewest = fewer is None or (arm in APART and fewer < fit.counts.groups[scope])
                checks.holds(f"{place}/n_groups", fewest, f"{fewer} groups, where every arm has those of the fit")
                _check_figure(checks, place, figure, Measure(metric, scope), fit, criteria)
    _check_lists(checks, leaf, fit, plan)
    asked = {contrast.id: contrast for contrast in plan.contrasts()}
    for place, found in fit.contrasts():
        contrast = asked.get(found.id)  # another contrast than is asked is named where the lists are compared
        if contrast is not None and contrast.measure == (found.metric, found.scope):
            _check_contrast(checks, f"{leaf}/{place}", found, fit, contrast)
    again = rejudged(fit, plan, criteria).plain()
    for key in sorted(stored.keys() - AS_STORED):
        checks.equal(f"{leaf}/{key}", stored[key], again[key], "the protocol's rule on the stored mean squares")
    if too_few(fit.counts, plan, criteria) is None:
        _check_ratios(checks, leaf, fit, plan, criteria)
    else:
        checks.equal(f"{leaf}/share", stored["share"], None, "a study this small")
        checks.equal(f"{leaf}/gap_closures", stored["gap_closures"], {}, "a study this small")
    limits = protocol.published_criteria
    _check_published(checks, f"{leaf}/published_criteria", stored["published_criteria"], fit, claim.kind, limits)


def case_again(fit: Fit, claim: ClaimFacts, criteria: Criteria) -> Case:
    """Return the case that the figures of a fit make, to be judged at any level."""
    return stored_case(fit, plan_of(claim, fit.fit, set(fit.arms), criteria), criteria)


def verdict_of_all(result: StudyResult, spec: JudgeStudy) -> Findings:
    """Return the verdict of all studies by their figures, at the usual and at the strict level."""
    criteria = spec.protocol.criteria
    cases = [case_again(fit, result.claim, criteria) for fit in result.fits.values()]
    strict = level_of_one(criteria.level, spec.n_claims)
    return together(cases, criteria.level, strict, kind_of(spec.claim.kind, OfStudies).combine)


def _check_figure(checks: Checks, leaf: str, figure: Figure, measure: Measure, fit: Fit, criteria: Criteria) -> None:
    """Check an arm's figure: the mean of its seeds, its interval by its mean squares, the range it can lie in."""
    seeds, whole = list(figure.per_seed.values()), fit.counts.groups[measure.scope]
    n_groups = whole if figure.n_groups is None else figure.n_groups
    checks.equal(f"{leaf}/per_seed", list(figure.per_seed), [str(seed) for seed in fit.counts.seeds], "counts/seeds")
    checks.equal(f"{leaf}/mean", figure.mean, math.fsum(seeds) / len(seeds), "the mean of per_seed")
    most = largest(measure.metric)
    inside = all(-1e-6 <= value <= most + 1e-6 for value in seeds)
    checks.holds(f"{leaf}/per_seed", inside, f"a {measure.metric} cannot lie outside [0, {most:.4g}]")
    bounds = [figure.lower, figure.upper, figure.msd, figure.mss, figure.mse]
    if n_groups < criteria.min_groups or len(seeds) < criteria.min_seeds:
        for key, value in zip(("lower", "upper", "msd", "mss", "mse"), bounds, strict=True):
            checks.equal(f"{leaf}/{key}", value, None, "a table this small")
        return
    lower, upper, msd, mss, mse = (math.nan if value is None else value for value in bounds)
    if not all(value >= 0 for value in (msd, mss, mse)):
        checks.add(f"{leaf}/mse", f"mean squares {msd:g}, {mss:g}, {mse:g} are missing or negative")
        return
    _check_mss(checks, leaf, mss, seeds, n_groups, max(map(abs, seeds)))
    half = float(Components(figure.mean, msd, mss, mse, n_groups, len(seeds)).half(criteria.level))
    size = max(abs(lower), abs(upper))
    checks.equal(f"{leaf}/lower", lower, figure.mean - half, "mean and mean squares", scale=size)
    checks.equal(f"{leaf}/upper", upper, figure.mean + half, "mean and mean squares", scale=size)


def _check_lists(checks: Checks, leaf: str, fit: Fit, plan: Plan) -> None:
    """Check that every list of contrasts holds what the protocol asks, in its order (a small study has tests alone)."""

    def same(place: str, stored: Sequence[Named], questions: Sequence[Named]) -> None:
        ids, wanted = [item.id for item in stored], [item.id for item in questions]
        checks.equal(f"{leaf}/{place}", ids, wanted, "the protocol")

    same("tests", fit.tests, plan.own.tests)
    if not fit.refutations:
        return
    same("vacuous", fit.vacuous, plan.vacuous)
    same("refutations", fit.refutations, plan.own.refutations)
    for i, (way, question) in enumerate(zip(fit.refutations, plan.own.refutations, strict=False)):
        same(f"refutations/{i}/contrasts", way.contrasts, question.contrasts)
    for metric in fit.secondary.keys() & plan.secondary.keys():
        same(f"secondary/{metric}/tests", fit.secondary[metric].tests, plan.secondary[metric].tests)


def _check_contrast(checks: Checks, leaf: str, found: ContrastFound, fit: Fit, contrast: Contrast) -> None:
    """Check a contrast by the arms: its mean, the mean square of its seeds, and both counts."""
    means = [fit.arms[arm].of(found.scope)[found.metric] for arm in contrast.weights]
    size = max(abs(figure.mean) for figure in means)
    checks.equal(f"{leaf}/mean", found.mean, mean_of_arms(fit, contrast), "the arms' means", scale=size)
    if found.interval is not None:
        n_groups, n_seeds = fit.counts.groups[found.scope], len(fit.counts.seeds)
        checks.equal(f"{leaf}/interval/n_groups", found.interval.n_groups, n_groups, "the counts")
        checks.equal(f"{leaf}/interval/n_seeds", found.interval.n_seeds, n_seeds, "the counts")
        largest = max(abs(value) for figure in means for value in figure.per_seed.values())
        _check_mss(checks, f"{leaf}/interval", found.interval.mss, means_of_seeds(fit, contrast), n_groups, largest)


def _check_mss(checks: Checks, leaf: str, mss: float, seeds: Sequence[float], n_groups: int, size: float) -> None:
    """Check the mean square of seeds: groups x variance of the seeds' means. Args: size: of what was averaged."""
    mean = math.fsum(seeds) / len(seeds)
    variance = math.fsum((value - mean) ** 2 for value in seeds) / (len(seeds) - 1)
    scale = n_groups * size * (math.sqrt(variance) + 1e-9 * size)
    checks.equal(f"{leaf}/mss", mss, n_groups * variance, "the seeds' means", scale=scale)


def _check_ratios(checks: Checks, leaf: str, fit: Fit, plan: Plan, criteria: Criteria) -> None:
    """Check share and gap closures by the arms' means."""
    own, roles = _turned(fit, plan.measure), plan.roles
    placebo = max(roles.placebos, key=lambda arm: own[arm])
    if fit.share is None:
        checks.add(f"{leaf}/share", "is missing beside a decided verdict")
    else:
        checks.equal(f"{leaf}/share/placebo", fit.share.placebo, placebo, "the placebo with the best mean")
        gain = own[roles.candidate] - own[roles.raw]
        _check_ratio(checks, f"{leaf}/share", fit.share, own[roles.candidate] - own[placebo], gain, criteria.level)
        if gain < 0:  # bounded: the interval of the gain lies wholly on one side of 0
            checks.holds(f"{leaf}/share/bounded", not fit.share.bounded, "is a share of what is shown to be no gain")
    bits, place = _turned(fit, BPB), f"{leaf}/gap_closures"
    room = next(test.interval for test in fit.tests if test.id == "0.room.bits_per_byte")
    whole = {arm for arm in bits if fit.arms[arm].domain[BPB.metric].n_groups is None} - {roles.raw, roles.oracle}
    others = sorted(whole) if room is not None and room.lower > 0 else []
    checks.equal(place, sorted(fit.gap_closures), others, "the arms with bits per byte, where room is shown")
    for arm in set(others) & set(fit.gap_closures):
        parts = bits[arm] - bits[roles.raw], bits[roles.oracle] - bits[roles.raw]
        _check_ratio(checks, f"{place}/{arm}", fit.gap_closures[arm], *parts, criteria.level)


def _turned(fit: Fit, measure: Measure) -> dict[str, float]:
    """Return arm -> mean in a measure, turned so that more is better."""
    figures = {arm: entry.of(measure.scope).get(measure.metric) for arm, entry in fit.arms.items()}
    return {arm: measure.sign * figure.mean for arm, figure in figures.items() if figure is not None}


def _check_ratio(checks: Checks, leaf: str, ratio: Ratio, num: float, den: float, level: float) -> None:
    """Check a ratio of means; its set of values is only checked for order, for it needs products of both tables."""
    if not ratio.pieces:
        silent = den <= 0 and ratio.estimate is None and not ratio.bounded
        checks.holds(f"{leaf}/pieces", silent, "is no set of values, though there is a gain to divide by")
        return
    # near zero the last digits of a ratio of differences are those of the means, not its own
    checks.equal(f"{leaf}/estimate", ratio.estimate, num / den if den else None, "the arms' means", scale=1.0)
    checks.equal(f"{leaf}/level", ratio.level, level, "the protocol")
    ends = [(-math.inf if low is None else low, math.inf if high is None else high) for low, high in ratio.pieces]
    flat = [end for piece in ends for end in piece]
    bounded = math.isfinite(flat[0]) and math.isfinite(flat[-1])
    checks.equal(f"{leaf}/bounded", ratio.bounded, bounded, "the ends of its pieces")
    inside = ratio.estimate is None or any(low <= ratio.estimate <= high for low, high in ends)
    good = flat == sorted(flat) and inside
    checks.holds(f"{leaf}/pieces", good, f"{show(ratio.pieces)} do not hold the estimate in order")


def _check_published(
    checks: Checks, leaf: str, stored: Mapping[str, Json], fit: Fit, kind: str, limits: Thresholds
) -> None:
    """Check which arms meet the published thresholds, by their means over documents."""
    told = fit.published_criteria
    if told is None:
        checks.add(leaf, "is missing")
        return
    there = sorted(arm for arm, figures in fit.arms.items() if "js_nats" in figures.domain)
    checks.equal(f"{leaf}/arms", sorted(told.arms), there, "the arms that have agreement")
    means = {arm: entry.means.plain() for arm, entry in told.arms.items()}
    again = criteria_met(means, limits.plain(), KINDS[kind].claimed, KINDS[kind].controls)
    checks.equal(leaf, stored, again.plain(), "means and thresholds")
