"""Claims made of several studies: updates, successions of them, a law of calibration steps, an atlas."""

from typing import Any, ClassVar, TypeVar

from abi.base.errors import ConfigError
from abi.plan.faults import Faults, width_of
from abi.plan.kinds.base import C, Inputs, Needed, Plain, Planned, seeds_of
from abi.plan.specs.judge import AtlasClaim, JudgeStudy, LawClaim, SuccessionClaim, UpdateClaim
from abi.plan.specs.studies import (
    AtlasEvidence,
    GenerateText,
    LawBudget,
    LawEvidence,
    UpdateEvidence,
    UpdateSection,
    Way,
)

U = TypeVar("U", UpdateClaim, SuccessionClaim, LawClaim)
V = TypeVar("V", UpdateClaim, SuccessionClaim)
LEAST_POINTS = 12
"""that a scaling law registers (protocol section 6); how many of them get a floor, and are used, a run shows"""


class OfStudies(Planned[C]):
    """What the jobs of a claim made of several studies depend on."""

    def seen(self, batch: str) -> dict[str, Any]:
        """Return the fields that the evidence of every such claim depends on."""
        own = self.claim.given("kind", "texts", "shared", "mixture")
        return {**own, "seeds": seeds_of(batch), **self.scale.evaluation.given()}

    def evidence_input(self, batch: str) -> Inputs:
        """Return the inputs of the evidence of a batch of seeds."""
        raise NotImplementedError

    def verdict_facts(self) -> dict[str, Any]:
        """Return what the verdict depends on besides what every verdict does."""
        return {}

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides its evidence."""
        about = {**self.workflow.verdict_facts(self.id), "claim": self.said().plain(), **self.verdict_facts()}
        return JudgeStudy(**about).plain()

    def verdict_input(self) -> Inputs:
        """Return the evidence, its manifests, and what the claim's modules and updates are."""
        n_seeds, texts = self.config.seeds(self.id), getattr(self.claim, "texts", ())
        inputs = self.evidence_input(f"1-{n_seeds}")
        modules = [path for name in self.modules() for path in inputs.get(name, [])]
        return {
            **self.workflow.evidence(self.id, self.workflow.batches("updates", n_seeds)),
            "modules": list(dict.fromkeys(modules)),
            **{name: inputs[name] for name in ("updates", "oracles") if inputs.get(name)},
            **self.generation_files(),
            "texts": self.workflow.text_records(*texts),
            "overlaps": [path for name in self.backbones() for path in self.workflow.overlaps(name, *texts)],
        }

    def backbones(self) -> list[str]:
        """Return the backbones whose windows its evidence is of."""
        raise NotImplementedError

    def generation_files(self) -> dict[str, list[str]]:
        """Return the manifest of texts generated on the updated backbone, where the claim asks for them."""
        asked = getattr(self.claim, "generation", False)
        return {"generation": [f"{self.workflow.results}/generation/{self.id}.json"]} if asked else {}


class OfUpdates(OfStudies[U]):
    """What the jobs of a claim about updated backbones depend on."""

    ways: ClassVar[tuple[Way, ...]] = ("held", "free")
    """of its updates that it looks at"""
    with_oracles: ClassVar[bool] = True
    """whether it needs the oracles of its texts from before any update"""
    roles: ClassVar[tuple[str, ...]] = ("oracle",)
    """of the modules that are trained beside the updated backbones"""

    def backbones(self) -> list[str]:
        """Return those that its updates start from."""
        return list(dict.fromkeys(self.scale.updates[update].backbone for update in self.updates()))

    def rounds(self) -> int:
        """Return the rounds of its updates that it looks at."""
        return 1

    def stages(self) -> list[str]:
        """Return the stages of its updates that it looks at."""
        return [f"{way}.{number}" for number in range(1, self.rounds() + 1) for way in self.ways]

    def modules(self) -> dict[str, Needed]:
        """Return role -> (backbone, text, shape, role) of the modules beside its updates."""
        found, several = {}, len({self.scale.updates[update].backbone for update in self.updates()}) > 1
        for update in self.updates():
            made = self.scale.updates[update]
            for text in made.holds:
                where = f"{text}_{update}" if several else text
                for role in ("source", "oracle") if self.with_oracles and text in self.claim.texts else ("source",):
                    found[f"{role}_{where}"] = (made.backbone, text, made.module, role)
        return found

    def evidence_input(self, batch: str) -> Inputs:
        """Return states, heads and modules of every stage that the evidence is made of."""
        updated, states, oracles = [], [], []
        workflow, texts, needed = self.workflow, self.claim.texts, self.modules()
        for update in self.updates():
            for name in workflow.update_batches(update, batch):
                for stage in self.stages():
                    updated.append(workflow.updated(update, stage, name))
                    states += [workflow.updated_states(update, stage, text, name) for text in texts]
                    if stage.startswith("held."):
                        pairs = [(text, role) for text in texts for role in self.roles]
                        oracles += [workflow.updated_modules(update, stage, *pair, name) for pair in pairs]
        used = {name: paths for name, paths in self.module_files(batch).items() if needed[name][1] in texts}
        return {"updates": updated, "states": states, "oracles": oracles, **used}

    def verdict_facts(self) -> dict[str, Any]:
        """Return its rounds and the definitions of its updates."""
        return {"rounds": self.rounds(), "updates": {update: self.scale.updates[update] for update in self.updates()}}

    @classmethod
    def check_updates(cls, updates: list[str], texts: list[str], where: str, faults: Faults) -> None:
        """Tell which texts and updates of a claim the scale lacks, and which texts its updates do not hold."""
        known = [text for text in texts if faults.of_scale("texts", text, f"{where}.texts")]
        for name in updates:
            if faults.of_scale("updates", name, f"{where}.update"):
                for text in known:
                    faults.known(
                        text, faults.scale.updates[name].holds, f"{where}.texts", f"text that update {name} holds"
                    )


