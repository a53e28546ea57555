"""What two sides give the fits of a transfer: states, rotations, lessons; and the fits themselves, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from abi.api.defaults import Budgets, budgets_of
from abi.api.kept import remembered
from abi.api.modules import TextRead, read_of
from abi.api.progress import part
from abi.api.sides import Side
from abi.arms.alignment import Alignment, abi_rows, fit_procrustes, pair_states
from abi.arms.fitting import Budget, MadeArm, Nets, Solved, fit_arms, gradient_tasks, make
from abi.arms.forms import corrections
from abi.arms.general_lesson import GeneralLesson, pair_of, shared_tokens
from abi.arms.gradient import FitData
from abi.arms.rates import JUDGED, choose, tried_rates
from abi.base.catalogue import recipes_of
from abi.base.errors import DataError
from abi.base.manifests.arms import FitFigures
from abi.base.typed import Regime, Split, Typed
from abi.models.module import AbiModule, ModuleConfig, redrawn
from abi.models.states import States
from abi.plan.specs.arms import BudgetName, FitSection, Fitting
from abi.plan.specs.models import Shape
from abi.text.documents import Document

FIT_OF: dict[Regime, BudgetName] = {"oracle-kd": "kd", "few-shot": "ce", "general-only": "matched"}
TRIAL = 0
"""The seed of trials of learning rates, which no fit has."""
MOST_SHIFTS = 5 * 10**8
"""Numbers of a lesson, paired positions times vocabulary, at most; of half precision, so a gigabyte."""


@dataclass(frozen=True)
class Lesson:
    """What the arms of a seed are made of and fitted on, and what their rates are chosen on."""

    nets: Nets
    data: FitData
    held_out: FitData
    rotations: Mapping[str, Alignment]


class Move:
    """Two sides, the texts they read, and the shape of the module that moves.

    Args: config: of the source's module; texts: `general_texts`, and maybe `domain_texts` and `other_texts`.
    Raises: DataError: the target has too few hidden states, or is too narrow.
    """

    def __init__(
        self, source: Side, target: Side, config: ModuleConfig, texts: Mapping[str, Sequence[Document]]
    ) -> None:
        self.source, self.target, self.texts = source, target, texts
        below = [source.manifest.depth - tap for tap in config.taps]
        depth = target.manifest.depth
        if max(below) > depth:
            raise DataError(
                f"transfer: the module reads a hidden state {max(below)} below the last, and the target has {depth}; "
                "train one that reads the final state"
            )
        width = target.manifest.width * len(below)
        if config.d_abi > width:
            raise DataError(
                f"target: its states give a module at most {width} dimensions, and this one has {config.d_abi}; train "
                f"one with d_abi={width} or less (`abi train --d-abi {width}`)"
            )
        taps = tuple(depth - down for down in below)
        self.taps = {source.name: config.taps, target.name: taps}
        self.config = replace(config, width=target.manifest.width, taps=taps)
        self._states: dict[tuple[str, str, str], States] = {}

    def states(self, side: Side, what: str, split: Split, least: int = 1) -> States:
        """Return the states of a side on the documents of a split, stored at the first call."""
        key = (side.name, what, split)
        if key not in self._states:
            taps = [tap for tap in self.taps[side.name] if tap < side.manifest.depth]
            self._states[key] = side.states(self.texts[what], split, what, taps=taps, least=least)
        return self._states[key]

    def read(self, what: str, states: States) -> TextRead:
        """Return what a record says of one of the texts. Args: states: those that were read."""
        return read_of(what, self.texts[what], states)

    def lesson(
        self,
        regime: Regime,
        source: AbiModule,
        seed: int,
        teacher: AbiModule | None = None,
        home: AbiModule | None = None,
    ) -> Lesson:
        """Return what the arms of a seed are fitted on in a regime.

        Args: source: the module that moves; teacher: of the target, in `oracle-kd`; home: a third module of the target,
            where there is a positive control.
        Raises: AlignmentError: the sides share too few positions or tokens.
        """
        if regime == "general-only":
            nets = Nets(source=source)
            data = self.general.data(nets, self.general.pairs)
            assert data.held_out is not None
            return Lesson(nets, data, data.held_out, {})
        rotations = {"aligned": self.rotation(source, self.source, seed)}
        if home is not None:
            rotations["home"] = self.rotation(home, self.target, seed)
        nets = Nets(source=source, home=home, rotations={name: found.rotation for name, found in rotations.items()})
        data, held_out = (self._taught(split, teacher) for split in ("train", "calibration"))
        return Lesson(nets, data, held_out, rotations)

    def _taught(self, split: Split, teacher: AbiModule | None) -> FitData:
        states = self.states(self.target, "domain_texts", split)
        return FitData(states, self.target.head, None if teacher is None else corrections(teacher, states))

    def rotation(self, module: AbiModule, side: Side, seed: int) -> Alignment:
        """Return the rotation from the target's redrawn interface to the space of a module of one of the sides."""
        at_target, at_source = self.paired
        own = self.states(side, "general_texts", "train")
        target = self.states(self.target, "general_texts", "train")
        rows = abi_rows(redrawn(self.config, seed), target, at_target)
        return fit_procrustes(rows, abi_rows(module, own, at_source if side is self.source else at_target))

    @property
    def budgets(self) -> Budgets:
        """What training and calibration take with models of these sizes."""
        return budgets_of(self.source.head_size, self.target.head_size)

    @cached_property
    def paired(self) -> tuple[Tensor, Tensor]:
        """The positions of general text at which both sides have read the same."""
        target, source = (self.states(side, "general_texts", "train") for side in (self.target, self.source))
        return pair_states(target, source, self.budgets.max_rows)

    @cached_property
    def general(self) -> "GeneralTexts":
        """The lesson of `general-only`."""
        return GeneralTexts(self)


