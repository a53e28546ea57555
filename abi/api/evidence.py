"""The evidence of a comparison: every arm of a regime for some seeds, made and scored as the rules of the DAG do it."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from abi.api.comparison import Cost
from abi.api.defaults import NGRAMS
from abi.api.kept import remembered
from abi.api.memory import metered
from abi.api.modules import Module
from abi.api.moving import FIT_OF, TRIAL, Lesson, Move, Rates, budget_of, chosen_rates, fitted, shape_of
from abi.api.progress import BOTH, expect, fit_seconds, part, pass_seconds
from abi.api.sides import MOST_GENERAL, MOST_WINDOWS, Side
from abi.api.training import RATES, Role, best, entry_of, module_seconds, native, portable_seconds, trained_portables
from abi.arms.fitting import Nets, gradient_tasks
from abi.arms.forms import FINALS, ArmForm, load_stored
from abi.arms.gradient import FitData
from abi.arms.lora_fit import Lora
from abi.arms.metrics import EvidenceRow, Key, Score, evidence_rows, ngram_scores, score
from abi.arms.rates import JUDGED, choose
from abi.base.catalogue import ARMS, frozen_net
from abi.base.files import sha256_tensors
from abi.base.manifests.modules import ModuleEntry
from abi.base.names import (
    BIAS,
    DIRECT,
    LORA,
    NO_DOMAIN,
    ORACLE,
    PERMUTED,
    PORTABLE,
    RANDOM,
    RAW,
    REFERENCE,
    SOURCE_ALONE,
    TRANSFERRED,
    UNFITTED,
    WRONG_DOMAIN,
)
from abi.base.regimes import REGIMES, required_in
from abi.base.typed import Regime, Split, Typed
from abi.models.backbone import Backbone
from abi.models.module import AbiModule
from abi.models.portable import Placed, PortableModule, placebos_of
from abi.models.states import States
from abi.plan.specs.arms import FitSection
from abi.plan.specs.models import ModuleSection, PortableTraining

Arms = dict[Key, ArmForm | None]
ZERO_TEXT: Regime = "zero-text"


class Evidence(Typed):
    """Rows of a seed, what the fits of each arm cost, whether frozen nets stayed as they were (protocol test 7)."""

    rows: list[EvidenceRow]
    costs: dict[str, list[Cost]]
    unmoved: bool
    seconds: float
    """that it took, whenever it was made"""


@dataclass
class Found:
    """The evidence of a seed while it is made."""

    rows: list[EvidenceRow] = field(default_factory=list)
    costs: dict[str, list[Cost]] = field(default_factory=dict)
    unmoved: bool = True

    def note(self, arm: str, seconds: float, n_trained: int, memory_mb: float | None) -> None:
        """Note what a fit of an arm cost."""
        self.costs.setdefault(arm, []).append(Cost(seconds=seconds, n_trained=n_trained, memory_mb=memory_mb))


def costs_of(evidence: Sequence[Evidence]) -> dict[str, Cost]:
    """Return arm -> the mean seconds of its fits, and the most memory that one took."""
    found: dict[str, list[Cost]] = {}
    for one in evidence:
        for arm, costs in one.costs.items():
            found.setdefault(arm, []).extend(costs)
    return {
        arm: Cost(
            seconds=float(np.mean([cost.seconds for cost in costs])),
            n_trained=costs[0].n_trained,
            memory_mb=max((cost.memory_mb for cost in costs if cost.memory_mb is not None), default=None),
        )
        for arm, costs in found.items()
    }


@dataclass
class Net:
    """A module trained on a side, what its training left, and the memory that it took."""

    module: AbiModule
    entry: ModuleEntry
    memory_mb: float | None


@dataclass
class Study:
    """What the seeds of a comparison share.

    Args: given: a module that is the source's of its own seed; section: the budget of the fits on the target, of
        few-shot in `zero-text`, where only what a user would do instead is fitted; native: training of modules;
        portable: shape and training of portable ones; least: scored positions of a document; kept_seconds: of the seeds
        that a call before this one made.
    """

    move: Move
    regime: Regime
    given: Module | None
    section: FitSection
    native: ModuleSection
    portable: PortableTraining
    adapts: bool
    least: int
    kept_seconds: float = 0.0
    _nets: dict[tuple[str, str, int], Net] = field(default_factory=dict)
    _lessons: dict[int, Lesson] = field(default_factory=dict)
    _rates: dict[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> Regime:
        """The regime whose recipes are fitted on the target."""
        return "few-shot" if self.regime == ZERO_TEXT else self.regime

    @property
    def fit_name(self) -> str:
        """What the evidence calls the fit that decides."""
        return PORTABLE if self.regime == ZERO_TEXT else FIT_OF[self.regime]

    @property
    def arms(self) -> list[str]:
        """The arms that are fitted on the target by gradient steps, without LoRA."""
        if self.regime == ZERO_TEXT:
            return [DIRECT]
        return [*required_in(self.regime), DIRECT]

    def evidence(self, seeds: Sequence[int]) -> list[Evidence]:
        """Return the evidence of some seeds; one that is kept is not made again, and its seconds are counted."""
        places = {seed: self.move.target.folder / f"seed-{seed}.json" for seed in seeds}
        kept = [seed for seed, place in places.items() if place.exists()]
        self.foresee(len(seeds) - len(kept))
        found = {seed: remembered(place, Evidence, partial(self.of_seed, seed)) for seed, place in places.items()}
        self.kept_seconds = sum(found[seed].seconds for seed in kept)
        return [*found.values()]

    def of_seed(self, seed: int) -> Evidence:
        """Return the evidence of a seed."""
        began, found, target, source = time.perf_counter(), Found(), self.move.target, self.move.source
        scopes = {"domain": self.tested(target, "domain_texts"), "general": self.tested(target, "general_texts")}
        of_source = {"domain": self.tested(source, "domain_texts")}
        reference, oracle = self.net(target, "reference", seed).module, self.net(target, "oracle", seed)
        arms: Arms = {
            Key(UNFITTED, RAW): None,
            Key(UNFITTED, REFERENCE): reference,
            Key(UNFITTED, ORACLE): oracle.module,
        }
        found.note(ORACLE, oracle.entry.elapsed_s, oracle.entry.n_parameters, oracle.memory_mb)
        arms |= self.calibrated(seed, found)
        if self.adapts:
            arms |= self.adapted(seed, scopes, found)
        alone: ArmForm
        if self.regime == ZERO_TEXT:
            moved, placed = self.placed(seed)
            arms |= placed
            alone = Placed(moved, source.vocabulary, source.head.scale)
        else:
            alone = self.source_net(seed)
        teacher = oracle.module if REGIMES[self.regime].taught_by == ORACLE else None
        with part("scores", f"scoring {len(arms)} arms, seed {seed}", self.scoring_seconds):
            scores = score(arms, reference, teacher, scopes, target.head)
            found.rows += evidence_rows([*scores, *self.counted(scopes)], scopes, seed)
            by_itself = score({Key(UNFITTED, SOURCE_ALONE): alone}, None, None, of_source, source.head, agree_on=())
            found.rows += evidence_rows(by_itself, of_source, seed)
        seconds = time.perf_counter() - began
        return Evidence(rows=found.rows, costs=found.costs, unmoved=found.unmoved, seconds=seconds)

    def counted(self, scopes: Mapping[str, States]) -> list[Score]:
        """Return the losses of an n-gram model of the text on which the source's module is trained."""
        source, target = self.move.source, self.move.target
        train = self.move.states(source, "domain_texts", "train")
        return ngram_scores(train, source.vocabulary, target.vocabulary, scopes, target.head, NGRAMS)

    def tested(self, side: Side, what: str) -> States:
        """Return the held-out states of a side."""
        return self.move.states(side, what, "test", self.least)

    # modules trained on one side

    def net(self, side: Side, role: Role, seed: int) -> Net:
        """Return a module trained on a side; it is trained once."""
        key = (side.name, role, seed)
        if key not in self._nets:
            (section, data, held_out), folder = self.taught(side), side.folder / f"{side.name}-nets"
            if side.name not in self._rates:  # with the seed of trials
                self._rates[side.name] = best(section, side, data, held_out, RATES, TRIAL, folder / "rates")[2]
            words = f"training {side.name}'s module ({role}), seed {seed}"
            finished = entry_of(folder, role, seed).is_file()
            with part("modules", words, module_seconds(section, side)), metered() as memory:
                net, entry = native(section, data, role, self._rates[side.name], seed, folder)
            self._nets[key] = Net(net, entry, None if finished else memory.most_mb)
        return self._nets[key]

    def taught(self, side: Side) -> tuple[ModuleSection, FitData, FitData]:
        """Return how modules of a side are trained, on what, and on what their learning rate is chosen."""
        data, held_out = (
            FitData(self.move.states(side, "domain_texts", split), side.head) for split in ("train", "calibration")
        )
        return self.native.model_copy(update={"taps": list(self.move.taps[side.name])}), data, held_out

    def source_net(self, seed: int) -> AbiModule:
        """Return the module that moves: the given one for its own seed, others like it for the others."""
        if self.given is not None and self.given.about.seed == seed:
            assert isinstance(self.given.net, AbiModule)
            return self.given.net
        return self.net(self.move.source, "source", seed).module

    # arms of the target

    def lesson(self, seed: int) -> Lesson:
        """Return what the arms of a seed are fitted on; the last one, and that of trials, are kept."""
        if seed not in self._lessons:
            kept = {TRIAL: self._lessons[TRIAL]} if TRIAL in self._lessons else {}
            self._lessons = {**kept, seed: self._lesson(seed)}
        return self._lessons[seed]

    def _lesson(self, seed: int) -> Lesson:
        if self.regime == ZERO_TEXT:
            _, data, held_out = self.taught(self.move.target)
            return Lesson(Nets(), data, held_out, {})
        target, entry = self.move.target, REGIMES[self.regime]
        teacher = self.net(target, "oracle", seed).module if entry.taught_by else None
        home = self.net(target, "home", seed).module if entry.has_control else None
        return self.move.lesson(self.regime, self.source_net(seed), seed, teacher, home)

    @cached_property
    def chosen(self) -> dict[str, float]:
        """The learning rate of every arm, chosen with the seed of trials."""
        return chosen_rates(
            self.fits,
            self.arms,
            self.move.config,
            self.lesson(TRIAL),
            self.section,
            self.move.target.folder,
            words=f"choosing the learning rates of {len(self.arms)} arms",
            fitting_s=self.fitting_seconds,
        )

    def calibrated(self, seed: int, found: Found) -> Arms:
        """Return the arms of a seed that are fitted on stored states."""
        rates, lesson, arms = self.chosen, self.lesson(seed), Arms()
        words = f"fitting {len(self.arms)} arms on the target, seed {seed}"
        with part("arms", words, self.fitting_seconds), metered() as memory:
            folder = self.move.target.folder
            made = fitted(self.fits, self.arms, self.move.config, lesson, self.section, rates, seed, folder)
        for (arm, draw), (fit, figures) in made.items():
            arms[Key(self.fit_name, arm, draw)] = fit.model
            found.note(arm, figures.elapsed_s or 0.0, figures.n_trainable, memory.most_mb)
            giver: AbiModule | None = getattr(lesson.nets, frozen_net(arm, self.fits) or "", None)
            if giver is not None:
                found.unmoved &= sha256_tensors(fit.net) == sha256_tensors(giver.domain_parameters())
        return arms

    # LoRA

    @cached_property
    def adapters(self) -> Lora:
        """A copy of the target that adapters are put on."""
        target, shape = self.move.target, shape_of(self.move.config)
        model = copy.deepcopy(target.backbone.model).to("cpu").eval().requires_grad_(False)  # where states are
        train = self.lesson(TRIAL).data.states
        return Lora(Backbone(model, target.backbone.tokenizer), target.manifest, shape, train)

    @cached_property
    def adapter_rate(self) -> float:
        """The learning rate of adapters, chosen as those of the arms."""
        lesson = self.lesson(TRIAL)
        held_out, rates, folder = lesson.held_out.at_most(JUDGED), self.section.rates, self.move.target.folder

        def tried() -> Rates:
            values = []
            for rate in rates:
                budget = budget_of(self.fits, self.section, self.move.config, {LORA: rate})
                tasks = gradient_tasks(lesson.data, budget, TRIAL)
                with part("adapters", f"trying adapters at rate {rate:g}", self.adapting_seconds):
                    begun = [folder / f"rates-{LORA}" / f"{rate!r}-{task.draw}.safetensors" for task in tasks]
                    tried = [
                        self.adapters.tried(task, budget, TRIAL, held_out, path)
                        for task, path in zip(tasks, begun, strict=True)
                    ]
                values.append(float(np.mean(tried)))
            return Rates(rates={LORA: choose(LORA, rates, values).rate})

        return remembered(folder / "rates-adapters.json", Rates, tried).rates[LORA]

    def adapted(self, seed: int, scopes: dict[str, States], found: Found) -> Arms:
        """Return the adapters of a seed as their final states on the held-out windows."""
        budget = budget_of(self.fits, self.section, self.move.config, {LORA: self.adapter_rate})
        root, arms = self.move.target.folder, Arms()
        tasks = gradient_tasks(self.lesson(seed).data, budget, seed)
        for task in tasks:
            name = f"{LORA}-{seed}-{task.draw}"
            words = f"training adapters (LoRA), seed {seed}, {len(task.data.states)} windows"
            with part("adapters", words, self.adapting_seconds / len(tasks)), metered() as memory:
                entry = self.adapters.fit(task, budget, seed, scopes, root, name, root / f"{name}.safetensors")
            base = self.move.target.base.base_sha256
            stored = load_stored(root / name / FINALS, entry.finals_sha256, scopes, base)
            arms[Key(self.fit_name, LORA, task.draw)] = stored
            found.note(LORA, entry.elapsed_s or 0.0, entry.n_trainable, memory.most_mb)
        return arms

    # portable modules

    def placed(self, seed: int) -> tuple[PortableModule, Arms]:
        """Return the portable module of a seed, and it on the target with its placebos and controls."""
        source, target = self.move.source, self.move.target
        names = ("domain_texts", "general_texts", "other_texts")
        domain, general, other = (self.move.states(source, what, "train") for what in names)
        trained = trained_portables(source, self.portable, domain, general, seed, (NO_DOMAIN, BIAS))
        wrong = trained_portables(source, self.portable, other, general, seed)
        nets = {Key(PORTABLE, arm): net for arm, (net, _) in trained.items()}
        moved = nets[Key(PORTABLE, TRANSFERRED)]
        if self.given is not None and self.given.about.seed == seed:
            assert isinstance(self.given.net, PortableModule)
            moved = nets[Key(PORTABLE, TRANSFERRED)] = self.given.net
        nets[Key(PORTABLE, WRONG_DOMAIN)] = wrong[TRANSFERRED][0]
        draws = {arm: ARMS[arm].recipes[ZERO_TEXT].draws for arm in (RANDOM, PERMUTED)}
        nets |= {Key(PORTABLE, *drawn): net for drawn, net in placebos_of(moved, draws, seed).items()}
        return moved, {key: Placed(net, target.vocabulary, target.head.scale) for key, net in nets.items()}

    # what all this should take

    @property
    def rungs(self) -> int:
        """How many fits an arm gets per seed: one, or one per rung of a ladder of windows."""
        return len(self.section.windows or (0,))

    @property
    def steps(self) -> int:
        """The steps of a fit."""
        return sum(phase.steps for phase in self.section.phases)

    @property
    def fitting_seconds(self) -> float:
        """Seconds of the arms of a seed."""
        head = self.move.target.head_size
        return self.rungs * fit_seconds(self.steps, self.section.batch, head, len(self.arms))

    @property
    def adapting_seconds(self) -> float:
        """Seconds of the adapters of a seed."""
        target, of = self.move.target, self.section
        length = target.window.length
        tokens = of.batch if of.batch_of == "positions" else of.batch * length
        return self.rungs * self.steps * pass_seconds(target.manifest.n_parameters, max(tokens, length), BOTH)

    @property
    def scoring_seconds(self) -> float:
        """Seconds of scoring a seed."""
        target = self.move.target
        rows, width = target.head_size
        windows = MOST_WINDOWS.test + MOST_GENERAL.test
        return pass_seconds(rows * width, (len(self.arms) * self.rungs + 4) * windows * target.window.length)

    def foresee(self, n_seeds: int) -> None:
        """Tell whoever watches what some seeds should take."""
        source, target = self.move.source, self.move.target
        splits: tuple[Split, ...] = ("train", "calibration", "test")
        both = [
            (side, what, split)
            for side in (source, target)
            for what in ("domain_texts", "general_texts")
            for split in splits
        ]
        expect(states=sum(side.reading_seconds(what, split) for side, what, split in both))
        of_target, of_source = (module_seconds(self.native, side) for side in (target, source))
        entry = REGIMES[self.fits]
        expect(modules=of_target * (len(RATES) + n_seeds * (2 + entry.has_control)))
        if self.regime == ZERO_TEXT:
            expect(
                modules=n_seeds * (portable_seconds(self.portable, source, 3) + portable_seconds(self.portable, source))
            )
        else:
            expect(modules=of_source * (len(RATES) + n_seeds))
        expect(arms=(n_seeds + len(self.section.rates)) * self.fitting_seconds, scores=n_seeds * self.scoring_seconds)
        if self.adapts:
            expect(adapters=(n_seeds + len(self.section.rates)) * self.adapting_seconds)
