"""The original's run of several claims with pass rules of its own."""

from abi.plan.faults import Faults
from abi.plan.jobs import Inputs
from abi.plan.kinds.ladder import OfLadder
from abi.plan.specs.judge import LadderClaim

GIVEN = LadderClaim


class OfAggregate(OfLadder):
    """What the jobs of an aggregate depend on."""

    def verdict_input(self) -> Inputs:
        """Return the result files of its rungs and the alignments of its transfers."""
        transfers = [rung for rung in self.claim.rungs if rung in self.config.claims]
        return {
            **super().verdict_input(),
            "alignments": [path for rung in transfers for path in self.study.alignments_of(rung)],
        }

    @classmethod
    def check(cls, claim: LadderClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no claims, and that pass rules are missing."""
        if claim.checks is None:
            faults.tell(f"{where}: an aggregate needs 'checks'; add it")
        for rung in claim.rungs:
            faults.known(rung, [*faults.fitted, *faults.studied], f"{where}.rungs", "claim of this scale")


JOBS = OfAggregate
