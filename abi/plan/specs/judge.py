"""The protocol, and what verdicts and the pages that count them depend on."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag

from abi.base.typed import Positive, Regime, Sha256, Typed
from abi.plan.specs.admitted import AdmitUpdate
from abi.plan.specs.arms import FitName, FitSection, VariantSection
from abi.plan.specs.models import BuildBackbone
from abi.plan.specs.shared import Names, Rate
from abi.plan.specs.studies import UpdateSection

SeedCount = Annotated[int, Field(ge=1, le=50)]
CappedSeeds = Annotated[SeedCount, Field(description="seeds; the scale may cap them")]
DomainTexts = Annotated[Names, Field(description="domain texts of the scale")]
PassRules = Literal["reproduce_abi"]
Formula = Literal["log10(floor_steps + 1) = alpha + beta log10(d_model) + gamma log10(margin + 1e-9)"]


def _one_line(text: str) -> str:
    if len(text.splitlines()) != 1:
        raise ValueError("is not one line of text; join its lines")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]


class ResolvablePoint(Typed):
    """One point; between points the multiple is interpolated in 1 / (seeds - 1)."""

    seeds: Annotated[int, Field(ge=2)]
    """Number of seeds."""
    standard_errors: Rate
    """The gap as a multiple of its standard error."""


class Criteria(Typed):
    """What a verdict needs (protocol sections 1 to 4)."""

    level: Annotated[float, Field(gt=0.5, lt=1)]
    """Level of every interval (a probability); refutations by some of K contrasts use 1 - (1 - level) / K."""
    half: Annotated[float, Field(gt=0, lt=1)]
    """Retention, the part of home minus placebo that the moved net must keep (a fraction)."""
    share: Annotated[float, Field(ge=0, lt=1)]
    """The least part of the candidate's gain over raw that must be its own net's (a fraction)."""
    parity: Annotated[float, Field(gt=0, le=1)]
    """The part of the way from raw to oracle that must be covered (a fraction)."""
    harm: Annotated[float, Field(ge=0)]
    """Most extra loss on general text against the oracle (a fraction of raw's bits per byte)."""
    vacuous: Annotated[float, Field(ge=0)]
    """A gain of the oracle below this is nothing to transfer (a fraction of raw's bits per byte)."""
    min_groups: Annotated[int, Field(ge=2)]
    """Least number of held-out groups for an interval (groups of documents)."""
    min_seeds: Annotated[int, Field(ge=2)]
    """Least number of seeds for an interval (seeds)."""
    min_positions: Positive
    """Least number of scored positions of a document (token positions)."""
    primary_metric: Literal["js_nats", "top1", "top5", "entropy_diff_nats"]
    """The agreement metric that decides (its name carries its unit, fractions have none)."""
    resolvable: Annotated[list[ResolvablePoint], Field(min_length=1)]
    """The gap between home and placebo that a study resolves, by its number of seeds."""
    keeps: Annotated[float, Field(gt=0, lt=1)]
    """A module that keeps more than this without the stability term was not threatened (a fraction)."""
    floor: Annotated[float, Field(gt=0, lt=1)]
    """The part of the way to the noise floor that a budget of the scaling law must cover (a fraction)."""


class Thresholds(Typed):
    """Thresholds of the published record, reported for every arm and never decisive."""

    js_nats: Rate
    """Jensen-Shannon divergence from the reference, met below (nats)."""
    top1: Annotated[float, Field(ge=0, le=1)]
    """Agreement of the most likely token, met at or above (fraction of positions)."""
    top5: Annotated[float, Field(ge=0, le=1)]
    """Overlap of the five most likely tokens, met at or above (fraction)."""
    entropy_diff_nats: Rate
    """Absolute difference of entropies, met below (nats)."""


Version = Literal[2]
"""The version of the protocol that this code applies."""


class Protocol(Typed):
    """The numbers of the evaluation protocol."""

    protocol: Version
    """Version of the protocol (a whole number); any change below is a change of version."""
    criteria: Criteria
    """What a verdict needs (protocol sections 1 to 4)."""
    published_criteria: Thresholds
    """Thresholds of the published record, reported for every arm and never decisive."""


class RecordOf(Typed):
    """What a claim has of the published record."""

    claim: str | None = None
    """id of the claim in config/record"""
    number: str | None = None
    """number in the original's list of claims, for example C3"""
    result_file: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.json$")] = ""
    """name of our result file: the original's own, or the id"""


class ClaimSaid(Typed):
    """What every claim says of itself."""

    title: Annotated[OneLine, Field(min_length=3)]
    """a few words for menus"""
    statement: Annotated[OneLine, Field(min_length=10)]
    """the claim in one sentence"""
    kind: str
    """how it is judged (protocol sections 4 and 6)"""
    scales: Names | None = None
    """scales that can run it; elsewhere it is `pending`"""
    record: RecordOf = RecordOf()
    """what the original published"""


class ArmsClaim(ClaimSaid):
    """A claim with evidence of its own, in one regime."""

    kind: Literal["transfer", "near_transfer", "reconstruction"]
    regime: Regime
    of: str | None = None
    """the claim whose other regime this is"""
    sees: str | None = None
    text: str
    source: str
    target: str
    module: str
    fit: FitName
    variants: list[str] = []


class UpdateClaim(ClaimSaid):
    """A module on backbones that were updated once, one by one of a ladder of doses."""

    kind: Literal["update"]
    updates: Names
    """updates of the scale: doses of one backbone, each text's from the least to the largest"""
    texts: DomainTexts
    generation: bool = False
    """whether text is generated with the module after the first update (the original's tier S4)"""
    seeds: CappedSeeds


class SuccessionClaim(ClaimSaid):
    """A module on a backbone that was updated several times; every round is a dose."""

    kind: Literal["succession"]
    update: str
    """update of the scale"""
    texts: DomainTexts
    seeds: CappedSeeds


class LawClaim(ClaimSaid):
    """A law of calibration steps."""

    kind: Literal["scaling_law"]
    updates: Names
    """updates of the scale whose first round gives the points of a scaling law"""
    texts: DomainTexts
    calibrated_by: Literal["kd"]
    """the calibration of the scale whose budgets a scaling law looks at"""
    formula: Formula
    """the law that is fitted, registered before the run"""
    seeds: CappedSeeds


class AtlasClaim(ClaimSaid):
    """One chart per domain."""

    kind: Literal["atlas"]
    backbone: str
    """backbone of an atlas"""
    module: str
    """module shape of the scale"""
    shared: str
    """text of the module that every chart of an atlas shares"""
    texts: DomainTexts
    mixture: Annotated[Names, Field(min_length=2, max_length=2)] = []
    """two texts of an atlas whose charts are mixed by weight"""
    seeds: CappedSeeds


class OtherClaim(ClaimSaid):
    """A claim of a kind that its own files define (`plan/kinds`, `judge/kinds`): whatever it says beside the common."""

    model_config = ConfigDict(extra="allow")
    seeds: SeedCount


def _known(claim: Any) -> str:
    """Return the tag of a claim's model."""
    kind = claim.get("kind") if isinstance(claim, dict) else getattr(claim, "kind", None)
    return str(kind) if kind in ("update", "succession", "scaling_law", "atlas") else "other"


StudyClaim = UpdateClaim | SuccessionClaim | LawClaim | AtlasClaim | OtherClaim
AnyStudyClaim = Annotated[
    Annotated[UpdateClaim, Tag("update")]
    | Annotated[SuccessionClaim, Tag("succession")]
    | Annotated[LawClaim, Tag("scaling_law")]
    | Annotated[AtlasClaim, Tag("atlas")]
    | Annotated[OtherClaim, Tag("other")],
    Discriminator(_known),
]


class LadderClaim(ClaimSaid):
    """A claim about other claims: a ladder of sizes, or the original's aggregate with its own pass rules."""

    kind: Literal["ladder", "aggregate"]
    rungs: Annotated[Names, Field(min_length=2)]
    """claims a ladder or an aggregate is made of"""
    checks: PassRules | None = None
    """pass rules of the original, reported beside an aggregate's verdict"""


class DoseClaim(ClaimSaid):
    """A claim about transfers as rungs by how well their spaces are aligned."""

    kind: Literal["dose"]
    rungs: Annotated[Names, Field(min_length=2)]
    """transfers whose contrasts are compared"""
    cosine: Annotated[float, Field(gt=0, lt=1)]
    """held-out cosine from which a rung is asked whether the moved net is worth more than a random one"""


class Judging(Typed):
    """What every verdict that rests on evidence depends on."""

    id: str
    scale: str
    meaningless: bool
    protocol: Protocol
    n_claims: Positive
    """claims that a headline counts"""
    published_sha256: Sha256
    """of the published record's figures"""
    seeds: Positive
    """how many"""


class Pair(Typed):
    """The backbones of a claim."""

    source: BuildBackbone
    target: BuildBackbone | AdmitUpdate


class JudgeClaim(Judging):
    """What a verdict depends on besides the evidence."""

    claim: ArmsClaim
    backbones: Pair
    budget: FitSection | None
    """of the fits; none where nothing is calibrated"""
    d_abi: Positive
    training_steps: Positive

    @property
    def calibration_steps(self) -> int:
        """Steps of the deciding fit, none where nothing is calibrated."""
        return 0 if self.budget is None else self.budget.steps

    @property
    def changes(self) -> dict[str, VariantSection]:
        """Variant of the fit -> what it changes."""
        variants = {} if self.budget is None else self.budget.variants
        return {name: variants[name] for name in self.claim.variants if name in variants}


class JudgeStudy(Judging):
    """What the verdict of a claim made of several studies depends on besides its evidence."""

    claim: AnyStudyClaim
    rounds: Positive = 1
    """rounds of its updates that are looked at"""
    updates: dict[str, UpdateSection] = {}
    budgets: list[int] = []
    """steps that a scaling law looks at"""
    widths: dict[str, Positive] = {}
    """update -> width D of its backbone, for a scaling law"""
    general: str | None = None
    """general text, where a study is asked about it; it may be one of the claim's own"""


class JudgeLadder(Typed):
    """What the verdict of a claim about others depends on besides its rungs."""

    id: str
    claim: Annotated[LadderClaim | DoseClaim, Field(discriminator="kind")]
    protocol: int
    """version"""
    scale: str
    meaningless: bool
    level: Annotated[float, Field(gt=0, lt=1)] | None = None
    """of the intervals, where the claim is judged by contrasts of its rungs and not by their words"""
    n_claims: Positive | None = None
    """claims that a headline counts, where it is judged so"""


class Summarise(Typed):
    """What a page that counts claims depends on besides their result files."""

    protocol: Protocol
    counted: list[str]
    n_claims: Positive


class SimulateStudies(Typed):
    """What the instrument's own test depends on."""

    protocol: Protocol
    seed: int
