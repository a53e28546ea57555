"""An experiment: arms that differ in one thing on one backbone, and statements of the original about them."""

from typing import Any, Literal

from pydantic import Field

from abi.base.catalogue import ARMS, Recipe
from abi.base.diagnostics import CODE, DIAGNOSTICS
from abi.base.files import ROOT, sha256_once
from abi.base.names import BIAS, LINEAR, ORACLE, RAW, REFERENCE
from abi.base.regimes import EXPERIMENT
from abi.plan.experiment_faults import MEASURED, WITH_TEACHER, check_arms, check_tests, recipe_of
from abi.plan.faults import Faults
from abi.plan.kinds.base import TRIAL, Inputs, Needed, Plain, seeds_of
from abi.plan.kinds.studies import OfStudies
from abi.plan.specs.arms import BudgetName
from abi.plan.specs.experiments import (
    BOUNDS,
    ArmName,
    ArmOfExperiment,
    BudgetOfExperiment,
    CodeOfExperiment,
    ExperimentEvidence,
    Statement,
    StudyOf,
)
from abi.plan.specs.judge import CappedSeeds, ClaimSaid, DomainTexts

CODE_TASKS = "config/tasks.yaml"
NOT_ATTACHED = (LINEAR, BIAS)
"""Arms that are no module beside a backbone that runs."""


class ExperimentClaim(ClaimSaid):
    """An experiment: its arms, and what is asked of them."""

    kind: Literal["experiment"]
    backbone: str
    """backbone of the scale; of an experiment on updates the one that they start from"""
    module: str
    """module shape of the scale"""
    reference_module: str | None = None
    """module shape of the reference, which then teaches too; without it an oracle teaches"""
    texts: DomainTexts
    fit: BudgetName
    """fit of the scale that gives budget, batch, penalty and grid of rates"""
    seeds: CappedSeeds
    arms: dict[ArmName, ArmOfExperiment] = Field(min_length=1)
    """arm -> how it is made and fitted"""
    statements: dict[ArmName, Statement] = Field(min_length=1)
    """statement -> what it says and what decides it; a study of its own, named `<statement>-<text>`"""

    def study(self, name: str) -> str:
        """Return the study of a statement."""
        return f"{name}-{self.statements[name].text or self.texts[0]}"


