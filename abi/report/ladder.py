"""All claims of a run as one picture: a line per claim with its verdict, and how much of the gain is the net's own.

Width and font are chosen so that the picture can be read on a phone. Its colours follow the reader's light or dark
mode by themselves.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from abi.base.regimes import REGIMES
from abi.judge.fits import Share, ends_of
from abi.judge.results import AnyResult
from abi.plan.specs.judge import Criteria
from abi.report.render import bounds, figure
from abi.report.templates import fill
from abi.report.transfers import lacking_without_net
from abi.report.words import deciding, grouped

ZERO_TEXT = next(name for name, regime in REGIMES.items() if not regime.lesson)
"""The regime in which nothing is calibrated; its results are lines of their own."""
WORTH = "of a moved module's gain is its net's own"
LEFT, RIGHT = 184.0, 304.0
"""Where the axis begins and ends, in the units of the picture, which is 420 wide."""
LINE, HEAD, GAP, TOP = 21.0, 46.0, 10.0, 77.0
"""Heights of a line, of a heading above lines, of the room below them, and of the title."""


class Line(NamedTuple):
    """A result in the picture: its id, its claim and verdict; without a share of the gain it has no dot.

    Args: lead: of a module that is placed as it is, the part of its gain that an interface without a net lacks.
    """

    id: str
    claim: str
    verdict: str
    share: Share | None
    lead: float | None
    y: float


@dataclass(frozen=True)
class Panel:
    """Lines under a heading. Args: dots: whether their axis is drawn; y, end: of the heading and of the last line."""

    title: str
    about: str
    lines: list[Line]
    dots: bool
    y: float
    end: float


class Axis(NamedTuple):
    """The scale of shares: its least value; the greatest is 1, all of the gain."""

    least: float

    def x(self, value: float) -> float:
        """Return where a share stands, at an end of the axis where it lies outside."""
        part = (min(max(value, self.least), 1.0) - self.least) / (1.0 - self.least)
        return round(LEFT + part * (RIGHT - LEFT), 1)


def picture(results: Sequence[AnyResult], criteria: Criteria, *, only: Collection[str] | None = None) -> str:
    """Return the picture of some results as SVG; the same bytes for the same results.

    Args: criteria: of the protocol, whose least share is drawn; only: parts of the picture (`PLACES`), None for all.
    """
    panels = list(_panels([result for result in results if only is None or _place(result) in only]))
    shares = [line.share for panel in panels for line in panel.lines]
    lowest = min((piece[0] for share in shares if share for piece in share.pieces if piece[0] is not None), default=0.0)
    return fill(
        "ladder.svg.j2",
        panels=panels,
        axis=Axis(min(lowest, -0.1)),
        criteria=criteria,
        level=f"{100 * criteria.level:g}",
        height=panels[-1].end + GAP if panels else TOP,
        title=f"Every {'claim' if only is None else 'transfer'} with its verdict, and how much {WORTH}",
        label=told(panels),
        shown=shown,
        ends=(LEFT, RIGHT),
    )


def rows(results: Sequence[AnyResult]) -> list[tuple[str, str, *tuple[float | None, ...]]]:
    """Return what the picture shows: result, verdict, share with its interval, lead over an interface without a net."""
    return [
        (line.id, line.verdict, line.share.shown if line.share else None, *ends_of(line.share), line.lead)
        for panel in _panels(results)
        for line in panel.lines
    ]


TAUGHT, LESS, ONE_BACKBONE, OTHERS = "oracle-kd", "less", "reconstruction", ""
PLACES = {
    TAUGHT: ("Moved and calibrated", "the target has text of the domain and a teacher"),
    LESS: ("Moved and calibrated with less", "a few windows of the domain's text, or general text alone"),
    ZERO_TEXT: (
        "Placed as it is, as a portable module",
        "nothing is calibrated; hollow: its lead over an interface without a net",
    ),
    ONE_BACKBONE: ("Fitted to another module", "on one backbone: nothing is moved"),
    OTHERS: ("Other claims", "with studies of their own, or resting on those above"),
}
"""Where a result stands in the picture -> its heading and what is drawn there."""


def _place(result: AnyResult) -> str:
    """Return the part of the picture that a result stands in."""
    if not deciding(result):
        return OTHERS
    if result.claim.kind == ONE_BACKBONE:
        return ONE_BACKBONE
    regime = result.claim.regime
    return regime if regime in (TAUGHT, ZERO_TEXT) else LESS


def _panels(results: Sequence[AnyResult]) -> Iterator[Panel]:
    heads = [head for head, _ in grouped(results)]
    y = TOP
    for place, (title, about) in PLACES.items():
        found = [r for r in results if _place(r) == place and (place == ZERO_TEXT or r in heads)]
        if found:
            first, dots = y + HEAD, any(share_of(r) for r in found)
            lines = [
                Line(r.claim.id, r.claim.of or r.claim.id, r.verdict, share_of(r), lead_of(r), first + LINE * i)
                for i, r in enumerate(found)
            ]
            end = lines[-1].y + LINE / 2 + (LINE if dots else 0)
            yield Panel(title, about, lines, dots, y, end)
            y = end + GAP


def share_of(result: AnyResult) -> Share | None:
    """Return which part of the gain is the moved net's own, None where a result does not say."""
    fit = deciding(result)
    share = fit.share if fit else None
    return share if share is not None and share.shown is not None else None


def lead_of(result: AnyResult) -> float | None:
    """Return which part of the gain of a module placed as it is an interface trained without a net lacks.

    Its placebos do harm, so its share is more than the net adds.
    """
    fit = deciding(result)
    return lacking_without_net(fit) if fit is not None and result.claim.regime == ZERO_TEXT else None


def shown(line: Line) -> str:
    """Return a line of the picture in words."""
    share = line.share
    if share is None:
        return f"{line.id}: {line.verdict}"
    lead = "" if line.lead is None else f", {figure(line.lead)} over an interface without a net"
    return f"{line.id}: {line.verdict}, share {figure(share.estimate)}{bounds(*ends_of(share))}{lead}"


def told(panels: Sequence[Panel]) -> str:
    """Return the whole picture in words, for readers who do not see it."""
    return ". ".join(f"{panel.title}: {'; '.join(map(shown, panel.lines))}" for panel in panels)
