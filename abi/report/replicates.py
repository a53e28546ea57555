"""A claim in pairs rebuilt from other pretraining seeds, beside its own (protocol section 6, replication)."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from abi.audit.results.places import own_or_committed
from abi.base.errors import AbiError, DataError
from abi.base.regimes import MOVED
from abi.base.typed import Verdict
from abi.base.wording import number
from abi.judge.fits import Fit
from abi.judge.results import AnyResult, Result, read_result
from abi.report.render import Table, figure, listed, percent

Name = Literal["share", "gap_closure"]
"""A figure of a result that has a spread."""


@dataclass(frozen=True)
class Figures:
    """What is compared of a result.

    Args: share, gap_closure: of the moved net, None where none is given; ahead: whether the moved net is shown to be
        ahead of every placebo, None where that is not asked.
    """

    verdict: Verdict
    share: float | None
    gap_closure: float | None
    ahead: bool | None


class Ahead(NamedTuple):
    """In how many of some replicates a net is ahead of its placebos."""

    there: int
    asked: int

    def words(self) -> str:
        """Return both numbers."""
        return f"{self.there} of {self.asked}"


class Span(NamedTuple):
    """The least and the greatest of a figure."""

    least: float
    most: float

    def words(self) -> str:
        """Return both ends."""
        return f"{figure(self.least)} to {figure(self.most)}"


@dataclass(frozen=True)
class Replicated:
    """A claim, its own result, and replicate -> its result there."""

    claim: str
    own: Figures
    rebuilt: Mapping[str, Figures]

    @property
    def same(self) -> int:
        """In how many replicates the word is the same."""
        return sum(found.verdict == self.own.verdict for found in self.rebuilt.values())


def result_of(claim: str, scale: str, path: Path) -> AnyResult:
    """Return the result of a claim. Raises: DataError: it cannot be read, or is that of another claim or scale."""
    result = read_result(path)
    if (result.claim.id, result.scale) != (claim, scale):
        raise DataError(
            f"{path}: holds the result of {result.claim.id} at scale {result.scale}; put it back where it came from, "
            f"and build {claim} at scale {scale}"
        )
    return result


def results_at(scales: Iterable[str], files: Mapping[str, str]) -> tuple[dict[str, list[AnyResult]], list[str]]:
    """Return scale -> its results of some claims, built here or else committed; and a sentence per unreadable one.

    What cannot be read hides none of the others. Args: files: claim -> name of its result file, in the order of the
        results.
    """
    found: dict[str, list[AnyResult]] = {}
    unreadable: list[str] = []
    for scale in scales:
        found[scale] = []
        for claim, file in files.items():
            path = own_or_committed(Path("results", scale, file))
            if path is None or not path.exists():
                continue
            try:
                found[scale].append(result_of(claim, scale, path))
            except AbiError as error:
                unreadable.append(str(error))
    return found, unreadable


def replicated(own: Sequence[AnyResult], rebuilt: Mapping[str, Sequence[AnyResult]]) -> list[Replicated]:
    """Return the claims that have a result here and in one replicate or more. Args: rebuilt: replicate -> results."""
    there = {name: {result.claim.id: result for result in results} for name, results in rebuilt.items()}
    rows = []
    for result in own:
        claim = result.claim.id
        found = {name: figures_of(results[claim]) for name, results in there.items() if claim in results}
        if found:
            rows.append(Replicated(claim, figures_of(result), found))
    return rows


def figures_of(result: AnyResult) -> Figures:
    """Return what is compared of a result."""
    if not isinstance(result, Result):
        return Figures(result.verdict, None, None, None)
    fit = result.deciding
    share = None if fit.share is None else fit.share.shown
    closure = None if fit.gap_closure is None else fit.gap_closure.shown
    return Figures(result.verdict, share, closure, ahead_of_placebos(fit, fit.primary_metric))


def ahead_of_placebos(fit: Fit, metric: str) -> bool | None:
    """Return whether the moved net is shown to be ahead of every placebo; None where that is not asked."""
    asked = {f"4.attribution.{metric}.{placebo}" for placebo in MOVED.placebos}
    found = [test.interval for test in fit.tests if test.id in asked]
    return all(one is not None and one.lower > 0 for one in found) if found else None


def ahead_in(row: Replicated) -> Ahead | None:
    """Return in how many replicates the moved net is shown to be ahead; None where it was asked in none."""
    asked = [figures.ahead for figures in row.rebuilt.values() if figures.ahead is not None]
    return Ahead(sum(asked), len(asked)) if asked else None


def span_of(row: Replicated, name: Name) -> Span | None:
    """Return the least and the greatest of a figure over the replicates; None where none has it."""
    found = [value for made in row.rebuilt.values() if (value := getattr(made, name)) is not None]
    return Span(min(found), max(found)) if found else None


# in words


def table(rows: Sequence[Replicated]) -> Table:
    """Return a row per claim: its word and figures, and those where it was rebuilt."""
    cells = [
        [f"`{row.claim}`", row.own.verdict, _words(row), _ahead(row), *(_figures(row, name) for name in get_args(Name))]
        for row in rows
    ]
    columns = ["claim", "verdict", "rebuilt", "net ahead of every placebo", "share; rebuilt", "gap closed; rebuilt"]
    return Table(columns, cells)


def in_a_sentence(row: Replicated) -> str:
    """Return what came of a claim where it was rebuilt."""
    ahead = ahead_in(row)
    told = [f"the net is ahead of every placebo in {ahead.words()}"] if ahead else []
    spans = {name: span_of(row, name) for name in get_args(Name)}
    told += [f"{name.replace('_', ' ')} {span.words()}" for name, span in spans.items() if span]
    return "; ".join([f"on backbones from other pretraining seeds ({', '.join(row.rebuilt)}): {_words(row)}", *told])


def counted(rows: Sequence[Replicated]) -> str:
    """Return in how many replicates verdicts are the same, and where a net is ahead of its placebos, in sentences."""
    built = f"{number(len(rows), 'claim')} {'was' if len(rows) == 1 else 'were'} built again"
    words = {row.claim: (row.same, len(row.rebuilt)) for row in rows}
    told = f"{built} on backbones that were pretrained from other seeds. The verdict is the same {_everywhere(words)}."
    asked = {True: dict[str, Ahead](), False: dict[str, Ahead]()}
    for row in rows:
        if row.own.ahead is not None and (ahead := ahead_in(row)):
            asked[row.own.ahead][row.claim] = ahead
    told += (
        f" Where the moved net leads every placebo here, it also leads {_everywhere(asked[True])}."
        if asked[True]
        else ""
    )
    return told + (f" Where it is not shown to lead here, it leads {_named(asked[False])}." if asked[False] else "")


def _everywhere(counts: Mapping[str, tuple[int, int]]) -> str:
    """Return in words for how many claims something is so in every rebuilt pair, and how often for which others.

    Args: counts: claim -> in how many of how many.
    """
    others = {claim: (there, n) for claim, (there, n) in counts.items() if there < n}
    whole = len(counts) - len(others)
    first = [f"in every rebuilt pair for {whole} of {len(counts)}"] if whole and others else []
    return "; ".join([*first, _named(others)]) if others else "in every rebuilt pair"


def _named(counts: Mapping[str, tuple[int, int]]) -> str:
    """Return in how many replicates something is so for which claims, most first. Args: as of `_everywhere`."""
    claims: dict[tuple[int, int], list[str]] = {}
    for claim, (there, n) in counts.items():
        claims.setdefault((there, n), []).append(f"`{claim}`")
    return "; ".join(f"in {there} of {n} for {listed(claims[there, n])}" for there, n in sorted(claims, reverse=True))


def led_when_rebuilt(rows: Iterable[Replicated], claims: Collection[str]) -> str:
    """Return in a sentence where a net that is not shown to lead here does so in rebuilt pairs, "" where in none.

    Args: claims: the ones that are looked at.
    """
    led, leads = dict[str, Ahead](), list[str]()
    for row in rows:
        ahead, share = ahead_in(row), span_of(row, "share")
        if row.claim in claims and row.own.ahead is False and ahead and ahead.there:
            led[row.claim] = ahead
            if share and ahead.there == ahead.asked:
                leads.append(f"In `{row.claim}` its lead is {percent(share)} of its gain.")
    words = f"On backbones from other pretraining seeds it is shown to lead both {_named(led)}."
    return " ".join([words, *leads]) if led else ""


def _words(row: Replicated) -> str:
    """Return the words of the rebuilt pairs with their counts."""
    found = Counter(figures.verdict for figures in row.rebuilt.values())
    return ", ".join(f"{word} {count}" for word, count in found.most_common())


def _ahead(row: Replicated) -> str:
    """Return whether the net is ahead here, and in how many of the rebuilt pairs."""
    if row.own.ahead is None:
        return "-"
    ahead = ahead_in(row)
    return f"{'yes' if row.own.ahead else 'no'}; {ahead.words() if ahead else '-'}"


def _figures(row: Replicated, name: Name) -> str:
    """Return a figure of the own pair, then its span over the rebuilt ones."""
    own, span = getattr(row.own, name), span_of(row, name)
    return "-" if own is None or span is None else f"{figure(own)}; {span.words()}"
