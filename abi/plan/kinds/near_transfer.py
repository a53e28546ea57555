"""A transfer to a backbone near the source's: its own, an update of it, or the same shape from another seed."""

from typing import Literal

from abi.base.regimes import required_in
from abi.plan.faults import Faults
from abi.plan.kinds.base import FittedClaim, GivenPair, Regimes, recorded
from abi.plan.kinds.transfer import OfMoved

NEAR: Literal["oracle-kd"] = "oracle-kd"
"""The regime of such a transfer: the one whose arms are moved by an alignment and that has a positive control."""


class GivenNear(GivenPair):
    """A transfer to a near backbone, in one regime, with the arms that its verdict reads."""

    kind: Literal["near_transfer"]


class OfNear(OfMoved):
    """What the jobs of a transfer to a near backbone depend on: those of any transfer, of fewer arms."""

    @classmethod
    def entries(cls, claim_id: str, claim: GivenNear, regimes: Regimes) -> dict[str, FittedClaim]:
        """Return the claim in its one regime."""
        section = regimes.every()[NEAR]
        about = claim.given() | {"record": recorded(claim, claim_id), "arms": list(required_in(NEAR))}
        return {claim_id: FittedClaim(**about, regime=NEAR, fit=section.fit, sees=section.sees)}

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell as for every fitted claim; the target may be the source itself, or an update of the scale."""
        scale, target = faults.scale, claim.target
        what = f"backbone or update of scale {scale.scale}"
        if faults.known(target, [*scale.backbones, *scale.updates], f"{where}.target", what):
            base = scale.updates[target].backbone if target in scale.updates else target
            super().check(claim.model_copy(update={"target": base}), where, faults)


PLANNED = {"near_transfer": (GivenNear, OfNear)}
