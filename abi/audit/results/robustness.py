"""What a result says of test text that train holds too, checked by the fit it stands beside and by its own figures."""

from abi.audit.results.findings import Checks
from abi.judge.contrasts import Plan
from abi.judge.fits import ContrastFound, Fit, IntervalFound, LeftOut, Robustness, Test
from abi.judge.intervals import components_of
from abi.judge.verdict import decided_by
from abi.plan.specs.judge import Criteria


def check_robustness(checks: Checks, leaf: str, told: Robustness, fit: Fit, plan: Plan, criteria: Criteria) -> None:
    """Add to `checks` what does not follow: counts by those of the fit, intervals by mean squares, words by both.

    Args: plan: what the fit is asked.
    """
    documents = {scope: fit.counts.documents[scope] for scope in told.in_train}
    checks.equal(f"{leaf}/close", list(told.close), list(documents), "in_train")
    for scope, n in documents.items():
        checks.holds(f"{leaf}/close/{scope}", told.close[scope] <= n, f"there are {n} documents")
        least = told.close_text * told.close[scope] / n
        good = least <= told.in_train[scope] <= 1
        checks.holds(f"{leaf}/in_train/{scope}", good, f"so many close documents make it {least:.6g} at least")
    checks.equal(f"{leaf}/contrast", told.contrast, decided_by(fit, plan, criteria), "what decides the fit")
    stored = next(found for _, found in fit.contrasts() if found.id == told.contrast)
    size = max((abs(end) for end in _ends(stored.interval)), default=abs(stored.mean))
    checks.equal(f"{leaf}/mean", told.mean, stored.mean, "the fit", scale=size)
    domain = documents["domain"]
    checks.equal(
        f"{leaf}/without_close/documents", told.without_close.documents, domain - told.close["domain"], "the counts"
    )
    gone = sum(domain - left.documents for left in told.without)
    checks.equal(f"{leaf}/without", gone, domain, "the counts: every document is left out once")
    places = {f"{leaf}/without_close": told.without_close}
    places |= {f"{leaf}/without/{i}": left for i, left in enumerate(told.without)}
    for place, left in places.items():
        _check_left(checks, place, left, fit, stored, criteria)


def _check_left(checks: Checks, leaf: str, left: LeftOut, fit: Fit, asked: ContrastFound, criteria: Criteria) -> None:
    """Check one verdict without some documents. Args: asked: its contrast, with nothing left out."""
    most = min(left.documents, fit.counts.groups["domain"])
    checks.holds(f"{leaf}/groups", left.groups <= most, f"{most} groups are the most that there can be")
    if left.groups < criteria.min_groups or len(fit.counts.seeds) < criteria.min_seeds:
        small = {"verdict": "INCONCLUSIVE", "interval": None, "share": None, "gap_closure": None}
        if asked.scope != "domain" and len(fit.counts.seeds) >= criteria.min_seeds:
            del small["interval"]  # `groups` counts domain text: text of another scope may still be enough
        stored = left.model_dump(mode="json")
        for key, word in small.items():
            checks.equal(f"{leaf}/{key}", stored[key], word, "so few groups or seeds")
    if left.interval is None:
        decided = left.verdict != "INCONCLUSIVE"
        checks.holds(f"{leaf}/verdict", not decided, f"{left.verdict} needs an interval")
        return
    found, level = left.interval, fit.level if asked.interval is None else asked.interval.level
    half = float(components_of(found).half(level))
    again = {"mean": left.mean, "lower": found.mean - half, "upper": found.mean + half, "half": half, "level": level}
    size = max(abs(end) for end in _ends(found))
    for key, value in again.items():
        checks.equal(f"{leaf}/interval/{key}", getattr(found, key), value, "mean and mean squares", scale=size)
    checks.equal(f"{leaf}/interval/n_seeds", found.n_seeds, len(fit.counts.seeds), "the counts")
    if asked.scope == "domain":
        checks.equal(f"{leaf}/interval/n_groups", found.n_groups, left.groups, "the counts")
    else:
        enough = criteria.min_groups <= found.n_groups <= fit.counts.groups[asked.scope]
        checks.holds(f"{leaf}/interval/n_groups", enough, f"it needs {criteria.min_groups} of the groups there are")
    if isinstance(asked, Test) and asked.required and asked.limit == 0:
        good = left.verdict != "SUPPORTED" or found.lower > 0
        checks.holds(f"{leaf}/verdict", good, f"SUPPORTED needs {asked.id}, whose lower bound is {found.lower:.6g}")


def _ends(found: IntervalFound | None) -> tuple[float, ...]:
    return () if found is None else (found.lower, found.upper)
