"""Why a verdict is what it is, in one sentence with its figures: what decides, what it could have shown, the share."""

from abi.judge.contrasts import Decision, Outcome, Plan
from abi.judge.fits import Resolvable, Share, ends_of
from abi.judge.intervals import interval_of
from abi.judge.protocol import HARM

NOTHING = "nothing to transfer"
EMPTY = {
    "vacuous.threat.": "nothing threatened the module",
    "vacuous.floor.": "the native module itself stays below the floor",
}
"""How an id begins -> why there is nothing to judge."""


def reason_of(decision: Decision, decides: Outcome, share: Share | None, plan: Plan, gap: Resolvable) -> str:
    """Return the reason of a verdict. Args: decides: what decides it; gap: what the study could have resolved."""
    return "; ".join([_why(decision, decides, gap), *_beside(decision, share, plan)])


def _beside(decision: Decision, share: Share | None, plan: Plan) -> list[str]:
    """Return what a reason tells after why: what general text costs, unless it is VACUOUS, and the share."""
    told = [] if str(decision.verdict) == "VACUOUS" else decision.own.tests
    harm = [_harm_words(test) for test in told if test.contrast.id == HARM]
    return harm if share is None else [*harm, share_words(share, plan.measure.metric, len(plan.roles.placebos))]


def _why(decision: Decision, decides: Outcome, gap: Resolvable) -> str:
    """Return why the verdict is what it is, with its figures; of a REFUTED one, every refutation that holds."""
    verdict, figure = str(decision.verdict), _figure(decides)
    if verdict == "VACUOUS":
        why = next((words for start, words in EMPTY.items() if decides.contrast.id.startswith(start)), NOTHING)
        return f"{why}: {figure}"
    if verdict == "REFUTED":
        return "; also ".join(f"({way.id}) {_figure(found)}" for way, found in decision.own.refuting())
    if verdict == "SUPPORTED":
        return f"every required test holds, the closest is {figure}"
    could = (
        f"this study could have resolved a gap {gap.contrast} of {gap.gap:.3g} in {gap.metric} "
        f"({gap.standard_errors:.3g} standard errors with {gap.n_seeds} seeds)"
    )
    if not decides.holds:
        below = decides.parts.mean + decides.parts.half(decides.level) < decides.limit
        nor = _nor_below(decision, decides) if below else ""
        if below and not nor:
            return f"test {figure} lies below its limit, which refutes nothing by itself"
        return f"test {figure} is not shown to be above its limit{nor}; {could}"
    metric, told = next((metric, told) for metric, told in decision.secondary.items() if told.refuted())
    return f"every required test holds, but {metric} is refuted by ({told.refuting()[0][0].id}): {figure}; {could}"


def _nor_below(decision: Decision, decides: Outcome) -> str:
    """Return why what lies below its limit at the level of a test refutes nothing: a refutation asks for more."""
    for way in decision.own.refutations:
        for asked in way.outcomes:
            if asked.holds or asked.contrast.key != decides.contrast.key or asked.limit != decides.limit:
                continue
            bounds, n = interval_of(asked.parts, asked.level), len(way.outcomes)
            at = f"{asked.level:.6g}, the level of ({way.id}) for each of {n} contrasts"
            return f", nor below it at {at}: [{bounds.lower:.3g}, {bounds.upper:.3g}]"
    return ""


def share_words(share: Share, metric: str, n_placebos: int) -> str:
    """Return the share of the gain that is the net's own, with the set of its values where that has two ends."""
    whose = f"in {metric} against {share.placebo}" + (f", the best of {n_placebos} placebos" if n_placebos > 1 else "")
    if share.estimate is None:
        return f"no share {whose}, since there is no gain to divide by"
    lower, upper = ends_of(share)
    if lower is None or upper is None:
        return f"no share {whose}, since no gain is shown that it could be a part of"
    return f"share {share.estimate:.3g} [{lower:.3g}, {upper:.3g}] {whose}"


def _harm_words(outcome: Outcome) -> str:
    """Return what general text costs against the plain backbone: the contrast C - R with its sign turned back."""
    bounds = interval_of(outcome.parts, outcome.level)
    mean, lower, upper = -bounds.mean, -bounds.upper, -bounds.lower  # the sign turned, the ends change places
    return f"general text against the plain backbone: {mean:+.3g} [{lower:+.3g}, {upper:+.3g}] bits per byte"


def _figure(outcome: Outcome) -> str:
    """Return one contrast with its figures as words."""
    bounds, measure = interval_of(outcome.parts, outcome.level), outcome.contrast.measure
    limit = f", limit {float(outcome.limit):.3g}" if outcome.contrast.margin or outcome.contrast.by else ""
    turned = ", sign turned" if measure.sign < 0 else ""
    figures = f"{bounds.mean:.3g} [{bounds.lower:.3g}, {bounds.upper:.3g}] at {outcome.level:.6g}"
    named = f"{outcome.contrast.id}: {outcome.contrast.words()}"
    return f"{named} = {figures}{limit} ({measure.metric} on {measure.scope}{turned})"
