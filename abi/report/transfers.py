"""Transfers, pairs x regimes: what a moved module is worth beside placebos and what one would do instead."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from abi.base.names import CALIBRATED, DIRECT, LINEAR, LORA, NATIVE, NO_DOMAIN, SOURCE_ALONE, SOURCE_TAUGHT, TRANSFERRED
from abi.base.regimes import AS_IS, MOVED, transfer_regimes
from abi.judge.fits import Curve, Fit, Test, ends_of
from abi.judge.protocol import BPB
from abi.judge.results import AlignmentFacts, AnyResult, Result, Training
from abi.plan.specs.arms import FitSection
from abi.report.figures import MARKERS, Drawing, colour_of, columns_of
from abi.report.ngrams import Beside, measured
from abi.report.render import Cell, Table, figure, listed
from abi.report.study_words import met_words
from abi.report.templates import fill
from abi.report.words import studies

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

INSTEAD = (NATIVE, DIRECT, LORA)
ADVISED = tuple(dict.fromkeys((MOVED.candidate, *MOVED.placebos, *INSTEAD, *MOVED.controls, *AS_IS.controls)))
"""The arms that stand in the figure, the claimed one first, then its placebos."""
ROTATIONS = {
    "aligned": "the source's module",
    "home": "a third module of the target",
    "own": "the target's oracle",
    "other": "the source's module of another domain",
}
FRESH = f"r.instead.{BPB.metric}.{DIRECT}"
"""The contrast with a fresh module that is fitted to the same lesson."""
LEAD = "moved - placebo (bits per byte)"
CAPTION = (
    "Part of the gap in bits per byte that an arm closes, with 95 % intervals: 0 is the plain backbone, 1 the oracle."
)


class Row(NamedTuple):
    """Gap closure in bits per byte of a transfer, fit and arm. Args: decides: whether its fit decides."""

    claim: str
    source: str
    target: str
    regime: str
    fit: str
    arm: str
    gap_closure: float | None
    lower: float | None
    upper: float | None
    seconds: float | None
    steps: int | None
    verdict: str
    decides: bool


COLUMNS = Row._fields[:-1]
"""The columns of the table: all but `decides`."""


# figures of results


def rows(results: Sequence[Result]) -> list[Row]:
    """Return one row per transfer result, fit and arm."""
    found = []
    for result in results:
        claim = result.claim
        for name, fit in studies(result).items():
            told = _trained(result, name)
            for arm, closure in fit.gap_closures.items():
                seconds, steps = (told[arm].elapsed_s, told[arm].steps) if arm in told else (None, None)
                about = (pair_of(result), str(claim.source), str(claim.target), str(claim.regime), name, arm)
                figures = (closure.estimate, *ends_of(closure), seconds, steps)
                found.append(Row(*about, *figures, fit.verdict, name == claim.fit))
    return found


def pair_of(result: Result) -> str:
    """Return the claim whose regime a result is."""
    return result.claim.of or result.claim.id


def by_pair(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """Return claim -> regime -> result of the transfers."""
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(pair_of(result), {})[str(result.claim.regime)] = result
    return found


def lead(fit: Fit) -> Test | None:
    """Return the contrast moved net - best placebo in bits per byte: the one of its tests with the smallest mean."""
    tests = [t for t in fit.tests if t.metric == "bits_per_byte" and t.id.startswith("4.attribution")]
    against = [t for t in tests if t.id.rpartition(".")[2] in MOVED.placebos]
    return min(against, key=lambda test: test.mean, default=None)


def best_placebo(fit: Fit, ending: str = "") -> str | None:
    """Return the placebo with the largest gap closure; None where no gap is shown.

    Args: ending: of the names of placebos; `CALIBRATED` for those of a portable module that were calibrated, too.
    """
    closed = {arm + ending: fit.gap_closures.get(arm + ending) for arm in MOVED.placebos}
    known = {arm: ratio.estimate for arm, ratio in closed.items() if ratio is not None and ratio.estimate is not None}
    return max(known, key=lambda arm: known[arm], default=None)


def lacking_without_net(fit: Fit) -> float | None:
    """Return the part of the moved module's gap closure that its interface without a net lacks; None without a gain."""
    ratios = [fit.gap_closures.get(arm) for arm in (TRANSFERRED, NO_DOMAIN)]
    moved, alone = (None if ratio is None else ratio.estimate for ratio in ratios)
    return None if moved is None or moved <= 0 or alone is None else 1 - alone / moved


