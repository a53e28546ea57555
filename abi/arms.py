"""What each arm is made of (PROTOCOL section 2), and how all arms of a seed are fitted with the same data and budget."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abi.alignment import conjugated
from abi.errors import ConfigError, TamperError
from abi.fitting import (
    ARM_FILE,
    FitData,
    Fitted,
    LinearMap,
    LogitBias,
    Objective,
    derive_seed,
    fit_gradient,
    save_simple,
    solve,
)
from abi.module import AbiModule, ModuleConfig, permute_domain_net, save_module, set_domain_net, without_domain_net
from abi.provenance import sha256_tensors
from abi.training import Schedule
from abi.vocabulary import CLOSED_FORM

log = logging.getLogger("abi")


@dataclass(frozen=True)
class Recipe:
    """How one arm is made.

    Args:
        net: whose domain net: `source`, `oracle`, `random`, `permuted` (the source's), `start` (of the module it starts from)
            or `none`.
        rotation: `aligned` (source space), `own` (the oracle's space), `inverse` (folded as the original does) or `identity`.
        start: `redrawn` (a fresh interface) or `before` (the candidate's native module).
        trains: `interface`, `all`, or `published` (all but the module's norm, as the original).
        form: `module`, `linear` or `bias`.
        draws: draws per seed where the arm is random and cheap (closed form only).
    """

    net: str = "none"
    rotation: str = "identity"
    start: str = "redrawn"
    trains: str = "interface"
    form: str = "module"
    draws: int = 1


TRANSFER: dict[str, Recipe] = {
    "native": Recipe("oracle", "own"),
    "transferred": Recipe("source", "aligned"),
    "random": Recipe("random", "aligned", draws=3),
    "permuted": Recipe("permuted", "aligned", draws=3),
    "identity": Recipe("source", "identity"),
    "published": Recipe("source", "inverse", trains="published"),
    "no-domain": Recipe("none"),
    "linear": Recipe(form="linear"),
    "bias": Recipe(form="bias"),
    "unfrozen": Recipe("source", "aligned", trains="all"),
    "direct": Recipe("random", "identity", trains="all"),
}
RECONSTRUCTION: dict[str, Recipe] = {
    "candidate": Recipe("start", start="before", trains="all"),
    "random": Recipe("random", start="before", draws=3),
    "linear": Recipe(form="linear"),
}
RECIPES = {"transfer": TRANSFER, "reconstruction": RECONSTRUCTION}


@dataclass
class Nets:
    """The trained modules a seed's arms are made of; for a reconstruction `before` is the candidate's native module."""

    source: AbiModule | None = None
    oracle: AbiModule | None = None
    before: AbiModule | None = None
    aligned: Tensor | None = None
    own: Tensor | None = None


@dataclass(frozen=True)
class Budget:
    """What every arm of a pair and seed gets: steps and phases by form, batch in windows, objective, ridge penalty."""

    schedules: Mapping[str, Schedule]
    batch: int
    objective: Objective
    ridge_penalty: float


@dataclass
class Arm:
    """A made arm: the model, what of it trains, what is frozen."""

    model: Fitted
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
        return Arm(linear, dict(linear.named_parameters()), head)
    if recipe.form == "bias":
        bias = LogitBias(len(data.head.weight))
        return Arm(bias, {"logit_bias": bias.logit_bias}, head)
    module = _start(recipe, config, nets, seed)
    if recipe.net not in {"none", "start"}:
        _place_net(module, recipe, name, nets, seed, draw)
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    names = {
        "interface": set(module.interface_parameters()),
        "all": set(parameters),
        "published": {name for name in parameters if not name.startswith("abi_ln")},
    }[recipe.trains]
    frozen = {name: p for name, p in parameters.items() if name not in names} | {"rotation": module.rotation}
    return Arm(module, {name: p for name, p in parameters.items() if name in names}, frozen | head)


def _start(recipe: Recipe, config: ModuleConfig, nets: Nets, seed: int) -> AbiModule:
    if recipe.start == "redrawn":
        return redrawn(config if recipe.net != "none" else without_domain_net(config), seed)
    if nets.before is None:
        raise ConfigError("arms: this arm starts from the candidate's native module, which the claim does not name")
    module = AbiModule(nets.before.config)
    module.load_state_dict(nets.before.state_dict())
    return module


def _place_net(module: AbiModule, recipe: Recipe, name: str, nets: Nets, seed: int, draw: int) -> None:
    """Put the recipe's domain net and rotation into a module. Placebos take no weight from the source but permuted ones."""
    config = module.config
    givers = {"source": nets.source, "permuted": nets.source, "oracle": nets.oracle}
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
    rotation = {"aligned": nets.aligned, "inverse": nets.aligned, "own": nets.own, "identity": None}[recipe.rotation]
    if rotation is None and recipe.rotation != "identity":
        raise ConfigError(f"arms: {name} needs the {recipe.rotation} rotation, which was not fitted")
    if recipe.rotation == "inverse":
        folded = conjugated(dict(module.state_dict()), rotation, published=True)  # type: ignore[arg-type]
        module.load_state_dict(folded)
    elif rotation is not None:
        module.set_rotation(rotation)


def fit_all(
    kind: str, names: Sequence[str], config: ModuleConfig, nets: Nets, data: FitData, budget: Budget, *, seed: int,
    folder: Path, facts: Mapping[str, Any], checkpoints: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Make, fit and save every arm of a seed, by gradient and in closed form; return one record per fitted arm.

    Every gradient arm of a seed has the same windows in the same order and the same number of steps.
    Raises: TamperError: a frozen part changed.
    """
    records = []
    for name in names:
        recipe = RECIPES[kind][name]
        for fit_name in (budget.objective.kind, CLOSED_FORM):
            if fit_name == CLOSED_FORM and recipe.trains == "published":
                continue
            for draw in range(recipe.draws if fit_name == CLOSED_FORM else 1):
                arm = make(recipe, name, config, nets, data, seed=seed, draw=draw)
                record = {"arm": name, "fit": fit_name, "draw": draw, "seed": seed}
                record |= _fit_one(arm, recipe, fit_name, data, budget, seed, name, checkpoints)
                place = folder / fit_name / f"{name}-{draw}"
                _save(arm.model, place, {**facts, "name": name, "role": "arm", "seed": seed})
                if isinstance(arm.model, AbiModule) and arm.model.domain is not None:
                    record["domain_sha256"] = arm.model.domain_hash()
                records.append(record | {"folder": str(place.relative_to(folder))})
    return records


def _fit_one(arm: Arm, recipe: Recipe, fit_name: str, data: FitData, budget: Budget, seed: int, name: str,
             checkpoints: Path | None) -> dict[str, Any]:  # fmt: skip
    before = sha256_tensors(arm.frozen)
    counts: dict[str, Any] = {"n_trainable": sum(p.numel() for p in arm.trainable.values()), "frozen_sha256": before}
    if fit_name == CLOSED_FORM:
        if isinstance(arm.model, AbiModule):
            counts["n_trainable"] = arm.model.proj_out.weight.numel()
        solve(arm.model, data, budget.ridge_penalty)
        arm.model.requires_grad_(False)
        if sha256_tensors(arm.frozen) != before:
            raise TamperError(f"arm {name}: a frozen part changed in a closed-form fit; nothing was written")
        return counts | {"steps": 0}
    schedule = budget.schedules[recipe.form]
    trained = fit_gradient(
        arm.model, data, budget.objective, schedule, trainable=arm.trainable, frozen=arm.frozen, batch=budget.batch,
        seed=derive_seed("calibration", seed), label=f"{name} seed {seed}",
        checkpoint=checkpoints / f"{seed}-{name}.safetensors" if checkpoints else None,
    )  # fmt: skip
    running = torch.tensor(trained.losses, dtype=torch.float64).unfold(0, min(50, schedule.steps), 1).mean(1)
    return counts | {
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
