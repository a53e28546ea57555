"""What a result file holds, typed: a claim judged, one made of several studies, one about others; one word of several.

Source of the rules for several: protocol sections 4 and 6.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abi.base.errors import DataError, EvidenceError
from abi.base.files import parse_file
from abi.base.manifests.backbones import Pretraining
from abi.base.manifests.pages import Headline
from abi.base.manifests.rates import ChosenRates
from abi.base.names import CLOSED_FORM
from abi.base.regimes import REGIMES
from abi.base.typed import Count, Document, Provenance, Sha256, Typed, Verdict, of_format
from abi.judge.fits import Agreement, Check, Curve, Fit, Law, Matrix, Robustness, TableShown
from abi.plan.specs.experiments import ArmOfExperiment, Statement
from abi.plan.specs.judge import Criteria, RecordOf

STATEMENTS = "statements"
"""The table of an experiment's statements: what each says, its word, the figure that decides it."""

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


class ClaimFacts(Typed):
    """A claim as its result repeats it; which keys there are depends on the kind."""

    id: str
    title: str
    statement: str
    kind: str
    record: RecordOf
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
    cosine: float | None = None
    reference_module: str | None = None
    arms: dict[str, ArmOfExperiment] = {}
    statements: dict[str, Statement] = {}

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
    lr: float | None = None
    """Peak learning rate, the arm's own."""
    final_loss: float | None = None
    elapsed_s: float | None = None
    phase_floors: list[float] = []


class AlignmentFacts(Typed):
    """How good a rotation is, means over seeds; cosines are of held-out rows, a residual of 1 is that of the mean."""

    rotation: str
    n_rows: float
    effective_rank: float
    residual: Annotated[float, Field(ge=0)]
    cosine_before: Annotated[float, Field(ge=-1, le=1)]
    cosine_held_out: Annotated[float, Field(ge=-1, le=1)]


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
    """The record's draw of one seed, 7777 where every arm has it, on held-out windows."""

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
        found: Mapping[str, Fit] = getattr(self, "fits", {})
        return found


class Result(Judged):
    """The result file of a claim with evidence of its own, in one regime."""

    kind: ClassVar[str] = "result"
    fits: dict[str, Fit]
    robustness: dict[str, Robustness] = {}
    """Of the fit that decides; files of older code lack it."""
    curves: list[Curve] = []
    perplexity: dict[str, dict[str, dict[str, Perplexity]]]
    rows: RowSums
    training: list[Training]
    alignments: list[AlignmentFacts] = []
    rates: ChosenRates | None = None
    """How the learning rates of the arms were chosen; none where nothing is calibrated."""
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
    def deciding(self) -> Fit:
        """The fit that decides."""
        return self.fits[str(self.claim.fit)]


class StudyResult(Judged):
    """The result file of a claim made of several studies (update, succession, scaling law, atlas, experiment)."""

    kind: ClassVar[str] = "study"
    fits: dict[str, Fit]
    robustness: dict[str, Robustness] = {}
    """Study -> of its fit; files of older code lack it."""
    law: Law | None = None
    rates: ChosenRates | None = None
    """How the arms of an experiment chose their learning rates."""
    perplexity: dict[str, dict[str, Perplexity]]
    rows: RowSums
    checks: list[Check]
    tables: list[TableShown]
    curves: list[Curve]
    matrices: list[Matrix]


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
    tables: list[TableShown] = []
    curves: list[Curve] = []


AnyResult = Result | StudyResult | LadderResult
KINDS: dict[str, type[Result] | type[StudyResult] | type[LadderResult]] = {
    model.format_name(): model for model in (Result, StudyResult, LadderResult)
}


def read_result(path: str | Path) -> AnyResult:
    """Return a result file, of whatever kind its `format` says. Raises: DataError: missing, damaged, or no result."""
    return result_of(parse_file(path), path)


