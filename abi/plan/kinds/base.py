"""The file `config/claims.yaml`, and what the jobs of every claim have in common.

A file of this folder names kinds of claims in `PLANNED`: kind -> the model of a claim as it is given, its jobs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import Field

from abi.base.typed import Typed
from abi.plan.faults import Faults
from abi.plan.specs.judge import ArmsClaim, CappedSeeds, ClaimSaid, RecordOf, SeedCount
from abi.plan.specs.shared import UNIQUE, Names, Once

if TYPE_CHECKING:
    from abi.plan.workflow import Workflow

Plain = dict[str, Any]
"""A spec as it stands in `params` and in provenance: it holds all that an output depends on, and nothing else."""
Inputs = dict[str, str | list[str]]
Needed = tuple[str, str, str, str]
"""A trained module: backbone, text, shape, role."""
PORTABLE_PLACE = ("portable", "portable")
"""Shape and role of portable modules, of which a scale has one shape: they are folders of the place of one."""
TRIAL = "0-0"
"""The batch of the seed that learning rates are tried with: no study has it, since studies count from 1."""
Measured = Literal["oracle-kd", "few-shot", "general-only", "zero-text"]
"""The regimes of a transfer."""
ArmNames = Annotated[list[str], Field(min_length=2, json_schema_extra=UNIQUE), Once]
ClaimId = Annotated[str, Field(pattern="^[a-z][a-z0-9_]+$")]
C = TypeVar("C", bound=ClaimSaid)


class RegimeSection(Typed):
    """How every transfer is measured in a regime (protocol section 3)."""

    sees: Annotated[str, Field(min_length=10)]
    """what the target side sees"""
    statement: Annotated[str, Field(min_length=10)]
    """what a claim says in this regime where it is not its first; it stands behind the claim's title and a colon"""
    fit: Literal["kd", "ce", "matched", "portable"]
    """how arms are fitted; a closed form is reported beside kd and matched; portable modules are not fitted there"""
    arms: ArmNames
    """arms every transfer gets (protocol section 2)"""


class Regimes(Typed):
    """How every transfer is measured in each regime."""

    wrong_text: str
    """text of the arm `wrong-domain` in every regime: one that has something to learn"""
    oracle_kd: Annotated[RegimeSection, Field(alias="oracle-kd")]
    few_shot: Annotated[RegimeSection, Field(alias="few-shot")]
    general_only: Annotated[RegimeSection, Field(alias="general-only")]
    zero_text: Annotated[RegimeSection, Field(alias="zero-text")]

    def every(self) -> dict[Measured, RegimeSection]:
        """Return regime -> section."""
        sections = self.oracle_kd, self.few_shot, self.general_only, self.zero_text
        return dict(zip(get_args(Measured), sections, strict=True))


class Claims(Typed):
    """The file `config/claims.yaml`."""

    headline: Names
    """claims of the page `headline`, which `make reproduce` builds with all they need and nothing else"""
    regimes: Regimes
    """regime -> how every transfer is measured in it (protocol section 3)"""
    claims: Mapping[str, ClaimSaid]
    """claim id -> claim; the id is a Snakemake target"""


class GivenPair(ClaimSaid):
    """A claim about two backbones, or one twice, as it is given."""

    text: str
    """the domain text of the scale"""
    source: str
    """backbone the module comes from"""
    target: str
    """backbone it is moved to; equal to source for a reconstruction"""
    module: str
    """module shape of the scale (of the candidate, in a reconstruction)"""
    seeds: CappedSeeds
    closed_form_seeds: SeedCount | None = None
    """seeds of the closed form, which costs no steps (default: `seeds`); the scale may cap them"""


class GivenTransfer(GivenPair):
    """A transfer, in one regime or several."""

    kind: Literal["transfer"]
    regimes: Annotated[list[Measured], Field(min_length=1, json_schema_extra=UNIQUE), Once]
    """regimes of a transfer; the first gives the claim's verdict, each other one is the target `<claim>_<regime>`"""
    extra_arms: dict[Measured, Names] = {}
    """regime -> arms besides those of the regime"""
    variants: dict[Measured, Names] = {}
    """regime -> variants of its fit (more or fewer steps, less text, other text), judged beside it"""


class GivenReconstruction(GivenPair):
    """A reconstruction on one backbone."""

    kind: Literal["reconstruction"]
    reference_module: str
    """module shape of the reference (reconstruction only)"""
    fit: Literal["correction-mse"]
    """how the arms of a reconstruction are fitted; closed form is always reported beside it"""
    arms: ArmNames
    """fitted arms of a reconstruction"""


class FittedClaim(ArmsClaim):
    """A claim with arms of its own in one regime: what a verdict repeats of it, and how it is made."""

    arms: list[str]
    seeds: SeedCount
    closed_form_seeds: SeedCount | None = None
    reference_module: str | None = None
    wrong_text: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """`source` and `target` -> the backbone."""
        return {"source": self.source, "target": self.target}


class Planned(Generic[C]):
    """One claim of a configuration and what its jobs depend on."""

    def __init__(self, workflow: "Workflow", claim_id: str, claim: C) -> None:
        self.workflow, self.id, self.claim = workflow, claim_id, claim
        self.scale, self.config = workflow.scale, workflow.config

    def modules(self) -> dict[str, Needed]:
        """Return role in the claim -> the trained modules it needs; a claim about others needs none of its own."""
        return {}

    def module_files(self, batch: str) -> dict[str, list[str]]:
        """Return role -> manifests of the trained modules that hold a batch's seeds."""
        return {name: self.workflow.module_manifests(of, batch) for name, of in self.modules().items()}

    def updates(self) -> list[str]:
        """Return the updates it looks at."""
        return []

    def said(self) -> C:
        """Return what a verdict repeats of the claim: everything but which scales can run it."""
        return type(self.claim)(**{key: value for key, value in self.claim.given().items() if key != "scales"})

    @classmethod
    def jobs_of(cls, claim: C) -> "type[Planned[C]]":
        """Return what knows the jobs of a claim of this kind."""
        return cls

    @classmethod
    def entries(cls, claim_id: str, claim: Any, regimes: Regimes) -> dict[str, C]:
        """Return id -> entry of a claim as it is given: itself, with the name of its result file."""
        return {claim_id: claim.model_copy(update={"record": recorded(claim, claim_id)})}

    @classmethod
    def check_given(cls, claim: Any, where: str, faults: Faults) -> None:
        """Tell what a claim as it is given contradicts in itself."""

    @classmethod
    def check(cls, claim: C, where: str, faults: Faults) -> None:
        """Tell what an entry of the claim names and nothing defines."""


def recorded(claim: ClaimSaid | None, key: str) -> RecordOf:
    """Return what a claim has of the record, whose result file bears its id where the original has none."""
    return RecordOf(**({"result_file": f"{key}.json"} | (claim.record.given() if claim else {})))


def seeds_of(batch: str) -> list[int]:
    """Return the seeds of a batch name `first-last`."""
    first, last = batch.split("-")
    return list(range(int(first), int(last) + 1))
