"""Fits on stored states: native training (CE), calibration (KD, correction MSE) and closed-form solves.

No backbone runs here: a step is a few matrix products and one pass through the frozen head.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abi import strict
from abi.alignment import ridge_solve
from abi.errors import DataError
from abi.losses import correction_mse, head_loss
from abi.module import AbiModule, load_module
from abi.provenance import sha256_tensors, write_tensors
from abi.states import Head, States, load_mapped, open_tensors
from abi.training import BatchOrder, Schedule, Trained, fit

log = logging.getLogger("abi")
ARM_FILE = "arm.safetensors"


@dataclass(frozen=True)
class Objective:
    """What a gradient fit minimises: `ce`, `kd` (temperature, weight of the teacher) or `correction-mse`."""

    kind: str
    temperature: float = 2.0
    kd_weight: float = 0.9


@dataclass
class FitData:
    """What a fit may read: train states, the frozen head, and for a teacher its corrections `[N, T, D]`."""

    states: States
    head: Head
    teacher: Tensor | None = None


class LinearMap(nn.Module):
    """The `linear` arm: one affine map from standardised tapped states `[B, T, K, D]` to the correction `[B, T, D]`."""

    mean: Tensor
    std: Tensor

    def __init__(self, taps: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.taps = taps
        self.register_buffer("mean", torch.zeros(width * len(taps)))
        self.register_buffer("std", torch.ones(width * len(taps)))
        self.weight = nn.Parameter(torch.zeros(width * len(taps), width))
        self.bias = nn.Parameter(torch.zeros(width))

    def standardise(self, states: States, rows: int = 512) -> None:
        """Take mean and deviation of the features from the first train windows, so that one rate suits all of them."""
        features = states.taps(self.taps, slice(0, rows)).flatten(0, 1).flatten(1)
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp_min(1e-6))

    def features(self, taps: Tensor) -> Tensor:
        """Return standardised features `[B, T, K * D]`."""
        return (taps.flatten(-2) - self.mean) / self.std

    def forward(self, taps: Tensor) -> Tensor:
        """Return the correction `[B, T, D]`."""
        return self.features(taps) @ self.weight + self.bias


class LogitBias(nn.Module):
    """The `bias` arm: no correction, one logit-bias vector `[V]` (a unigram shift)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.taps: tuple[int, ...] = ()
        self.logit_bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, taps: Tensor) -> Tensor:
        """Return no correction."""
        return taps.new_zeros(())


Fitted = AbiModule | LinearMap | LogitBias


def taps_of(model: Fitted) -> tuple[int, ...]:
    """Return the taps a fitted arm reads."""
    return model.config.taps if isinstance(model, AbiModule) else model.taps


def correction_of(model: Fitted | None, states: States, index: Tensor | slice) -> Tensor | None:
    """Return an arm's correction `[B, T, D]` of some windows, or None where it makes none."""
    if model is None or isinstance(model, LogitBias):
        return None
    correction: Tensor = model(states.taps(taps_of(model), index))
    return correction


def logit_bias_of(model: Fitted | None) -> Tensor | None:
    """Return an arm's logit bias `[V]`, or None."""
    return model.logit_bias if isinstance(model, LogitBias) else None


@torch.no_grad()
def corrections(model: AbiModule, states: States, batch: int = 64) -> Tensor:
    """Return a module's corrections `[N, T, D]` of all windows."""
    parts = [correction_of(model, states, slice(i, i + batch)) for i in range(0, len(states), batch)]
    return torch.cat([part for part in parts if part is not None])


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed of names and numbers: seeds of different roles share nothing."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


def fit_gradient(
    model: Fitted,
    data: FitData,
    objective: Objective,
    schedule: Schedule,
    *,
    trainable: Mapping[str, Tensor],
    frozen: Mapping[str, Tensor],
    batch: int,
    seed: int,
    checkpoint: Path | None = None,
    label: str = "fit",
) -> Trained:
    """Train some parameters of an arm on stored states; `frozen` ones are hashed before and after.

    Args: batch: windows per step; seed: of the batch order, shared by all arms of a seed.
    Raises: DataError: an objective that needs a teacher has none.
    """
    states, head, teacher = data.states, data.head, data.teacher
    if objective.kind != "ce" and teacher is None:
        raise DataError(f"{label}: objective {objective.kind} needs a teacher")
    order = BatchOrder(len(states), batch, seed)

    def loss(step: int) -> Tensor:
        index = order[step]
        if objective.kind == "correction-mse":
            assert teacher is not None
            return correction_mse(model(states.taps(taps_of(model), index)), teacher[index])
        final = states.final(index)
        correction = correction_of(model, states, index)
        student = final if correction is None else final + correction
        taught = (final + teacher[index]).flatten(0, 1) if objective.kind == "kd" and teacher is not None else None
        return head_loss(
            student.flatten(0, 1), head, states.targets(index).flatten(), teacher=taught,
            temperature=objective.temperature, kd_weight=objective.kd_weight, logit_bias=logit_bias_of(model),
        )  # fmt: skip

    trained = fit(loss, trainable, schedule, frozen=frozen, checkpoint=checkpoint, label=label)
    model.requires_grad_(False)
    return trained


