"""Manifests of what is read: pages that count claims, the report, the table of transfers, generated text, the
instrument's own test.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from abi.base.typed import Count, Document, Fraction, Positive, Provenance, Sha256, Typed, Verdict


class Headline(Typed):
    """How many of the counted claims are SUPPORTED, and how many stay so with wider intervals."""

    sentence: str
    n: Positive
    supported: list[str]
    level: Annotated[float, Field(gt=0, lt=1)]
    stay_supported: list[str]


class Summary(Document):
    """summary.json and headline.json."""

    kind: ClassVar[str] = "summary"
    verdicts: dict[str, Verdict]
    headline: Headline
    provenance: Provenance


class FigureFile(Typed):
    """A figure of a report: figures/<name>.svg and its numbers, figures/<name>.csv."""

    name: Annotated[str, Field(min_length=1)]
    caption: Annotated[str, Field(min_length=1)]
    svg: Sha256
    csv: Sha256


class ReportManifest(Document):
    """report.json, what the report of a run shows."""

    kind: ClassVar[str] = "report"
    verdicts: dict[str, Verdict]
    figures: list[FigureFile]
    provenance: Provenance


class TransfersManifest(Document):
    """transfer.json, what made the table of transfers."""

    kind: ClassVar[str] = "transfers"
    rows: Count
    files: dict[str, Sha256]
    provenance: Provenance


class Cell(Typed):
    """Coverage of one kind of simulated table."""

    n_seeds: int
    n_groups: int
    groups: str
    group_sd: float
    seeds: str
    seed_sd: float
    residual_sd: float
    tables: int
    coverage: Fraction


class Grid(Typed):
    """Coverage of a grid of simulated tables."""

    least: Fraction
    most: Fraction
    limits: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    outside: list[Cell]
    cells: Annotated[list[Cell], Field(min_length=1)]


class Coverage(Typed):
    """The grid that must hold, and the one that is reported."""

    first: Grid
    second: Grid


class SimulatedKind(Typed):
    """Rates of verdicts of one kind of simulated study."""

    kind: str
    regime: str
    n_seeds: int
    seed_sd: float
    gap_se: float
    """Placebo gap in standard errors."""
    seed_share: float
    studies: int
    room: float | None
    """(F - R) / (U - P)."""
    harm_margin_se: float | None
    """Distance to the harm limit in standard errors."""
    rates: dict[str, Fraction]
    faults: list[str]


class InstrumentSettings(Typed):
    """What was simulated, and how much."""

    seed: int
    level: float
    effort: dict[str, Any]
    criteria: dict[str, Any]


class InstrumentFigures(Typed):
    """Coverage, rates of verdicts per kind of study, power."""

    settings: InstrumentSettings
    coverage: Coverage
    studies: list[SimulatedKind]
    power: list[SimulatedKind]
    conditions: list[SimulatedKind]


class InstrumentManifest(Document):
    """results/instrument.json."""

    kind: ClassVar[str] = "instrument"
    figures: InstrumentFigures
    provenance: Provenance


class Sample(Typed):
    """A text generated after random tokens; `ratio`: perplexity of its last quarter over that of the first."""

    seed: Positive
    arm: Literal["module", "plain"]
    text: str
    ratio: Annotated[float, Field(gt=0)]
    distinct4: Fraction
    """Different 4-grams over all."""


class GenerationManifest(Document):
    """generation/<claim>.json: text generated with a module on its updated backbone and with none."""

    kind: ClassVar[str] = "generation"
    samples: Annotated[list[Sample], Field(min_length=2)]
    ratio: Annotated[float, Field(gt=0)]
    """Geometric mean over seeds with the module."""
    ratio_plain: Annotated[float, Field(gt=0)]
    provenance: Provenance
