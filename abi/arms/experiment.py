"""The arms of an experiment: made of recipes of the catalogue, and fitted with the one training loop.

Arms differ in what the experiment varies and in nothing else: they share text, order of windows, teacher and budget.
"""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from abi.arms.alignment import fit_procrustes, spread_rows
from abi.arms.closed_form import solve
from abi.arms.experiment_losses import Goal, losses
from abi.arms.fitting import MadeArm, Nets, course, make
from abi.arms.forms import corrections
from abi.arms.gradient import Batch, FitData
from abi.arms.native import train_native
from abi.arms.rates import JUDGED, choose, mean_over
from abi.base.catalogue import Recipe
from abi.base.errors import DataError
from abi.base.job import InputFiles
from abi.base.manifests.arms import FitFigures
from abi.base.manifests.rates import TriedArm
from abi.models.head import Head
from abi.models.loop import BatchOrder, Member, Schedule, Trained, fit_together, frozen_hashes
from abi.models.module import AbiModule, ModuleConfig, derive_seed, redrawn
from abi.models.saved import module_of_seed, read_head, read_states, shape
from abi.models.states import States
from abi.plan.specs.experiments import ArmOfExperiment, ExperimentEvidence

TRIAL = 0
"""The seed that learning rates are tried with; no study has it."""
SOURCE = "source"
Fitted = dict[str, MadeArm]


@dataclass(frozen=True)
class FittedOf:
    """What a fit leaves of an arm of a seed, for the record."""

    arm: str
    seed: int
    figures: FitFigures


