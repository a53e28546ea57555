"""How one arm is made of its recipe (`base/catalogue.py`) before anything of it is fitted."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from abi.arms.alignment import conjugated
from abi.arms.data import FitData
from abi.arms.forms import FittableForm, LinearMap, LogitBias
from abi.base.catalogue import PERMUTED, RANDOM, Recipe
from abi.base.errors import ConfigError
from abi.base.seeds import derive_seed
from abi.models.module import AbiModule, ModuleConfig, permute_domain_net, set_domain_net, without_domain_net


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


@dataclass
class MadeArm:
    """A made arm: the model, its form, what of it trains, what is frozen, and its domain net, where it has one."""

    model: FittableForm
    form: str
    trainable: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, Tensor] = field(default_factory=dict)
    net: dict[str, Tensor] = field(default_factory=dict)


def redrawn(config: ModuleConfig, seed: int) -> AbiModule:
    """Return a fresh interface: the one interface initialisation of a seed, the same for every arm of it."""
    return AbiModule(config, seed=derive_seed("interface", seed))


def make(
    recipe: Recipe, name: str, config: ModuleConfig, nets: Nets, data: FitData, *, seed: int, draw: int = 0
) -> MadeArm:
    """Return an arm before its fit. Raises: ConfigError: a net or rotation the recipe needs is not there."""
    head = {"head": data.head.weight}
    if recipe.form == "linear":
        linear = LinearMap(config.taps, config.width)
        linear.standardise(data.states)
        return MadeArm(linear, "linear", dict(linear.named_parameters()), head)
    if recipe.form == "bias":
        bias = LogitBias(len(data.head.weight))
        return MadeArm(bias, "bias", dict(bias.named_parameters()), head)
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
    trainable = {name: p for name, p in parameters.items() if name in names}
    net: dict[str, Tensor] = {} if module.domain is None else dict(module.domain_parameters())
    return MadeArm(module, "module", trainable, frozen | head, net)


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
        raise ConfigError(f"arms: {name} needs the source's carried interface, which the claim does not give")
    with torch.no_grad():
        for key, parameter in carried.interface_parameters().items():
            module.interface_parameters()[key].copy_(parameter)
    return module


def _place_net(module: AbiModule, recipe: Recipe, name: str, nets: Nets, seed: int, draw: int) -> None:
    """Put the recipe's domain net and rotation into a module.

    Placebos take no weight from the source, but permuted ones: these keep the statistics of its weights and nothing of
    what they compute.
    """
    if recipe.net == RANDOM:
        # The arm's name is in the seed, the source's is not: a placebo is the same whatever is moved.
        giver: AbiModule | None = AbiModule(module.config, seed=derive_seed("placebo", name, seed, draw))
    else:
        givers = {"source": nets.source, PERMUTED: nets.source, "oracle": nets.oracle, "wrong": nets.wrong}
        giver = givers[recipe.net]
    if giver is None:
        raise ConfigError(f"arms: {name} needs the {recipe.net} net, which the claim does not give")
    set_domain_net(module, giver)
    if recipe.net == PERMUTED:
        permute_domain_net(module, torch.Generator().manual_seed(derive_seed("permutation", seed, draw)))
    if recipe.rotation == "identity":
        return
    rotations = {"aligned": nets.aligned, "inverse": nets.aligned, "own": nets.own, "other": nets.other}
    rotation = rotations[recipe.rotation]
    if rotation is None:
        raise ConfigError(f"arms: {name} needs the {recipe.rotation} rotation, which was not fitted")
    if recipe.rotation == "inverse":
        module.load_state_dict(conjugated(dict(module.state_dict()), rotation, published=True))
    else:
        module.set_rotation(rotation)
