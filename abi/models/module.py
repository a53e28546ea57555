"""The ABI module: interface (tap norms, `proj_in`, norm, `proj_out`) and domain net; its saved form.

Parameter names are the original's (`proj_in.weight`, `abi_ln.*`, `proj_out.weight`, `domain.net.{0,2}.*`,
`domain.ln.*`, `domain_alpha`, `tap_lns.{i}.*`), so that its checkpoints load as they are.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from abi.base.compute import finite
from abi.base.errors import DataError
from abi.base.files import read_tensors, sha256_tensors, write_tensors, write_text
from abi.base.manifests.modules import ModuleFacts, ModuleManifest, ModuleShape
from abi.models.products import Linear, linear
from abi.models.states import States

CONFIG, WEIGHTS, CARD = "abi_config.json", "abi_model.safetensors", "README.md"
BACKBONE_PREFIXES = ("t5.", "encoder.", "decoder.", "lm_head.", "backbone.")
BACKBONE_BLOCK = re.compile(r"\.(?:block|layers?|h)\.(\d+)\.")


@dataclass(frozen=True)
class ModuleConfig:
    """Shape of a module.

    Args: width: backbone width D; taps: indices of the hidden states it reads (K of them); d_abi: width A of the ABI
        space; expansion: hidden width of the domain net over A; tap_norms: one LayerNorm per tap; residual_tap: the
        final state.
    Raises: DataError: d_abi above what the taps give.
    """

    width: int
    taps: tuple[int, ...]
    d_abi: int
    expansion: int = 4
    tap_norms: bool = False
    domain_net: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.expansion < 1 or min(self.taps, default=0) < 0:
            raise DataError(
                f"module: width {self.width} and expansion {self.expansion} must be 1 or more, "
                f"taps {list(self.taps)} 0 or more"
            )
        limit = self.width * len(self.taps)
        if not 0 < self.d_abi <= limit:
            raise DataError(
                f"module: d_abi {self.d_abi} must be 1 to {limit} (width {self.width} x {len(self.taps)} taps)"
            )

    @classmethod
    def of(cls, shape: ModuleShape) -> "ModuleConfig":
        """Return the shape that a module's manifest records. Raises: DataError: as above."""
        return cls(**{**dict(shape), "taps": tuple(shape.taps)})

    @property
    def recorded(self) -> ModuleShape:
        """The shape as a module's manifest records it."""
        return ModuleShape(**{**asdict(self), "taps": list(self.taps)})