class OfExperiment(OfStudies[ExperimentClaim]):
    """What the jobs of an experiment depend on: one, which tries rates once and fits all seeds, and the verdict."""

    def updates(self) -> list[str]:
        """Return the updates that its arms are read on."""
        return list(dict.fromkeys(arm.update for arm in self.claim.arms.values() if arm.update))

    def read_on(self) -> list[tuple[str, str]]:
        """Return (update, stage) of every updated backbone that an arm is read on."""
        found = [(arm.update, f"{arm.way}.1") for arm in self.claim.arms.values() if arm.update]
        return list(dict.fromkeys(found))

    def other_backbones(self) -> list[str]:
        """Return the other backbones that its arms disturb."""
        return list(dict.fromkeys(arm.backbone for arm in self.claim.arms.values() if arm.backbone))

    def batch(self) -> str:
        """Return its one batch of seeds."""
        return f"1-{self.config.seeds(self.id)}"

    def tried_on(self) -> list[str]:
        """Return the texts on which some arm chooses its own learning rate."""
        choosing = [arm for arm in self.claim.arms.values() if arm.by == "steps" and arm.rate_of is None]
        return list(dict.fromkeys(arm.text or self.claim.texts[0] for arm in choosing))

    def scopes(self) -> list[Literal["domain", "general"]]:
        """Return the scopes that its tests ask about, and that of the domain."""
        asked = {test.scope for one in self.claim.statements.values() for test in one.tests.values()}
        return ["domain", "general"] if "general" in asked else ["domain"]

    def modules(self) -> dict[str, Needed]:
        """Return the module whose net moves, and per text an oracle and a reference."""
        claim = self.claim
        found = {f"source_{claim.texts[0]}": (claim.backbone, claim.texts[0], claim.module, "source")}
        if self.updates():
            return found
        for text in claim.texts:
            found[f"oracle_{text}"] = (claim.backbone, text, claim.module, "oracle")
            found[f"reference_{text}"] = (claim.backbone, text, claim.reference_module or claim.module, "reference")
        return found

    def studies_of(self) -> dict[str, StudyOf]:
        """Return study -> its candidate, its text and its arms: those fitted on its text, those that its tests name."""
        claim, found = self.claim, {}
        for name, statement in claim.statements.items():
            text = statement.text or claim.texts[0]
            named = {statement.about, statement.placebo, *(a for t in statement.tests.values() for a in t.weights)}
            arms = [arm for arm, made in claim.arms.items() if arm in named or (made.text or claim.texts[0]) == text]
            code = {"code": statement.of_code()} if statement.of_code() else {}
            found[claim.study(name)] = StudyOf(about=statement.about, text=text, arms=arms, **code)
        return found

    def code(self) -> CodeOfExperiment | None:
        """Return what generated code depends on, None where no statement asks for it."""
        asking = [statement for statement in self.claim.statements.values() if statement.of_code()]
        if not asking:
            return None
        metrics = dict.fromkeys(metric for statement in asking for metric in statement.of_code())
        arms = dict.fromkeys(arm for statement in asking for arm in coding(statement))
        of_scale, sha256 = self.scale.code, sha256_once(ROOT / CODE_TASKS)
        return CodeOfExperiment(
            tasks=of_scale.tasks, tokens=of_scale.tokens, sha256=sha256, metrics=list(metrics), arms=list(arms)
        )

    def diagnostics(self) -> dict[str, dict[str, list[str]]]:
        """Return scope -> metric that experiments alone have -> the arms that some statement is asked about in it."""
        found: dict[str, dict[str, dict[str, None]]] = {}
        for one in self.claim.statements.values():
            for test in one.tests.values():
                if test.metric in DIAGNOSTICS:
                    arms = found.setdefault(test.scope, {}).setdefault(test.metric, {})
                    arms |= dict.fromkeys((RAW, one.about, one.placebo, *test.weights))
        return {scope: {metric: list(arms) for metric, arms in of.items()} for scope, of in found.items()}

    def recipes(self) -> dict[str, Recipe]:
        """Return what each recipe is: as in a reconstruction where the reference teaches, else as in `oracle-kd`."""
        found: dict[str, Recipe] = {}
        for name in {arm.recipe: None for arm in self.claim.arms.values() if arm.recipe in ARMS}:
            if (recipe := recipe_of(name, self.claim.reference_module is not None)) is not None:
                found[name] = recipe
        return found

    def verdict_facts(self) -> dict[str, Any]:
        """Return the general text where a test asks about it."""
        return {"general": self.workflow.general} if "general" in self.scopes() else {}

    def evidence_spec(self, batch: str) -> Plain:
        """What the evidence of all seeds depends on."""
        claim, scale = self.claim, self.scale
        spec = ExperimentEvidence(
            **scale.evaluation.given(),
            texts=claim.texts,
            seeds=seeds_of(batch),
            arms=claim.arms,
            recipes=self.recipes(),
            studies=self.studies_of(),
            scopes=self.scopes(),
            diagnostics=self.diagnostics(),
            with_teacher=any(t.metric == WITH_TEACHER for s in claim.statements.values() for t in s.tests.values()),
            module=scale.modules[claim.module],
            name=claim.module,
            taught_by="reference" if claim.reference_module else "oracle",
            budget=BudgetOfExperiment(**scale.calibration[claim.fit].given(*BudgetOfExperiment.model_fields)),
            max_rows=scale.alignment.max_rows,
            window=scale.backbones[claim.backbone].window,
        ).plain()
        code = self.code()
        return spec if code is None else {**spec, "code": code.plain()}

    def evidence_input(self, batch: str) -> Inputs:
        """Return states, head and modules, of the seed of trials too; for updates what stands on them."""
        claim, workflow, backbone = self.claim, self.workflow, self.claim.backbone
        found: Inputs = {"head": workflow.head(backbone)}
        if self.updates():
            return found | self.updated_input(batch)
        for text in claim.texts:
            found |= {f"{split}_{text}": workflow.states(backbone, text, split) for split in ("train", "test")}
        found |= {f"calibration_{text}": workflow.states(backbone, text, "calibration") for text in self.tried_on()}
        if not claim.reference_module:
            found["align"] = workflow.states(backbone, self.scale.alignment.text, "train")
        if "general" in self.scopes():
            found["test_general"] = workflow.states(backbone, workflow.general, "test")
        for other in self.other_backbones():
            found[f"head_{other}"] = workflow.head(other)
            for scope in self.scopes():
                text = claim.texts[0] if scope == "domain" else workflow.general
                found[f"test_{scope}_{other}"] = workflow.states(other, text, "test")
        if self.model():
            found["backbone"] = workflow.backbone(backbone)
        if self.code() is not None:
            found["tasks"] = CODE_TASKS
        taught_by = "reference" if claim.reference_module else "oracle"
        trial = {f"{taught_by}_{text}" for text in self.tried_on()}
        trial |= {f"source_{claim.texts[0]}"} if trial else set()
        for role, of in self.modules().items():
            tried = workflow.module_manifests(of, TRIAL) if role in trial else []
            found[role] = [*tried, *workflow.module_manifests(of, batch)]
        return found

    def updated_input(self, batch: str) -> Inputs:
        """Return what an experiment on updates reads: states of every stage, of the first its native modules."""
        claim, workflow = self.claim, self.workflow
        text, stages = claim.texts[0], self.read_on()
        places = [(u, stage, name) for u, stage in stages for name in workflow.update_batches(u, batch)]
        own = [place for place in places if place[:2] == stages[0]]
        return {
            f"test_{text}": workflow.states(claim.backbone, text, "test"),
            "updates": [workflow.updated(*place) for place in places],
            "states": [workflow.updated_states(u, stage, text, name) for u, stage, name in places],
            "oracles": [
                workflow.updated_modules(u, s, text, role, n) for u, s, n in own for role in (REFERENCE, ORACLE)
            ],
            **self.module_files(batch),
        }

    def model(self) -> list[str]:
        """Return the folder of the backbone, where it runs again: in another number format, or to generate code."""
        again = any(arm.precision for arm in self.claim.arms.values()) or self.code() is not None
        return [self.workflow.backbone_folder(self.claim.backbone)] if again else []

    def verdict_input(self) -> Inputs:
        """Return its evidence, what was fitted, and the records of its texts."""
        batch, workflow = self.batch(), self.workflow
        general = [workflow.general] if "general" in self.scopes() else []
        modules = [path for paths in self.module_files(batch).values() for path in paths]
        return {
            **workflow.evidence(self.id, [batch]),
            "fits": workflow.of_claim("fits", self.id, [batch]),
            "modules": list(dict.fromkeys(modules)),
            "texts": workflow.text_records(*self.claim.texts, *general),
            "overlaps": workflow.overlaps(self.claim.backbone, *self.claim.texts, *general),
        }

    @classmethod
    def check(cls, claim: ExperimentClaim, where: str, faults: Faults) -> None:
        """Tell what an experiment names and nothing defines."""
        faults.of_scale("backbones", claim.backbone, f"{where}.backbone")
        faults.of_scale("calibration", claim.fit, f"{where}.fit")
        for shape in filter(None, (claim.module, claim.reference_module)):
            faults.module(shape, claim.backbone, f"{where}.module")
        for text in claim.texts:
            faults.of_scale("texts", text, f"{where}.texts")
        for name, arm in claim.arms.items():
            cls.check_arm(name, arm, claim, f"{where}.arms.{name}", faults)
        check_arms(claim, f"{where}.arms", faults)
        for name, statement in claim.statements.items():
            cls.check_statement(statement, claim, f"{where}.statements.{name}", faults)

    @classmethod
    def check_arm(cls, name: str, arm: ArmOfExperiment, claim: ExperimentClaim, at: str, faults: Faults) -> None:
        """Tell what an arm names and nothing defines."""
        for key, other in (("start", arm.start), ("rate_of", arm.rate_of)):
            if other is not None:
                faults.known(other, [one for one in claim.arms if one != name], f"{at}.{key}", "arm of the experiment")
        if arm.text is not None:
            faults.known(arm.text, claim.texts, f"{at}.text", "text of the experiment")
        if arm.update is not None:
            faults.of_scale("updates", arm.update, f"{at}.update")
        if arm.net == "off" and arm.start is None:
            faults.tell(f"{at}.net: is off of an arm that goes on from none; name it in `start`")
        if arm.backbone is not None:
            faults.of_scale("backbones", arm.backbone, f"{at}.backbone")
            if arm.recipe != RAW or arm.noise != "state":
                faults.tell(f"{at}.backbone: another backbone is only disturbed; use `recipe: raw, noise: state`")

    @classmethod
    def check_statement(cls, statement: Statement, claim: ExperimentClaim, at: str, faults: Faults) -> None:
        """Tell which arm, metric or text of a statement there is not, and what its tests cannot say."""
        if statement.text is not None:
            faults.known(statement.text, claim.texts, f"{at}.text", "text of the experiment")
        for key in ("about", "placebo"):
            faults.known(getattr(statement, key), claim.arms, f"{at}.{key}", "arm of the experiment")
        if statement.about == statement.placebo:
            faults.tell(f"{at}.placebo: is the arm that the statement is about; name one that moves no knowledge")
        for name, test in statement.tests.items():
            faults.known(test.metric, MEASURED, f"{at}.tests.{name}.metric", "metric")
            for arm in test.weights:
                faults.known(arm, [*BOUNDS, *claim.arms], f"{at}.tests.{name}.weights", "arm of the experiment")
        for metric in statement.floors:
            faults.known(metric, CODE, f"{at}.floors", "figure of generated code")
        cls.check_code(statement, claim, at, faults)
        check_tests(statement, claim, at, faults)
        if not any(test.required for test in statement.tests.values()):
            faults.tell(f"{at}.tests: none is required, so nothing decides; make one")

    @classmethod
    def check_code(cls, statement: Statement, claim: ExperimentClaim, at: str, faults: Faults) -> None:
        """Tell where code is to be generated that no live backbone can: on another text, with what is no module."""
        if not statement.of_code():
            return
        if statement.text not in (None, claim.texts[0]) or any(arm.update for arm in claim.arms.values()):
            faults.tell(f"{at}: code is generated beside the first text and without updates; ask in another experiment")
        for name in (name for name in coding(statement) if name in claim.arms):
            arm = claim.arms[name]
            if arm.recipe in NOT_ATTACHED or arm.noise or arm.precision or arm.backbone:
                faults.tell(
                    f"{at}: arm {name!r} is no module that a backbone can run with; leave it out of figures of code"
                )


def coding(statement: Statement) -> list[str]:
    """Return the arms that generate code for a statement: those that its tests of code name, and what it is about."""
    named = [arm for test in statement.tests.values() if test.metric in CODE for arm in test.weights]
    return list(dict.fromkeys([*BOUNDS, statement.about, statement.placebo, *named]))


PLANNED = {EXPERIMENT: (ExperimentClaim, OfExperiment)}
