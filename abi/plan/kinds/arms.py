"""Claims with arms of their own: what they have in common, and a reconstruction."""

from functools import cached_property

from abi.base.catalogue import Recipe, reads_source, recipes_of, teachers
from abi.base.names import HOME, LORA, ORACLE
from abi.base.regimes import REGIMES
from abi.plan.faults import Faults
from abi.plan.kinds.base import (
    TRIAL,
    FittedClaim,
    GivenReconstruction,
    Inputs,
    Needed,
    Plain,
    Planned,
    Regimes,
    recorded,
    seeds_of,
)
from abi.plan.specs.arms import CalibrateArms, ChooseRates, EvaluateArms, FitSection, TrainLora
from abi.plan.specs.judge import ArmsClaim, JudgeClaim, Pair


class OfFitted(Planned[FittedClaim]):
    """What the jobs of a claim with arms of its own depend on, in one regime."""

    def closed_only(self, batch: str) -> list[int]:
        """Return the seeds of a batch that only the closed form has."""
        return [seed for seed in seeds_of(batch) if seed > self.config.seeds(self.id)]

    @property
    def fit(self) -> FitSection:
        """The section of the scale that gives the claim's fit its budget."""
        assert self.claim.fit != "portable"
        return self.scale.calibration[self.claim.fit]

    def budget(self, *without: str) -> FitSection:
        """Return the budget of the fit without some of its keys.

        What a scaling law looks at (`budgets`) stays out: no fit of a claim reads it, so no edit of it reruns one.
        """
        plain = {key: value for key, value in self.fit.plain().items() if key not in {"budgets", *without}}
        return FitSection.model_validate(plain)

    @property
    def reports_training(self) -> bool:
        """Whether figures on training text are reported: where the fits saw all of it."""
        return REGIMES[self.claim.regime].sees_all_training_text

    # the arms

    def fitting(self, batch: str) -> Plain:
        """Return the fields that every fit of a batch of seeds depends on."""
        return {
            "regime": self.claim.regime,
            "fit": self.claim.fit,
            "budget": self.budget(),
            "module": self.workflow.shape(self.claim.module),
            "seeds": seeds_of(batch),
            "variants": self.claim.variants,
        }

    def calibration_spec(self, batch: str) -> Plain:
        """What the fitted arms of a batch of seeds depend on."""
        return CalibrateArms(
            **self.fitting(batch),
            arms={arm: recipe for arm, recipe in self.recipes.items() if arm != LORA},
            text=self.claim.text,
            closed_only=self.closed_only(batch),
            **self.paired(),
        ).plain()

    def paired(self) -> Plain:
        """Return how many positions are paired with the source's at most, nothing where no fit reads them."""
        return {"max_rows": self.scale.alignment.max_rows} if self.reads_source else {}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """How each of its arms that are fitted is made, in the claim's order."""
        return recipes_of(self.claim.arms, self.claim.regime)

    @property
    def reads_source(self) -> bool:
        """Whether some arm's fit reads what the source backbone makes of a text."""
        return reads_source(self.recipes.values())

    @property
    def teachers(self) -> tuple[str, ...]:
        """Whose modules teach some of its arms on the source backbone, beside what teaches all."""
        return teachers(self.recipes.values())

    def calibration_input(self, batch: str) -> Inputs:
        """Return the inputs of a calibration: what its arms are fitted on, and their learning rates."""
        return {**self.fitted_on(batch), **self.rates_files(batch)}

    def fitted_on(self, batch: str) -> Inputs:
        """Return what the target side may see in the claim's regime, and nothing else."""
        modules = self.module_files(batch)
        return {
            "head": self.workflow.head(self.claim.target),
            **{role: modules[role] for role in REGIMES[self.claim.regime].trained if role in modules},
            **self.taught_by(batch),
        }

    def taught_by(self, batch: str) -> Inputs:
        """Return the states that arms are fitted on, and what moves a net to them."""
        return {"train": self.workflow.states(self.claim.target, self.claim.text, "train")}

    def rates_spec(self) -> Plain:
        """What the learning rates of the arms depend on: the fit that decides, not its variants or the closed form."""
        fitting = self.fitting(TRIAL) | {
            "variants": [],
            "budget": self.budget("variants", "written", "closed_form_rows"),
        }
        return ChooseRates(**fitting, arms=self.recipes, **self.paired()).plain()

    def rates_input(self) -> Inputs:
        """Return what the arms of a trial are fitted on, and domain calibration text where the fits see domain text."""
        target, fitted = self.claim.target, self.fitted_on(TRIAL)
        seen = (
            {"calibration": self.workflow.states(target, self.claim.text, "calibration")} if "train" in fitted else {}
        )
        return {**fitted, **seen, **({"backbone": self.workflow.backbone(target)} if LORA in self.claim.arms else {})}

    def rates_model(self) -> list[str]:
        """Return the folder of the backbone that adapters are tried on, nothing where the claim has none."""
        return [self.workflow.backbone_folder(self.claim.target)] if LORA in self.claim.arms else []

    def rates_files(self, batch: str) -> Inputs:
        """Return the manifest of the arms' learning rates, nothing for seeds that only the closed form has."""
        by_gradient = set(seeds_of(batch)) - set(self.closed_only(batch))
        return {"rates": [f"{self.workflow.results}/rates/{self.id}.json"]} if by_gradient else {}

    def calibration_files(self, batch: str) -> list[str]:
        """Return the manifests of fitted arms that hold a batch's seeds."""
        wanted = self.workflow.batches_for("calibration", self.config.closed_form_seeds(self.id), batch)
        return self.workflow.of_claim("calibration", self.id, wanted)

    def lora_spec(self, batch: str) -> Plain:
        """What the adapters of a batch of seeds depend on: the other arms' budget, the size of their interface."""
        scopes: Plain = {"training_windows": self.scale.evaluation.training_windows} if self.reports_training else {}
        return TrainLora(**self.fitting(batch), **scopes).plain()

    def lora_input(self, batch: str) -> Inputs:
        """Return the inputs of the arm `lora`: the target, what other arms are fitted on, what is evaluated."""
        target, text, workflow = self.claim.target, self.claim.text, self.workflow
        taught = REGIMES[self.claim.regime].taught_by == ORACLE
        return {
            "backbone": workflow.backbone(target),
            "head": workflow.head(target),
            "train": workflow.states(target, text, "train"),
            **self.scopes(target),
            **({ORACLE: self.module_files(batch)[ORACLE]} if taught else {}),
            **self.rates_files(batch),
        }

    def scopes(self, backbone: str) -> dict[str, str]:
        """Return the held-out states of a backbone that arms are evaluated on."""
        texts = {"domain": self.claim.text, "general": self.workflow.general}
        return {scope: self.workflow.states(backbone, text, "test") for scope, text in texts.items()}

    def lora_files(self, batch: str) -> Inputs:
        """Return the manifests of the arm `lora` that hold a batch's seeds, or nothing where there is no such arm."""
        return self._manifests("lora", batch) if LORA in self.claim.arms else {}

    def _manifests(self, stage: str, batch: str) -> Inputs:
        """Return the manifests of what only seeds fitted by gradient have."""
        wanted = self.workflow.batches_for("calibration", self.config.seeds(self.id), batch)
        return {stage: self.workflow.of_claim(stage, self.id, wanted)} if wanted else {}

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
        trained_on = {"train": self.workflow.states(claim.target, claim.text, "train")} if self.reports_training else {}
        modules = {role: paths for role, paths in self.module_files(batch).items() if role not in {HOME, "wrong"}}
        return {
            **self.scopes(claim.target),
            **trained_on,
            "head": self.workflow.head(claim.target),
            **modules,
            "calibration": self.calibration_files(batch),
            **self.lora_files(batch),
        }

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides the evidence."""
        module = self.scale.modules[self.claim.module]
        said = [name for name in ArmsClaim.model_fields if name != "scales"]
        backbones = {role: self.workflow.backbone_spec(name) for role, name in self.claim.roles.items()}
        return JudgeClaim(
            **self.workflow.verdict_facts(self.id),
            claim=ArmsClaim(**self.claim.given(*said)),
            backbones=Pair.model_validate(backbones),
            budget=self.judged_budget(),
            d_abi=module.d_abi,
            training_steps=sum(phase.steps for phase in module.training.phases),
        ).plain()

    def judged_budget(self) -> FitSection | None:
        """Return the budget a verdict names, none where nothing is calibrated."""
        return self.budget()

    def verdict_input(self) -> Inputs:
        """Return evidence and draws, their manifests, and those that say what modules and arms are."""
        n_seeds, workflow = self.config.closed_form_seeds(self.id), self.workflow
        whole = f"1-{n_seeds}"
        return {
            **workflow.evidence(self.id, workflow.batches("evaluation", n_seeds)),
            "calibration": self.calibration_files(whole),
            **self.lora_files(whole),
            **self.rates_files(whole),
            **self.module_files(whole),
            "backbones": sorted({workflow.backbone(name) for name in self.claim.roles.values()}),
            "texts": workflow.text_records(self.claim.text, workflow.general),
            "overlaps": workflow.overlaps(self.claim.target, self.claim.text, workflow.general),
        }

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell what the scale lacks and which arms cannot be fitted or are missing."""
        for role, backbone in claim.roles.items():
            faults.of_scale("backbones", backbone, f"{where}.{role}")
        faults.of_scale("texts", claim.text, f"{where}.text")
        if claim.wrong_text is not None:
            faults.of_scale("texts", claim.wrong_text, f"{where}.wrong_text")
        if claim.fit != "portable" and faults.of_scale("calibration", claim.fit, f"{where}.fit"):
            cls.check_fit(claim, faults.scale.calibration[claim.fit], where, faults)
        for key, shape in (("module", claim.module), ("reference_module", claim.reference_module)):
            for backbone in dict.fromkeys(claim.roles.values()) if shape is not None else ():
                faults.module(shape or "", backbone, f"{where}.{key}")

    @classmethod
    def check_fit(cls, claim: FittedClaim, fit: FitSection, where: str, faults: Faults) -> None:
        """Tell which variants the fit of a claim lacks, and which windows its text."""
        text, most = faults.scale.texts.get(claim.text), max(fit.windows or [0])
        if text is not None and most > text.max_windows.train:
            at = f"config/scales/{faults.scale.scale}.yaml: calibration.{claim.fit}.windows"
            limit = f"texts.{claim.text}.max_windows.train"
            faults.tell(f"{at}: {most} are more than the {text.max_windows.train} of {limit}; lower one or raise this")
        for variant in claim.variants:
            faults.known(variant, fit.variants, f"{where}.variants", f"variant of calibration.{claim.fit}")


class OfReconstruction(OfFitted):
    """What the jobs of a reconstruction depend on."""

    def modules(self) -> dict[str, Needed]:
        """Return the reference, the candidate as it was before, and its oracle."""
        claim = self.claim
        return {
            "reference": (claim.target, claim.text, claim.reference_module or "", "reference"),
            "before": (claim.target, claim.text, claim.module, "source"),
            "oracle": (claim.target, claim.text, claim.module, "oracle"),
        }

    @classmethod
    def entries(cls, claim_id: str, claim: GivenReconstruction, regimes: Regimes) -> dict[str, FittedClaim]:
        """Return the claim, whose regime is its kind."""
        given = claim.given() | {"record": recorded(claim, claim_id)}
        return {claim_id: FittedClaim(**given, regime="reconstruction")}

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell as for every fitted claim, and that it is about one backbone."""
        super().check(claim, where, faults)
        faults.arms(claim.arms, claim.regime, f"{where}.arms")
        if claim.source != claim.target:
            faults.tell(
                f"{where}: a reconstruction needs one backbone as source and target; "
                "change `kind`, `source` or `target`"
            )


PLANNED = {"reconstruction": (GivenReconstruction, OfReconstruction)}