class OfBefore(OfUpdates[V]):
    """A module on a backbone after doses of updates, and before any."""

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        return UpdateEvidence(**self.seen(batch), updates=self.updates(), rounds=self.rounds()).plain()

    def evidence_input(self, batch: str) -> Inputs:
        """Return what every stage gives, and the backbone before any update."""
        backbone = self.scale.updates[self.updates()[0]].backbone
        before = {f"before_{text}": self.workflow.states(backbone, text, "test") for text in self.claim.texts}
        return {**super().evidence_input(batch), **before, "head": self.workflow.head(backbone)}


class OfUpdate(OfBefore[UpdateClaim]):
    """A module after single updates of its backbone, a ladder of doses."""

    def updates(self) -> list[str]:
        """Return its doses."""
        return self.claim.updates

    def generation_spec(self) -> Plain:
        """What generated texts depend on."""
        return GenerateText(update=self.updates()[0], seeds=seeds_of(f"1-{self.config.seeds(self.id)}")).plain()

    def generation_input(self) -> Inputs:
        """Return the backbones after the first dose, and the modules of the claim's first text."""
        update, whole = self.updates()[0], f"1-{self.config.seeds(self.id)}"
        batches = self.workflow.update_batches(update, whole)
        return {
            "updates": [self.workflow.updated(update, "held.1", batch) for batch in batches],
            "source": self.workflow.held_modules(update, whole)[self.claim.texts[0]],
        }

    @classmethod
    def check(cls, claim: UpdateClaim, where: str, faults: Faults) -> None:
        """Tell which update or text the scale lacks, and what is no ladder of doses of one module."""
        cls.check_updates(claim.updates, claim.texts, where, faults)
        made = [faults.scale.updates[name] for name in claim.updates if name in faults.scale.updates]
        sizes = {update.text: [_size(other) for other in made if other.text == update.text] for update in made}
        unsorted = [text for text, own in sizes.items() if own != sorted(set(own))]
        if len(claim.updates) < 2:
            faults.tell(f"{where}.updates: one dose is no ladder; give two or more")
        elif len({(update.backbone, update.module) for update in made}) > 1:
            faults.tell(f"{where}.updates: are of several backbones or module shapes; give those of one")
        elif measured := [text for text in sizes if text in claim.texts]:
            faults.tell(f"{where}.updates: {measured[0]!r} is measured and is no new domain; update on another text")
        elif unsorted:
            words = "do not ascend; put the least dose first"
            faults.tell(f"{where}.updates: steps x rates on {', '.join(unsorted)} {words}")


def _size(made: UpdateSection) -> float:
    """Return steps times rate of an update, by which doses of one text are ordered."""
    return sum(phase.steps * phase.lr for phase in made.training.phases)


