"""What one judged fit, or one study, says, typed, and what a result shows beside it: checks, tables, curves, a law, and
what its test text shares with train, with its verdict without some of that text (reported; it decides nothing).

Signs: `arms` are in natural signs, every contrast is turned so that more is better.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field

from abi.base.typed import Count, Fraction, Typed, Verdict

Level = Annotated[float, Field(gt=0, lt=1)]
Scope = Literal["domain", "general", "on_training_text", "tasks"]
Row = list[str | float | int | None]
"""A line of a table that is shown."""


class IntervalFound(Typed):
    """Mean +- half and the mean squares it rests on (protocol section 4)."""

    mean: float
    lower: float
    upper: float
    half: float
    n_groups: Count
    n_seeds: Count
    level: Level
    msd: Annotated[float, Field(ge=0)]
    mss: Annotated[float, Field(ge=0)]
    mse: Annotated[float, Field(ge=0)]

    def clearance(self, limit: float = 0.0) -> float:
        """Return how far the mean lies above a limit in half widths; arms equal everywhere have no width."""
        return (self.mean - limit) / self.half if self.half > 0 else math.inf


class ContrastFound(Typed):
    """One contrast and its figures; `contrast` is a weighted sum of arms as a formula."""

    id: str
    contrast: str
    metric: str
    scope: Scope
    turned: bool
    required: bool
    mean: float
    interval: IntervalFound | None
    limit: float | None


class Test(ContrastFound):
    """A contrast whose lower bound is to lie above its limit."""

    __test__ = False  # pytest would collect it by its name
    passed: bool


class Bound(ContrastFound):
    """A contrast whose upper bound refutes, or makes vacuous, where it lies below its limit."""

    holds: bool


class RefutationFound(Typed):
    """One way to be refuted: whether it applies, whether some of its contrasts refutes."""

    id: str
    level: Level
    applies: bool
    holds: bool
    contrasts: list[Bound]


class MetricAnswers(Typed):
    """The same questions in a metric that is reported."""

    tests: list[Test]
    refutations: list[RefutationFound]
    refuted: bool


class Ratio(Typed):
    """A ratio with the set of values its interval allows; an end of a piece is null where it is infinite."""

    estimate: float | None
    pieces: list[list[float | None]]
    bounded: bool
    level: Level

    @property
    def shown(self) -> float | None:
        """The estimate; None where what it divides by is not shown to differ from 0, as of a share of no gain."""
        return self.estimate if self.bounded else None


def ends_of(ratio: Ratio | None) -> tuple[float | None, float | None]:
    """Return the least and the greatest value of a ratio's set, (None, None) where there is none or it has no ends."""
    return (None, None) if ratio is None or not ratio.bounded else (ratio.pieces[0][0], ratio.pieces[-1][1])


class Share(Ratio):
    """The part of the gain that is the moved net's, against its best placebo."""

    placebo: str


class Resolvable(Typed):
    """The gap this study could have resolved."""

    contrast: str
    metric: str
    gap: float
    standard_error: float
    standard_errors: float
    n_seeds: Count


class Dropped(Typed):
    """What was left out of a study."""

    seeds: list[int]
    documents: dict[str, Count]
    documents_too_short: dict[str, Count]


class Counts(Typed):
    """How much a study rests on, by scope."""

    groups: dict[str, Count]
    documents: dict[str, Count]
    seeds: list[int]
    dropped: Dropped


class Figure(Typed):
    """Mean, interval, mean squares and per-seed means of one arm in one metric.

    `n_groups`: of an arm that reads other windows, where it has fewer groups than the fit.
    """

    mean: float
    per_seed: dict[str, float]
    lower: float | None
    upper: float | None
    msd: Annotated[float, Field(ge=0)] | None
    mss: Annotated[float, Field(ge=0)] | None
    mse: Annotated[float, Field(ge=0)] | None
    n_groups: Count | None = None


class ArmFigures(Typed):
    """An arm's figures by scope and metric; `draws`: how many fits stand behind each seed."""

    draws: Count
    domain: dict[str, Figure] = {}
    general: dict[str, Figure] = {}
    on_training_text: dict[str, Figure] = {}
    tasks: dict[str, Figure] = {}

    def of(self, scope: str) -> dict[str, Figure]:
        """Return metric -> figure on one scope of text."""
        found: dict[str, Figure] = getattr(self, scope)
        return found


