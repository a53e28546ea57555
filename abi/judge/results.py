"""What a result file holds, typed: a claim judged, a claim made of several studies, a claim about other claims."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abi.base.catalogue import REGIMES
from abi.base.errors import DataError
from abi.base.files import parse_file
from abi.base.manifests import Pretraining
from abi.base.names import CLOSED_FORM
from abi.base.typed import Count, Document, Provenance, Sha256, Typed, Verdict
from abi.judge.fits import (
    Agreement,
    ArmFigures,
    ContrastFound,
    Figure,
    Fit,
    IntervalFound,
    MetricAnswers,
    PublishedCriteria,
    Ratio,
    RefutationFound,
    Scope,
    Test,
)
from abi.judge.shown import Check, Curve, Law, Matrix, Series, TableShown

__all__ = [
    "ArmFigures",
    "ContrastFound",
    "Figure",
    "IntervalFound",
    "MetricAnswers",
    "PublishedCriteria",
    "Ratio",
    "RefutationFound",
    "Scope",
    "Series",
    "Test",
]
"""What other modules look for here beside what this one defines."""

Published = float | int | str | bool | list[float | int | str | bool] | None


Perplexity = Annotated[float, Field(gt=0)]


class PublishedFigure(Typed):
    """What the original published: the figure, its own pass mark, and what its result file holds."""

    value: Published
    comparator: Literal["<", ">", "<=", ">="] | None
    threshold: float | int | None
    holds: bool | None
    document: str
    file: str | None
    leaf: str | None
    file_value: Published
    state: str | None = None
    reason: str | None = None


class RowSum(Typed):
    """Number of rows of a metric and the sum of their values."""

    n: Annotated[int, Field(ge=1)]
    sum: float


class RowSums(Typed):
    """Metric -> rows of evidence and draws: every row enters a leaf, also those that no figure rests on."""

    evidence: dict[str, RowSum]
    draws: dict[str, RowSum]


class RecordRef(Typed):
    """What a claim has of the published record."""

    result_file: str
    claim: str | None = None
    number: str | None = None


class ClaimFacts(Typed):
    """A claim as its result repeats it; which keys there are depends on the kind."""

    id: str
    title: str
    statement: str
    kind: str
    record: RecordRef
    regime: str | None = None
    of: str | None = None
    sees: str | None = None
    text: str | None = None
    source: str | None = None
    target: str | None = None
    module: str | None = None
    fit: str | None = None
    variants: list[str] = []
    update: str | None = None
    updates: list[str] = []
    texts: list[str] = []
    seeds: int | None = None
    generation: bool | None = None
    calibrated_by: str | None = None
    formula: str | None = None
    backbone: str | None = None
    shared: str | None = None
    mixture: list[str] = []
    rungs: list[str] = []
    checks: str | None = None

    @property
    def fits(self) -> tuple[str, ...]:
        """The fits of a claim with evidence of its own: the deciding one, its variants, the closed form."""
        closed = (CLOSED_FORM,) if REGIMES[str(self.regime)].closed_form else ()
        return (str(self.fit), *self.variants, *closed)


class Training(Typed):
    """What the fit of an arm took, means over seeds."""

    fit: str
    arm: str
    steps: Count
    n_trainable: Count
    final_loss: float | None = None
    elapsed_s: float | None = None
    phase_floors: list[float] = []


class BackboneFacts(Typed):
    """Class and sizes of a backbone."""

    model_class: Annotated[str, Field(alias="class")]
    revision: str
    width: Count
    depth: Count
    n_parameters: Count
    n_tokens: Count
    vocabulary: str
    weights_sha256: Sha256
    pretraining: Pretraining


class Nib(Typed):
    """The record's NIB means of one draw."""

    n_chunks: Count
    mean_js: float
    mean_top1: float
    mean_top5: float
    mean_ent: float
    passed: Annotated[bool, Field(alias="pass")]


class NibOfSeed(Nib):
    """The record's draw of seed 7777, on held-out windows."""

    rng_seed: int


class NibCombined(Typed):
    """All draws together."""

    n_chunks: Count
    mean_top5: float
    std_top5: float
    se_top5: float
    ci_95_low: float
    ci_95_high: float
    per_rng_mean_top5: dict[str, float]


class NibL2(Typed):
    """The official draw under the key names of the transfer claims."""

    mean_js: float
    mean_top1_agree: float
    mean_top5_overlap: float
    mean_entropy_diff: float
    passed: Annotated[bool, Field(alias="pass")]
    thresholds: Agreement


class Judged(Document):
    """What every result file says, of whatever kind."""

    claim: ClaimFacts
    scale: str
    meaningless: bool
    protocol: int
    verdict: Verdict
    reason: str
    verdict_at_strict_level: Verdict
    record: dict[str, PublishedFigure]
    provenance: Provenance

    @property
    def studies(self) -> Mapping[str, Fit]:
        """Fit or study -> its verdict; empty where a claim is about others."""
        return {}


class Result(Judged):
    """The result file of a claim with evidence of its own, in one regime."""

    kind: ClassVar[str] = "result"
    fits: dict[str, Fit]
    curves: list[Curve] = []
    perplexity: dict[str, dict[str, dict[str, Perplexity]]]
    rows: RowSums
    training: list[Training]
    backbones: dict[str, BackboneFacts]
    nib_official: NibOfSeed
    nib_extended: dict[str, Nib]
    nib_combined: NibCombined
    nib_l2: NibL2
    overall_pass: bool
    source_model: str
    target_model: str
    d_abi: int
    domain_steps: int
    calibration_steps: int
    ppl_native: Perplexity
    ppl_calibrated: Perplexity
    ppl_raw: Perplexity

    @property
    def studies(self) -> Mapping[str, Fit]:
        """Fit -> its verdict."""
        return self.fits

    @property
    def deciding(self) -> Fit:
        """The fit that decides."""
        return self.fits[str(self.claim.fit)]


class StudyResult(Judged):
    """The result file of a claim made of several studies (update, succession, scaling law, atlas)."""

    kind: ClassVar[str] = "study"
    fits: dict[str, Fit]
    law: Law | None = None
    perplexity: dict[str, dict[str, Perplexity]]
    rows: RowSums
    checks: list[Check]
    tables: list[TableShown]
    curves: list[Curve]
    matrices: list[Matrix]

    @property
    def studies(self) -> Mapping[str, Fit]:
        """Study -> its verdict."""
        return self.fits


class Rung(Typed):
    """What a claim about others rests on."""

    id: str
    verdict: Verdict
    verdict_at_strict_level: Verdict
    reason: str
    sha256: Sha256


class LadderResult(Judged):
    """The result file of a claim about other claims."""

    kind: ClassVar[str] = "ladder"
    rungs: Annotated[list[Rung], Field(min_length=2)]
    checks: list[Check] = []


AnyResult = Result | StudyResult | LadderResult
KINDS: dict[str, type[Result] | type[StudyResult] | type[LadderResult]] = {
    model.named(): model for model in (Result, StudyResult, LadderResult)
}


def read_result(path: str | Path) -> AnyResult:
    """Return a result file, of whatever kind its `format` says. Raises: DataError: missing, damaged, or no result."""
    return result_of(parse_file(path), path)


def result_of(content: object, where: str | Path) -> AnyResult:
    """Return the result of parsed JSON. Raises: DataError: as `read_result`."""
    named = content.get("format") if isinstance(content, dict) else None
    if named not in KINDS:
        raise DataError(f"{where}: is no result file of abi (format {named!r}); delete it and rebuild it")
    return KINDS[named].of(content, where)
