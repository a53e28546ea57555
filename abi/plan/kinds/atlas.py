"""One chart per domain, all of one shared module."""

from abi.plan.faults import Faults
from abi.plan.jobs import Inputs
from abi.plan.kinds.base import OfStudies
from abi.plan.paths import Needed
from abi.plan.specs.judge import AtlasClaim
from abi.plan.specs.studies import AtlasEvidence

GIVEN = AtlasClaim


class OfAtlas(OfStudies[AtlasClaim]):
    """What the jobs of an atlas depend on."""

    def modules(self) -> dict[str, Needed]:
        """Return the shared module, and an oracle and a reference per domain."""
        claim = self.claim
        own = {
            f"{role}_{text}": (claim.backbone, text, claim.module, role)
            for text in claim.texts
            for role in ("oracle", "reference")
        }
        return {"shared": (claim.backbone, claim.shared, claim.module, "source"), **own}

    def evidence(self, batch: str) -> AtlasEvidence:
        """Return what the evidence of a batch of seeds depends on."""
        fit = self.scale.calibration["kd"]
        return AtlasEvidence(
            **self.seen(batch),
            module=self.study.shape(self.claim.module),
            ridge_penalty=fit.ridge_penalty,
            closed_form_rows=fit.closed_form_rows,
        )

    def evidence_input(self, batch: str) -> Inputs:
        """Return states of every domain, the head and the modules."""
        backbone = self.claim.backbone
        states = {
            f"{split}_{text}": self.study.states(backbone, text, split)
            for text in self.claim.texts
            for split in ("train", "test")
        }
        return {**states, "head": self.study.head(backbone), **self.module_files(batch)}

    @classmethod
    def check(cls, claim: AtlasClaim, where: str, faults: Faults) -> None:
        """Tell which backbone, text or module the scale lacks."""
        scale = faults.scale
        for text in claim.texts:
            faults.known(text, scale.texts, f"{where}.texts", f"text of scale {scale.scale}")
        faults.known(claim.backbone, scale.backbones, f"{where}.backbone", f"backbone of scale {scale.scale}")
        faults.module(claim.module, claim.backbone, f"{where}.module", f"module of scale {scale.scale}")
        for text in [claim.shared, *claim.mixture]:
            faults.known(text, claim.texts, f"{where}.texts", "text of this atlas")


JOBS = OfAtlas
