"""A claim with arms of its own: what a transfer and a reconstruction have in common."""

from abi.base.catalogue import ARMS, LORA, ORACLE, REGIMES
from abi.plan.claims import FittedClaim
from abi.plan.faults import Faults
from abi.plan.jobs import Inputs, Plain, seeds_of
from abi.plan.kinds.base import Planned
from abi.plan.paths import Needed
from abi.plan.specs.arms import CalibrateArms, EvaluateArms, FitSection, TrainLora
from abi.plan.specs.judge import ArmsClaim, JudgeClaim, Pair


class Fitted(Planned[FittedClaim]):
    """What the jobs of a claim with arms of its own depend on, in one regime."""

    form = "claim"

    def needs(self) -> list[tuple[Needed, int]]:
        """Return the trained modules the claim needs and their seeds."""
        n_seeds = self.config.closed_form_seeds(self.id)
        return [(of, n_seeds) for of in self.modules().values()]

    def closed_only(self, batch: str) -> list[int]:
        """Return the seeds of a batch that only the closed form has."""
        return [seed for seed in seeds_of(batch) if seed > self.config.seeds(self.id)]

    def budget(self, *, lora: bool = False) -> FitSection:
        """Return the budget of the fit with the phases of `lora` alone or of every other form.

        What a scaling law looks at (`budgets`) stays out: no fit of a claim reads it, so no edit of it reruns one.
        """
        fit = self.scale.calibration[self.claim.fit]
        own = {form: [phase.plain() for phase in phases] for form, phases in fit.phases.items()}
        kept = {form: phases for form, phases in own.items() if (form == LORA) == lora}
        plain = {key: value for key, value in fit.plain().items() if key != "budgets"}
        return FitSection.model_validate(plain | {"phases": kept})

    @property
    def reports_training(self) -> bool:
        """Whether figures on training text are reported: where the fits saw all of it."""
        return REGIMES[self.claim.regime].sees_all_training_text

    # the arms

    def calibration_spec(self, batch: str) -> Plain:
        """What the fitted arms of a batch of seeds depend on."""
        claim = self.claim
        return CalibrateArms(
            regime=claim.regime,
            arms=[arm for arm in claim.arms if arm != LORA],
            fit=claim.fit,
            budget=self.budget(),
            module=self.study.shape(claim.module),
            text=claim.text,
            seeds=seeds_of(batch),
            variants=claim.variants,
            closed_only=self.closed_only(batch),
            **self.paired_rows(),
        ).plain()

    def paired_rows(self) -> dict[str, int]:
        """Return the most paired rows, where the fit is on paired positions."""
        return {}

    def calibration_input(self, batch: str) -> Inputs:
        """Return the inputs of a calibration: what the target side may see in the claim's regime, and nothing else."""
        modules = self.module_files(batch)
        return {
            "head": self.study.head(self.claim.target),
            **{role: modules[role] for role in REGIMES[self.claim.regime].trained if role in modules},
            **self.taught_by(batch),
        }

    def taught_by(self, batch: str) -> Inputs:
        """Return the states that arms are fitted on, and what moves a net to them."""
        return {"train": self.study.states(self.claim.target, self.claim.text, "train")}

    def lora_spec(self, batch: str) -> Plain:
        """What the adapters of a batch of seeds depend on: the other arms' budget, the size of their interface."""
        windows = {"training_windows": self.scale.evaluation.training_windows} if self.reports_training else {}
        return TrainLora(
            regime=self.claim.regime,
            fit=self.claim.fit,
            budget=self.budget(lora=True),
            module=self.study.shape(self.claim.module),
            seeds=seeds_of(batch),
            variants=self.claim.variants,
            **windows,
        ).plain()

    def lora_input(self, batch: str) -> Inputs:
        """Return the inputs of the arm `lora`: the target, what other arms are fitted on, what is evaluated."""
        target, text, study = self.claim.target, self.claim.text, self.study
        taught = self.claim.regime == "oracle-kd"
        return {
            "backbone": study.backbone(target),
            "head": study.head(target),
            "train": study.states(target, text, "train"),
            **self.scopes(),
            **({ORACLE: self.module_files(batch)[ORACLE]} if taught else {}),
        }

    def scopes(self) -> Inputs:
        """Return the held-out states that arms are evaluated on."""
        target, study = self.claim.target, self.study
        domain, general = (study.states(target, text, "test") for text in (self.claim.text, study.general))
        return {"domain": domain, "general": general}

    def lora_files(self, batch: str) -> dict[str, list[str]]:
        """Return the manifests of the arm `lora` that hold a batch's seeds, or nothing where there is no such arm."""
        if LORA not in self.claim.arms:
            return {}
        wanted = self.study.batches_for("calibration", self.config.seeds(self.id), batch)
        return {"lora": self.study.of_claim("lora", self.id, wanted)} if wanted else {}

    def calibration_files(self, batch: str) -> list[str]:
        """Return the manifests of fitted arms that hold a batch's seeds."""
        wanted = self.study.batches_for("calibration", self.config.closed_form_seeds(self.id), batch)
        return self.study.of_claim("calibration", self.id, wanted)

    # evidence and verdict

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        return EvaluateArms(
            regime=self.claim.regime,
            seeds=seeds_of(batch),
            closed_only=self.closed_only(batch),
            **self.scale.evaluation.given(),
        ).plain()

    def evidence_input(self, batch: str) -> Inputs:
        """Return states of all scopes, head, native modules, fitted arms."""
        claim = self.claim
        trained_on = {"train": self.study.states(claim.target, claim.text, "train")} if self.reports_training else {}
        modules = {role: paths for role, paths in self.module_files(batch).items() if role not in {"source", "wrong"}}
        return {
            **self.scopes(),
            **trained_on,
            "head": self.study.head(claim.target),
            **modules,
            "calibration": self.calibration_files(batch),
            **self.lora_files(batch),
        }

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides the evidence."""
        claim, study = self.claim, self.study
        module = self.scale.modules[claim.module]
        said = [name for name in ArmsClaim.model_fields if name != "scales"]
        return JudgeClaim(
            **study.verdict_facts(self.id),
            claim=ArmsClaim(**claim.given(*said)),
            backbones=Pair(source=study.made(claim.source), target=study.made(claim.target)),
            budget=self.budget(),
            d_abi=module.d_abi,
            training_steps=module.training.steps,
        ).plain()

    def verdict_input(self) -> Inputs:
        """Return evidence and draws, their manifests, and those that say what modules and arms are."""
        n_seeds, study = self.config.closed_form_seeds(self.id), self.study
        whole = f"1-{n_seeds}"
        return {
            **study.evidence(self.id, study.batches("evaluation", n_seeds)),
            "calibration": self.calibration_files(whole),
            **self.lora_files(whole),
            **self.module_files(whole),
            "backbones": sorted({study.backbone(name) for name in (self.claim.source, self.claim.target)}),
        }

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell what the scale lacks and which arms cannot be fitted or are missing."""
        scale = faults.scale
        for role, backbone in claim.roles.items():
            faults.known(backbone, scale.backbones, f"{where}.{role}", f"backbone of scale {scale.scale}")
        faults.known(claim.text, scale.texts, f"{where}.text", f"text of scale {scale.scale}")
        if faults.known(claim.fit, scale.calibration, f"{where}.fit", f"calibration of scale {scale.scale}"):
            cls.check_fit(claim, scale.calibration[claim.fit], where, faults)
        shapes = {"module": claim.module, "reference_module": claim.reference_module}
        for key, shape in shapes.items():
            for backbone in dict.fromkeys(claim.roles.values()) if shape is not None else ():
                faults.module(shape or "", backbone, f"{where}.{key}", f"module of scale {scale.scale}")

    @classmethod
    def check_fit(cls, claim: FittedClaim, fit: FitSection, where: str, faults: Faults) -> None:
        """Tell which variants and forms the fit of a claim lacks."""
        for variant in claim.variants:
            faults.known(variant, fit.variants, f"{where}.variants", f"variant of calibration.{claim.fit}")
        recipes = [ARMS[arm].recipes[claim.regime] for arm in claim.arms if arm in REGIMES[claim.regime].arms]
        for form in dict.fromkeys(recipe.form for recipe in recipes):
            if form != "module" and form not in fit.phases:
                at = f"config/scales/{faults.scale.scale}.yaml: calibration.{claim.fit}.phases"
                faults.tell(f"{at}: has no {form!r}, which arms of {claim.regime} are fitted with; add it")
