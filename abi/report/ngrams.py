"""What an n-gram model does in place of a portable module."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from abi.base.names import NGRAM, RAW, TRANSFERRED
from abi.judge.fits import Fit, Test
from abi.judge.protocol import BPB
from abi.judge.results import Result
from abi.report.render import Table, figure, markdown

AHEAD = f"r.instead.{BPB.metric}.{NGRAM}"
"""The reported test that says by how much the module is ahead."""
NOT_YET = "The committed run has no n-gram model beside its transfers yet."


class Beside(NamedTuple):
    """Both on the held-out text of one transfer.

    The share of the oracle's gain that each closes; by how many bits per byte general text gets worse with each; by how
    many the module is ahead on domain text, with the ends of the interval.
    """

    claim: str
    closure_ngram: float
    closure_portable: float
    harm_ngram: float
    harm_portable: float
    ahead: float
    ahead_low: float
    ahead_high: float


@dataclass(frozen=True)
class Rival:
    """What an n-gram model does in place of a portable module, over some transfers."""

    rows: Sequence[Beside]

    @property
    def closed(self) -> list[float]:
        """Which parts of the gap it closes."""
        return [row.closure_ngram for row in self.rows]

    @property
    def harm(self) -> list[float]:
        """By how many bits per byte general text gets worse."""
        return [row.harm_ngram for row in self.rows]

    @property
    def leads(self) -> list[float]:
        """How many bits per byte of domain text it is ahead of the module by."""
        return [-row.ahead for row in self.rows]

    @property
    def ahead(self) -> int:
        """In how many transfers it is shown to be ahead of the module."""
        return sum(row.ahead_high < 0 for row in self.rows)

    @property
    def words(self) -> str:
        """Which of the two does better."""
        if self.ahead == len(self.rows):
            return ", but an n-gram model does better"
        return ", and an n-gram model sometimes does better" if self.ahead else ""


def measured(results: Iterable[Result]) -> list[Beside]:
    """Return both on each transfer that has evidence of both."""
    found = []
    for result in results:
        fit, ahead = result.deciding, _test(result.deciding, AHEAD)
        closures = [fit.gap_closures.get(arm) for arm in (NGRAM, TRANSFERRED)]
        if ahead is None or ahead.interval is None or any(one is None or one.estimate is None for one in closures):
            continue
        raw = fit.arms[RAW].general[BPB.metric].mean
        harms = [fit.arms[arm].general[BPB.metric].mean - raw for arm in (NGRAM, TRANSFERRED)]
        closed = [one.estimate for one in closures if one is not None and one.estimate is not None]
        bounds = (ahead.interval.mean, ahead.interval.lower, ahead.interval.upper)
        found.append(Beside._make((result.claim.id, *closed, *harms, *bounds)))
    return found


def _test(fit: Fit, name: str) -> Test | None:
    return next((test for test in fit.tests if test.id == name), None)


def shown(rows: list[Beside]) -> str:
    """Return the table of both as Markdown, or that there is none to show."""
    return markdown(table(rows)) if rows else NOT_YET


def table(rows: list[Beside]) -> Table:
    """Return both side by side, and by how many bits per byte the module is ahead on domain text."""
    columns = ["transfer", "gap closed: n-grams", "module", "general text gets worse by: n-grams", "module"]
    return Table(
        [*columns, "module better by (bits per byte)"],
        [
            [
                f"`{row.claim.removesuffix('_zero_text')}`",
                figure(row.closure_ngram),
                figure(row.closure_portable),
                figure(row.harm_ngram),
                figure(row.harm_portable),
                f"{figure(row.ahead)} [{figure(row.ahead_low)}, {figure(row.ahead_high)}]",
            ]
            for row in rows
        ],
    )
