"""The arms of an experiment scored on held-out text: as they were fitted, with noise, in other formats, on updates."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import torch

from abi.arms.diagnostics import Disturbed, diagnosed
from abi.arms.experiment import SOURCE, Experiment
from abi.arms.forms import ArmForm, StoredStates
from abi.arms.generated_code import CodeScores, Writer, attachable, read_tasks
from abi.arms.metrics import Key, Score, score
from abi.base.errors import DataError
from abi.base.job import InputFiles
from abi.base.names import CANDIDATE, ORACLE, RANDOM_NET, RAW, REFERENCE, TASKS
from abi.models.module import AbiModule, derive_seed, with_net
from abi.models.saved import having, module_of_seed, read_head, updated
from abi.models.states import States
from abi.plan.specs.experiments import ExperimentEvidence

Run = Callable[[str, States], States]


class ScoredExperiment(Experiment):
    """An experiment whose arms are scored.

    Args: run: number format, states -> the same windows with the states that the backbone gives in that format; writer:
        loads the backbone that generates code.
    """

    def __init__(
        self, spec: ExperimentEvidence, inputs: InputFiles, scratch: Path, run: Run, writer: Callable[[], Writer]
    ) -> None:
        super().__init__(spec, inputs, scratch)
        self.run, self.load_writer = run, writer
        code = spec.code
        self.tasks = [] if code is None else read_tasks(inputs["tasks"], code.sha256, code.tasks)
        self._writer: Writer | None = None
        self._ran: dict[tuple[str, str], States] = {}

    def studies(self, seed: int, rates: Mapping[str, float]) -> Iterator[tuple[list[Score], dict[str, States]]]:
        """Yield the scores of a seed, study by study: the arm that a study is about is its `candidate`."""
        of_fits = [name for name, arm in self.spec.arms.items() if arm.update is None and self.is_fitted(name)]
        fitted = {name: arm.model for name, arm in self.fitted(of_fits, seed, rates).items()}
        for text in dict.fromkeys(study.text for study in self.spec.studies.values()):
            scores, scopes = self.scored(text, seed, fitted)
            for study, about in self.spec.studies.items():
                if about.text == text:
                    own = [one for one in scores if one.scope != TASKS or one.metric in about.code]
                    own = [one for one in own if about.shows(one.key.arm)]
                    yield [renamed(one, study, about.about) for one in own], scopes

    def is_fitted(self, name: str) -> bool:
        """Return whether an arm is made of a recipe, or goes on from such an arm, and is no reading of another."""
        arm = self.spec.arms[name]
        as_made = arm.noise is None and arm.precision is None and arm.net == "on"
        return as_made and arm.recipe not in (ORACLE, REFERENCE, SOURCE, RAW)

    def scored(self, text: str, seed: int, fitted: Mapping[str, ArmForm]) -> tuple[list[Score], dict[str, States]]:
        """Return every metric of every arm on a text; the fit of their keys is empty."""
        if any(arm.update for arm in self.spec.arms.values()):
            return self.scored_updates(text, seed)
        wanted = {name for study in self.spec.studies.values() if study.text == text for name in study.arms}
        domain = self.states(text, "test")
        if any(self.spec.arms[name].precision for name in wanted):
            domain = self.in_full(domain)
        scopes = {"domain": domain}
        if "general" in self.spec.scopes:
            scopes["general"] = self.states("general", "test") if text != "general" else domain
        head, reference = self.head(domain), self.module(REFERENCE, text, seed, domain)
        oracle = self.module(ORACLE, text, seed, domain)
        arms: dict[Key, ArmForm | None] = {Key("", RAW): None, Key("", REFERENCE): reference, Key("", ORACLE): oracle}
        for name in (name for name in self.spec.arms if name in wanted and self.spec.arms[name].backbone is None):
            arms[Key("", name)] = fitted[name] if name in fitted else self.read(name, seed, fitted, oracle, domain)
        teacher = oracle if self.spec.with_teacher else None
        at_once = self.spec.windows_per_batch
        found = [
            *score(arms, reference, teacher, scopes, head, windows_per_batch=at_once, agree_on=("domain",)),
        ]
        for scope, asked in self.spec.diagnostics.items():
            found += diagnosed(arms, reference, scopes[scope], head, asked, scope, windows_per_batch=at_once)
            found += self.of_other_backbones(wanted, seed, scopes[scope], asked, scope)
        return [*found, *(self.of_code(arms, seed) if text == self.first else ())], scopes

    def of_other_backbones(
        self, wanted: Collection[str], seed: int, own: States, asked: Mapping[str, Collection[str]], scope: str
    ) -> Iterator[Score]:
        """Yield what tests ask of other backbones with noise on their states.

        Raises: DataError: another backbone reads other windows, so that no document can be compared.
        """
        for name in (name for name in self.spec.arms if name in wanted and self.spec.arms[name].backbone is not None):
            arm = self.spec.arms[name]
            states = self.states(f"{scope}_{arm.backbone}", "test")
            if not torch.equal(states.tokens(slice(None)), own.tokens(slice(None))):
                raise DataError(
                    f"{states.path}: {arm.backbone} reads other tokens than {own.path} does; "
                    "compare backbones of one tokenizer"
                )
            head = read_head(self.inputs[f"head_{arm.backbone}"], states)
            plain, noisy = (Disturbed(None, head, "state", size, seed) for size in (0.0, arm.size))
            of_arm = {metric: [name] for metric, arms in asked.items() if name in arms}
            disturbed, at_once = {Key("", name): noisy}, self.spec.windows_per_batch
            yield from diagnosed(disturbed, plain, states, head, of_arm, scope, windows_per_batch=at_once)

    def of_code(self, arms: Mapping[Key, ArmForm | None], seed: int) -> Iterator[Score]:
        """Yield the figures of the code that arms generate, where a statement asks for them."""
        if self.spec.code is None:
            return
        self._writer = self._writer or self.load_writer()
        own = {key.arm: attachable(key.arm, form) for key, form in arms.items() if key.arm in self.spec.code.arms}
        yield from CodeScores(self.spec.code, self.tasks, self._writer, own, seed).scores()

    def read(
        self, name: str, seed: int, fitted: Mapping[str, ArmForm], oracle: AbiModule, states: States
    ) -> ArmForm | None:
        """Return another reading of an arm or of a trained module: as it is, with noise, or in another format."""
        arm = self.spec.arms[name]
        if arm.start is not None:
            found = fitted[arm.start]
        elif arm.recipe == RAW:
            found = None
        else:
            found = oracle if arm.recipe == ORACLE else self.module(arm.recipe, self.first, seed, states)
        if arm.net == "off":
            assert isinstance(found, AbiModule)
            found = with_net(found, None)
        if arm.noise is not None:
            assert found is None or isinstance(found, AbiModule)
            return Disturbed(found, self.head(states), arm.noise, arm.size, seed)
        if arm.precision is not None:
            assert isinstance(found, AbiModule)
            return self.in_format(found, arm.precision, states)
        return found

    @torch.no_grad()
    def in_format(self, module: AbiModule, precision: str, states: States) -> StoredStates:
        """Return a module on a backbone that ran in another number format, as final states of the windows."""
        ran, at_once = self.ran(precision, states), self.spec.windows_per_batch
        parts = [slice(start, start + at_once) for start in range(0, len(states), at_once)]
        finals = torch.cat([(ran.final(part) + module.correction(ran, part)).cpu() for part in parts])
        stored = {states.manifest.tensors_sha256: (states.windows, finals)}
        return StoredStates(stored, f"backbone in {precision}")

    def in_full(self, states: States) -> States:
        """Return windows with the states of the backbone in fp32, whatever they are stored in.

        Where a scale stores bf16, a format would be compared with itself.
        """
        return states if states.manifest.dtype == "float32" else self.ran("fp32", states)

    def ran(self, precision: str, states: States) -> States:
        """Return windows with the states that the backbone gives in a number format, which it runs in once."""
        key = (precision, states.manifest.tensors_sha256)
        if key not in self._ran:
            self._ran[key] = self.run(precision, states)
        return self._ran[key]

    def scored_updates(self, text: str, seed: int) -> tuple[list[Score], dict[str, States]]:
        """Return the losses of a module on several updates of its backbone, and agreement on the first of them.

        Raises: DataError: two updated backbones do not read the same text.
        """
        asked = {name: (str(arm.update), arm.way) for name, arm in self.spec.arms.items()}
        places = list(dict.fromkeys(asked.values()))
        found: list[Score] = []
        scopes: dict[str, States] = {}
        for update, way in places:
            place = f"/{update}/{way}.1/"
            states, head = updated(self.inputs, place, text, seed)
            module = self.module(SOURCE, text, seed, self.states(text, "test"))
            fresh = AbiModule(module.config, seed=derive_seed("placebo", RANDOM_NET, seed, 0))
            arms: dict[Key, ArmForm | None] = {}
            reference = None
            if not scopes:
                scopes = {"domain": states}
                trained = [having(self.inputs["oracles"], place, f"{text}/{role}") for role in (REFERENCE, ORACLE)]
                reference, oracle = (module_of_seed(paths, seed, states) for paths in trained)
                arms = {Key("", RAW): None, Key("", REFERENCE): reference, Key("", ORACLE): oracle}
            readings: Mapping[str, ArmForm | None] = {RANDOM_NET: with_net(module, fresh), RAW: None}
            for name in (name for name, where in asked.items() if where == (update, way)):
                arms[Key("", name)] = readings.get(self.spec.arms[name].recipe, module)
            agree_on = ("domain",) if reference is not None else ()
            found += score(
                arms,
                reference,
                None,
                {"domain": states},
                head,
                agree_on=agree_on,
                windows_per_batch=self.spec.windows_per_batch,
            )
        return found, scopes


def renamed(one: Score, study: str, about: str) -> Score:
    """Return a score as one of a study, in which the arm it is about is the candidate."""
    arm = CANDIDATE if one.key.arm == about else one.key.arm
    return Score(one.scope, Key(study, arm, one.key.draw), one.metric, one.values)
