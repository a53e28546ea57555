"""Claims about several others: a ladder of sizes, and the original's run of several with pass rules of its own."""

from abi.plan.faults import Faults
from abi.plan.kinds.base import Inputs, Plain, Planned
from abi.plan.specs.judge import JudgeLadder, LadderClaim


class OfLadder(Planned[LadderClaim]):
    """What the verdict of a ladder depends on."""

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


class OfAggregate(OfLadder):
    """What the verdict of an aggregate depends on."""

    def verdict_input(self) -> Inputs:
        """Return the result files of its rungs and the alignments of its transfers."""
        transfers = [rung for rung in self.claim.rungs if rung in self.config.claims]
        alignments = [path for rung in transfers for path in self.study.of(rung).alignments()]
        return {**super().verdict_input(), "alignments": alignments}

    @classmethod
    def check(cls, claim: LadderClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no claims, and that pass rules are missing."""
        if claim.checks is None:
            faults.tell(f"{where}: an aggregate needs 'checks'; add it")
        for rung in claim.rungs:
            faults.known(rung, [*faults.fitted, *faults.studied], f"{where}.rungs", "claim of this scale")


PLANNED = {"ladder": (LadderClaim, OfLadder), "aggregate": (LadderClaim, OfAggregate)}
