"""Verdicts of one scale beside those of another: the pretrained models of `real` beside the small ones of `tiny`."""

from collections import Counter
from collections.abc import Sequence

from abi.base.names import NO_DOMAIN, ORACLE, RAW
from abi.judge.fits import Fit, IntervalFound
from abi.judge.protocol import BPB, HARM
from abi.judge.results import AnyResult, Result
from abi.report.render import Cell, Table, bounds, figure
from abi.report.study_words import closure_words, share_words, with_interval
from abi.report.verdicts import judged_words
from abi.report.words import in_groups, regime_of

ROOM = "0.room.bits_per_byte"


def beside(results: Sequence[AnyResult], others: Sequence[AnyResult], other: str) -> Table:
    """Return a row per claim and regime; the last column counts the words that another scale's claims of the kind get.

    Args: other: the name of that scale.
    """
    words: dict[tuple[str, str, bool], Counter[str]] = {}
    for result in others:
        words.setdefault(_kind_of(result), Counter())[result.verdict] += 1
    rows = []
    for result in in_groups([result for result in results if isinstance(result, Result)]):
        fit, kind = result.deciding, _kind_of(result)
        harm = tested(fit, HARM)
        worse = "-" if harm is None else figure(-harm.mean) + bounds(-harm.upper, -harm.lower)
        there = ", ".join(f"{word} {n}" for word, n in words.get(kind, Counter()).most_common()) or "-"
        bare = closure_words(fit.gap_closures.get(NO_DOMAIN), "-")
        figures = closure_words(fit.gap_closure, "-"), bare, share_words(fit), worse
        rows.append([f"`{result.claim.id}`", kind[1], judged_words(result), *figures, there])
    told = ("gap closed", "with no net", "share", "bits per byte that general text gets worse by")
    return Table(["claim", "regime", "verdict", *told, f"such claims at `{other}`"], rows)


def _kind_of(result: AnyResult) -> tuple[str, str, bool]:
    """Return what makes two claims alike: kind, regime, and whether the target is the source's own backbone."""
    return result.claim.kind, regime_of(result), result.claim.source == result.claim.target


def rooms(results: Sequence[AnyResult]) -> Table:
    """Return what every text leaves to gain on a model: bits per byte plain, and with a module of its own."""
    rows: dict[tuple[str, str], list[Cell]] = {}
    for result in results:
        if not isinstance(result, Result) or result.claim.text is None:
            continue
        fit = result.deciding
        told = [fit.arms[arm].domain[BPB.metric].mean if arm in fit.arms else None for arm in (RAW, ORACLE)]
        rows.setdefault((str(result.claim.target), result.claim.text), [*told, with_interval(tested(fit, ROOM))])
    cells = [[f"`{target}`", text, *figures] for (target, text), figures in rows.items()]
    return Table(["model", "text", "plain", "with a module of its own", "room"], cells)


def tested(fit: Fit, test: str) -> IntervalFound | None:
    """Return the interval of a test of a fit, None where it has none."""
    return next((one.interval for one in fit.tests if one.id == test), None)
