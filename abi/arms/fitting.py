"""How the arms of a seed are made of their recipes (`base/catalogue.py`) and fitted: with the same data and budget, the
same windows in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.arms.alignment import conjugated
from abi.arms.closed_form import choose_gains, solve
from abi.arms.forms import FittableForm, LinearMap, LogitBias, save_fitted
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.base.catalogue import Recipe
from abi.base.errors import ConfigError, DataError, TamperError
from abi.base.files import sha256_tensors
from abi.base.manifests.arms import FitFigures, FittedEntry, place_of
from abi.base.manifests.modules import ModuleFacts
from abi.base.manifests.states import BaseFacts
from abi.base.names import CLOSED_FORM, PERMUTED, RANDOM
from abi.models.loop import Member, Schedule, Trained, frozen_hashes
from abi.models.module import (
    AbiModule,
    ModuleConfig,
    derive_seed,
    permutation_seed,
    permute_domain_net,
    redrawn,
    set_domain_net,
    without_domain_net,
)
from abi.plan.specs.arms import Fitting


@dataclass
class Nets:
    """The trained modules a seed's arms are made of, and the rotations from the redrawn interface to their spaces.

    `home`: a third module of the target; `before`: a reconstruction's native candidate. Rotations by name: `aligned`
    (to the source's space), `home`, `own` (the oracle's), `other` (the wrong domain's).
    """

    source: AbiModule | None = None
    home: AbiModule | None = None
    oracle: AbiModule | None = None
    wrong: AbiModule | None = None
    before: AbiModule | None = None
    rotations: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class MadeArm:
    """A made arm: the model, what of it trains, what is frozen, its domain net and its teacher, where it has them."""

    model: FittableForm
    trainable: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, Tensor] = field(default_factory=dict)
    net: dict[str, Tensor] = field(default_factory=dict)
    teacher: str = ""


def make(
    recipe: Recipe, name: str, config: ModuleConfig, nets: Nets, data: FitData, *, seed: int, draw: int = 0
) -> MadeArm:
    """Return an arm before its fit. Raises: ConfigError: a net, rotation or teacher the recipe needs is not there."""
    head = {"head": data.head.weight}
    if recipe.form == "linear":
        linear = LinearMap(config.taps, config.width).to(data.states.device)
        linear.standardise(data.states)
        return MadeArm(linear, dict(linear.named_parameters()), head)
    if recipe.form == "bias":
        bias = LogitBias(len(data.head.weight)).to(data.states.device)
        return MadeArm(bias, dict(bias.named_parameters()), head)
    carried = data.carried.get("other" if recipe.start == "carried-other" else "source")
    module = _start(recipe, name, config, nets.before, carried, seed).to(data.states.device)
    if recipe.net not in {"none", "start"}:
        _place_net(module, recipe, name, nets, seed, draw)
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    names = {
        "interface": set(module.interface_parameters()),
        "all": set(parameters),
        "published": {name for name in parameters if not name.startswith("abi_ln")},
    }[recipe.trains]
    frozen = {name: p for name, p in parameters.items() if name not in names} | {"rotation": module.rotation}
    trainable = {name: p for name, p in parameters.items() if name in names}
    net: dict[str, Tensor] = {} if module.domain is None else dict(module.domain_parameters())
    if recipe.teacher and (data.lessons is None or recipe.teacher not in data.lessons.shifts):
        raise ConfigError(f"arms: {name} is taught by the module {recipe.teacher}, which the claim does not give")
    return MadeArm(module, trainable, frozen | head, net, recipe.teacher)


def _start(
    recipe: Recipe, name: str, config: ModuleConfig, before: AbiModule | None, carried: AbiModule | None, seed: int
) -> AbiModule:
    """Return the module a recipe starts from, its own copy."""
    if recipe.start == "before":
        if before is None:
            raise ConfigError(f"arms: {name} starts from the candidate's native module, which the claim does not give")
        module = AbiModule(before.config)
        module.load_state_dict(before.state_dict())
        return module
    module = redrawn(config if recipe.net != "none" else without_domain_net(config), seed)
    if recipe.start == "redrawn":
        return module
    if carried is None:
        raise ConfigError(f"arms: {name} needs a carried interface of a source, which the claim does not give")
    with torch.no_grad():
        for key, parameter in carried.interface_parameters().items():
            module.interface_parameters()[key].copy_(parameter)
    return module


def _place_net(module: AbiModule, recipe: Recipe, name: str, nets: Nets, seed: int, draw: int) -> None:
    """Put the recipe's domain net and rotation into a module."""
    if recipe.net == RANDOM:
        # The arm's name is in the seed, the source's is not: a placebo is the same whatever is moved.
        giver: AbiModule | None = AbiModule(module.config, seed=derive_seed("placebo", name, seed, draw))
    else:
        giver = getattr(nets, "source" if recipe.net == PERMUTED else recipe.net)
    if giver is None:
        raise ConfigError(f"arms: {name} needs the {recipe.net} net, which the claim does not give")
    set_domain_net(module, giver)
    if recipe.net == PERMUTED:
        permute_domain_net(module, permutation_seed(seed, draw))
    if recipe.rotation == "identity":
        return
    rotation = nets.rotations.get("aligned" if recipe.rotation == "inverse" else recipe.rotation)
    if rotation is None:
        raise ConfigError(f"arms: {name} needs the {recipe.rotation} rotation, which was not fitted")
    if recipe.rotation == "inverse":
        module.load_state_dict(conjugated(dict(module.state_dict()), rotation.to(module.device), published=True))
    else:
        module.set_rotation(rotation)


@dataclass(frozen=True)
class Budget:
    """What every arm of a pair and seed gets: phases, batch, objective, ridge penalty; and its own learning rate.

    Args: schedule: whose rates are shares of an arm's own; windows: a ladder of numbers of windows (few-shot), each a
        draw of the fit; without it all windows, and a closed form. variants: name -> the same fit with more or fewer
        steps, less text or other text; closed_form_rows: the positions that a closed form reads at most, None for all;
        rates: arm -> its own learning rate.
    """

    schedule: Schedule
    batch: Batch
    objective: Objective
    ridge_penalty: float
    windows: tuple[int, ...] = ()
    variants: Mapping[str, "Variant"] = field(default_factory=dict)
    closed_form_rows: int | None = None
    rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Fitting, rates: Mapping[str, float] | None = None) -> "Budget":
        """Return the budget that all arms of a claim share. Args: rates: arm -> its learning rate, where it has one."""
        given = spec.budget

        def schedule(steps: int | None = None) -> Schedule:
            return Schedule.given(given.phases, given.weight_decay, steps)

        changes = {name: given.variants[name] for name in spec.variants}
        return cls(
            schedule(),
            Batch(given.batch, given.batch_of),
            Objective(spec.fit, given.temperature, given.kd_weight),
            given.ridge_penalty,
            tuple(given.windows or ()),
            {name: Variant(schedule(change.steps), change.share, change.text) for name, change in changes.items()},
            given.closed_form_rows,
            rates or {},
        )


