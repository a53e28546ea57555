"""What a study or fit found in words: figures with intervals, shares, counts, robustness, single tests."""

from abi.base.manifests.rates import ChosenRates
from abi.base.names import TASKS
from abi.base.wording import number
from abi.judge.fits import Check, Figure, Fit, IntervalFound, LeftOut, Ratio, Robustness, Test, ends_of
from abi.judge.results import AnyResult, LadderResult
from abi.report.render import bounds, figure, listed

TOO_FEW = "too few for an interval"  # of a reason


def met_words(fit: Fit) -> str:
    """Return which arms meet the published criteria."""
    met = fit.published_criteria
    return "-" if met is None else met.sentence.removeprefix("published criteria met by: ")


def with_interval(found: Figure | IntervalFound | None) -> str:
    """Return `mean [lower, upper]` of an arm's figure or of a contrast."""
    return "-" if found is None else figure(found.mean) + bounds(found.lower, found.upper)


def interval_words(interval: IntervalFound | None) -> str:
    """Return an interval in brackets, or a dash."""
    return "-" if interval is None else bounds(interval.lower, interval.upper).strip()


def _ratio(ratio: Ratio) -> str:
    """Return a ratio with its ends."""
    return figure(ratio.estimate) + bounds(*ends_of(ratio))


def share_words(fit: Fit | None) -> str:
    """Return the share of the gain that is the moved net's own."""
    if fit is None or fit.share is None:
        return "-"
    nothing, told = f"no gain in {fit.primary_metric} is shown", f"{_ratio(fit.share)} (against {fit.share.placebo})"
    return nothing if fit.share.shown is None else told


def closure_words(closure: Ratio | None, nothing: str = "not reported, no room is shown") -> str:
    """Return a gap closure with its interval."""
    return nothing if closure is None or closure.shown is None else _ratio(closure)


def gain_words(fit: Fit) -> str:
    """Return the net's own share of the gain and the part of the gap it closes; nothing where neither is there."""
    if fit.share is None and fit.gap_closure is None:
        return ""
    share, closed = share_words(fit), closure_words(fit.gap_closure)
    return f"Share of the gain that is the net's own: {share}. Gap closure in bits per byte: {closed}"


def rates_of(result: AnyResult) -> ChosenRates | None:
    """Return how a result's arms chose their learning rates, None where nothing is calibrated."""
    return None if isinstance(result, LadderResult) else result.rates


def rates_words(rates: ChosenRates) -> str:
    """Return how learning rates were chosen, and which arms might have wanted one outside the grid."""
    ends = [arm for arm, chosen in rates.arms.items() if chosen.at_end]
    grid = ", ".join(figure(rate) for rate in rates.grid)
    return (
        f"Every arm chose its learning rate among {grid}, on calibration text with seed {rates.seed}, outside the "
        f"study; at an end of that grid: {listed(ends)}"
    )


def counts_words(fit: Fit) -> str:
    """Return how many groups, documents and seeds a study rests on."""
    groups, documents = (of.get("domain", sum(of.values())) for of in (fit.counts.groups, fit.counts.documents))
    counts = ((groups, "group"), (documents, "document"), (len(fit.counts.seeds), "seed"))
    return ", ".join(number(n, what) for n, what in counts)


def robustness_of(result: AnyResult, fit: str) -> Robustness | None:
    """Return what is told of a fit's test text; None of a fit that decides nothing, and of a ladder."""
    return None if isinstance(result, LadderResult) else result.robustness.get(fit)


def robustness_words(told: Robustness, fit: Fit) -> list[str]:
    """Return sentences: how much of the test text train holds too, and the verdict without some of it."""
    scopes = [
        f"{told.close[scope]} of {fit.counts.documents[scope]} test documents of {scope} text have more than "
        f"{100 * told.close_text:g} % of their scored passages in train, too (mean {figure(100 * part)} %)"
        for scope, part in told.in_train.items()
    ]
    for scope in sorted({found.scope for _, found in fit.contrasts()} - told.in_train.keys()):
        what = "tasks" if scope == TASKS else f"test documents of {scope} text"
        scopes.append(f"none of {fit.counts.documents[scope]} {what} is left out, since no record tells of them")
    same = sum(left.verdict == fit.verdict for left in told.without)
    one = "one package" if told.unit == "package" else "one fold of packages"
    changed = told.most_changed(fit.verdict)
    return [
        "; ".join(scopes),
        f"`{told.contrast}` is {figure(told.mean)} on all of them: {fit.verdict}",
        f"Without close documents: {left_words(told.without_close)}",
        f"Without {one} at a time the word is the same in {same} of {len(told.without)}; "
        f"{'the mean' if same == len(told.without) else 'it'} changes most without "
        f"{changed.left_out}: {left_words(changed)}",
    ]


def left_words(left: LeftOut) -> str:
    """Return one verdict without some documents, in words."""
    rest = f"{left.verdict} on {number(left.documents, 'document')} in {number(left.groups, 'group')}"
    rest += f" ({left.reason})" if left.interval is None or TOO_FEW in left.reason else ""
    told = {"gap closure": left.gap_closure, "share": left.share}
    beside = "".join(f", {name} {figure(value)}" for name, value in told.items() if value is not None)
    again = f", the same contrast {figure(left.mean)} {interval_words(left.interval)}{beside}"
    return rest if left.interval is None else rest + again


def holds(test: Test) -> str:
    """Return whether a test holds; one that decides nothing says so."""
    return held(test) + ("" if test.required else " (reported only)")


def held(test: Test) -> str:
    """Return whether a test holds, in a word: none where it could not be computed."""
    if test.interval is None:
        return "-"
    return "yes" if test.passed else "no"


def check_words(check: Check) -> str:
    """Return one pass rule of the original as words."""
    mark = "" if check.threshold is None else f", threshold {figure(check.threshold)}"
    told = "" if check.value is None else f" ({figure(check.value)}{mark})"
    return f"rule {check.id}, {check.words}: {'passed' if check.passed else 'failed'}{told}"
