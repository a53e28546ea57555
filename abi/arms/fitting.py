"""How all arms of a seed are fitted: with the same data, the same budget, the same windows in the same order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.arms.closed_form import choose_gains, solve
from abi.arms.data import Batch, FitData, Objective
from abi.arms.gradient import ToFit, fit_gradients
from abi.arms.making import MadeArm, Nets, make
from abi.base.catalogue import ARMS, Recipe
from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_tensors
from abi.base.manifests import ArmEntry, BaseFacts, FitFigures, ModuleFacts
from abi.base.names import CLOSED_FORM
from abi.base.seeds import derive_seed
from abi.models.loop import Schedule, Trained
from abi.models.module import ModuleConfig
from abi.plan.specs.arms import CalibrateArms, TrainLora


@dataclass(frozen=True)
class Budget:
    """What every arm of a pair and seed gets: steps and phases by form, batch, objective, ridge penalty.

    Args: windows: a ladder of numbers of windows (few-shot), each a draw of the fit; without it all windows, and a
        closed form. variants: name -> the same fit with more or fewer steps, less text or other text;
        closed_form_rows: the positions that a closed form reads at most, None for all.
    """

    schedules: Mapping[str, Schedule]
    batch: Batch
    objective: Objective
    ridge_penalty: float
    windows: tuple[int, ...] = ()
    variants: Mapping[str, "Variant"] = field(default_factory=dict)
    closed_form_rows: int | None = None

    @classmethod
    def of(cls, spec: CalibrateArms | TrainLora) -> "Budget":
        """Return the budget that all arms of a claim share."""
        given = spec.budget

        def schedules(steps: int | None = None) -> dict[str, Schedule]:
            return {form: Schedule.given(own, given.weight_decay, steps) for form, own in given.phases.items()}

        changes = {name: given.variants[name] for name in spec.variants}
        variants = {name: Variant(schedules(c.steps), c.share, c.text) for name, c in changes.items()}
        return cls(
            schedules(),
            Batch(given.batch, given.batch_of),
            Objective(spec.fit, given.temperature, given.kd_weight),
            given.ridge_penalty,
            tuple(given.windows or ()),
            variants,
            given.closed_form_rows,
        )


@dataclass(frozen=True)
class Variant:
    """A fit beside the one that decides. Args: share: of the data; text: the name of other data, "" for the same."""

    schedules: Mapping[str, Schedule]
    share: float = 1.0
    text: str = ""


@dataclass(frozen=True)
class Task:
    """One fit of an arm: its name in the evidence, its draw there, the draw of its random net, its data."""

    fit: str
    draw: int
    net_draw: int
    data: FitData
    schedules: Mapping[str, Schedule] = field(default_factory=dict)


def gradient_tasks(data: FitData, budget: Budget, seed: int) -> list[Task]:
    """Return the gradient fits that every arm of a seed gets: one, or a ladder of windows, and the variants.

    Raises: DataError: the ladder asks for more windows than there are.
    """
    name = budget.objective.kind
    if budget.windows:
        if max(budget.windows) > len(data.states):
            raise DataError(
                f"arms: a ladder of {max(budget.windows)} windows on a text of {len(data.states)}; "
                "shorten `windows` or add text"
            )
        # Every rung is the beginning of the next, so that more windows never means other windows.
        order = torch.randperm(len(data.states), generator=torch.Generator().manual_seed(derive_seed("windows", seed)))
        few = {n: data.select(order[:n].tolist()) for n in budget.windows}
        return [Task(name, n, 0, part, budget.schedules) for n, part in few.items()]
    variants = [
        Task(fit, 0, 0, data.of_text(variant.text).first(variant.share), variant.schedules)
        for fit, variant in budget.variants.items()
    ]
    return [Task(name, 0, 0, data, budget.schedules), *variants]


def closed_tasks(recipe: Recipe, data: FitData, budget: Budget) -> list[Task]:
    """Return the closed-form fits of an arm: one per draw; none of few windows, or where they would say nothing."""
    draws = recipe.draws if recipe.closed and not budget.windows else 0
    return [Task(CLOSED_FORM, draw, draw, data) for draw in range(draws)]


def fit_all(
    regime: str,
    names: Sequence[str],
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
) -> list[ArmEntry]:
    """Make, fit and save every arm of a seed, by gradient and in closed form; return one entry per fitted arm.

    Every gradient arm of a seed has the same windows in the same order and the same number of steps.
    Args: base: the target's backbone; text: its domain; closed_only: no gradient fits, for the seeds that only arms
        without steps have.
    Raises: TamperError: a frozen part changed.
    """
    # In the order of the claim's own list: rows of the evidence come in it.
    recipes = {name: ARMS[name].recipes[regime] for name in names}
    by_gradient = [] if closed_only else gradient_tasks(data, budget, seed)
    entries, solved, few = [], Solved(budget.ridge_penalty), data.at_most(budget.closed_form_rows)
    for tasks in _together({name: [*by_gradient, *closed_tasks(r, few, budget)] for name, r in recipes.items()}):
        [task, *_] = tasks.values()
        made = {
            name: make(recipes[name], name, config, nets, task.data, seed=seed, draw=task.net_draw) for name in tasks
        }
        for name, figures in fit_arms(made, task, budget, seed, solved, checkpoints).items():
            arm, place = made[name], folder / task.fit / f"{name}-{task.draw}"
            arm.model.save(place, ModuleFacts(**dict(base), name=name, role="arm", text=text, seed=seed))
            made_of: dict[str, Any] = {"domain_sha256": sha256_tensors(arm.net)} if arm.net else {}
            entry = ArmEntry(
                arm=name,
                fit=task.fit,
                draw=task.draw,
                seed=seed,
                folder=str(place.relative_to(folder)),
                **made_of,
                **figures.plain(),
            )
            entries.append(entry)
    return sorted(entries, key=lambda entry: names.index(entry.arm))


def _together(tasks: Mapping[str, Sequence[Task]]) -> list[dict[str, Task]]:
    """Return the tasks that are done together, arm -> task: those of one fit and draw."""
    groups: dict[tuple[str, int], dict[str, Task]] = {}
    for name, own in tasks.items():
        for task in own:
            groups.setdefault((task.fit, task.draw), {})[name] = task
    return list(groups.values())


class Solved:
    """Closed forms of a seed's arms; those of a lesson are computed once, since every gradient fit begins there."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self._found: dict[tuple[str, int, int], tuple[FitData, dict[str, Tensor]]] = {}

    def put(self, arm: MadeArm, name: str, task: Task) -> None:
        """Put the closed form of an arm's net on a task's data into its model."""
        key = (name, task.net_draw, id(task.data))
        if key in self._found:
            with torch.no_grad():
                for parameter, value in self._found[key][1].items():
                    arm.model.get_parameter(parameter).copy_(value)
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
    before = {name: sha256_tensors(arm.frozen) for name, arm in arms.items()}
    if task.fit == CLOSED_FORM:
        found = {}
        for name, arm in arms.items():
            solved.put(arm, name, task)
            arm.model.requires_grad_(False)
            n_solved = sum(arm.model.get_parameter(part).numel() for part in arm.model.solved)
            found[name] = FitFigures(n_trainable=n_solved, frozen_sha256=before[name], steps=0)
    else:
        courses = train_arms(arms, task, budget, seed, solved, checkpoints)
        found = {name: courses[name].figures(n_parameters(arm.trainable), before[name]) for name, arm in arms.items()}
    # A lesson says in which direction to go, less surely how far: the step is chosen where no fit has looked.
    if task.data.held_out is not None:
        gains = choose_gains([arm.model for arm in arms.values()], task.data.held_out)
        found = {
            name: figures.model_copy(update={"gain": gain})
            for (name, figures), gain in zip(found.items(), gains, strict=True)
        }
    for name, arm in arms.items():
        if sha256_tensors(arm.frozen) != before[name]:
            raise TamperError(f"arm {name}: a frozen part changed in a {task.fit} fit; nothing was written")
    return found


