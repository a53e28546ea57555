"""`config/claims.yaml`: what is claimed, of which backbones and texts, and how every transfer is measured."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from abi.base.typed import Typed
from abi.plan.specs.judge import ArmsClaim, ClaimSaid, LadderClaim, RecordOf, SeedCount, StudyClaim
from abi.plan.specs.shared import UNIQUE, Names, Once

Measured = Literal["oracle-kd", "few-shot", "general-only"]
"""The regimes of a transfer."""
ArmNames = Annotated[list[str], Field(min_length=2, json_schema_extra=UNIQUE), Once]


class RegimeSection(Typed):
    """How every transfer is measured in a regime (protocol section 3)."""

    sees: Annotated[str, Field(min_length=10)]
    """what the target side sees"""
    fit: Literal["kd", "ce", "matched"]
    """how arms are fitted; a closed form is reported beside kd and matched"""
    arms: ArmNames
    """arms every transfer gets (protocol section 2)"""


class Regimes(Typed):
    """How every transfer is measured in each regime."""

    oracle_kd: Annotated[RegimeSection, Field(alias="oracle-kd")]
    few_shot: Annotated[RegimeSection, Field(alias="few-shot")]
    general_only: Annotated[RegimeSection, Field(alias="general-only")]

    def every(self) -> dict[Measured, RegimeSection]:
        """Return regime -> section."""
        return {"oracle-kd": self.oracle_kd, "few-shot": self.few_shot, "general-only": self.general_only}


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
    seeds: SeedCount
    """seeds; the scale may cap them"""
    closed_form_seeds: SeedCount | None = None
    """seeds of the closed form, which costs no steps (default: `seeds`); the scale may cap them"""


ClaimId = Annotated[str, Field(pattern="^[a-z][a-z0-9_]+$")]


class Claims(Typed):
    """The file `config/claims.yaml`."""

    headline: Names
    """claims of the page `headline`, which `make reproduce` builds with all they need and nothing else"""
    regimes: Regimes
    """regime -> how every transfer is measured in it (protocol section 3)"""
    claims: Mapping[str, ClaimSaid]
    """claim id -> claim; the id is a Snakemake target"""


class FittedClaim(ArmsClaim):
    """A claim with arms of its own in one regime: what a verdict repeats of it, and how it is made."""

    arms: list[str]
    seeds: SeedCount
    closed_form_seeds: SeedCount | None = None
    reference_module: str | None = None

    @property
    def roles(self) -> dict[str, str]:
        """`source` and `target` -> the backbone."""
        return {"source": self.source, "target": self.target}


Claim = FittedClaim | StudyClaim | LadderClaim


def recorded(claim: ClaimSaid | None, key: str) -> RecordOf:
    """Return what a claim has of the record, whose result file bears its id where the original has none."""
    return RecordOf(**({"result_file": f"{key}.json"} | (claim.record.given() if claim else {})))
