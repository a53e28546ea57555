"""What each arm is made of (PROTOCOL section 2), and how all arms of a seed are fitted with the same data and budget."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.arms.alignment import conjugated
from abi.arms.closed_form import SOLVED, choose_gains, solve
from abi.arms.data import Batch, FitData, Objective
from abi.arms.forms import ARM_FILE, Fitted, LinearMap, LogitBias, save_simple
from abi.arms.gradient import ToFit, fit_gradients
from abi.base.errors import ConfigError, DataError, TamperError
from abi.base.files import sha256_tensors
from abi.base.names import CLOSED_FORM
from abi.base.seeds import derive_seed
from abi.models.loop import Schedule, Trained
from abi.models.module import (
    AbiModule,
    ModuleConfig,
    permute_domain_net,
    save_module,
    set_domain_net,
    without_domain_net,
)

log = logging.getLogger("abi")


@dataclass(frozen=True)
class Recipe:
    """How one arm is made.

    Args:
        net: whose domain net: `source`, `oracle`, `wrong` (another domain's), `random`, `permuted` (the source's), `start` (of
            the module it starts from) or `none`.
        rotation: `aligned` (source space), `own` (the oracle's space), `other` (the wrong domain's), `inverse` (folded as the
            original does) or `identity`.
        start: `redrawn` (a fresh interface), `carried` (the source's, by least squares on general text: the net then stays in
            the source's space) or `before` (the candidate's native module).
        trains: `interface`, `all`, or `published` (all but the module's norm, as the original).
        form: `module`, `linear`, `bias` or `lora` (an adapted backbone, which has its own job: `stages.lora`).
        draws: draws per seed where the arm is random and cheap (closed form only).
        closed: whether a closed form says anything that another arm's does not.
    """

    net: str = "none"
    rotation: str = "identity"
    start: str = "redrawn"
    trains: str = "interface"
    form: str = "module"
    draws: int = 1
    closed: bool = True


ORACLE_KD: dict[str, Recipe] = {
    "native": Recipe("oracle", "own"),
    "transferred": Recipe("source", "aligned"),
    "random": Recipe("random", "aligned", draws=3),
    "permuted": Recipe("permuted", "aligned", draws=3),
    "identity": Recipe("source", "identity"),
    "published": Recipe("source", "inverse", trains="published", closed=False),
    "no-domain": Recipe("none"),
    "linear": Recipe(form="linear"),
    "bias": Recipe(form="bias"),
    "unfrozen": Recipe("source", "aligned", trains="all", closed=False),
    "direct": Recipe("random", "identity", trains="all", closed=False),
    "wrong-domain": Recipe("wrong", "other"),
}
FEW_SHOT = {name: recipe for name, recipe in ORACLE_KD.items() if name != "published"}
GENERAL_ONLY: dict[str, Recipe] = {
    "transferred": Recipe("source", start="carried"),
    "random": Recipe("random", start="carried", draws=3),
    "permuted": Recipe("permuted", start="carried", draws=3),
    "no-domain": Recipe("none", start="carried"),
    "linear": Recipe(form="linear"),
    "bias": Recipe(form="bias"),
    "unfrozen": Recipe("source", start="carried", trains="all", closed=False),
}
RECONSTRUCTION: dict[str, Recipe] = {
    "candidate": Recipe("start", start="before", trains="all"),
    "random": Recipe("random", start="before", draws=3),
    "linear": Recipe(form="linear"),
}
LORA = {"lora": Recipe(form="lora", closed=False)}
RECIPES = {
    "oracle-kd": ORACLE_KD | LORA,
    "few-shot": FEW_SHOT | LORA,
    "general-only": GENERAL_ONLY,
    "reconstruction": RECONSTRUCTION,
}


@dataclass
class Nets:
    """The trained modules a seed's arms are made of, and the rotations from the redrawn interface to their spaces.

    `before`: a reconstruction's native candidate.
    """

    source: AbiModule | None = None
    oracle: AbiModule | None = None
    wrong: AbiModule | None = None
    before: AbiModule | None = None
    aligned: Tensor | None = None
    own: Tensor | None = None
    other: Tensor | None = None


@dataclass(frozen=True)
class Budget:
    """What every arm of a pair and seed gets: steps and phases by form, batch, objective, ridge penalty.

    Args: windows: a ladder of numbers of windows (few-shot), each a draw of the fit; without it all windows, and a closed form.
        variants: name -> the same fit with more or fewer steps, less text or other text;
        closed_form_rows: the positions that a closed form reads at most, None for all.
    """

    schedules: Mapping[str, Schedule]
    batch: Batch
    objective: Objective
    ridge_penalty: float
    windows: tuple[int, ...] = ()
    variants: Mapping[str, "Variant"] = field(default_factory=dict)
    closed_form_rows: int | None = None


@dataclass(frozen=True)
class Variant:
    """A fit beside the one that decides. Args: share: of the data; text: the name of other data, "" for the same."""

    schedules: Mapping[str, Schedule]
    share: float = 1.0
    text: str = ""


@dataclass
class Arm:
    """A made arm: the model, its form, what of it trains, what is frozen."""

    model: Fitted
    form: str
    trainable: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, Tensor] = field(default_factory=dict)


def redrawn(config: ModuleConfig, seed: int) -> AbiModule:
    """Return a fresh interface: the one interface initialisation of a seed, the same for every arm of it."""
    return AbiModule(config, seed=derive_seed("interface", seed))


def make(
    recipe: Recipe, name: str, config: ModuleConfig, nets: Nets, data: FitData, *, seed: int, draw: int = 0
) -> Arm:
    """Return an arm before its fit. Raises: ConfigError: a net or rotation the recipe needs is not there."""
    head = {"head": data.head.weight}
    if recipe.form == "linear":
        linear = LinearMap(config.taps, config.width)
        linear.standardise(data.states)
        return Arm(linear, "linear", dict(linear.named_parameters()), head)
    if recipe.form == "bias":
        bias = LogitBias(len(data.head.weight))
        return Arm(bias, "bias", {"logit_bias": bias.logit_bias}, head)
    module = _start(recipe, name, config, nets.before, data.carried, seed)
    if recipe.net not in {"none", "start"}:
        _place_net(module, recipe, name, nets, seed, draw)
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    names = {
        "interface": set(module.interface_parameters()),
        "all": set(parameters),
        "published": {name for name in parameters if not name.startswith("abi_ln")},
    }[recipe.trains]
    frozen = {name: p for name, p in parameters.items() if name not in names} | {"rotation": module.rotation}
    return Arm(module, "module", {name: p for name, p in parameters.items() if name in names}, frozen | head)


def _start(
    recipe: Recipe, name: str, config: ModuleConfig, before: AbiModule | None, carried: AbiModule | None, seed: int
) -> AbiModule:
    if recipe.start in {"redrawn", "carried"}:
        module = redrawn(config if recipe.net != "none" else without_domain_net(config), seed)
        if recipe.start == "redrawn":
            return module
    begin = carried if recipe.start == "carried" else before
    if begin is None:
        needs = {
            "carried": "needs the source's carried interface",
            "before": "starts from the candidate's native module",
        }[recipe.start]
        raise ConfigError(f"arms: {name} {needs}, which the claim does not give")
    if recipe.start == "carried":
        with torch.no_grad():
            for key, parameter in begin.interface_parameters().items():
                module.interface_parameters()[key].copy_(parameter)
        return module
    module = AbiModule(begin.config)
    module.load_state_dict(begin.state_dict())
    return module


def _place_net(module: AbiModule, recipe: Recipe, name: str, nets: Nets, seed: int, draw: int) -> None:
    """Put the recipe's domain net and rotation into a module. Placebos take no weight from the source but permuted ones."""
    config = module.config
    givers = {"source": nets.source, "permuted": nets.source, "oracle": nets.oracle, "wrong": nets.wrong}
    giver = (
        AbiModule(config, seed=derive_seed("placebo", name, seed, draw))
        if recipe.net == "random"
        else givers[recipe.net]
    )
    if giver is None:
        raise ConfigError(f"arms: {name} needs the {recipe.net} net, which the claim does not give")
    set_domain_net(module, giver)
    if recipe.net == "permuted":
        permute_domain_net(module, torch.Generator().manual_seed(derive_seed("permutation", seed, draw)))
    rotation = {
        "aligned": nets.aligned, "inverse": nets.aligned, "own": nets.own, "other": nets.other, "identity": None,
    }[recipe.rotation]  # fmt: skip
    if rotation is None and recipe.rotation != "identity":
        raise ConfigError(f"arms: {name} needs the {recipe.rotation} rotation, which was not fitted")
    if recipe.rotation == "inverse":
        folded = conjugated(dict(module.state_dict()), rotation, published=True)  # type: ignore[arg-type]
        module.load_state_dict(folded)
    elif rotation is not None:
        module.set_rotation(rotation)


@dataclass(frozen=True)
class Task:
    """One fit of an arm: its name in the evidence, its draw there, the draw of its random net, and with what it is fitted."""

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
                f"arms: a ladder of {max(budget.windows)} windows on a text of {len(data.states)}; shorten `windows` or add text"
            )
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
    regime: str, names: Sequence[str], config: ModuleConfig, nets: Nets, data: FitData, budget: Budget, *, seed: int,
    folder: Path, facts: Mapping[str, Any], checkpoints: Path | None = None, closed_only: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Make, fit and save every arm of a seed, by gradient and in closed form; return one record per fitted arm.

    Every gradient arm of a seed has the same windows in the same order and the same number of steps.
    Args: closed_only: no gradient fits, for the seeds that only arms without steps have.
    Raises: TamperError: a frozen part changed.
    """
    recipes = {name: RECIPES[regime][name] for name in names}
    by_gradient = [] if closed_only else gradient_tasks(data, budget, seed)
    records, solved, few = [], Solved(budget.ridge_penalty), data.at_most(budget.closed_form_rows)
    for tasks in _together({name: [*by_gradient, *closed_tasks(r, few, budget)] for name, r in recipes.items()}):
        [task, *_] = tasks.values()
        made = {
            name: make(recipes[name], name, config, nets, task.data, seed=seed, draw=task.net_draw) for name in tasks
        }
        for name, record in fit_arms(made, task, budget, seed, solved, checkpoints).items():
            model = made[name].model
            place = folder / task.fit / f"{name}-{task.draw}"
            _save(model, place, {**facts, "name": name, "role": "arm", "seed": seed})
            record = {"arm": name, "fit": task.fit, "draw": task.draw, "seed": seed, **record}
            if isinstance(model, AbiModule) and model.domain is not None:
                record["domain_sha256"] = model.domain_hash()
            records.append(record | {"folder": str(place.relative_to(folder))})
    return sorted(records, key=lambda record: names.index(record["arm"]))


def _together(tasks: Mapping[str, Sequence[Task]]) -> list[dict[str, Task]]:
    """Return the tasks that are done together, arm -> task: those of one fit and draw."""
    groups: dict[tuple[str, int], dict[str, Task]] = {}
    for name, own in tasks.items():
        for task in own:
            groups.setdefault((task.fit, task.draw), {})[name] = task
    return list(groups.values())


class Solved:
    """Closed forms of the arms of a seed; those of a lesson are computed once, since every gradient fit begins with them."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self._found: dict[tuple[str, int, int], tuple[FitData, dict[str, Tensor]]] = {}

    def put(self, arm: Arm, name: str, task: Task) -> None:
        """Put the closed form of an arm's net on a task's data into its model."""
        key = (name, task.net_draw, id(task.data))
        if key in self._found:
            with torch.no_grad():
                for parameter, value in self._found[key][1].items():
                    arm.model.get_parameter(parameter).copy_(value)
            return
        solve(arm.model, task.data, self.penalty)
        if task.data.shift is not None:
            found = {
                parameter: arm.model.get_parameter(parameter).detach().clone() for parameter in SOLVED[type(arm.model)]
            }
            self._found[key] = task.data, found


