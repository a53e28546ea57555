"""What a result file holds, typed: a claim judged, a claim made of several studies, a claim about other claims.

Signs: `arms` are in natural signs, every contrast is turned so that more is better.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from abi.base.errors import DataError
from abi.base.files import parse_file
from abi.base.manifests import Pretraining
from abi.base.typed import Count, Document, Provenance, Sha256, Typed, Verdict

Level = Annotated[float, Field(gt=0, lt=1)]
Scope = Literal["domain", "general", "on_training_text"]
Published = float | int | str | bool | list[float | int | str | bool] | None


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


class Asked(Typed):
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


class Test(Asked):
    """A contrast whose lower bound is to lie above its limit."""

    __test__ = False  # pytest would collect it by its name
    passed: bool


class Bound(Asked):
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
    """Mean, interval, mean squares and per-seed means of one arm in one metric."""

    mean: float
    per_seed: dict[str, float]
    lower: float | None
    upper: float | None
    msd: float | None
    mss: float | None
    mse: float | None


class ArmFigures(Typed):
    """An arm's figures by scope and metric; `draws`: how many fits stand behind each seed."""

    draws: Count
    domain: dict[str, Figure] = {}
    general: dict[str, Figure] = {}
    on_training_text: dict[str, Figure] = {}

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


class PublishedFigure(Typed):
    """What the original published: the figure, its own pass mark, and what its result file holds."""

    value: Published
    comparator: Literal["<", ">", "<=", ">="] | None
    threshold: float | None
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
    checks: Any = None


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
    rows: list[list[str | float | int | None]]


class Series(Typed):
    """One line of a curve."""

    name: str
    x: list[float]
    y: list[float | None]
    lower: list[float | None] | None = None
    upper: list[float | None] | None = None


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


class Law(Typed):
    """The registered fit of a scaling law."""

    formula: str
    n_points: Count
    n_used: Count
    residual_freedom: int
    distinct_responses: Count
    coefficients: dict[str, float] | None
    r2: float | None
    r2_withheld: str | None
    loo_mae_steps: float | None
    loo_mae_steps_of_the_mean: float | None
    gamma_interval: list[float] | None


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
    perplexity: dict[str, dict[str, dict[str, float]]]
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
    ppl_native: float
    ppl_calibrated: float
    ppl_raw: float

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
    perplexity: dict[str, dict[str, float]]
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