class OfSuccession(OfBefore[SuccessionClaim]):
    """A module after every round of one update."""

    def updates(self) -> list[str]:
        """Return its update."""
        return [self.claim.update]

    def rounds(self) -> int:
        """Return all rounds of its update."""
        return self.scale.updates[self.claim.update].rounds

    @classmethod
    def check(cls, claim: SuccessionClaim, where: str, faults: Faults) -> None:
        """Tell which update or text the scale lacks, and an update of one round."""
        cls.check_updates([claim.update], claim.texts, where, faults)
        made = faults.scale.updates.get(claim.update)
        if made is not None and made.rounds < 2:
            faults.tell(f"{where}.update: {claim.update} has one round; a succession needs two or more")


class OfLaw(OfUpdates[LawClaim]):
    """A law of calibration steps: held updates alone, and one fit that is looked at on the way."""

    ways = ("held",)
    with_oracles = False
    roles = ("oracle", "reference")

    def updates(self) -> list[str]:
        """Return its updates."""
        return self.claim.updates

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        fit = self.claim.calibrated_by
        budget = LawBudget(**self.scale.calibration[fit].given(*LawBudget.model_fields))
        return LawEvidence(**self.seen(batch), updates=self.claim.updates, fit=fit, budget=budget).plain()

    def verdict_facts(self) -> dict[str, Any]:
        """Return the steps that are looked at and the widths of the backbones, beside its updates."""
        looks = self.scale.calibration[self.claim.calibrated_by].budgets
        widths = {update: self.width_of(self.scale.updates[update].backbone) for update in self.claim.updates}
        return {**super().verdict_facts(), "budgets": looks.steps if looks else [], "widths": widths}

    def width_of(self, backbone: str) -> int:
        """Return the width of a backbone. Raises: ConfigError: a backbone of the hub without `width`."""
        width = width_of(self.scale.backbones[backbone])
        if width is None:
            raise ConfigError(
                f"config/scales/{self.scale.scale}.yaml: backbones.{backbone}: a scaling law needs its `width`; add it"
            )
        return width

    @classmethod
    def check(cls, claim: LawClaim, where: str, faults: Faults) -> None:
        """Tell which update, text or calibration the scale lacks, and whether there are points enough."""
        scale, fit, at = faults.scale, claim.calibrated_by, f"{where}.calibrated_by"
        cls.check_updates(claim.updates, claim.texts, where, faults)
        points = len(claim.updates) * len(claim.texts)
        if points < LEAST_POINTS:
            words = f"{points} points are too few for a law; {LEAST_POINTS} are needed, add updates or texts"
            faults.tell(f"{where}: {words}")
        if faults.of_scale("calibration", fit, at) and scale.calibration[fit].budgets is None:
            faults.tell(f"{at}: calibration.{fit} of scale {scale.scale} has no `budgets`; add them")


class OfAtlas(OfStudies[AtlasClaim]):
    """One chart per domain, all of one shared module."""

    def backbones(self) -> list[str]:
        """Return the one that all its modules are of."""
        return [self.claim.backbone]

    def modules(self) -> dict[str, Needed]:
        """Return the shared module, and an oracle and a reference per domain."""
        claim = self.claim
        own = {
            f"{role}_{text}": (claim.backbone, text, claim.module, role)
            for text in claim.texts
            for role in ("oracle", "reference")
        }
        return {"shared": (claim.backbone, claim.shared, claim.module, "source"), **own}

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        fit = self.scale.calibration["kd"]
        return AtlasEvidence(
            **self.seen(batch),
            module=self.workflow.shape(self.claim.module),
            ridge_penalty=fit.ridge_penalty,
            closed_form_rows=fit.closed_form_rows,
        ).plain()

    def evidence_input(self, batch: str) -> Inputs:
        """Return states of every domain, the head and the modules."""
        backbone = self.claim.backbone
        states = {
            f"{split}_{text}": self.workflow.states(backbone, text, split)
            for text in self.claim.texts
            for split in ("train", "test")
        }
        return {**states, "head": self.workflow.head(backbone), **self.module_files(batch)}

    @classmethod
    def check(cls, claim: AtlasClaim, where: str, faults: Faults) -> None:
        """Tell which backbone, text or module the scale lacks."""
        for text in claim.texts:
            faults.of_scale("texts", text, f"{where}.texts")
        faults.of_scale("backbones", claim.backbone, f"{where}.backbone")
        faults.module(claim.module, claim.backbone, f"{where}.module")
        for text in [claim.shared, *claim.mixture]:
            faults.known(text, claim.texts, f"{where}.texts", "text of this atlas")


PLANNED = {
    "update": (UpdateClaim, OfUpdate),
    "succession": (SuccessionClaim, OfSuccession),
    "scaling_law": (LawClaim, OfLaw),
    "atlas": (AtlasClaim, OfAtlas),
}