def n_parameters(tensors: Mapping[str, Tensor]) -> int:
    """Return how many numbers some tensors hold."""
    return sum(tensor.numel() for tensor in tensors.values())


def train_arms(
    arms: Mapping[str, MadeArm], task: Task, budget: Budget, seed: int, solved: Solved, checkpoints: Path | None
) -> dict[str, "Course"]:
    """Fit arms by gradient, in place and in step with each other; return the course of each fit."""
    # Every arm of a lesson starts from its closed form, so that no control begins further away than the claim.
    if task.data.shift is not None:
        for name, arm in arms.items():
            solved.put(arm, name, task)
    fitted = fit_gradients(
        [
            ToFit(arm.model, arm.trainable, arm.frozen, task.schedules[arm.form], f"{name} seed {seed}")
            for name, arm in arms.items()
        ],
        task.data,
        budget.objective,
        batch=budget.batch.at_most(task.data.states),
        seed=derive_seed("calibration", seed),
        checkpoint=checkpoints / f"{seed}-{task.fit}-{task.draw}.safetensors" if checkpoints else None,
    )
    return {
        name: Course.of(trained, task.schedules[arm.form])
        for (name, arm), trained in zip(arms.items(), fitted, strict=True)
    }


@dataclass(frozen=True)
class Course:
    """What a manifest says of the course of a gradient fit.

    Args: final_loss: mean of the last 50 steps; best_step: the end of the 50 steps with the least mean.
    """

    steps: int
    final_loss: float
    phase_floors: list[float]
    best_step: int
    elapsed_s: float

    @classmethod
    def of(cls, trained: Trained, schedule: Schedule) -> "Course":
        """Return the course of a run of the loop."""
        running = torch.tensor(trained.losses, dtype=torch.float64).unfold(0, min(50, schedule.steps), 1).mean(1)
        return cls(
            steps=schedule.steps,
            final_loss=float(running[-1]),
            phase_floors=trained.floors(schedule),
            best_step=int(running.argmin()) + min(50, schedule.steps),
            elapsed_s=round(trained.elapsed_s, 2),
        )

    def figures(self, n_trainable: int, frozen_sha256: str) -> FitFigures:
        """Return it as the entry of an arm holds it."""
        return FitFigures(**asdict(self), n_trainable=n_trainable, frozen_sha256=frozen_sha256)