def bits(fit: Fit, arm: str, scope: str) -> float:
    """Return the mean bits per byte of an arm."""
    return fit.arms[arm].of(scope)[BPB.metric].mean


def source_is_better(fit: Fit) -> bool:
    """Return whether the source with its own module predicts domain text better, on average, than the target does."""
    return SOURCE_ALONE in fit.arms and bits(fit, SOURCE_ALONE, "domain") < bits(fit, TRANSFERRED, "domain")


def _trained(result: Result, fit: str) -> dict[str, Training]:
    """Return arm -> what its fit took."""
    return {entry.arm: entry for entry in result.training if entry.fit == fit}


# tables


def moved_of(results: Sequence[AnyResult]) -> list[Result]:
    """Return the results of transfers."""
    return [result for result in results if isinstance(result, Result) and result.claim.kind == "transfer"]


def page(results: Sequence[Result]) -> str:
    """Return the table as a Markdown page, a line of advice per pair below it, then the ladders."""
    tables = {"pairs": pairs_table(results), "alignments": alignments_table(results), "ladders": ladders(results)}
    return fill("transfer.md.j2", advice=advice(results), rungs=rungs(results), **tables)


def pairs_table(results: Sequence[Result], caption: str = "") -> Table:
    """Return the table of transfers: a row per pair and regime."""
    cells = []
    for pair, found in by_pair(results).items():
        for regime in (regime for regime in transfer_regimes() if regime in found):
            result, fit = found[regime], found[regime].deciding
            took = _trained(result, str(result.claim.fit))
            calibrated = best_placebo(fit, CALIBRATED)
            later = f"{calibrated} {_closure(fit, took, calibrated)}" if calibrated else "-"
            instead = [later, *(_closure(fit, took, arm) for arm in (*INSTEAD, SOURCE_ALONE))]
            verdict = f"**{result.verdict}**"
            cells.append([f"`{pair}`", regime, verdict, *_moved_and_placebo(fit, took), *instead, met_words(fit)])
    heads = ["pair", "regime", "verdict", "moved", "best placebo", LEAD, "best placebo, calibrated too"]
    return Table([*heads, NATIVE, DIRECT, "LoRA", "source alone", "published criteria"], cells, caption)


def alignments_table(results: Sequence[Result]) -> Table:
    """Return how good the rotations of every pair are: from a redrawn interface of the target to the space of a net."""
    cells: list[list[Cell]] = []
    for pair, found in by_pair(results).items():
        for made in next((result.alignments for result in found.values() if result.alignments), []):
            figures = (made.cosine_held_out, made.residual, made.effective_rank)
            cells.append([f"`{pair}`", ROTATIONS[made.rotation], *figures, _said_of(made)])
    heads = ["pair", "space of", "held-out cosine", "relative residual", "effective rank", ""]
    return Table(heads, cells)


def _said_of(made: AlignmentFacts) -> str:
    return "the alignment predicts no better than the mean" if made.residual >= 1 else ""


def ladders(results: Sequence[Result]) -> dict[str, Table]:
    """Return the claims with variants -> a row per fit: gap closure, the moved net's lead over its best placebo."""
    return {f"`{pair_of(r)}`, {r.claim.regime}": _ladder(r) for r in results if r.claim.variants}


def _ladder(result: Result) -> Table:
    cells: list[list[Cell]] = []
    for name, fit in studies(result).items():
        took = _trained(result, name)
        steps = took[TRANSFERRED].steps if TRANSFERRED in took else None
        cells.append([name, steps, *_moved_and_placebo(fit, took)])
    return Table(["fit", "steps", "moved", "best placebo", LEAD], cells)


def rungs(results: Sequence[Result]) -> dict[str, Table]:
    """Return the claims with a ladder of windows -> a row per arm and lead, a column per rung."""
    return {f"`{pair_of(r)}`, {r.claim.regime}": _rungs(r) for r in results if _by_windows(r)}


def _by_windows(result: Result) -> list[Curve]:
    return [curve for curve in result.curves if curve.id.startswith("windows")]


def _rungs(result: Result) -> Table:
    lines = [line for curve in _by_windows(result) for line in curve.series]
    cells: list[list[Cell]] = []
    for line in lines:
        ends = zip(line.lower or [None] * len(line.y), line.upper or [None] * len(line.y), strict=True)
        told = [_figure(y, *end) for y, end in zip(line.y, ends, strict=True)]
        cells.append([line.name, *told])
    return Table(["bits per byte", *(f"{n:g} windows" for n in lines[0].x)], cells)


