"""A law of the steps that a calibration takes, over updated backbones and domains."""

from typing import Any

from abi.base.errors import ConfigError
from abi.plan.faults import Faults
from abi.plan.kinds.base import OfUpdates, check_updates
from abi.plan.specs.judge import LawClaim
from abi.plan.specs.studies import LawBudget, LawEvidence

GIVEN = LawClaim


class OfLaw(OfUpdates[LawClaim]):
    """What the jobs of a scaling law depend on: held updates alone, and one fit that is looked at on the way."""

    ways = ("held",)

    def updates(self) -> list[str]:
        """Return its updates."""
        return self.claim.updates

    def evidence(self, batch: str) -> LawEvidence:
        """Return what the evidence of a batch of seeds depends on."""
        fit = self.scale.calibration[self.claim.calibrated_by]
        budget = LawBudget(**fit.given(*LawBudget.model_fields))
        return LawEvidence(**self.seen(batch), updates=self.claim.updates, fit=self.claim.calibrated_by, budget=budget)

    def verdict_facts(self) -> dict[str, Any]:
        """Return the steps that are looked at and the widths of the backbones, beside its updates."""
        looks = self.scale.calibration[self.claim.calibrated_by].budgets
        widths = {u: self.width_of(self.study.update_definition(u).backbone) for u in self.claim.updates}
        return {**super().verdict_facts(), "budgets": looks.steps if looks else [], "widths": widths}

    def width_of(self, backbone: str) -> int:
        """Return the width of a backbone. Raises: ConfigError: a backbone of the hub without `width`."""
        made = self.scale.backbones[backbone]
        width = made.width or (made.build.width if made.build else None)
        if width is None:
            raise ConfigError(
                f"config/scales/{self.scale.scale}.yaml: backbones.{backbone}: a scaling law needs its `width`; add it"
            )
        return width

    @classmethod
    def check(cls, claim: LawClaim, where: str, faults: Faults) -> None:
        """Tell which update, text or calibration the scale lacks."""
        scale, fit, at = faults.scale, claim.calibrated_by, f"{where}.calibrated_by"
        check_updates(claim.updates, claim.texts, where, faults)
        if not faults.known(fit, scale.calibration, at, f"calibration of scale {scale.scale}"):
            return
        if scale.calibration[fit].budgets is None:
            faults.tell(f"{at}: calibration.{fit} of scale {scale.scale} has no `budgets`; add them")


JOBS = OfLaw