def fit_arms(
    arms: Mapping[str, Arm],
    task: Task,
    budget: Budget,
    seed: int,
    solved: Solved,
    checkpoints: Path | None,
) -> dict[str, dict[str, Any]]:
    """Fit made arms in place with the data of one task; return what the record of each says of it.

    Raises: TamperError: a frozen part changed.
    """
    before = {name: sha256_tensors(arm.frozen) for name, arm in arms.items()}
    records: dict[str, dict[str, Any]] = {
        name: {"n_trainable": sum(p.numel() for p in arm.trainable.values()), "frozen_sha256": before[name]}
        for name, arm in arms.items()
    }
    if task.fit == CLOSED_FORM:
        for name, arm in arms.items():
            if isinstance(arm.model, AbiModule):
                records[name]["n_trainable"] = arm.model.proj_out.weight.numel()
            solved.put(arm, name, task)
            arm.model.requires_grad_(False)
            records[name]["steps"] = 0
    else:
        for name, figures in train_arms(arms, task, budget, seed, solved, checkpoints).items():
            records[name] |= figures
    if task.data.held_out is not None:
        gains = choose_gains([arm.model for arm in arms.values()], task.data.held_out)
        for name, gain in zip(arms, gains, strict=True):
            records[name]["gain"] = gain
    for name, arm in arms.items():
        if sha256_tensors(arm.frozen) != before[name]:
            raise TamperError(f"arm {name}: a frozen part changed in a {task.fit} fit; nothing was written")
    return records