class DomainNet(nn.Module):
    """The two-layer MLP of a module with its norm: `LN(W2 GELU(W0 x + b0) + b2)`; with alpha all that moves."""

    def __init__(self, d_abi: int, expansion: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Linear(d_abi, expansion * d_abi), nn.GELU(), Linear(expansion * d_abi, d_abi))
        self.ln = nn.LayerNorm(d_abi)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., A]` of `[..., A]`."""
        return self.ln(self.net(x))


def _rotated_anew(module: "AbiModule", _: object) -> None:
    """Take note of the rotation that a state dict brought along."""
    module.set_rotation(module.rotation)


class AbiModule(nn.Module):
    """Correction `[B, T, D]` of tapped states `[B, T, K, D]`: `proj_out(z)`, `z = h + alpha * R(D(R'(h)))`.

    It is one form of an arm (`arms/forms.py`), which the methods from `correction` on are for.
    """

    rotation: Tensor
    logit_bias = None
    solved = ("proj_out.weight",)

    def __init__(self, config: ModuleConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        d_in = config.width * len(config.taps)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed the caller's cards, too
            norms = [nn.LayerNorm(config.width) for _ in config.taps] if config.tap_norms else []
            self.tap_lns = nn.ModuleList(norms)
            self.proj_in = Linear(d_in, config.d_abi, bias=False)
            self.abi_ln = nn.LayerNorm(config.d_abi)
            self.proj_out = Linear(config.d_abi, config.width, bias=False)
            nn.init.xavier_uniform_(self.proj_in.weight)
            nn.init.xavier_uniform_(self.proj_out.weight)
            self.domain = DomainNet(config.d_abi, config.expansion) if config.domain_net else None
        self.domain_alpha = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("rotation", torch.eye(config.d_abi))
        self._rotated = False
        self.register_load_state_dict_post_hook(_rotated_anew)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.proj_in.weight.device

    def features(self, taps: Tensor) -> Tensor:
        """Return what `proj_in` reads, `[B, T, K * D]`: the taps, each under its norm if there are tap norms."""
        if self.config.tap_norms:
            taps = torch.stack([norm(taps[..., k, :]) for k, norm in enumerate(self.tap_lns)], dim=-2)
        return taps.flatten(-2)

    def interface_state(self, taps: Tensor) -> Tensor:
        """Return the interface's ABI state `h` `[B, T, A]`: tap norms, `proj_in`, norm."""
        return self.abi_ln(self.proj_in(self.features(taps)))

    def abi_state(self, taps: Tensor) -> Tensor:
        """Return `z` `[B, T, A]`, what `proj_out` reads: interface state plus gated domain net, exactly transported.

        `rotation` R maps target to source coordinates of row vectors: `z = h + alpha * D(h R) R^T`; D itself is
        untouched.
        """
        h = self.interface_state(taps)
        if self.domain is None:
            return h
        if not self._rotated:
            return h + self.domain_alpha * self.domain(h)
        return h + self.domain_alpha * (linear(self.domain(linear(h, self.rotation.T)), self.rotation))

    def forward(self, taps: Tensor) -> Tensor:
        """Return the correction `[B, T, D]`."""
        return self.proj_out(self.abi_state(taps))

    def set_rotation(self, rotation: Tensor) -> None:
        """Fix R `[A, A]` (target to source coordinates). Raises: DataError: it is no orthogonal matrix of that size."""
        rotation = rotation.to(self.rotation)
        identity = torch.eye(self.config.d_abi, device=self.device)
        if rotation.shape != identity.shape or not torch.allclose(rotation @ rotation.T, identity, atol=1e-4):
            raise DataError(
                f"module: a rotation of shape {tuple(rotation.shape)} is not an orthogonal matrix "
                f"of width {self.config.d_abi}"
            )
        with torch.no_grad():
            self.rotation.copy_(rotation)
        self._rotated = not torch.equal(self.rotation, identity)

    def interface_parameters(self) -> dict[str, nn.Parameter]:
        """Return what calibration may change: tap norms, `proj_in`, norm, `proj_out`."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("domain")}

    def domain_parameters(self) -> dict[str, nn.Parameter]:
        """Return the domain net with its norm and gate: the part that moves."""
        return {name: p for name, p in self.named_parameters() if name.startswith("domain")}

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the correction `[B, T, D]` of some windows."""
        correction: Tensor = self(states.taps(self.config.taps, index))
        return correction

    @property
    def _narrow(self) -> bool:
        """Whether the logits are cheaper read from the A numbers of the ABI state than from the D of the correction."""
        return self.config.d_abi < self.config.width

    def read(self, states: States, index: Tensor | slice) -> Tensor:
        """Return what its logits are linear in: the ABI state `[B, T, A]`, or, where A >= D, the correction."""
        return self.abi_state(states.taps(self.config.taps, index)) if self._narrow else self.correction(states, index)

    def readout(self, head: Tensor) -> Tensor:
        """Return the map `[V, A]` (or `[V, D]`) from what it reads to logits, given the head's `[V, D]`."""
        return linear(head, self.proj_out.weight.T) if self._narrow else head


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed of names and numbers: seeds of different roles share nothing."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


def redrawn(config: ModuleConfig, seed: int) -> AbiModule:
    """Return a fresh interface: the one interface initialisation of a seed, the same for every arm of it."""
    return AbiModule(config, seed=derive_seed("interface", seed))


def set_domain_net(module: AbiModule, source: AbiModule) -> None:
    """Copy a source's domain net and gate into a module, bit for bit. Raises: DataError: shapes differ."""
    for name, parameter in module.domain_parameters().items():
        given = source.domain_parameters()[name]
        if given.shape != parameter.shape:
            raise DataError(
                f"module: {name} is {tuple(given.shape)} in the source and {tuple(parameter.shape)} in the target; "
                "use equal d_abi"
            )
        with torch.no_grad():
            parameter.copy_(given)


def with_net(module: AbiModule, net: AbiModule | None) -> AbiModule:
    """Return a copy of a module's interface with another module's domain net, or with none; both stay as they are."""
    config = module.config if net is not None else without_domain_net(module.config)
    made = AbiModule(config).to(module.device)
    with torch.no_grad():
        for name, parameter in module.interface_parameters().items():
            made.interface_parameters()[name].copy_(parameter)
    if net is not None:
        set_domain_net(made, net)
        made.set_rotation(module.rotation)
    return made.requires_grad_(False)


def permuted(module: AbiModule, seed: int, draw: int) -> AbiModule:
    """Return a copy of a module around its own net permuted: the placebo of a seed and draw."""
    made = with_net(module, module)
    permute_domain_net(made, permutation_seed(seed, draw))
    return made


def permutation_seed(seed: int, draw: int) -> int:
    """Return the seed of the permutation that a placebo of a seed and draw has, the same in every claim."""
    return derive_seed("permutation", seed, draw)


def permute_domain_net(module: nn.Module, seed: int) -> None:
    """Permute units and coordinates of a domain net independently: weight statistics stay, what it computes not."""
    assert isinstance(module.domain, DomainNet)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.domain.parameters():
            for dim in range(parameter.dim()):
                order = torch.randperm(parameter.shape[dim], generator=generator).to(parameter.device)
                parameter.copy_(parameter.index_select(dim, order))


def write_weights(module: nn.Module, folder: Path) -> str:
    """Write the tensors of a module of any shape into its folder; return their hash."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    write_tensors(folder / WEIGHTS, tensors)
    return sha256_tensors(tensors)


def save_module(module: AbiModule, folder: str | Path, facts: ModuleFacts) -> str:
    """Write `abi_config.json`, `abi_model.safetensors` and the card; return the weights' tensor hash."""
    folder = Path(folder)
    digest = write_weights(module, folder)
    about = ModuleManifest(module=module.config.recorded, rotated=module._rotated, sha256=digest, **dict(facts))
    about.write(folder / CONFIG)
    write_text(folder / CARD, _card(about))
    return digest


def _card(about: ModuleManifest) -> str:
    shape = about.module
    return (
        f"---\nlibrary_name: abi\nbase_model: {about.base_model}\nbase_model_relation: adapter\n"
        f"tags: [abi, domain-module]\n---\n\n# ABI module `{about.name}`, seed {about.seed}\n\n"
        f"Role `{about.role}`, text `{about.text}`, d_abi {shape.d_abi}, taps {shape.taps} of `{about.base_model}`\n"
        f"(weights {about.base_sha256[:12]}, vocabulary {about.vocabulary[:12]}). "
        "A module works only with that backbone.\n"
        "What it is worth stands in the verdicts of the claims that use it, not here.\n"
    )


def read_module(folder: str | Path) -> tuple[AbiModule, ModuleManifest]:
    """Return a saved module and its manifest.

    Whatever precision it was saved in, it is read in fp32, in which it computes: of bf16 the same numbers, wider.
    A rotation that bf16 has rounded is no rotation any more, and is refused.
    Raises: DataError: a file is missing or damaged, tensors are missing, extra or of wrong shape, or the hash differs.
    """
    folder = Path(folder)
    about = ModuleManifest.read(folder / CONFIG)
    try:
        config = ModuleConfig.of(about.module)
    except DataError as error:
        raise DataError(f"{folder / CONFIG}: {error}; delete the module's folder and rebuild it") from None
    tensors = read_tensors(folder / WEIGHTS)[0]
    module = load_state(config, tensors, str(folder / WEIGHTS))
    if module._rotated != about.rotated:
        raise DataError(
            f"{folder / CONFIG}: says rotated {about.rotated}, the weights say otherwise; rebuild the module"
        )
    check_digest(tensors, about.sha256, folder)
    return module, about


def check_digest(tensors: Mapping[str, Tensor], sha256: str, folder: Path) -> None:
    """Raise DataError where tensors as they were stored are not those that the folder of their module promises."""
    if sha256_tensors(dict(tensors)) != sha256:
        raise DataError(
            f"{folder / WEIGHTS}: does not match the hash in {CONFIG}; delete the module's folder and rebuild it"
        )


def load_state(config: ModuleConfig, tensors: Mapping[str, Tensor], where: str) -> AbiModule:
    """Return a module with exactly the given tensors.

    Raises: DataError: missing, extra or wrongly shaped ones, or one that is not finite.
    """
    given, hidden = dict(tensors), config.expansion * config.d_abi
    sizes = {"proj_in.weight": (config.d_abi, config.width * len(config.taps))}
    sizes |= {"proj_out.weight": (config.width, config.d_abi)}
    sizes |= {"domain.net.0.weight": (hidden, config.d_abi)} if config.domain_net else {}
    for name, size in sizes.items():  # before memory of these sizes is taken
        if name in given and given[name].shape != size:
            raise DataError(f"{where}: {name} is {tuple(given[name].shape)}, not {size}; it is no module of this shape")
    if lacking := sorted(sizes.keys() - given.keys()):
        raise DataError(f"{where}: missing tensors {lacking[:4]}, unknown tensors []; it is no module of this shape")
    check_finite(given, where)
    module = AbiModule(config)
    own = module.state_dict()
    check_tensors(own, given, where)
    try:
        module.load_state_dict({name: given[name].float() for name in own})
    except DataError as error:
        precision = str(given["rotation"].dtype).removeprefix("torch.")
        why = "" if precision == "float32" else f"; {precision} has rounded it, so save the module in float32"
        raise DataError(f"{where}: {error}{why}") from None
    return module


def check_finite(given: Mapping[str, Tensor], where: str) -> None:
    """Raise DataError where a tensor holds NaN or infinity."""
    if damaged := sorted(name for name, tensor in given.items() if not finite(tensor)):
        raise DataError(f"{where}: {damaged[0]} holds NaN or infinity; delete the module's folder and rebuild it")


def check_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str, what: str = "module") -> None:
    """Raise DataError where tensors are not those of a module, by name and shape. Args: what: the module, in words."""
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        raise DataError(
            f"{where}: missing tensors {missing[:4]}, unknown tensors {extra[:4]}; it is no {what} of this shape"
        )
    wrong = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if given[name].shape != own[name].shape
    ]
    if wrong:
        raise DataError(f"{where}: {wrong[0]}; it is no {what} of this shape")