class GeneralTexts(GeneralLesson):
    """The lesson of `general-only` on states in memory."""

    def __init__(self, move: Move) -> None:
        source, target = move.source, move.target
        self.ids = shared_tokens(target.vocabulary.spellings, source.vocabulary.spellings)
        self.head, self.config, self.penalty = target.head, move.config, move.budgets.fits["matched"].ridge_penalty
        most = min(move.budgets.max_rows, MOST_SHIFTS // len(target.head.weight))
        self.pairs = {}
        wanted: dict[Split, int] = {"train": most, "calibration": max(1, most // 10)}
        for split, rows in wanted.items():
            of_target, of_source = (move.states(side, "general_texts", split) for side in (target, source))
            self.pairs[split] = pair_of(of_target, of_source, source.head, rows)


class Rates(Typed):
    """The learning rates that arms chose. Args: rates: arm -> its own."""

    rates: dict[str, float]


def budget_of(regime: Regime, section: FitSection, config: ModuleConfig, rates: Mapping[str, float]) -> Budget:
    """Return the budget of a regime's fits. Args: rates: arm -> its learning rate."""
    shape, fit = shape_of(config), FIT_OF[regime]
    spec = Fitting(regime=regime, fit=fit, budget=section, module=shape, seeds=[], variants=[])
    return Budget.of(spec, rates)


def shape_of(config: ModuleConfig) -> Shape:
    """Return the sizes of a module as specs give them."""
    return Shape(d_abi=config.d_abi, taps=list(config.taps), tap_norms=config.tap_norms, expansion=config.expansion)


def chosen_rates(
    regime: Regime,
    arms: Sequence[str],
    config: ModuleConfig,
    lesson: Lesson,
    section: FitSection,
    folder: Path,
    *,
    words: str,
    fitting_s: float,
) -> dict[str, float]:
    """Return arm -> the learning rate of the grid with the lowest objective on held-out data, chosen once.

    Args: lesson: of the seed of trials; folder: where the rates, and what was begun of them, are kept; words: what is
        told of it while it runs; fitting_s: seconds that one rate should take.
    """
    grid = section.rates

    def tried() -> Rates:
        budget, recipes = budget_of(regime, section, config, {}), recipes_of(arms, regime)
        held_out, begun = lesson.held_out.at_most(JUDGED), folder / "rates-arms"
        with part("arms", words, len(grid) * fitting_s):
            found = tried_rates(
                recipes, config, lesson.nets, lesson.data, held_out, budget, grid, seed=TRIAL, checkpoints=begun
            )
        return Rates(rates={arm: choose(arm, grid, values).rate for arm, values in found.items()})

    return remembered(folder / "rates-arms.json", Rates, tried).rates


def fitted(
    regime: Regime,
    arms: Sequence[str],
    config: ModuleConfig,
    lesson: Lesson,
    section: FitSection,
    rates: Mapping[str, float],
    seed: int,
    folder: Path,
) -> dict[tuple[str, int], tuple[MadeArm, FitFigures]]:
    """Return (arm, draw) -> the fitted arm and its figures; a draw is a rung of a ladder of windows, 0 without one.

    Args: folder: where what was begun is kept.
    Raises: TamperError: a frozen part changed.
    """
    budget, solved = budget_of(regime, section, config, rates), Solved(section.ridge_penalty)
    found: dict[tuple[str, int], tuple[MadeArm, FitFigures]] = {}
    for task in gradient_tasks(lesson.data, budget, seed):
        made = {
            arm: make(recipe, arm, config, lesson.nets, task.data, seed=seed, draw=task.net_draw)
            for arm, recipe in recipes_of(arms, regime).items()
        }
        figures = fit_arms(made, task, budget, seed, solved, folder / "arms")
        found |= {(arm, task.draw): (made[arm], figures[arm]) for arm in arms}
    return found
