"""A transfer: a module moved to another backbone, in one regime or several."""

from abi.base.errors import ConfigError
from abi.base.names import HOME, REFERENCE, WRONG_DOMAIN
from abi.base.regimes import REGIMES, possible_in
from abi.plan.faults import Faults
from abi.plan.kinds.arms import OfFitted
from abi.plan.kinds.base import (
    PORTABLE_PLACE,
    FittedClaim,
    GivenTransfer,
    Inputs,
    Needed,
    Plain,
    Planned,
    Regimes,
    recorded,
    seeds_of,
)
from abi.plan.specs.arms import FitAlignment, FitSection, WriteLessonText
from abi.plan.specs.models import CalibratePortable


class OfMoved(OfFitted):
    """What the jobs of a claim that moves a module between backbones depend on, in one regime."""

    def modules(self) -> dict[str, Needed]:
        """Return the source's module and its one of another domain, the target's oracle, reference and home module."""
        claim = self.claim
        found = {
            "source": (claim.source, claim.text, claim.module, "source"),
            "oracle": (claim.target, claim.text, claim.module, "oracle"),
            "reference": (claim.target, claim.text, claim.module, "reference"),
        }
        if REGIMES[claim.regime].has_control:
            found[HOME] = (claim.target, claim.text, claim.module, HOME)
        if WRONG_DOMAIN in claim.arms or "wrong" in self.teachers:
            found["wrong"] = (claim.source, str(claim.wrong_text), claim.module, "source")
        return found

    # the alignment, which all regimes of a claim share

    def alignment_spec(self, batch: str) -> Plain:
        """What the rotations of a batch of seeds depend on."""
        settings = self.scale.alignment.given("max_rows", "split")
        return FitAlignment(module=self.workflow.shape(self.claim.module), **settings, seeds=seeds_of(batch)).plain()

    def alignment_input(self, batch: str) -> Inputs:
        """Return the states of the alignment text, and every module whose space is aligned to in some regime."""
        settings, workflow = self.scale.alignment, self.workflow
        needed = {role: of for name in workflow.regimes_of(self.id) for role, of in workflow.of(name).modules().items()}
        return {
            "source_states": workflow.states(self.claim.source, settings.text, settings.split),
            "target_states": workflow.states(self.claim.target, settings.text, settings.split),
            **{
                role: workflow.module_manifests(of, batch)
                for role, of in needed.items()
                if role != REFERENCE and of[2:] != PORTABLE_PLACE
            },
        }

    def alignments(self, batch: str | None = None) -> list[str]:
        """Return the manifests of the alignments, of all seeds or those that hold a batch's."""
        family = self.claim.of or self.id
        n_seeds = max(self.config.closed_form_seeds(regime) for regime in self.workflow.regimes_of(family))
        wanted = self.workflow.batches_for("alignments", n_seeds, batch or f"1-{n_seeds}")
        return self.workflow.of_claim("alignments", family, wanted)

    def taught_by(self, batch: str) -> Inputs:
        """Return what the target side may see: domain text and a rotation, or general text and the source's head.

        Where the source teaches on domain text, both: its interface is carried on general text.
        """
        workflow, claim = self.workflow, self.claim
        if claim.regime == "general-only":
            roles = claim.roles.items()
            held_out = {
                f"{role}_held_out": workflow.states(name, workflow.general, "calibration") for role, name in roles
            }
            return {**self.read_by_both(), **held_out}
        seen: Inputs = {**super().taught_by(batch), "alignment": self.alignments(batch)}
        if not self.reads_source:
            return seen
        return {**seen, **self.read_by_both(), "source_train": workflow.states(claim.source, claim.text, "train")}

    def read_by_both(self) -> Inputs:
        """Return what a source teaches through: general text that both sides have read, its head, the vocabularies."""
        workflow, roles = self.workflow, self.claim.roles
        return {
            **{f"{role}_states": workflow.states(name, workflow.general, "train") for role, name in roles.items()},
            "source_head": workflow.head(self.claim.source),
            **{f"{role}_tokens": workflow.tokens(name) for role, name in roles.items()},
        }

    def calibration_input(self, batch: str) -> Inputs:
        """Return also the text that sources wrote, where a variant's lesson is on it."""
        written = self._manifests("written", batch) if self.writes() else {}
        return {**super().calibration_input(batch), **written}

    # what is evaluated

    def evidence_input(self, batch: str) -> Inputs:
        """Return also the source on the same texts, with its own module and without the target."""
        source = self.claim.source
        return {
            **super().evidence_input(batch),
            **{f"source_{scope}": path for scope, path in self.scopes(source).items()},
            "source_head": self.workflow.head(source),
        }

    def verdict_input(self) -> Inputs:
        """Return also the alignments, where arms are moved by one."""
        aligned = {"alignments": self.alignments()} if REGIMES[self.claim.regime].has_control else {}
        return {**super().verdict_input(), **aligned}

    # text that the source writes

    def writes(self) -> bool:
        """Return whether a variant's lesson is on text that the source writes."""
        return bool(written_variants(self.claim, self.fit))

    def written_spec(self, batch: str) -> Plain:
        """What the text that a batch of source modules writes, and the states on it, depend on."""
        written, workflow = self.fit.written, self.workflow
        rule = "write_lesson_text"
        states = {role: workflow.states_spec(name, workflow.general, rule) for role, name in self.claim.roles.items()}
        about = (written.given() if written else {}) | {"seeds": seeds_of(batch)} | states
        return WriteLessonText.model_validate(about).plain()

    def written_input(self, batch: str) -> Inputs:
        """Return source and target, the source's modules, and general text to begin with."""
        workflow, roles = self.workflow, self.claim.roles
        return {
            **{f"{role}_backbone": workflow.backbone(name) for role, name in roles.items()},
            **{f"{role}_head": workflow.head(name) for role, name in roles.items()},
            "modules": self.module_files(batch)["source"],
            "general": workflow.states(self.claim.source, workflow.general, "train"),
        }

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