@dataclass(frozen=True)
class Variant:
    """A fit beside the one that decides. Args: share: of the data; text: the name of other data, "" for the same."""

    schedule: Schedule
    share: float = 1.0
    text: str = ""


@dataclass(frozen=True)
class Task:
    """One fit of an arm: its name in the evidence, its draw there, the draw of its random net, its data."""

    fit: str
    draw: int
    net_draw: int
    data: FitData
    schedule: Schedule = field(default_factory=lambda: Schedule(()))


def gradient_tasks(data: FitData, budget: Budget, seed: int) -> list[Task]:
    """Return the gradient fits that every arm of a seed gets: one, or a ladder of windows, and the variants.

    Raises: DataError: the ladder asks for more windows than there are.
    """
    name = budget.objective.kind
    if budget.windows:
        order = few_windows(len(data.states), max(budget.windows), seed)
        few = {n: data.select(order[:n].tolist()) for n in budget.windows}
        return [Task(name, n, 0, part, budget.schedule) for n, part in few.items()]
    variants = [
        Task(fit, 0, 0, data.of_text(variant.text, variant.share), variant.schedule)
        for fit, variant in budget.variants.items()
    ]
    return [Task(name, 0, 0, data, budget.schedule), *variants]


def few_windows(n: int, most: int, seed: int) -> Tensor:
    """Return which of n windows a seed's largest rung has, `[most]`; every rung is the beginning of the next, so that
    more windows never means other windows.

    Raises: DataError: there are fewer.
    """
    if most > n:
        raise DataError(f"arms: a ladder of {most} windows on a text of {n}; shorten `windows` or add text")
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed("windows", seed)))[:most]


