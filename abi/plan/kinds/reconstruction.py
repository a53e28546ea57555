"""Regressing one module onto another on the same backbone."""

from typing import Literal

from abi.plan.claims import ArmNames, FittedClaim, GivenPair, Regimes, recorded
from abi.plan.faults import Faults
from abi.plan.kinds.fitted import Fitted
from abi.plan.paths import Needed


class GivenReconstruction(GivenPair):
    """A reconstruction on one backbone."""

    kind: Literal["reconstruction"]
    reference_module: str
    """module shape of the reference (reconstruction only)"""
    fit: Literal["correction-mse"]
    """how the arms of a reconstruction are fitted; closed form is always reported beside it"""
    arms: ArmNames
    """fitted arms of a reconstruction"""


class OfReconstruction(Fitted):
    """What the jobs of a reconstruction depend on."""

    def modules(self) -> dict[str, Needed]:
        """Return the reference, the candidate as it was before, and its oracle."""
        claim = self.claim
        return {
            "reference": (claim.target, claim.text, claim.reference_module or "", "reference"),
            "before": (claim.target, claim.text, claim.module, "source"),
            "oracle": (claim.target, claim.text, claim.module, "oracle"),
        }

    @classmethod
    def entries(cls, claim_id: str, claim: GivenReconstruction, regimes: Regimes) -> dict[str, FittedClaim]:
        """Return the claim, whose regime is its kind."""
        given = claim.given() | {"record": recorded(claim, claim_id)}
        return {claim_id: FittedClaim(**given, regime="reconstruction")}

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell as for every fitted claim, and that it is about one backbone."""
        super().check(claim, where, faults)
        faults.arms(claim.arms, claim.regime, f"{where}.arms")
        if claim.source != claim.target:
            faults.tell(
                f"{where}: a reconstruction needs one backbone as source and target; "
                "change `kind`, `source` or `target`"
            )


GIVEN, JOBS = GivenReconstruction, OfReconstruction