def without_domain_net(config: ModuleConfig) -> ModuleConfig:
    """Return the same shape with the domain net removed."""
    return replace(config, domain_net=False)


def read_original(
    tensors: Mapping[str, Tensor], taps: tuple[int, ...] | None = None, where: str = "checkpoint"
) -> AbiModule:
    """Return a module from a checkpoint of the original: its shape is read off the tensors, its backbone's left out.

    Args: taps: indices of the hidden states it reads. The original reads the final state where there is one, which is
        found by the number of blocks if the checkpoint holds the backbone too; otherwise taps must be given.
    Raises: DataError: no ABI module in it, or it does not say what it reads.
    """
    for name in ("proj_in.weight", "proj_out.weight", "domain.net.0.weight"):
        if name not in tensors or tensors[name].dim() != 2 or not tensors[name].numel():
            raise DataError(f"{where}: holds no matrix {name}; it is no ABI module of the original")
    d_abi, d_in = tensors["proj_in.weight"].shape
    width, hidden = tensors["proj_out.weight"].shape[0], tensors["domain.net.0.weight"].shape[0]
    n_taps = d_in // width
    if taps is None:
        taps = _final_tap(tensors) if n_taps == 1 else None
    if taps is None:
        raise DataError(f"{where}: does not say which hidden states it reads; give {n_taps} as `taps` (0: embeddings)")
    if len(taps) != n_taps:
        raise DataError(f"{where}: reads {n_taps} hidden states, not {len(taps)}; it is no module of this shape")
    config = ModuleConfig(width, taps, d_abi, expansion=hidden // d_abi, tap_norms="tap_lns.0.weight" in tensors)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(BACKBONE_PREFIXES)}
    if "domain_alpha" in own and own["domain_alpha"].numel() == 1:
        own["domain_alpha"] = own["domain_alpha"].reshape(())  # the original keeps its gate as one number in a row
    return load_state(config, {"rotation": torch.eye(d_abi), **own}, where)


def _final_tap(names: Iterable[str]) -> tuple[int, ...] | None:
    """Return the tap of the final state of the backbone whose tensors are among these, None where there are none."""
    of_backbone = [name for name in names if name.startswith(BACKBONE_PREFIXES)]
    decoder = [name for name in of_backbone if "decoder." in name] or of_backbone
    blocks = [int(found[1]) for name in decoder if (found := BACKBONE_BLOCK.search(name))]
    return (max(blocks) + 1,) if blocks else None