@torch.no_grad()
def solve(model: Fitted, data: FitData, penalty: float, batch: int = 64) -> None:
    """Fit an arm without gradient steps, in place: `proj_out` or the linear map by ridge on the teacher's corrections,
    the bias as the shift of the mean distribution. Source: EXPERIMENTS E3 (analytical calibration), protocol arm `solved`.
    """
    assert data.teacher is not None
    if isinstance(model, LogitBias):
        model.logit_bias.copy_(_unigram_shift(data, batch))
        return
    gram = moment = None
    for start in range(0, len(data.states), batch):
        part = slice(start, start + batch)
        taps = data.states.taps(taps_of(model), part)
        if isinstance(model, AbiModule):
            x = model.abi_state(taps)
        else:
            x = torch.cat([model.features(taps), taps.new_ones(*taps.shape[:2], 1)], dim=-1)
        rows, y = x.flatten(0, 1).double(), data.teacher[part].flatten(0, 1).double()
        gram = rows.T @ rows + (0 if gram is None else gram)
        moment = rows.T @ y + (0 if moment is None else moment)
    assert gram is not None
    assert moment is not None
    weights = ridge_solve(gram, moment, penalty)
    if isinstance(model, AbiModule):
        model.proj_out.weight.copy_(weights.T)
    else:
        model.weight.copy_(weights[:-1])
        model.bias.copy_(weights[-1])


def _unigram_shift(data: FitData, batch: int) -> Tensor:
    """Return log mean teacher distribution minus log mean raw distribution, `[V]`."""
    assert data.teacher is not None
    taught = raw = torch.zeros(())
    for start in range(0, len(data.states), batch):
        part = slice(start, start + batch)
        final = data.states.final(part)
        raw = raw + torch.softmax(data.head.logits(final), -1).sum((0, 1), dtype=torch.float64)
        taught = taught + torch.softmax(data.head.logits(final + data.teacher[part]), -1).sum(
            (0, 1), dtype=torch.float64
        )
    return (taught.clamp_min(1e-12) / raw.clamp_min(1e-12)).log().float()


def save_simple(model: LinearMap | LogitBias, path: str | Path, base_sha256: str) -> None:
    """Save a `linear` or `bias` arm as one safetensors file with the hashes of its tensors and of its backbone."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    about = {
        "arm": type(model).__name__,
        "taps": list(model.taps),
        "sha256": sha256_tensors(tensors),
        "base_sha256": base_sha256,
    }
    write_tensors(path, tensors, {"abi": json.dumps(about)})


def load_fitted(folder: str | Path, base_sha256: str | None = None) -> Fitted:
    """Return a saved arm: a module folder, or one with `arm.safetensors`.

    Args: base_sha256: of the backbone whose states it is to read; not compared if None.
    Raises: DataError: damaged, or the arm of another backbone.
    """
    path = Path(folder) / ARM_FILE
    model, about = _load_simple(path) if path.exists() else load_module(folder)
    if base_sha256 not in (None, about["base_sha256"]):
        raise DataError(f"{folder}: is an arm of another backbone than the states; rebuild the calibration")
    return model.requires_grad_(False)


def _load_simple(path: Path) -> tuple[LinearMap | LogitBias, dict[str, Any]]:
    """Return a `linear` or `bias` arm and what its file says of it: arm, taps, sha256, base_sha256."""
    tensors = load_mapped(path)
    try:
        about: dict[str, Any] = strict.parse((open_tensors(path).metadata() or {})["abi"])
        model = LogitBias(len(tensors["logit_bias"])) if about["arm"] == "LogitBias" else _linear(about, tensors)
        model.load_state_dict(tensors)
        whole = sha256_tensors(tensors) == about["sha256"] and isinstance(about["base_sha256"], str)
    except (KeyError, RuntimeError, TypeError, ValueError):
        raise DataError(f"{path}: holds no arm of abi; delete its folder and rebuild it") from None
    if not whole:
        raise DataError(f"{path}: does not match its own hash; delete its folder and rebuild it")
    return model, about


def _linear(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearMap:
    return LinearMap(tuple(about["taps"]), tensors["bias"].shape[0])