def closed_tasks(recipe: Recipe, data: FitData, budget: Budget) -> list[Task]:
    """Return the closed-form fits of an arm: one per draw; none of few windows, or where they would say nothing."""
    draws = recipe.draws if recipe.closed and not budget.windows else 0
    return [Task(CLOSED_FORM, draw, draw, data) for draw in range(draws)]


def fit_all(
    recipes: Mapping[str, Recipe],
    config: ModuleConfig,
    nets: Nets,
    data: FitData,
    budget: Budget,
    *,
    seed: int,
    folder: Path,
    base: BaseFacts,
    text: str,
    checkpoints: Path | None = None,
    closed_only: bool = False,
) -> list[FittedEntry]:
    """Make, fit and save every arm of a seed, by gradient and in closed form; return one entry per fitted arm.

    Every gradient arm of a seed has the same windows in the same order and the same number of steps.
    Args: recipes: arm -> how it is made, in the order of the claim's own list: rows of the evidence come in it; base:
        the target's backbone; text: its domain; closed_only: no gradient fits, for the seeds that only arms
        without steps have.
    Raises: TamperError: a frozen part changed.
    """
    by_gradient = [] if closed_only else gradient_tasks(data, budget, seed)
    entries, solved, few = [], Solved(budget.ridge_penalty), data.at_most(budget.closed_form_rows)
    together: dict[tuple[str, int], dict[str, Task]] = {}
    for name, recipe in recipes.items():
        for task in [*by_gradient, *closed_tasks(recipe, few, budget)]:
            together.setdefault((task.fit, task.draw), {})[name] = task
    for (fit, draw), tasks in together.items():
        [task, *_] = tasks.values()  # one for all arms of a fit and draw
        made = {
            name: make(recipes[name], name, config, nets, task.data, seed=seed, draw=task.net_draw) for name in tasks
        }
        for name, figures in fit_arms(made, task, budget, seed, solved, checkpoints).items():
            arm, place = made[name], place_of(seed, fit, name, draw)
            facts = ModuleFacts(**dict(base), name=name, role="arm", text=text, seed=seed)
            digest = save_fitted(arm.model, folder / place, facts)
            made_of: dict[str, Any] = {"domain_sha256": sha256_tensors(arm.net)} if arm.net else {}
            told: dict[str, Any] = {"arm": name, "fit": fit, "draw": draw, "seed": seed, "sha256": digest}
            entries.append(FittedEntry(**told, folder=place, **made_of, **figures.plain()))
    return sorted(entries, key=lambda entry: [*recipes].index(entry.arm))