class OfZeroText(OfMoved):
    """What the jobs of a transfer depend on where the source's portable module is placed on the target as it is."""

    def modules(self) -> dict[str, Needed]:
        """Return the source's portable modules of the domain and of another text, the target's oracle and reference."""
        claim = self.claim
        placed: dict[str, Needed] = {"portable": (claim.source, claim.text, *PORTABLE_PLACE)}
        own = {role: of for role, of in super().modules().items() if of[0] == claim.target}
        return own | placed | {"portable_wrong": (claim.source, str(claim.wrong_text), *PORTABLE_PLACE)}

    def calibration_input(self, batch: str) -> Inputs:
        """Raise ConfigError: what moves is not calibrated, its placebos alone are (`placebos_input`)."""
        raise ConfigError(f"{self.id}: a portable module is placed as it is; there is no calibration to ask for")

    def calibration_files(self, batch: str) -> list[str]:
        """Return nothing: what moves is not calibrated."""
        return []

    def placebos_spec(self, batch: str) -> Plain:
        """What the calibrated placebos of a batch of seeds depend on."""
        shape = self.scale.portable
        about = {"training": shape.placebos, "context": shape.context, "text": self.claim.text}
        return CalibratePortable.model_validate(about | {"seeds": seeds_of(batch)}).plain()

    def placebos_input(self, batch: str) -> Inputs:
        """Return the modules that move, and the target's general text: what a user without the domain could have."""
        workflow, target = self.workflow, self.claim.target
        return {
            "portable": self.module_files(batch)["portable"],
            "general": workflow.states(target, workflow.general, "train"),
            "head": workflow.head(target),
            "tokens": workflow.tokens(target),
        }

    def rates_files(self, batch: str) -> Inputs:
        """Return nothing: nothing is calibrated."""
        return {}

    def judged_budget(self) -> None:
        """Return none: nothing is fitted on the target."""

    def writes(self) -> bool:
        """Return False: there is no lesson."""
        return False

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence depends on besides: placebos of the module, and the n-gram model that stands beside it."""
        placebos = {arm: self.recipes[arm].draws for arm in REGIMES[self.claim.regime].roles.placebos}
        return super().evidence_spec(batch) | {"placebos": placebos, "ngram": self.scale.portable.ngram.plain()}

    def evidence_input(self, batch: str) -> Inputs:
        """Return also the vocabularies of target and source, and the text that the n-gram model counts."""
        workflow, claim = self.workflow, self.claim
        vocabularies = {"tokens": workflow.tokens(claim.target), "source_tokens": workflow.tokens(claim.source)}
        counted = {"counted": workflow.states(claim.source, claim.text, "train")}
        return {**super().evidence_input(batch), **vocabularies, **counted, **self._manifests("placebos", batch)}


class OfTransfer(OfMoved):
    """What the jobs of a transfer depend on, and the regimes in which it is measured."""

    @classmethod
    def jobs_of(cls, claim: FittedClaim) -> type[Planned[FittedClaim]]:
        """Return what knows the jobs of a transfer in its regime."""
        return OfZeroText if claim.regime == "zero-text" else cls

    @classmethod
    def entries(cls, claim_id: str, claim: GivenTransfer, regimes: Regimes) -> dict[str, FittedClaim]:
        """Return id -> entry: one per regime, with the arms that regime is given for free."""
        found = {}
        keys = ("kind", "text", "source", "target", "module", "seeds", "closed_form_seeds")
        for regime in claim.regimes:
            section, own = regimes.every()[regime], regime == claim.regimes[0]
            key = claim_id if own else f"{claim_id}_{regime.replace('-', '_')}"
            about = claim.given(*keys) | ({} if own else {"of": claim_id})
            found[key] = FittedClaim(
                **about,
                title=claim.title if own else f"{claim.title}, {regime}",
                statement=claim.statement if own else f"{claim.title}: {section.statement}",
                regime=regime,
                fit=section.fit,
                sees=section.sees,
                record=recorded(claim if own else None, key),
                arms=list(dict.fromkeys([*section.arms, *claim.extra_arms.get(regime, [])])),
                wrong_text=regimes.wrong_text,
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
                faults.known(arm, possible_in(regime), f"{where}.extra_arms.{regime}", f"arm of {regime}")

    @classmethod
    def check(cls, claim: FittedClaim, where: str, faults: Faults) -> None:
        """Tell as for every fitted claim, and that it is about two backbones."""
        super().check(claim, where, faults)
        if claim.source == claim.target:
            faults.tell(f"{where}: a transfer needs two different backbones; change `kind`, `source` or `target`")
        if claim.text == claim.wrong_text:
            faults.tell(f"{where}.text: {claim.text!r} is `regimes.wrong_text`, the text of `wrong-domain`; change one")
        if not REGIMES[claim.regime].sees_domain_text and claim.text == faults.scale.alignment.text:
            general = " and ".join(name for name, regime in REGIMES.items() if not regime.sees_domain_text)
            words = f"which is no domain apart from general text; name another or take out {general}"
            faults.tell(f"{where}.text: {claim.text!r} is `alignment.text`, {words}")


def written_variants(claim: FittedClaim, fit: FitSection) -> list[str]:
    """Return the variants of a claim whose lesson is on text that its source writes."""
    return [name for name in claim.variants if name in fit.variants and fit.variants[name].text == "written"]


PLANNED = {"transfer": (GivenTransfer, OfTransfer)}