def _figure(mean: float | None, lower: float | None, upper: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.4f}" + ("" if lower is None else f" [{lower:.4f}, {upper:.4f}]")


def _moved_and_placebo(fit: Fit, took: Mapping[str, Training]) -> list[str]:
    """Return the cells of the moved net, of its best placebo, and of the difference between the two."""
    placebo, contrast = best_placebo(fit), lead(fit)
    ahead = "-"
    if contrast is not None:
        between = contrast.interval
        ahead = _figure(contrast.mean, *((between.lower, between.upper) if between else (None, None)))
    beside = f"{placebo} {_closure(fit, took, placebo)}" if placebo else "-"
    return [_closure(fit, took, TRANSFERRED), beside, ahead]


def _closure(fit: Fit, took: Mapping[str, Training], arm: str) -> str:
    closure = fit.gap_closures.get(arm)
    if closure is None or closure.shown is None:
        return "-"
    lower, upper = ends_of(closure)
    seconds = took[arm].elapsed_s if arm in took else None
    return f"{closure.estimate:.3f} [{lower:.3f}, {upper:.3f}]" + ("" if seconds is None else f" ({seconds:.1f} s)")


# advice


def advice(results: Iterable[Result]) -> dict[str, str]:
    """Return pair -> one sentence on what a user of it should do, from its figures alone."""
    told = {"zero-text": _as_it_is, "general-only": _without_text, "few-shot": _with_a_few, "oracle-kd": _with_all}

    def sentence(found: Mapping[str, Result]) -> str:
        each = [words(found[regime]) for regime, words in told.items() if regime in found]
        return "; ".join([*each, *_count(found), *_asked(found)]) + "."

    return {pair: sentence(found) for pair, found in by_pair(results).items()}


def _count(found: Mapping[str, Result]) -> list[str]:
    """Return what an n-gram model of the domain text does there, beside what is trained on some of that text or all."""
    rival = _rival(found["zero-text"]) if "zero-text" in found else None
    if rival is None or found.keys() <= {"zero-text", "general-only"}:
        return []
    return [f"an n-gram model that counts all of that text closes {rival.closure_ngram:.2f}, and trains nothing"]


def _rival(result: Result) -> Beside | None:
    """Return what an n-gram model does beside a portable module, where it was measured."""
    return next(iter(measured([result])), None)


def _leads(fit: Fit) -> bool:
    """Return whether the moved net is shown to lead its best placebo."""
    contrast = lead(fit)
    return contrast is not None and contrast.interval is not None and contrast.interval.lower > 0


def _asked(found: Mapping[str, Result]) -> list[str]:
    """Return in which regimes the source itself is better, as a part of a sentence; nothing where it is in none."""
    better = [
        f"`{regime}`" for regime in transfer_regimes() if regime in found and source_is_better(found[regime].deciding)
    ]
    told = f"where it can be run, the source with its own module does better, on average, in {listed(better)}"
    return [told] if better else []


def _as_it_is(result: Result) -> str:
    worth, rival, shown = _worth(result.deciding), _rival(result), _leads(result.deciding)
    asked = "place a portable module" if shown else "a portable module, of which no lead over its placebos is shown"
    placed = f"{asked} ({worth})" if worth else ""
    if rival is not None and rival.ahead_high < 0:
        counted = f"mix in an n-gram model of the source's text ({rival.closure_ngram:.2f} of the oracle's gain)"
        return f"without any text, {counted}" + (f" rather than {placed}" if placed else "")
    return f"without any text, {placed}" if placed else "without any text nothing is shown"


def _without_text(result: Result) -> str:
    variants = FitSection.model_validate(result.provenance.spec["budget"]).variants  # of any version of the protocol
    written = [name for name in result.claim.variants if name in variants and variants[name].text == "written"]
    usual, *lessons = (_worth(result.fits[fit]) for fit in (str(result.claim.fit), *written))
    sentence = "without domain text nothing is shown"
    if usual:
        closed = _closed(result.deciding, (TRANSFERRED, DIRECT))
        fresh = f", a fresh one on the same lesson {closed[DIRECT]:.2f}" if DIRECT in closed else ""
        better = next((test.interval for test in result.deciding.tests if test.id == FRESH), None)
        worth = "move it" if better and better.lower > 0 else "it is not shown that moving is worth it"
        sentence = f"without domain text, {worth} (moved {usual}{fresh}: {result.verdict})"
    return sentence + "".join(f"; on a lesson that its source writes ({lesson})" for lesson in lessons if lesson)