class Solved:
    """Closed forms of a seed's arms; those of a lesson are computed once, since every gradient fit begins there."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self._found: dict[tuple[str, int, int], tuple[FitData, dict[str, Tensor]]] = {}

    def put(self, arm: MadeArm, name: str, task: Task) -> None:
        """Put the closed form of an arm's net on a task's data into its model."""
        key = (name, task.net_draw, id(task.data))
        if key in self._found:
            arm.model.load_state_dict(self._found[key][1], strict=False)
            return
        solve(arm.model, task.data, self.penalty)
        if task.data.shift is not None:
            found = {name: arm.model.get_parameter(name).detach().clone() for name in arm.model.solved}
            self._found[key] = task.data, found  # the data too: its id must not be given to another


def fit_arms(
    arms: Mapping[str, MadeArm], task: Task, budget: Budget, seed: int, solved: Solved, checkpoints: Path | None
) -> dict[str, FitFigures]:
    """Fit made arms in place with the data of one task; return what the entry of each says of it.

    Raises: TamperError: a frozen part changed.
    """
    before = dict(zip(arms, frozen_hashes([arm.frozen for arm in arms.values()]), strict=True))
    found: dict[str, FitFigures] = {}
    if task.fit == CLOSED_FORM:
        for name, arm in arms.items():
            solved.put(arm, name, task)
            arm.model.requires_grad_(False)
            n_solved = sum(arm.model.get_parameter(part).numel() for part in arm.model.solved)
            found[name] = FitFigures(n_trainable=n_solved, frozen_sha256=before[name], steps=0)
    else:
        courses = train_arms(arms, task, budget, seed, solved, checkpoints)
        for name, arm in arms.items():
            n_trainable = sum(tensor.numel() for tensor in arm.trainable.values())
            found[name] = FitFigures(n_trainable=n_trainable, frozen_sha256=before[name], **courses[name])
    for name, gain in scale_arms(arms, task).items():
        found[name] = found[name].model_copy(update={"gain": gain})
    for name, after in zip(arms, frozen_hashes([arm.frozen for arm in arms.values()]), strict=True):
        if after != before[name]:
            raise TamperError(f"arm {name}: a frozen part changed in a {task.fit} fit; nothing was written")
    return found


def scale_arms(arms: Mapping[str, MadeArm], task: Task) -> dict[str, float]:
    """Scale fitted arms of a lesson in place; return the gain of each, and nothing where there is no lesson.

    A lesson says in which direction to go, less surely how far: the step is chosen where no fit has looked.
    """
    if task.data.held_out is None:
        return {}
    return dict(zip(arms, choose_gains([arm.model for arm in arms.values()], task.data.held_out), strict=True))


def train_arms(
    arms: Mapping[str, MadeArm],
    task: Task,
    budget: Budget,
    seed: int,
    solved: Solved,
    checkpoints: Path | None,
    *,
    may_diverge: bool = False,
) -> dict[str, dict[str, Any]]:
    """Fit arms by gradient, in place and in step with each other, each at its own rate; return the course of each.

    Args: may_diverge: as in `loop.Member`.
    """
    # Every arm of a lesson starts from its closed form, so that no control begins further away than the claim.
    if task.data.shift is not None:
        for name, arm in arms.items():
            solved.put(arm, name, task)
    schedules = {name: task.schedule.at(budget.rates[name]) for name in arms}
    fitted = fit_gradients(
        [arm.model for arm in arms.values()],
        [
            Member(f"{name} seed {seed}", arm.trainable, schedules[name], arm.frozen, may_diverge)
            for name, arm in arms.items()
        ],
        task.data,
        budget.objective,
        batch=budget.batch.at_most(task.data.states),
        teachers=[arm.teacher for arm in arms.values()],
        seed=derive_seed("calibration", seed),
        checkpoint=checkpoints / f"{seed}-{task.fit}-{task.draw}.safetensors" if checkpoints else None,
    )
    return {name: course(trained, schedules[name]) for name, trained in zip(arms, fitted, strict=True)}


def course(trained: Trained, schedule: Schedule) -> dict[str, Any]:
    """Return what a manifest says of a gradient fit; `best_step` is the end of the 50 steps with the least mean."""
    running = torch.tensor(trained.losses, dtype=torch.float64).unfold(0, min(50, schedule.steps), 1).mean(1)
    return {
        "steps": schedule.steps,
        "lr": schedule.peak,
        "final_loss": float(running[-1]),
        "phase_floors": trained.floors(schedule),
        "best_step": int(running.argmin()) + min(50, schedule.steps),
        "elapsed_s": round(trained.elapsed_s, 2),
    }
