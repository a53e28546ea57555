"""What every kind of claim has in common: a claim as it is given, and what its jobs depend on.

A kind of claim is one file of this folder, which names its model as `GIVEN` and its jobs as `JOBS`.
"""

from typing import Any, ClassVar, Generic, Literal, TypeVar

from abi.plan.claims import Regimes, recorded
from abi.plan.faults import Faults
from abi.plan.jobs import Inputs, Plain, seeds_of
from abi.plan.lineages import HELD, Planner
from abi.plan.paths import Needed
from abi.plan.specs.judge import ClaimSaid, JudgeStudy, LawClaim, UpdateClaim
from abi.plan.specs.studies import StudyEvidence, Way

C = TypeVar("C", bound=ClaimSaid)
U = TypeVar("U", UpdateClaim, LawClaim)


class Planned(Generic[C]):
    """One claim of a configuration and what its jobs depend on. Args: study: the jobs of the configuration."""

    form: ClassVar[Literal["claim", "studies", "ladder"]]

    def __init__(self, study: Planner, claim_id: str, claim: C) -> None:
        self.study, self.id, self.claim = study, claim_id, claim
        self.scale, self.config = study.scale, study.config

    def modules(self) -> dict[str, Needed]:
        """Return role in the claim -> the trained modules it needs; a claim about others needs none of its own."""
        return {}

    def module_files(self, batch: str) -> dict[str, list[str]]:
        """Return role -> manifests of the trained modules that hold a batch's seeds."""
        return {name: self.study.module_manifests(of, batch) for name, of in self.modules().items()}

    def needs(self) -> list[tuple[Needed, int]]:
        """Return the trained modules the claim needs and their seeds."""
        return [(of, self.config.seeds(self.id)) for of in self.modules().values()]

    def updates(self) -> list[str]:
        """Return the updates it looks at."""
        return []

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        raise NotImplementedError

    def evidence_input(self, batch: str) -> Inputs:
        """Return the inputs of the evidence of a batch of seeds."""
        raise NotImplementedError

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides its inputs."""
        raise NotImplementedError

    def verdict_input(self) -> Inputs:
        """Return the inputs of the verdict."""
        raise NotImplementedError

    def said(self) -> C:
        """Return what a verdict repeats of the claim: everything but which scales can run it."""
        return type(self.claim)(**{key: value for key, value in self.claim.given().items() if key != "scales"})

    @classmethod
    def entries(cls, claim_id: str, claim: Any, regimes: Regimes) -> dict[str, Any]:
        """Return id -> entry of a claim as it is given: itself, with the name of its result file."""
        return {claim_id: claim.model_copy(update={"record": recorded(claim, claim_id)})}

    @classmethod
    def check_given(cls, claim: Any, where: str, faults: Faults) -> None:
        """Tell what a claim as it is given contradicts in itself."""

    @classmethod
    def check(cls, claim: C, where: str, faults: Faults) -> None:
        """Tell what an entry of the claim names and nothing defines."""


class OfStudies(Planned[C]):
    """A claim made of several studies: updates, atlases, laws."""

    form = "studies"
    ways: ClassVar[tuple[Way, ...]] = ("held", "free")

    def rounds(self) -> int:
        """Return the rounds of its updates that it looks at."""
        return 1

    def stages(self) -> list[str]:
        """Return the stages of updates that it looks at."""
        return [f"{way}.{number}" for number in range(1, self.rounds() + 1) for way in self.ways]

    def seen(self, batch: str) -> dict[str, Any]:
        """Return the fields that the evidence of every such claim depends on."""
        own = self.claim.given("kind", "texts", "shared", "mixture")
        return {**own, "seeds": seeds_of(batch), **self.scale.evaluation.given()}

    def evidence(self, batch: str) -> StudyEvidence:
        """Return what the evidence of a batch of seeds depends on."""
        raise NotImplementedError

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of a batch of seeds depends on."""
        return self.evidence(batch).plain()

    def verdict_facts(self) -> dict[str, Any]:
        """Return what a verdict depends on besides what every verdict does."""
        return {}

    def verdict_spec(self) -> Plain:
        """What the verdict depends on besides its evidence."""
        about = {**self.study.verdict_facts(self.id), "claim": self.said().plain(), **self.verdict_facts()}
        return JudgeStudy(**about).plain()

    def verdict_input(self) -> Inputs:
        """Return the evidence, its manifests, and what the claim's modules and updates are."""
        n_seeds = self.config.seeds(self.id)
        inputs = self.evidence_input(f"1-{n_seeds}")
        modules = [path for name in self.modules() for path in inputs.get(name, [])]
        return {
            **self.study.evidence(self.id, self.study.batches("updates", n_seeds)),
            "modules": list(dict.fromkeys(modules)),
            **{name: inputs[name] for name in ("updates", "oracles") if inputs.get(name)},
            **self.generation_files(),
        }

    def generation_files(self) -> dict[str, list[str]]:
        """Return the manifest of texts generated on the updated backbone, where the claim asks for them."""
        return {}


class OfUpdates(OfStudies[U]):
    """A claim about updated backbones."""

    def modules(self) -> dict[str, Needed]:
        """Return role -> (backbone, text, shape, role) of the modules beside its updates."""
        found = {}
        for update in self.updates():
            made = self.study.update_definition(update)
            for text in made.holds:
                where = f"{text}_{update}" if len(self.updates()) > 1 else text
                for role in self.roles(text):
                    found[f"{role}_{where}"] = (made.backbone, text, made.module, role)
        return found

    def roles(self, text: str) -> tuple[str, ...]:
        """Return the roles of the modules that it needs of a text its update holds."""
        return ("source",)

    def evidence_input(self, batch: str) -> Inputs:
        """Return states, heads and modules of every stage that the evidence is made of."""
        updated, states, oracles = [], [], []
        study, texts, needed = self.study, self.claim.texts, self.modules()
        for update in self.updates():
            for name in study.update_batches(update, batch):
                for stage in self.stages():
                    updated.append(study.updated(update, stage, name))
                    states += [study.updated_states(update, stage, text, name) for text in texts]
                    if stage.startswith(HELD):
                        oracles += [study.updated_modules(update, stage, text, name) for text in texts]
        used = {name: paths for name, paths in self.module_files(batch).items() if needed[name][1] in texts}
        return {"updates": updated, "states": states, "oracles": oracles, **used}

    def verdict_facts(self) -> dict[str, Any]:
        """Return its rounds and the definitions of its updates."""
        return {"rounds": self.rounds(), "updates": {u: self.study.update_definition(u) for u in self.updates()}}


def check_updates(updates: list[str], texts: list[str], where: str, faults: Faults) -> None:
    """Tell which texts and updates of a claim the scale lacks, and which texts its updates do not hold."""
    scale = faults.scale
    known = [t for t in texts if faults.known(t, scale.texts, f"{where}.texts", f"text of scale {scale.scale}")]
    for name in updates:
        if faults.known(name, scale.updates, f"{where}.update", f"update of scale {scale.scale}"):
            for text in known:
                faults.known(text, scale.updates[name].holds, f"{where}.texts", f"text that update {name} holds")