def _closed(fit: Fit, arms: Iterable[str]) -> dict[str, float]:
    """Return arm -> its gap closure, of those that have one."""
    found = {arm: fit.gap_closures[arm].estimate for arm in arms if arm in fit.gap_closures}
    return {arm: value for arm, value in found.items() if value is not None}


def _worth(fit: Fit) -> str | None:
    """Return in words the gap closure of the moved net and of its best placebo, or None where nothing is shown."""
    closure, contrast, placebo = fit.gap_closures.get(TRANSFERRED), lead(fit), best_placebo(fit)
    if closure is None or closure.shown is None or contrast is None or contrast.interval is None:
        return None
    words = "less than" if contrast.interval.upper < 0 else "not shown to be more than"
    if contrast.interval.lower > 0:
        words = "more than"
    beside = f"its best placebo's {fit.gap_closures[placebo].estimate:.2f}" if placebo else "a placebo's"
    calibrated = best_placebo(fit, CALIBRATED)
    too = f", or {fit.gap_closures[calibrated].estimate:.2f} once calibrated" if calibrated else ""
    return f"{closure.estimate:.2f} of the oracle's gain, {words} {beside}{too}"


def _with_a_few(result: Result) -> str:
    fit = result.deciding
    told = {
        TRANSFERRED: "move it",
        SOURCE_TAUGHT: "let the source teach a module there",
        DIRECT: "train a module there",
        LORA: "train LoRA there",
        LINEAR: "train one linear map there",
    }
    there = _closed(fit, told)
    if not there:
        return "with a few windows nothing is shown"
    best = max(there, key=lambda arm: there[arm])
    others = ", ".join(f"{arm} {value:.2f}" for arm, value in there.items() if arm != best)
    figures = f"{there[best]:.2f}" + (f"; {others}" if others else "")
    doubt = ", where the moved net is not shown to be worth more than a placebo"
    note = doubt if best == TRANSFERRED and not _leads(fit) else ""
    return f"with a few windows of domain text, {told[best]} ({figures}){note}"


def _with_all(result: Result) -> str:
    return (
        f"with the whole domain text, train a module there, as the teacher of the moved one (moved: {result.verdict})"
    )


# the figure


def drawing(results: Sequence[Result]) -> Drawing:
    """Return the figure of gap closures of deciding fits: a panel per regime, a line per pair, a mark per arm."""
    shown = [row for row in rows(results) if row.decides and row.arm in ADVISED]
    regimes = [regime for regime in transfer_regimes() if any(row.regime == regime for row in shown)]
    pairs, width = list(dict.fromkeys(row.claim for row in shown)), 1.3 + 2.3 * max(len(regimes), 1)

    def draw(panel: Any) -> None:
        panels = panel.subplots(1, max(len(regimes), 1), sharey=True, squeeze=False)[0]
        drawn: dict[str, Line2D] = {}
        for axes, regime in zip(panels, regimes, strict=False):
            there = [row for row in shown if row.regime == regime and row.gap_closure is not None]
            for row in sorted(there, key=lambda row: ADVISED.index(row.arm)):
                i = ADVISED.index(row.arm)
                height, colour = pairs.index(row.claim) - 0.4 + 0.1 * i, colour_of(row.arm, i)
                look = {"color": colour, "markersize": 4.4, "markeredgewidth": 0}
                [drawn[row.arm]] = axes.plot([row.gap_closure], [height], MARKERS[i], **look)
                if row.lower is not None:
                    axes.plot([row.lower, row.upper], [height, height], color=colour, linewidth=1.1)
            for i in range(0, len(pairs), 2):  # which pair a mark belongs to
                axes.axhspan(i - 0.5, i + 0.5, color="#f4f6f8", zorder=0)
            for at, line in ((0, "-"), (1, ":")):
                axes.axvline(at, color="black", linewidth=0.6, linestyle=line)
            axes.set_xlabel(f"{regime}\ngap closure")
            axes.set_yticks(range(len(pairs)), pairs)
            axes.set_ylim(len(pairs) - 0.4, -0.6)
        if drawn:
            panel.legend(
                drawn.values(),
                drawn.keys(),
                loc="outside lower center",
                ncols=columns_of([*drawn], width, most=6),
                frameon=False,
                fontsize=8,
            )

    return Drawing(
        name="transfers",
        caption=CAPTION,
        words="; ".join(f"{row.claim} {row.regime} {row.arm} {figure(row.gap_closure)}" for row in shown),
        columns=COLUMNS,
        rows=[row[:-1] for row in shown],
        draw=draw,
        size=(width, 1.3 + 1.15 * len(pairs)),
    )
