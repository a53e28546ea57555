"""Claims with arms of their own: a transfer, in one regime or several, and a reconstruction."""

from abi.base.catalogue import ARMS, LORA, ORACLE, REFERENCE, REGIMES, WRONG_DOMAIN
from abi.base.errors import ConfigError
from abi.plan.faults import Faults
from abi.plan.kinds.base import (
    PORTABLE,
    FittedClaim,
    GivenReconstruction,
    GivenTransfer,
    Inputs,
    Needed,
    Plain,
    Planned,
    Regimes,
    recorded,
    seeds_of,
)
from abi.plan.specs.arms import CalibrateArms, EvaluateArms, FitAlignment, FitSection, TrainLora, WriteLessonText
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

    def budget(self, *, lora: bool = False) -> FitSection:
        """Return the budget of the fit with the phases of `lora` alone or of every other form.

        What a scaling law looks at (`budgets`) stays out: no fit of a claim reads it, so no edit of it reruns one.
        """
        plain = self.fit.plain()
        plain.pop("budgets", None)
        plain["phases"] = {form: phases for form, phases in plain["phases"].items() if (form == LORA) == lora}
        return FitSection.model_validate(plain)

    @property
    def reports_training(self) -> bool:
        """Whether figures on training text are reported: where the fits saw all of it."""
        return REGIMES[self.claim.regime].sees_all_training_text

    # the arms

    def fitting(self, batch: str, *, lora: bool = False) -> Plain:
        """Return the fields that every fit of a batch of seeds depends on."""
        return {
            "regime": self.claim.regime,
            "fit": self.claim.fit,
            "budget": self.budget(lora=lora),
            "module": self.study.shape(self.claim.module),
            "seeds": seeds_of(batch),
            "variants": self.claim.variants,
        }

    def calibration_spec(self, batch: str) -> Plain:
        """What the fitted arms of a batch of seeds depend on."""
        general = self.claim.regime == "general-only"
        paired: Plain = {"max_rows": self.scale.alignment.max_rows} if general else {}
        return CalibrateArms(
            **self.fitting(batch),
            arms=[arm for arm in self.claim.arms if arm != LORA],
            text=self.claim.text,
            closed_only=self.closed_only(batch),
            **paired,
        ).plain()

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

    def calibration_files(self, batch: str) -> list[str]:
        """Return the manifests of fitted arms that hold a batch's seeds."""
        wanted = self.study.batches_for("calibration", self.config.closed_form_seeds(self.id), batch)
        return self.study.of_claim("calibration", self.id, wanted)

    def lora_spec(self, batch: str) -> Plain:
        """What the adapters of a batch of seeds depend on: the other arms' budget, the size of their interface."""
        scopes: Plain = {"training_windows": self.scale.evaluation.training_windows} if self.reports_training else {}
        return TrainLora(**self.fitting(batch, lora=True), **scopes).plain()

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
        texts = {"domain": self.claim.text, "general": self.study.general}
        return {scope: self.study.states(self.claim.target, text, "test") for scope, text in texts.items()}

    def lora_files(self, batch: str) -> Inputs:
        """Return the manifests of the arm `lora` that hold a batch's seeds, or nothing where there is no such arm."""
        return self._manifests("lora", batch) if LORA in self.claim.arms else {}

    def _manifests(self, stage: str, batch: str) -> Inputs:
        """Return the manifests of what only seeds fitted by gradient have."""
        wanted = self.study.batches_for("calibration", self.config.seeds(self.id), batch)
        return {stage: self.study.of_claim(stage, self.id, wanted)} if wanted else {}

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
        module = self.scale.modules[self.claim.module]
        said = [name for name in ArmsClaim.model_fields if name != "scales"]
        backbones = {role: self.study.backbone_spec(name) for role, name in self.claim.roles.items()}
        return JudgeClaim(
            **self.study.verdict_facts(self.id),
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
        n_seeds, study = self.config.closed_form_seeds(self.id), self.study
        whole = f"1-{n_seeds}"
        return {
            **study.evidence(self.id, study.batches("evaluation", n_seeds)),
            "calibration": self.calibration_files(whole),
            **self.lora_files(whole),
            **self.module_files(whole),
            "backbones": sorted({study.backbone(name) for name in self.claim.roles.values()}),
        }

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell what the scale lacks and which arms cannot be fitted or are missing."""
        scale = faults.scale
        for role, backbone in claim.roles.items():
            faults.known(backbone, scale.backbones, f"{where}.{role}", f"backbone of scale {scale.scale}")
        faults.known(claim.text, scale.texts, f"{where}.text", f"text of scale {scale.scale}")
        if claim.wrong_text is not None:
            faults.known(claim.wrong_text, scale.texts, f"{where}.wrong_text", f"text of scale {scale.scale}")
        if claim.fit != "portable" and faults.known(
            claim.fit, scale.calibration, f"{where}.fit", f"calibration of scale {scale.scale}"
        ):
            cls.check_fit(claim, scale.calibration[claim.fit], where, faults)
        for key, shape in (("module", claim.module), ("reference_module", claim.reference_module)):
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


class OfTransfer(OfFitted):
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
            found["wrong"] = (claim.source, claim.wrong_text or self.study.general, claim.module, "source")
        return found

    @classmethod
    def jobs_of(cls, claim: FittedClaim) -> type[Planned[FittedClaim]]:
        """Return what knows the jobs of a transfer in its regime."""
        return OfZeroText if claim.regime == "zero-text" else cls

    # the alignment, which all regimes of a claim share

    def alignment_spec(self, batch: str) -> Plain:
        """What the rotations of a batch of seeds depend on."""
        settings = self.scale.alignment.given("max_rows", "pool", "split")
        return FitAlignment(module=self.study.shape(self.claim.module), **settings, seeds=seeds_of(batch)).plain()

    def alignment_input(self, batch: str) -> Inputs:
        """Return the states of the alignment text, and every module whose space is aligned to in some regime."""
        settings, study = self.scale.alignment, self.study
        needed = {role: of for name in study.regimes_of(self.id) for role, of in study.of(name).modules().items()}
        return {
            "source_states": study.states(self.claim.source, settings.text, settings.split),
            "target_states": study.states(self.claim.target, settings.text, settings.split),
            **{
                role: study.module_manifests(of, batch)
                for role, of in needed.items()
                if role != REFERENCE and of[2:] != PORTABLE
            },
        }

    def alignments(self, batch: str | None = None) -> list[str]:
        """Return the manifests of the alignments, of all seeds or those that hold a batch's."""
        family = self.claim.of or self.id
        n_seeds = max(self.config.closed_form_seeds(regime) for regime in self.study.regimes_of(family))
        wanted = self.study.batches_for("alignments", n_seeds, batch or f"1-{n_seeds}")
        return self.study.of_claim("alignments", family, wanted)

    def taught_by(self, batch: str) -> Inputs:
        """Return what the target side may see: domain text and a rotation, or general text and the source's head."""
        if self.claim.regime != "general-only":
            return {**super().taught_by(batch), "alignment": self.alignments(batch)}
        study, roles = self.study, {"target": self.claim.target, "source": self.claim.source}
        return {
            **{f"{role}_states": study.states(name, study.general, "train") for role, name in roles.items()},
            **{f"{role}_held_out": study.states(name, study.general, "calibration") for role, name in roles.items()},
            "source_head": study.head(self.claim.source),
            **{f"{role}_tokens": study.tokens(name) for role, name in roles.items()},
            **(self._manifests("written", batch) if self.writes() else {}),
        }

    # text that the source writes

    def writes(self) -> bool:
        """Return whether a variant's lesson is on text that the source writes."""
        return bool(written_variants(self.claim, self.fit))

    def written_spec(self, batch: str) -> Plain:
        """What the text that a batch of source modules writes, and the states on it, depend on."""
        written, study = self.fit.written, self.study
        states = {role: study.states_spec(name, study.general) for role, name in self.claim.roles.items()}
        about = (written.given() if written else {}) | {"seeds": seeds_of(batch)} | states
        return WriteLessonText.model_validate(about).plain()

    def written_input(self, batch: str) -> Inputs:
        """Return source and target, the source's modules, and general text to begin with."""
        study, roles = self.study, self.claim.roles
        return {
            **{f"{role}_backbone": study.backbone(name) for role, name in roles.items()},
            **{f"{role}_head": study.head(name) for role, name in roles.items()},
            "modules": self.module_files(batch)["source"],
            "general": study.states(self.claim.source, study.general, "train"),
        }

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
                wrong_text=section.wrong_text,
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
            at = f"{where}.variants: {variant!r}"
            if claim.regime != "general-only":
                faults.tell(f"{at} is on written text, which general-only alone has; take it out")
            if fit.written is None:
                section = f"config/scales/{faults.scale.scale}.yaml: calibration.{claim.fit}"
                faults.tell(f"{section}: variant {variant!r} needs `written`; add it")
            if source is not None and source.window.prefix:
                faults.tell(f"{at} needs a decoder that writes, and {claim.source} is an encoder-decoder; take it out")


class OfZeroText(OfTransfer):
    """What the jobs of a transfer depend on where the source's portable module is placed on the target as it is."""

    def modules(self) -> dict[str, Needed]:
        """Return the source's portable modules of the domain and of another text, the target's oracle and reference."""
        claim = self.claim
        wrong = claim.wrong_text or self.study.general
        placed: dict[str, Needed] = {"portable": (claim.source, claim.text, *PORTABLE)}
        own = {role: of for role, of in super().modules().items() if of[0] == claim.target}
        return own | placed | {"portable_wrong": (claim.source, wrong, *PORTABLE)}

    def calibration_input(self, batch: str) -> Inputs:
        """Raise ConfigError: nothing is calibrated."""
        raise ConfigError(f"{self.id}: a portable module is placed as it is; there is no calibration to ask for")

    def calibration_files(self, batch: str) -> list[str]:
        """Return nothing: nothing is calibrated."""
        return []

    def judged_budget(self) -> None:
        """Return none: nothing is fitted on the target."""

    def writes(self) -> bool:
        """Return False: there is no lesson."""
        return False

    def evidence_input(self, batch: str) -> Inputs:
        """Return also the vocabulary of the target, on which portable modules are placed."""
        return {**super().evidence_input(batch), "tokens": self.study.tokens(self.claim.target)}


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


def written_variants(claim: FittedClaim, fit: FitSection) -> list[str]:
    """Return the variants of a claim whose lesson is on text that its source writes."""
    return [name for name in claim.variants if name in fit.variants and fit.variants[name].text == "written"]


PLANNED = {"transfer": (GivenTransfer, OfTransfer), "reconstruction": (GivenReconstruction, OfReconstruction)}