class Agreement(Typed):
    """The four metrics of the NIB."""

    js_nats: float
    top1: float
    top5: float
    entropy_diff_nats: float


class Met(Typed):
    """Which published thresholds some means meet."""

    js_nats: bool
    top1: bool
    top5: bool
    entropy_diff_nats: bool


class ArmCriteria(Typed):
    """The published criteria of one arm."""

    means: Agreement
    met: Met
    passed: bool


class PublishedCriteria(Typed):
    """Which arms meet the four published thresholds."""

    sentence: str
    thresholds: Agreement
    controls: list[str]
    arms: dict[str, ArmCriteria]


class Fit(Typed):
    """The verdict of one way of fitting, or of one study, and everything it rests on."""

    kind: str
    regime: str | None
    fit: str
    level: Level
    primary_metric: str
    verdict: Verdict
    reason: str
    tests: list[Test]
    refutations: list[RefutationFound]
    vacuous: list[Bound]
    secondary: dict[str, MetricAnswers]
    share: Share | None
    gap_closure: Ratio | None
    gap_closures: dict[str, Ratio]
    resolvable_gap: Resolvable | None
    counts: Counts
    arms: dict[str, ArmFigures]
    published_criteria: PublishedCriteria | None = None
    decided_by: str | None = None
    """The contrast that decides, or the first required test where all are too few; files of older code lack it."""

    def contrasts(self) -> Iterator[tuple[str, ContrastFound]]:
        """Yield (leaf, contrast) of every contrast that is stored: tests before refutations, its own metric first."""
        answered: dict[str, Fit | MetricAnswers] = {"": self}
        answered |= {f"secondary/{metric}/": told for metric, told in self.secondary.items()}
        for place, told in answered.items():
            for i, test in enumerate(told.tests):
                yield f"{place}tests/{i}", test
            for i, way in enumerate(told.refutations):
                for j, item in enumerate(way.contrasts):
                    yield f"{place}refutations/{i}/contrasts/{j}", item
        for i, bound in enumerate(self.vacuous):
            yield f"vacuous/{i}", bound


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

    in_train: dict[str, Fraction]
    """Mean over documents of the share of their scored passages that stand in train."""
    close_text: Fraction
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


class Check(Typed):
    """A pass rule of the original, applied to what was measured; it decides nothing."""

    id: str
    words: str
    value: float | None
    threshold: float | None
    passed: bool


class TableShown(Typed):
    """A table that a result brings along for its pages."""

    id: str
    title: str
    caption: str
    columns: list[str]
    rows: list[Row]


class Series(Typed):
    """One line of a curve."""

    name: str
    x: list[float]
    y: list[float | None]
    lower: list[float | None] | None = None
    upper: list[float | None] | None = None

    @classmethod
    def of(cls, name: str, figures: Mapping[float, Figure | IntervalFound]) -> Self:
        """Return the line of x -> figure: means, and the ends of intervals where every figure has one."""
        y, lower, upper = ([getattr(found, key) for found in figures.values()] for key in ("mean", "lower", "upper"))
        ends = {} if None in lower else {"lower": lower, "upper": upper}
        return cls(name=name, x=list(figures), y=y, **ends)


class Curve(Typed):
    """Lines with bounds where there are any."""

    id: str
    title: str
    x_label: str
    y_label: str
    caption: str
    log_x: bool
    series: list[Series]


class Matrix(Typed):
    """Numbers by row and column, drawn as a heat map."""

    id: str
    title: str
    caption: str
    row_label: str
    column_label: str
    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]


class Law(Typed):
    """The registered fit of a scaling law."""

    formula: str
    n_points: Count
    """Registered points; the protocol's least number is of these."""
    n_used: Count
    """Points with a floor, to which alone it is fitted."""
    residual_freedom: int
    """Of the points that are used."""
    distinct_responses: Count
    coefficients: dict[str, float] | None
    r2: float | None
    r2_withheld: str | None
    loo_mae_steps: float | None
    loo_mae_steps_of_the_mean: float | None
    gamma_interval: list[float] | None
