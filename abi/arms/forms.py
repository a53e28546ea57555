"""The forms an arm can have: what each does to the logits, how it is solved, and its file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from abi.base.compute import finite
from abi.base.errors import DataError, TamperError
from abi.base.files import parse_json, read_tensors, sha256_tensors, write_tensors
from abi.base.manifests.arms import FittedEntry
from abi.base.manifests.modules import ModuleFacts, ModuleManifest
from abi.base.typed import Sha256, Typed
from abi.models.head import Head
from abi.models.module import CONFIG, AbiModule, read_module, save_module
from abi.models.products import added, linear
from abi.models.states import States

ARM_FILE = "arm.safetensors"
FINALS = "final.safetensors"
"""The final states of an adapted backbone (`lora`)."""


class Correcting:
    """A form that has no other way to its logits than its correction through the head."""

    logit_bias = None

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return what it adds to the final states of some windows, `[B, T, D]`."""
        raise NotImplementedError

    def read(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the correction."""
        return self.correction(states, index)

    def readout(self, head: Tensor) -> Tensor:
        """Return the head `[V, D]` as it is: what `read` gives is multiplied by it."""
        return head


class LinearMap(Correcting, nn.Module):
    """The `linear` arm: one affine map from standardised tapped states `[B, T, K, D]` to the correction `[B, T, D]`."""

    mean: Tensor
    std: Tensor
    solved = ("weight", "bias")

    def __init__(self, taps: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.taps = taps
        self.register_buffer("mean", torch.zeros(width * len(taps)))
        self.register_buffer("std", torch.ones(width * len(taps)))
        self.weight = nn.Parameter(torch.zeros(width * len(taps), width))
        self.bias = nn.Parameter(torch.zeros(width))

    def standardise(self, states: States, rows: int = 65536) -> None:
        """Take mean and deviation of the features from the first rows of the data, so that one rate suits all."""
        windows = slice(0, max(1, rows // states.manifest.positions))
        features = states.taps(self.taps, windows).flatten(0, 1).flatten(1)
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp_min(1e-6))

    def features(self, taps: Tensor) -> Tensor:
        """Return standardised features `[B, T, K * D]`."""
        return (taps.flatten(-2) - self.mean) / self.std

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the correction `[B, T, D]` of some windows."""
        return linear(self.features(states.taps(self.taps, index)), self.weight.T, self.bias)


class LogitBias(nn.Module):
    """The `bias` arm: no correction, one logit-bias vector `[V]` (a unigram shift)."""

    solved = ("logit_bias",)

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.taps: tuple[int, ...] = ()
        self.logit_bias = nn.Parameter(torch.zeros(vocabulary))

    def correction(self, states: States, index: Tensor | slice) -> Tensor | None:
        """Return no correction."""
        return None

    def read(self, states: States, index: Tensor | slice) -> Tensor | None:
        """Return nothing: it reads no state."""
        return None

    def readout(self, head: Tensor) -> Tensor:
        """Return the head `[V, D]` as it is: what `read` gives is multiplied by it."""
        return head


class StoredStates(Correcting):
    """Final states of some windows that were stored once: of an adapted backbone, or of another number format.

    Args: stored: hash of the tensors of a store of states -> (numbers `[N]` of its windows, final states `[N, T, D]`).
    """

    def __init__(self, stored: Mapping[str, tuple[Tensor, Tensor]], where: str = "stored states") -> None:
        self.where, self.finals = where, {key: final for key, (_, final) in stored.items()}
        self.rows = {}
        for key, (windows, _) in stored.items():  # the row of each window number, -1 where a window is not stored
            self.rows[key] = torch.full((int(windows.max()) + 1,), -1, dtype=torch.long)
            self.rows[key][windows.long()] = torch.arange(len(windows))

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return stored minus plain final states `[B, T, D]`. Raises: DataError: it was not run on these windows."""
        key, windows = states.manifest.tensors_sha256, states.windows[index]
        rows = self.rows.get(key, windows.new_empty(0))
        known = bool((windows < len(rows)).all()) and bool((rows[windows] >= 0).all())
        plain = states.final(index)
        if not known or self.finals[key].shape[1:] != plain.shape[1:]:
            raise DataError(f"{self.where}: was not run on these windows of {states.path}; rebuild it")
        return self.finals[key][rows[windows]].to(plain.device) - plain


class Mixture(Correcting):
    """Several arms of one backbone at once: the weighted sum of their corrections."""

    def __init__(self, parts: Sequence[tuple[float, "Corrector"]]) -> None:
        self.parts = parts

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the mixed correction `[B, T, D]` of some windows."""
        found = [weight * part.correction(states, index) for weight, part in self.parts]
        return torch.stack(found).sum(0)


Corrector = AbiModule | LinearMap
FittableForm = Corrector | LogitBias
"""What a fit can set. `solved`: parameters that a closed form sets and a gain scales; the output is linear in them."""


class ArmForm(Protocol):
    """What evaluation reads: the forms of this file, and a portable module on a vocabulary (`models/portable.py`).

    Its logits are the plain ones plus `logit_bias` `[V]` plus what is linear in `read`; None where it adds nothing.
    """

    @property
    def logit_bias(self) -> Tensor | None:
        """What is added to all logits, `[V]`."""

    def read(self, states: States, index: Tensor | slice) -> Tensor | None:
        """Return what its logits are linear in, `[B, T, R]`: the correction, or fewer numbers that say as much."""

    def readout(self, head: Tensor) -> Tensor:
        """Return the map `[V, R]` from there to logits, given the head's `[V, D]`."""


class Readout:
    """What an arm does to the logits of the plain backbone, `cap(plain + scale * read @ weight.T) + bias`: below the
    head's cap, if it has one, they are linear in the final state.

    So a module's logits are as well read from the A numbers of its ABI state as from the D of its correction, at a cost
    of A / D (benchmarks/evaluation_cost.py); the plain backbone's are formed once for all arms.
    Args: model: the arm, None for the plain backbone.
    """

    def __init__(self, model: ArmForm | None, head: Head) -> None:
        self.model, self.head = model, head
        self.bias = None if model is None else model.logit_bias
        self.weight = head.weight if model is None else model.readout(head.weight)
        self.above_cap = getattr(model, "above_cap", False)
        """Whether it shifts the logits themselves, as a portable module does, and not what the cap is put on."""

    def read(self, states: States, index: Tensor | slice) -> Tensor | None:
        """Return what it reads of some windows, `[B, T, A]` or `[B, T, D]`, or None where it changes no state."""
        return None if self.model is None else self.model.read(states, index)

    def logits(self, plain: Tensor, read: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return an arm's logits `[n, V]`.

        Args: plain: the backbone's, below its cap (`Head.linear`), left as they are; read: of which `rows`.
        """
        if self.above_cap:
            return self.linear(self.head.capped(plain), read, rows)
        logits = self.head.capped(self.linear(plain, read, rows))
        return logits if self.bias is None else logits + self.bias

    def linear(self, plain: Tensor, read: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return an arm's logits `[n, V]` below the cap and without its bias; arguments as in `logits`."""
        return plain if read is None else added(plain, read[rows] * self.head.scale, self.weight)


@torch.no_grad()
def corrections(model: AbiModule, states: States, batch: int = 64) -> Tensor:
    """Return a module's corrections `[N, T, D]` of all windows, on the CPU."""
    found = torch.empty(0)
    for start in range(0, len(states), batch):
        part = model.correction(states, slice(start, start + batch))
        if not start:  # whole, and filled: parts that are joined lie in memory twice
            found = part.new_empty(len(states), *part.shape[1:], device="cpu")
        found[start : start + batch] = part
    return found


class SimpleArm(Typed):
    """What the file of a `linear` or `bias` arm says of it."""

    arm: Literal["LinearMap", "LogitBias"]
    taps: list[int]
    sha256: Sha256
    base_sha256: Sha256


def save_fitted(model: FittableForm, folder: Path, facts: ModuleFacts) -> str:
    """Write an arm into its folder, as `load_fitted` reads it; return the hash of its tensors."""
    if isinstance(model, AbiModule):
        return save_module(model, folder, facts)
    return save_simple(model, folder / ARM_FILE, facts.base_sha256)


def save_simple(model: LinearMap | LogitBias, path: Path, base_sha256: str) -> str:
    """Save a `linear` or `bias` arm as one safetensors file with the hashes of its tensors and of its backbone."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    about = {
        "arm": type(model).__name__,
        "taps": list(model.taps),
        "sha256": sha256_tensors(tensors),
        "base_sha256": base_sha256,
    }
    write_tensors(path, tensors, {"abi": json.dumps(about)})
    return sha256_tensors(tensors)


def load_entry(manifest: str | Path, entry: FittedEntry, states: States, head: Head) -> FittableForm:
    """Return the arm of an entry of a calibration, to be evaluated on some states and their head.

    Raises: TamperError: its folder holds another arm than the entry names (name, seed, fit, draw, net or weights);
        DataError: as `load_fitted`, or what it reads is not stored.
    """
    folder = Path(manifest).with_suffix("") / entry.folder
    model = load_fitted(folder, states.manifest.base_sha256).to(states.device)
    if entry.folder != entry.place or sha256_tensors(model.state_dict()) != entry.sha256:
        raise TamperError(f"{folder}: is not the arm {entry.place} of {manifest}; delete both and rebuild them")
    if isinstance(model, AbiModule):
        about = ModuleManifest.read(folder / CONFIG)
        net = sha256_tensors(model.domain_parameters()) if model.domain is not None else None
        if (about.name, about.seed, net) != (entry.arm, entry.seed, entry.domain_sha256):
            raise TamperError(f"{folder}: says another name, seed or net than {manifest}; delete both and rebuild them")
        states.check_taps(model.config.taps, model.config.width, str(folder))
    elif isinstance(model, LinearMap):
        states.check_taps(model.taps, len(model.bias), str(folder))
    elif len(model.logit_bias) != len(head.weight):
        raise DataError(f"{folder}: is a bias on another vocabulary than the head's; delete it and rebuild it")
    return model


def load_fitted(folder: str | Path, base_sha256: str | None = None) -> FittableForm:
    """Return a saved arm: a module folder, or one with `arm.safetensors`.

    Args: base_sha256: of the backbone whose states it is to read; not compared if None.
    Raises: DataError: damaged, or the arm of another backbone.
    """
    path = Path(folder) / ARM_FILE
    model, about = _load_simple(path) if path.exists() else read_module(folder)
    if base_sha256 not in (None, about.base_sha256):
        raise DataError(f"{folder}: is an arm of another backbone than the states; rebuild the calibration")
    return model.requires_grad_(False)


def _load_simple(path: Path) -> tuple[LinearMap | LogitBias, SimpleArm]:
    """Return a `linear` or `bias` arm and what its file says of it."""
    tensors, meta = read_tensors(path)
    try:
        about = SimpleArm.model_validate(parse_json(meta["abi"]))
        model: LinearMap | LogitBias
        if about.arm == "LogitBias":
            model = LogitBias(len(tensors["logit_bias"]))
        else:
            width = len(tensors["bias"])
            if min(about.taps) < 0 or tensors["weight"].shape != (width * len(about.taps), width):
                raise ValueError("another shape than it says")
            model = LinearMap(tuple(about.taps), width)
        model.load_state_dict(tensors)
        whole = sha256_tensors(tensors) == about.sha256 and all(map(finite, tensors.values()))
    except (KeyError, RuntimeError, TypeError, ValueError, ValidationError):
        raise DataError(f"{path}: holds no arm of abi; delete its folder and rebuild it") from None
    if not whole:
        raise DataError(f"{path}: does not match its own hash, or is not finite; delete its folder and rebuild it")
    return model, about


def load_stored(path: str | Path, sha256: str, scopes: Mapping[str, States], base_sha256: str) -> StoredStates:
    """Return a `lora` arm from its stored final states (`<scope>.final` `[N, T, D]`, `<scope>.windows` `[N]`).

    Args: sha256: of the file, as its manifest says; scopes: the states it is to be compared with; base_sha256: of its
        backbone.
    Raises: DataError: damaged, or of another backbone or other windows than the states; TamperError: not the file
        recorded.
    """
    tensors, meta = read_tensors(path, sha256)
    try:
        of: dict[str, str] = parse_json(meta["scopes"])
    except (KeyError, ValueError):
        raise DataError(f"{path}: holds no final states of abi; delete its folder and rebuild it") from None
    stored = {}
    for scope, states in scopes.items():
        if states.manifest.base_sha256 != base_sha256:
            raise DataError(f"{path}: is an arm of another backbone than {states.path}; rebuild the arm `lora`")
        key = states.manifest.tensors_sha256
        windows, final = tensors.get(f"{scope}.windows"), tensors.get(f"{scope}.final")
        of_states = of.get(scope) == key and windows is not None and torch.equal(windows.long(), states.windows)
        if windows is None or final is None or not of_states or len(final) != len(windows) or not finite(final):
            raise DataError(f"{path}: was not run on the windows of {states.path}; rebuild it")
        stored[key] = (windows, final)
    return StoredStates(stored, str(path))
