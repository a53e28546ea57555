"""The evidence of a comparison: every arm of a regime for some seeds, made and scored as the rules of the DAG do it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from abi.api.comparison import Cost
from abi.api.modules import Module
from abi.api.moving import FIT_OF, TRIAL, Lesson, Move, budget_of, chosen_rates, fitted, shape_of
from abi.api.sides import Side
from abi.api.training import RATES, Role, best, native, portables
from abi.arms.fitting import Nets, gradient_tasks
from abi.arms.forms import FINALS, ArmForm, load_stored
from abi.arms.gradient import FitData
from abi.arms.metrics import EvidenceRow, Key, evidence_rows, score
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
from abi.base.regimes import REGIMES
from abi.base.typed import Regime
from abi.models.backbone import Backbone
from abi.models.module import AbiModule, derive_seed
from abi.models.portable import Placed, PortableModule, placebo_of
from abi.models.states import States
from abi.plan.specs.arms import FitSection
from abi.plan.specs.models import ModuleSection, PortableTraining
from abi.steps.train_lora import Lora

Arms = dict[Key, ArmForm | None]
AS_IS: Regime = "zero-text"


@dataclass
class Evidence:
    """Rows of all seeds, what the fits of each arm cost, whether frozen nets stayed as they were (protocol test 7)."""

    rows: list[EvidenceRow] = field(default_factory=list)
    spent: dict[str, list[Cost]] = field(default_factory=dict)
    unmoved: bool = True

    def note(self, arm: str, seconds: float, n_trained: int) -> None:
        """Note what a fit of an arm cost."""
        self.spent.setdefault(arm, []).append(Cost(seconds=seconds, n_trained=n_trained))

    def costs(self) -> dict[str, Cost]:
        """Return arm -> the mean cost of its fits."""
        return {
            arm: Cost(seconds=float(np.mean([cost.seconds for cost in found])), n_trained=found[0].n_trained)
            for arm, found in self.spent.items()
        }


@dataclass
class Study:
    """What the seeds of a comparison share.

    Args: given: a module that is the source's of its own seed; section: the budget of the fits on the target, of
        few-shot in `zero-text`, where only what a user would do instead is fitted; native: training of modules;
        portable: shape and training of portable ones; least: scored positions of a document.
    """

    move: Move
    regime: Regime
    given: Module | None
    section: FitSection
    native: ModuleSection
    portable: PortableTraining
    adapts: bool
    least: int
    _nets: dict[tuple[str, str, int], tuple[AbiModule, ModuleEntry]] = field(default_factory=dict)
    _lessons: dict[int, Lesson] = field(default_factory=dict)
    _rates: dict[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> Regime:
        """The regime whose recipes are fitted on the target."""
        return "few-shot" if self.regime == AS_IS else self.regime

    @property
    def fit_name(self) -> str:
        """What the evidence calls the fit that decides."""
        return PORTABLE if self.regime == AS_IS else FIT_OF[self.regime]

    @property
    def arms(self) -> list[str]:
        """The arms that are fitted on the target by gradient steps, without LoRA."""
        if self.regime == AS_IS:
            return [DIRECT]
        return [*REGIMES[self.regime].required, DIRECT]

    def evidence(self, seeds: Sequence[int]) -> Evidence:
        """Return the evidence of some seeds."""
        found, target, source = Evidence(), self.move.target, self.move.source
        scopes = {"domain": self.tested(target, "domain_texts"), "general": self.tested(target, "general_texts")}
        of_source = {"domain": self.tested(source, "domain_texts")}
        for seed in seeds:
            (reference, _), (oracle, entry) = self.net(target, "reference", seed), self.net(target, "oracle", seed)
            arms: Arms = {Key(UNFITTED, RAW): None, Key(UNFITTED, REFERENCE): reference, Key(UNFITTED, ORACLE): oracle}
            found.note(ORACLE, entry.elapsed_s, entry.n_parameters)
            arms |= self.calibrated(seed, found)
            if self.adapts:
                arms |= self.adapted(seed, scopes, found)
            alone: ArmForm
            if self.regime == AS_IS:
                moved, placed = self.placed(seed)
                arms |= placed
                alone = Placed(moved, source.vocabulary, source.head.scale)
            else:
                alone = self.source_net(seed)
            teacher = oracle if self.regime == "oracle-kd" else None
            found.rows += evidence_rows(score(arms, reference, teacher, scopes, target.head), scopes, seed)
            by_itself = score({Key(UNFITTED, SOURCE_ALONE): alone}, None, None, of_source, source.head, agree_on=())
            found.rows += evidence_rows(by_itself, of_source, seed)
        return found

    def tested(self, side: Side, what: str) -> States:
        """Return the held-out states of a side."""
        return self.move.states(side, what, "test", self.least)

    # modules trained on one side

    def net(self, side: Side, role: Role, seed: int) -> tuple[AbiModule, ModuleEntry]:
        """Return a module trained on a side, and what its training left; it is trained once."""
        key = (side.name, role, seed)
        if key not in self._nets:
            (section, data, held_out), folder = self.taught(side), side.folder / f"{side.name}-nets"
            if side.name not in self._rates:  # with the seed of trials
                self._rates[side.name] = best(section, data, held_out, RATES, TRIAL, folder / "rates")[2]
            self._nets[key] = native(section, data, role, self._rates[side.name], seed, folder)
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
        return self.net(self.move.source, "source", seed)[0]

    # arms of the target

    def lesson(self, seed: int) -> Lesson:
        """Return what the arms of a seed are fitted on; the last one, and that of trials, are kept."""
        if seed not in self._lessons:
            kept = {TRIAL: self._lessons[TRIAL]} if TRIAL in self._lessons else {}
            self._lessons = {**kept, seed: self._lesson(seed)}
        return self._lessons[seed]

    def _lesson(self, seed: int) -> Lesson:
        if self.regime == AS_IS:
            _, data, held_out = self.taught(self.move.target)
            return Lesson(Nets(), data, held_out, {})
        target, entry = self.move.target, REGIMES[self.regime]
        teacher = self.net(target, "oracle", seed)[0] if entry.taught_by else None
        home = self.net(target, "home", seed)[0] if entry.has_control else None
        return self.move.lesson(self.regime, self.source_net(seed), seed, teacher, home)

    @cached_property
    def chosen(self) -> dict[str, float]:
        """The learning rate of every arm, chosen with the seed of trials."""
        return chosen_rates(self.fits, self.arms, self.move.config, self.lesson(TRIAL), self.section)

    def calibrated(self, seed: int, found: Evidence) -> Arms:
        """Return the arms of a seed that are fitted on stored states."""
        lesson, arms = self.lesson(seed), Arms()
        made = fitted(self.fits, self.arms, self.move.config, lesson, self.section, self.chosen, seed)
        for (arm, draw), (fit, figures) in made.items():
            arms[Key(self.fit_name, arm, draw)] = fit.model
            found.note(arm, figures.elapsed_s or 0.0, figures.n_trainable)
            giver: AbiModule | None = getattr(lesson.nets, frozen_net(arm, self.fits) or "", None)
            if giver is not None:
                found.unmoved &= sha256_tensors(fit.net) == sha256_tensors(giver.domain_parameters())
        return arms

    # LoRA

    @cached_property
    def adapters(self) -> Lora:
        """A copy of the target that adapters are put on."""
        target, shape = self.move.target, shape_of(self.move.config)
        model = copy.deepcopy(target.backbone.model).eval().requires_grad_(False)
        train = self.lesson(TRIAL).data.states
        return Lora(Backbone(model, target.backbone.tokenizer), target.manifest, shape, train)

    @cached_property
    def adapter_rate(self) -> float:
        """The learning rate of adapters, chosen as those of the arms."""
        lesson, values = self.lesson(TRIAL), []
        held_out = lesson.held_out.at_most(JUDGED)
        for rate in self.section.rates:
            budget = budget_of(self.fits, self.section, self.move.config, {LORA: rate})
            tasks = gradient_tasks(lesson.data, budget, TRIAL)
            values.append(float(np.mean([self.adapters.tried(task, budget, TRIAL, held_out) for task in tasks])))
        return choose(LORA, self.section.rates, values).rate

    def adapted(self, seed: int, scopes: dict[str, States], found: Evidence) -> Arms:
        """Return the adapters of a seed as their final states on the held-out windows."""
        budget = budget_of(self.fits, self.section, self.move.config, {LORA: self.adapter_rate})
        root, arms = self.move.target.folder, Arms()
        for task in gradient_tasks(self.lesson(seed).data, budget, seed):
            name = f"{LORA}-{seed}-{task.draw}"
            entry = self.adapters.fit(task, budget, seed, scopes, root, name)
            base = self.move.target.base.base_sha256
            stored = load_stored(root / name / FINALS, entry.finals_sha256, scopes, base)
            arms[Key(self.fit_name, LORA, task.draw)] = stored
            found.note(LORA, entry.elapsed_s or 0.0, entry.n_trainable)
        return arms

    # portable modules

    def placed(self, seed: int) -> tuple[PortableModule, Arms]:
        """Return the portable module of a seed, and it on the target with its placebos and controls."""
        source, target = self.move.source, self.move.target
        names = ("domain_texts", "general_texts", "other_texts")
        domain, general, other = (self.move.states(source, what, "train") for what in names)
        trained = portables(source, self.portable, domain, general, seed, (NO_DOMAIN, BIAS))
        wrong = portables(source, self.portable, other, general, seed)
        nets = {Key(PORTABLE, arm): net for arm, (net, _) in trained.items()}
        moved = nets[Key(PORTABLE, TRANSFERRED)]
        if self.given is not None and self.given.about.seed == seed:
            assert isinstance(self.given.net, PortableModule)
            moved = nets[Key(PORTABLE, TRANSFERRED)] = self.given.net
        nets[Key(PORTABLE, WRONG_DOMAIN)] = wrong[TRANSFERRED][0]
        for arm in (RANDOM, PERMUTED):
            for draw in range(ARMS[arm].recipes[AS_IS].draws):
                nets[Key(PORTABLE, arm, draw)] = placebo_of(moved, arm, derive_seed("placebo", arm, seed, draw))
        return moved, {key: Placed(net, target.vocabulary, target.head.scale) for key, net in nets.items()}
