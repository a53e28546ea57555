"""Claims about several others: a ladder of sizes, the original's run of several with pass rules of its own, a dose."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from abi.plan.faults import Faults
from abi.plan.kinds.base import Inputs, Plain, Planned
from abi.plan.specs.judge import ClaimSaid, DoseClaim, JudgeLadder, LadderClaim

Claim = TypeVar("Claim", LadderClaim, DoseClaim)


class OfRungs(Planned[Claim]):
    """What the verdict of a claim about others, its rungs, depends on."""

    def rungs(self) -> list[str]:
        """Return the claims it is about."""
        return self.claim.rungs

    def levels(self) -> dict[str, Any]:
        """Return the levels of intervals, where the verdict makes intervals of its own."""
        return {}

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides its rungs."""
        return JudgeLadder(
            id=self.id,
            claim=self.said(),
            protocol=self.config.protocol.protocol,
            scale=self.config.name,
            meaningless=self.scale.meaningless,
            **self.levels(),
        ).plain()

    def verdict_input(self) -> Inputs:
        """Return the result files of its rungs."""
        return {"rungs": self.workflow.result_files(self.rungs())}


class OfLadder(OfRungs[LadderClaim]):
    """What the verdict of a ladder depends on."""

    @classmethod
    def check(cls, claim: LadderClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no claims."""
        if claim.checks is not None:
            faults.tell(f"{where}: a ladder has no 'checks'; remove it or change `kind`")
        others = {**faults.studied, **faults.ladders}
        takes = "a ladder takes transfer, near_transfer and reconstruction"
        _check_rungs(claim, faults.fitted, others, takes, where, faults)


class OfAggregate(OfLadder):
    """What the verdict of an aggregate depends on."""

    @classmethod
    def check(cls, claim: LadderClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no claims, and that pass rules are missing."""
        if claim.checks is None:
            faults.tell(f"{where}: an aggregate needs 'checks'; add it")
        taken, takes = [*faults.fitted, *faults.studied], "an aggregate takes claims with evidence of their own"
        _check_rungs(claim, taken, faults.ladders, takes, where, faults)


def _check_rungs(
    claim: LadderClaim,
    taken: Iterable[str],
    others: Mapping[str, ClaimSaid],
    takes: str,
    where: str,
    faults: Faults,
) -> None:
    """Tell which rungs are of another kind or scale, or no claims. Args: takes: which kinds are taken, in words."""
    scale, names = faults.scale.scale, list(taken)
    for rung in claim.rungs:
        if rung in others:
            faults.tell(f"{where}.rungs: {rung!r} is of kind {others[rung].kind}; {takes}")
        elif rung in faults.pending:
            words = f"does not run at scale {scale}; take it out, or give the claim `scales`"
            faults.tell(f"{where}.rungs: {rung!r} {words}")
        else:
            faults.known(rung, names, f"{where}.rungs", "claim of this scale")


class OfDose(OfRungs[DoseClaim]):
    """What the verdict of a dose of alignment depends on: the rungs that its scale can run."""

    def said(self) -> DoseClaim:
        """Return the claim with the rungs of this scale."""
        return super().said().model_copy(update={"rungs": self.rungs()})

    def rungs(self) -> list[str]:
        """Return the rungs of this scale."""
        return [rung for rung in self.claim.rungs if rung in self.config.claims]

    def levels(self) -> dict[str, Any]:
        """Return the level of one interval and of how many claims: the verdict reads contrasts."""
        return {"level": self.config.protocol.criteria.level, "n_claims": len(self.config.published())}

    @classmethod
    def check(cls, claim: DoseClaim, where: str, faults: Faults) -> None:
        """Tell which rungs are no transfers with an alignment, and that this scale has too few of them."""
        aligned = [name for name, entry in faults.fitted.items() if entry.regime == "oracle-kd"]
        for rung in claim.rungs:
            faults.known(rung, [*aligned, *faults.pending], f"{where}.rungs", "transfer in oracle-kd, at any scale")
        if len(set(claim.rungs) & set(aligned)) < 2:
            scale = faults.scale.scale
            faults.tell(
                f"{where}.rungs: scale {scale} runs fewer than two of them; add rungs, or give the claim `scales`"
            )


PLANNED = {
    "ladder": (LadderClaim, OfLadder),
    "aggregate": (LadderClaim, OfAggregate),
    "dose": (DoseClaim, OfDose),
}