class Experiment:
    """Arms of one experiment on the stored states of one backbone.

    Args: scratch: folder of checkpoints.
    """

    def __init__(self, spec: ExperimentEvidence, inputs: InputFiles, scratch: Path) -> None:
        self.spec, self.inputs, self.scratch = spec, inputs, scratch
        self.first = spec.texts[0]
        self._states: dict[str, States] = {}
        self._seed = -1
        self._data: dict[tuple[str, str], FitData] = {}
        self._nets: dict[tuple[ModuleConfig, int], Nets] = {}
        self.fits: list[FittedOf] = []

    # what arms are made of

    def states(self, text: str, split: str) -> States:
        """Return the states of a split of a text, read once."""
        name = f"{split}_{text}"
        if name not in self._states:
            self._states[name] = read_states(self.inputs[name], split)
        return self._states[name]

    def head(self, states: States) -> Head:
        """Return the head of the backbone."""
        return read_head(self.inputs["head"], states)

    def module(self, role: str, text: str, seed: int, states: States) -> AbiModule:
        """Return a trained module of the backbone itself."""
        return module_of_seed(self.inputs[f"{role}_{text}"], seed, states)

    def data(self, text: str, seed: int, split: str = "train") -> FitData:
        """Return what a fit on a text reads: its states, the head, the corrections of what teaches there."""
        states = self.states(text, split)
        if seed != self._seed:  # what is of one seed is not kept for the next
            self._seed, self._data, self._nets = seed, {}, {}
        if (text, split) not in self._data:
            taught = corrections(self.module(self.spec.taught_by, text, seed, states), states)
            self._data[text, split] = FitData(states, self.head(states), taught)
        return self._data[text, split]

    def config(self, arm: ArmOfExperiment) -> ModuleConfig:
        """Return the shape of an arm's module."""
        base = shape(self.spec.module, self.states(self.first, "train"))
        width = round(arm.of_state * base.width) if arm.of_state else arm.width or base.d_abi
        return replace(base, d_abi=width, expansion=arm.expansion or base.expansion)

    def nets(self, recipe: Recipe, config: ModuleConfig, seed: int) -> Nets:
        """Return the modules and the rotation that a recipe needs.

        A net of another width than the claim's shape is trained here, with the budget of every native module; the
        rotation is fitted to the redrawn interface of the seed on general text.
        """
        if recipe.start == "before":
            return Nets(before=self.module(SOURCE, self.first, seed, self.states(self.first, "train")))
        if recipe.rotation != "aligned":
            return Nets()
        if (config, seed) not in self._nets:
            source = self.source(config, seed)
            self._nets[config, seed] = Nets(source=source, rotations={"aligned": self.rotation(source, seed)})
        return self._nets[config, seed]

    def source(self, config: ModuleConfig, seed: int) -> AbiModule:
        """Return the module whose net moves: the one there is, or one of another width, trained here."""
        data = self.data(self.first, seed)
        if config == shape(self.spec.module, data.states):
            return self.module(SOURCE, self.first, seed, data.states)
        name, manifest = f"{self.spec.name}-{config.d_abi}-{config.expansion}", data.states.manifest
        place = (manifest.base_model, self.first, SOURCE, name, seed)
        module, _ = train_native(config, data, self.spec.module.training, place)
        return module

    @torch.no_grad()
    def rotation(self, source: AbiModule, seed: int) -> Tensor:
        """Return the rotation from the redrawn interface of a seed to a module's space, on general train text."""
        if "align" not in self._states:
            self._states["align"] = read_states(self.inputs["align"], "train")
        states = self._states["align"]
        windows = spread_rows(len(states), max(1, self.spec.max_rows // states.manifest.positions))
        taps = states.taps(source.config.taps, windows)
        modules = redrawn(source.config, seed).to(source.device), source
        rows = [module.interface_state(taps).flatten(0, 1).cpu() for module in modules]
        return fit_procrustes(*rows).rotation

    # fits

    def levels(self, names: Collection[str]) -> Iterator[list[str]]:
        """Yield arms in an order in which every arm follows the one it goes on from, many at a time."""
        left = [name for name in self.spec.arms if name in names]
        while left:
            ready = [name for name in left if self.spec.arms[name].start not in left]
            if not ready:
                raise DataError(f"experiment: arms {', '.join(left)} go on from each other; give one a recipe")
            yield ready
            left = [name for name in left if name not in ready]

    def made(self, name: str, seed: int, done: Fitted) -> MadeArm:
        """Return an arm before its fit: what its recipe makes, or a copy of the arm that it goes on from."""
        arm = self.spec.arms[name]
        if arm.start is not None:
            shared = done[arm.start].frozen["head"]
            return copy.deepcopy(done[arm.start], {id(shared): shared})
        data, config, recipe = self.data(arm.text or self.first, seed), self.config(arm), self.spec.recipes[arm.recipe]
        return make(recipe, arm.recipe, config, self.nets(recipe, config, seed), data, seed=seed)

    def fitted(self, names: Collection[str], seed: int, rates: Mapping[str, float]) -> Fitted:
        """Return every named arm of a seed, fitted. Args: rates: arm -> its learning rate, where it has one."""
        done: Fitted = {}
        for level in self.levels(names):
            self.fit_level({name: self.made(name, seed, done) for name in level}, seed, rates, done)
        return done

    def fit_level(self, made: Fitted, seed: int, rates: Mapping[str, float], done: Fitted) -> None:
        """Fit some made arms that go on from none of each other, and put them to those that are done."""
        together: dict[tuple[str, float], list[str]] = {}
        for name, arm in made.items():
            asked = self.spec.arms[name]
            if asked.by == "steps":
                together.setdefault((asked.text or self.first, asked.steps), []).append(name)
                continue
            if asked.by == "solve":
                few = self.data(asked.text or self.first, seed).at_most(self.spec.budget.closed_form_rows)
                arm.model.requires_grad_(False)
                solve(arm.model, few, self.spec.budget.ridge_penalty)
            self.told(name, seed, arm, {"steps": 0})
        for (text, share), names in together.items():
            trained = self.train({name: made[name] for name in names}, text, share, seed, rates)
            for name, one in trained.items():
                self.told(name, seed, made[name], course(one, self.schedule(share, rates[self.tuned(name)])))
        done |= made

    def told(self, name: str, seed: int, arm: MadeArm, figures: Mapping[str, object]) -> None:
        """Keep what the record says of a fit."""
        arm.model.requires_grad_(False)
        if seed == TRIAL:
            return
        n_trainable = sum(tensor.numel() for tensor in arm.trainable.values())
        own = {"n_trainable": n_trainable, "frozen_sha256": frozen_hashes([arm.frozen])[0], **figures}
        self.fits.append(FittedOf(name, seed, FitFigures.model_validate(own)))

    def schedule(self, share: float, rate: float) -> Schedule:
        """Return the budget of an arm at its own rate. Args: share: of the steps."""
        budget = self.spec.budget
        return Schedule.given(budget.of_steps(share), budget.weight_decay).at(rate)

    def tuned(self, name: str) -> str:
        """Return the arm whose rate an arm takes."""
        return self.spec.arms[name].rate_of or name

    def goal(self, name: str) -> Goal:
        """Return what an arm minimises."""
        arm, budget = self.spec.arms[name], self.spec.budget
        weight = budget.kd_weight if arm.kd_weight is None else arm.kd_weight
        return Goal(arm.objective, arm.temperature or budget.temperature, weight, arm.local)

    def train(
        self,
        arms: Fitted,
        text: str,
        share: float,
        seed: int,
        rates: Mapping[str, float],
        *,
        may_diverge: bool = False,
    ) -> dict[str, Trained]:
        """Fit arms by gradient, in place and in step with each other; return what the loop leaves of each."""
        data, budget = self.data(text, seed), self.spec.budget
        batch = Batch(budget.batch, budget.batch_of).at_most(data.states)
        data = data.by_position() if batch.of == "positions" else data
        order = BatchOrder(len(data.states), batch.size, derive_seed("calibration", seed), batch.of)
        models, goals = [arm.model for arm in arms.values()], [self.goal(name) for name in arms]
        members = [
            Member(
                f"{name} seed {seed}",
                arm.trainable,
                self.schedule(share, rates[self.tuned(name)]),
                arm.frozen,
                may_diverge,
            )
            for name, arm in arms.items()
        ]
        checkpoint = None if may_diverge else self.scratch / f"{seed}-{text}-{share:g}-{len(self.fits)}.safetensors"
        trained = fit_together(lambda step: losses(models, goals, data, order[step]), members, checkpoint=checkpoint)
        return dict(zip(arms, trained, strict=True))

    # learning rates

    def tried(self) -> list[TriedArm]:
        """Return the learning rate of every arm that chooses its own: each rate of the grid tried with a seed of no
        study, judged by the arm's own objective on calibration text.
        """
        choosing = [name for name, arm in self.spec.arms.items() if arm.by == "steps" and arm.rate_of is None]
        needed, found, rates, done = self.before(choosing), dict[str, TriedArm](), dict[str, float](), Fitted()
        for level in self.levels([*choosing, *needed]) if choosing else ():
            own = [name for name in level if name in choosing]
            found |= {name: choose(name, self.spec.budget.rates, got) for name, got in self.at_rates(own, done).items()}
            rates |= {name: found[name].rate for name in own}
            going = [name for name in level if name in needed]
            self.fit_level({name: self.made(name, TRIAL, done) for name in going}, TRIAL, rates, done)
        return [found[name] for name in choosing]

    def before(self, names: Sequence[str]) -> set[str]:
        """Return the arms that some arms go on from, directly or not."""
        starts = {start for name in names if (start := self.spec.arms[name].start)}
        return starts | self.before(sorted(starts)) if starts else set()

    def at_rates(self, names: Sequence[str], done: Fitted) -> dict[str, list[float]]:
        """Return arm -> its objective on calibration text at every rate of the grid."""
        found: dict[str, list[float]] = {name: [] for name in names}
        together: dict[tuple[str, float], list[str]] = {}
        for name in names:
            together.setdefault((self.spec.arms[name].text or self.first, self.spec.arms[name].steps), []).append(name)
        for rate in self.spec.budget.rates:
            for (text, share), own in together.items():
                made = {name: self.made(name, TRIAL, done) for name in own}
                rates = {self.tuned(name): rate for name in own}
                self.train(made, text, share, TRIAL, rates, may_diverge=True)
                held_out = self.data(text, TRIAL, "calibration").at_most(JUDGED)
                for name, value in self.objectives(made, held_out).items():
                    found[name].append(value)
        return found

    def objectives(self, arms: Fitted, data: FitData) -> dict[str, float]:
        """Return arm -> its objective on all windows of some data, a mean over positions."""
        models, goals = [arm.model for arm in arms.values()], [self.goal(name) for name in arms]
        found = mean_over(data, lambda part: losses(models, goals, data, part))
        return dict(zip(arms, found.tolist(), strict=True))
