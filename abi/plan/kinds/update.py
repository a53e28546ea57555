"""A module on a backbone that was updated once."""

from typing import Any

from abi.plan.faults import Faults
from abi.plan.jobs import Inputs, Plain
from abi.plan.kinds.base import OfUpdates, check_updates
from abi.plan.specs.judge import UpdateClaim
from abi.plan.specs.studies import GenerateText, UpdateEvidence

GIVEN = UpdateClaim


class OfUpdate(OfUpdates[UpdateClaim]):
    """What the jobs of a claim about one update depend on."""

    def updates(self) -> list[str]:
        """Return its update."""
        return [self.claim.update]

    def roles(self, text: str) -> tuple[str, ...]:
        """Return `oracle` beside `source` where the claim is about the text."""
        return ("source", "oracle") if text in self.claim.texts else ("source",)

    def evidence(self, batch: str) -> UpdateEvidence:
        """Return what the evidence of a batch of seeds depends on."""
        return UpdateEvidence(**self.seen(batch), update=self.claim.update, rounds=self.rounds())

    def evidence_input(self, batch: str) -> Inputs:
        """Return what every stage gives, and the backbone before any update."""
        backbone = self.study.update_definition(self.claim.update).backbone
        before = {f"before_{text}": self.study.states(backbone, text, "test") for text in self.claim.texts}
        return {**super().evidence_input(batch), **before, "head": self.study.head(backbone)}

    def generation_files(self) -> dict[str, list[str]]:
        """Return the manifest of texts generated on the updated backbone, where the claim asks for them."""
        return {"generation": [self.study.generation(self.id)]} if self.claim.generation else {}

    def generation_spec(self) -> Plain:
        """What generated texts depend on."""
        return GenerateText(update=self.claim.update, seeds=list(range(1, self.config.seeds(self.id) + 1))).plain()

    def generation_input(self) -> dict[str, Any]:
        """Return the backbones of the first held round, and the modules of the claim's first text."""
        update, whole = self.claim.update, f"1-{self.config.seeds(self.id)}"
        batches = self.study.update_batches(update, whole)
        return {
            "updates": [self.study.updated(update, "held.1", batch) for batch in batches],
            "source": self.study.held_modules(update, whole)[self.claim.texts[0]],
        }

    @classmethod
    def check(cls, claim: UpdateClaim, where: str, faults: Faults) -> None:
        """Tell which update or text the scale lacks."""
        check_updates([claim.update], claim.texts, where, faults)


JOBS = OfUpdate
