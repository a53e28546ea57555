"""As a result says it: how much of its test text train holds too, and its verdict without some of that text.

Reported beside a verdict; it decides nothing.
"""

from typing import Annotated, Literal

from pydantic import Field

from abi.base.typed import Count, Typed, Verdict
from abi.judge.fits import Fit, IntervalFound

Part = Annotated[float, Field(ge=0, le=1)]


class LeftOut(Typed):
    """A verdict once more without some test documents; what is too few for a figure has none."""

    left_out: str
    """`close text`, or names of packages."""
    documents: Count
    """Documents of domain text that are left."""
    groups: Count
    verdict: Verdict
    reason: str
    mean: float | None
    """Of the contrast that decides when nothing is left out."""
    interval: IntervalFound | None
    """Of the same."""
    gap_closure: float | None
    share: float | None


class Robustness(Typed):
    """The share of a verdict's test text that train holds too, and the verdict without close text and without packages.

    Counts and means by scope, of the documents that were judged.
    """

    in_train: dict[str, Part]
    """Mean over documents of the share of their passages that stand in train."""
    close_text: Part
    """A document with a larger share is close."""
    close: dict[str, Count]
    """Close documents."""
    contrast: str
    """The contrast that decides when nothing is left out."""
    mean: float
    """Of the same."""
    without_close: LeftOut
    unit: Literal["package", "fold of packages"]
    """What is left out in turn."""
    without: list[LeftOut]
    """One entry per unit."""

    def most_changed(self, verdict: str) -> LeftOut:
        """Return the unit whose absence changes most, the word before the mean. Args: verdict: nothing left out."""
        return max(self.without, key=lambda left: (left.verdict != verdict, self.moved(left)))

    def moved(self, left: LeftOut) -> float:
        """Return how far the mean moves; 0 where there is none."""
        return 0.0 if left.mean is None else abs(left.mean - self.mean)


def decisive(fit: Fit) -> str:
    """Return the id of the contrast that the reason of a fit names, or of its first required test if it names none."""
    places = {found.id: fit.reason.find(f"{found.id}: ") for _, found in fit.contrasts()}
    named = {contrast: place for contrast, place in places.items() if place >= 0}
    if named:
        return min(named, key=lambda contrast: named[contrast])
    return next(test.id for test in fit.tests if test.required)
