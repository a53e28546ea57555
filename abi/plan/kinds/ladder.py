"""A claim about several others: a ladder of sizes."""

from abi.plan.faults import Faults
from abi.plan.jobs import Inputs, Plain
from abi.plan.kinds.base import Planned
from abi.plan.specs.judge import JudgeLadder, LadderClaim

GIVEN = LadderClaim


class OfLadder(Planned[LadderClaim]):
    """What the jobs of a claim about others depend on."""

    form = "ladder"

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides its rungs."""
        return JudgeLadder(
            id=self.id,
            claim=self.said(),
            protocol=self.config.protocol.protocol,
            scale=self.config.name,
            meaningless=self.scale.meaningless,
        ).plain()

    def verdict_input(self) -> Inputs:
        """Return the result files of its rungs."""
        return {"rungs": self.study.result_files(self.claim.rungs)}

    @classmethod
    def check(cls, claim: LadderClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no claims."""
        if claim.checks is not None:
            faults.tell(f"{where}: a ladder has no 'checks'; remove it or change `kind`")
        for rung in claim.rungs:
            faults.known(rung, faults.fitted, f"{where}.rungs", "claim of this scale")


JOBS = OfLadder