def train_arms(
    arms: Mapping[str, Arm], task: Task, budget: Budget, seed: int, solved: Solved, checkpoints: Path | None
) -> dict[str, dict[str, Any]]:
    """Fit arms by gradient, in place and in step with each other; return what the record of each says of the fit."""
    if task.data.shift is not None:
        for name, arm in arms.items():
            solved.put(arm, name, task)
    fitted = fit_gradients(
        [
            ToFit(arm.model, arm.trainable, arm.frozen, task.schedules[arm.form], f"{name} seed {seed}")
            for name, arm in arms.items()
        ],
        task.data, budget.objective, batch=budget.batch.at_most(task.data.states), seed=derive_seed("calibration", seed),
        checkpoint=checkpoints / f"{seed}-{task.fit}-{task.draw}.safetensors" if checkpoints else None,
    )  # fmt: skip
    return {
        name: figures_of(trained, task.schedules[arm.form])
        for (name, arm), trained in zip(arms.items(), fitted, strict=True)
    }


def figures_of(trained: Trained, schedule: Schedule) -> dict[str, Any]:
    """Return what a manifest says of a gradient fit: steps, last losses, best step, seconds."""
    running = torch.tensor(trained.losses, dtype=torch.float64).unfold(0, min(50, schedule.steps), 1).mean(1)
    return {
        "steps": schedule.steps,
        "final_loss": float(running[-1]),
        "phase_floors": trained.floors(schedule),
        "best_step": int(running.argmin()) + min(50, schedule.steps),
        "elapsed_s": round(trained.elapsed_s, 2),
    }


def _save(model: Fitted, folder: Path, facts: Mapping[str, Any]) -> None:
    if isinstance(model, AbiModule):
        save_module(model, folder, facts)
    else:
        save_simple(model, folder / ARM_FILE, facts["base_sha256"])


def budget_of(spec: Mapping[str, Any]) -> Budget:
    """Return the budget that all arms of a pair and seed share."""
    given = spec["budget"]
    schedules = {form: Schedule.given(given, phases) for form, phases in given["phases"].items()}
    variants = {}
    for name in spec["variants"]:
        change = given["variants"][name]
        steps = {key: change[key] for key in ("steps",) if key in change}
        other = {form: Schedule.given(given, phases, **steps) for form, phases in given["phases"].items()}
        variants[name] = Variant(other, change.get("share", 1.0), change.get("text", ""))
    return Budget(
        schedules, Batch.given(given), Objective(spec["fit"], given.get("temperature", 2.0), given.get("kd_weight", 0.9)),
        given["ridge_penalty"], tuple(given.get("windows", ())), variants, given.get("closed_form_rows"),
    )  # fmt: skip
