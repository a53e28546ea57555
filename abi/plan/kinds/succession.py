"""A module on a backbone that was updated several times."""

from abi.plan.faults import Faults
from abi.plan.kinds.update import OfUpdate
from abi.plan.specs.judge import UpdateClaim

GIVEN = UpdateClaim


class OfSuccession(OfUpdate):
    """What the jobs of a claim about all rounds of an update depend on."""

    def rounds(self) -> int:
        """Return all rounds of its update."""
        return self.study.update_definition(self.claim.update).rounds

    @classmethod
    def check(cls, claim: UpdateClaim, where: str, faults: Faults) -> None:
        """Tell which update or text the scale lacks; no text is generated."""
        super().check(claim, where, faults)
        if claim.generation:
            faults.tell(f"{where}: a succession has no 'generation'; remove it or change `kind`")


JOBS = OfSuccession
