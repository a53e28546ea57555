"""Moving a module to another backbone, in one regime or several."""

from typing import Annotated, Literal

from pydantic import Field

from abi.base.catalogue import REFERENCE, REGIMES, WRONG_DOMAIN
from abi.plan.claims import FittedClaim, GivenPair, Measured, Regimes, recorded
from abi.plan.faults import Faults
from abi.plan.jobs import Inputs, Plain, seeds_of
from abi.plan.kinds.fitted import Fitted
from abi.plan.paths import Needed
from abi.plan.specs.arms import FitAlignment, FitSection, WriteLessonText
from abi.plan.specs.shared import UNIQUE, Names, Once


class GivenTransfer(GivenPair):
    """A transfer, in one regime or several."""

    kind: Literal["transfer"]
    regimes: Annotated[list[Measured], Field(min_length=1, json_schema_extra=UNIQUE), Once]
    """regimes of a transfer; the first gives the claim's verdict, each other one is the target `<claim>_<regime>`"""
    extra_arms: dict[Measured, Names] = {}
    """regime -> arms besides those of the regime"""
    variants: dict[Measured, Names] = {}
    """regime -> variants of its fit (more or fewer steps, less text, other text), judged beside it"""


class OfTransfer(Fitted):
    """What the jobs of a transfer depend on, in one regime."""

    def modules(self) -> dict[str, Needed]:
        """Return the source's module, the target's oracle and reference, and another domain's where it is an arm."""
        claim = self.claim
        found = {
            "source": (claim.source, claim.text, claim.module, "source"),
            "oracle": (claim.target, claim.text, claim.module, "oracle"),
            "reference": (claim.target, claim.text, claim.module, "reference"),
        }
        if WRONG_DOMAIN in claim.arms:
            found["wrong"] = (claim.source, self.study.general, claim.module, "source")
        return found

    @property
    def family(self) -> str:
        """The claim whose regime this is."""
        return self.claim.of or self.id

    @property
    def on_general_text(self) -> bool:
        """Whether the target side sees general text alone."""
        return self.claim.regime == "general-only"

    # the alignment, which all regimes share

    def alignment_spec(self, batch: str) -> Plain:
        """What the rotations of a batch of seeds depend on."""
        settings = self.scale.alignment.given("max_rows", "pool", "split")
        return FitAlignment(module=self.study.shape(self.claim.module), **settings, seeds=seeds_of(batch)).plain()

    def alignment_input(self, batch: str) -> Inputs:
        """Return the states of the alignment text, and every module whose space is aligned to.

        All regimes of a claim share its alignment; a module that one of them needs is aligned for all.
        """
        settings, study = self.scale.alignment, self.study
        needed = {role: of for regime in study.regimes_of(self.id) for role, of in study.modules_of(regime).items()}
        return {
            "source_states": study.states(self.claim.source, settings.text, settings.split),
            "target_states": study.states(self.claim.target, settings.text, settings.split),
            **{role: study.module_manifests(of, batch) for role, of in needed.items() if role != REFERENCE},
        }

    def alignments(self, batch: str | None = None) -> list[str]:
        """Return the manifests of the alignments, of all seeds or those that hold a batch's."""
        n_seeds = max(self.config.closed_form_seeds(regime) for regime in self.study.regimes_of(self.family))
        wanted = self.study.batches_for("alignments", n_seeds, batch or f"1-{n_seeds}")
        return self.study.of_claim("alignments", self.family, wanted)

    # what teaches

    def taught_by(self, batch: str) -> Inputs:
        """Return what the target side may see: domain text and a rotation, or general text and the source's head."""
        if not self.on_general_text:
            return {**super().taught_by(batch), "alignment": self.alignments(batch)}
        claim, study = self.claim, self.study
        return {
            "target_states": study.states(claim.target, study.general, "train"),
            "source_states": study.states(claim.source, study.general, "train"),
            "target_held_out": study.states(claim.target, study.general, "calibration"),
            "source_held_out": study.states(claim.source, study.general, "calibration"),
            "source_head": study.head(claim.source),
            "target_tokens": study.tokens(claim.target),
            "source_tokens": study.tokens(claim.source),
            **self.written_files(batch),
        }

    def paired_rows(self) -> dict[str, int]:
        """Return the most paired rows, where the fit is on paired positions of general text."""
        return {"max_rows": self.scale.alignment.max_rows} if self.on_general_text else {}

    # text that the source writes

    def writes(self) -> bool:
        """Return whether a variant's lesson is on text that the source writes."""
        return bool(written_variants(self.claim, self.scale.calibration[self.claim.fit]))

    def written_spec(self, batch: str) -> Plain:
        """What the text that a batch of source modules writes, and the states on it, depend on."""
        written, study = self.scale.calibration[self.claim.fit].written, self.study
        return WriteLessonText(
            **(written.given() if written else {}),
            seeds=seeds_of(batch),
            source=study.written(self.claim.source, study.general),
            target=study.written(self.claim.target, study.general),
        ).plain()

    def written_input(self, batch: str) -> Inputs:
        """Return source and target, the source's modules, and general text to begin with."""
        study, roles = self.study, self.claim.roles
        return {
            **{f"{role}_backbone": study.backbone(name) for role, name in roles.items()},
            **{f"{role}_head": study.head(name) for role, name in roles.items()},
            "modules": self.module_files(batch)["source"],
            "general": study.states(self.claim.source, study.general, "train"),
        }

    def written_files(self, batch: str) -> dict[str, list[str]]:
        """Return the manifests of written text that hold a batch's seeds, or nothing where there is none."""
        n_seeds = self.config.seeds(self.id)
        wanted = self.study.batches_for("calibration", n_seeds, batch) if self.writes() else []
        return {"written": self.study.of_claim("written", self.id, wanted)} if wanted else {}

    @classmethod
    def entries(cls, claim_id: str, claim: GivenTransfer, regimes: Regimes) -> dict[str, FittedClaim]:
        """Return id -> entry: one per regime, with the arms that regime is given for free."""
        found = {}
        keys = ("statement", "kind", "text", "source", "target", "module", "seeds", "closed_form_seeds")
        for regime in claim.regimes:
            section, own = regimes.every()[regime], regime == claim.regimes[0]
            key = claim_id if own else f"{claim_id}_{regime.replace('-', '_')}"
            about = claim.given(*keys) | ({} if own else {"of": claim_id})
            found[key] = FittedClaim(
                **about,
                title=claim.title if own else f"{claim.title}, {regime}",
                regime=regime,
                fit=section.fit,
                sees=section.sees,
                record=recorded(claim if own else None, key),
                arms=list(dict.fromkeys([*section.arms, *claim.extra_arms.get(regime, [])])),
                variants=list(claim.variants.get(regime, [])),
            )
        return found

    @classmethod
    def check_given(cls, claim: GivenTransfer, where: str, faults: Faults) -> None:
        """Tell which regimes have extras and are none of the claim's."""
        for key, table in (("extra_arms", claim.extra_arms), ("variants", claim.variants)):
            for regime in table:
                if regime not in claim.regimes:
                    faults.tell(f"{where}.{key}: {regime!r} is not among its regimes; add it there or remove it")
        for regime, arms in claim.extra_arms.items():
            for arm in arms:
                faults.known(arm, REGIMES[regime].arms, f"{where}.extra_arms.{regime}", f"arm of {regime}")

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell as for every fitted claim, and that it is about two backbones."""
        super().check(claim, where, faults)
        if claim.source == claim.target:
            faults.tell(f"{where}: a transfer needs two different backbones; change `kind`, `source` or `target`")

    @classmethod
    def check_fit(cls, claim: FittedClaim, fit: FitSection, where: str, faults: Faults) -> None:
        """Tell also where a source cannot write its own lesson."""
        super().check_fit(claim, fit, where, faults)
        source = faults.scale.backbones.get(claim.source)
        for variant in written_variants(claim, fit):
            if claim.regime != "general-only":
                faults.tell(
                    f"{where}.variants: {variant!r} is on written text, which general-only alone has; take it out"
                )
            if fit.written is None:
                at = f"config/scales/{faults.scale.scale}.yaml: calibration.{claim.fit}"
                faults.tell(f"{at}: variant {variant!r} needs `written`; add it")
            if source is not None and source.window.prefix:
                faults.tell(
                    f"{where}.variants: {variant!r} needs a decoder that writes, and {claim.source} is an "
                    "encoder-decoder; take it out"
                )


def written_variants(claim: FittedClaim, fit: FitSection) -> list[str]:
    """Return the variants of a claim whose lesson is on text that its source writes."""
    return [name for name in claim.variants if name in fit.variants and fit.variants[name].text == "written"]


GIVEN, JOBS = GivenTransfer, OfTransfer