def result_of(content: object, where: str | Path) -> AnyResult:
    """Return the result of parsed JSON. Raises: DataError: as `read_result`."""
    kind = of_format(content, KINDS)
    if kind is None:
        raise DataError(f"{where}: its `format` is that of no result of abi; delete it and rebuild it")
    return kind.of(content, where)


def criteria_of(result: Result | StudyResult) -> Criteria:
    """Return the numbers of the protocol that a result was judged by."""
    return Criteria.model_validate(result.provenance.spec["protocol"]["criteria"])


# one word of several


def of_several(words: Sequence[str], refuted: bool) -> str:
    """Return the verdict of several rungs or studies. Args: refuted: whether one is refuted at the stricter level."""
    if refuted:
        return "REFUTED"
    return next((same for same in ("SUPPORTED", "VACUOUS") if set(words) == {same}), "INCONCLUSIVE")


def of_doses(words: Sequence[str], refuted: bool) -> str:
    """Return the verdict of several doses: that of those which threatened the module; VACUOUS where fewer than two did.

    Args: as `of_several`.
    """
    threatened = [word for word in words if word != "VACUOUS"]
    return of_several(threatened, refuted) if len(threatened) > 1 else "VACUOUS"


def judge_rungs(rungs: Sequence[Rung]) -> dict[str, str]:
    """Return verdict, reason and verdict at the strict level of a claim about several others.

    SUPPORTED if every rung is; REFUTED if one rung is, and is at the strict level too, since one of several is refuted
    by luck more often than one alone; VACUOUS if every rung is; else INCONCLUSIVE.
    """
    words, strict = [r.verdict for r in rungs], [r.verdict_at_strict_level for r in rungs]
    refuted = [r for r in rungs if r.verdict == r.verdict_at_strict_level == "REFUTED"]  # at that one alone: vacuous
    short = [r for r in rungs if r.verdict != "SUPPORTED"]
    if not short:
        reason = f"all {len(rungs)} rungs are SUPPORTED"
    else:
        undecided = [r for r in short if r.verdict == "INCONCLUSIVE"]
        full = [r for r in short if r.verdict != "VACUOUS"]
        first = [*refuted, *undecided, *full, *short][0]
        counted = f"{len(rungs) - len(short)} of {len(rungs)} rungs are SUPPORTED"
        reason = f"{counted}; {first.id} is {first.verdict}: {first.reason}"
    found = {"verdict": words, "verdict_at_strict_level": strict}
    return {"reason": reason, **{key: of_several(said, bool(refuted)) for key, said in found.items()}}


def level_of_one(level: float, n: int) -> float:
    """Return the level 1 - alpha / n of one of n intervals; of n claims that a headline counts: the strict level."""
    return 1 - (1 - level) / n


def headline(verdicts: Mapping[str, str], strict: Mapping[str, str], level: float, n_claims: int) -> Headline:
    """Return "k of m claims are SUPPORTED", and how many still are with intervals of the strict level.

    Args: verdicts: claim -> verdict at `level`; strict: the same claims, judged at the strict level; n_claims: how many
        claims that level was made for, at least as many as are counted.
    Raises: EvidenceError: the two do not hold the same claims, or none, or the level is for fewer.
    """
    if not verdicts or set(verdicts) != set(strict):
        raise EvidenceError("headline: both sets of verdicts must hold the same claims, at least one")
    total = len(verdicts)
    if n_claims < total:
        raise EvidenceError(f"headline: a level for {n_claims} claims is too low for {total}; judge them again")
    at = level_of_one(level, n_claims)
    supported = sorted(name for name, verdict in verdicts.items() if verdict == "SUPPORTED")
    staying = [name for name in supported if strict[name] == "SUPPORTED"]
    stay = f"{len(staying)} with the wider intervals that a count of {n_claims} needs (level {at:.5g})"
    sentence = f"{len(supported)} of {total} claims are SUPPORTED; {stay}"
    return Headline(sentence=sentence, n=total, supported=supported, level=at, stay_supported=staying)
