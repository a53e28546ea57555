"""Fits on stored states: native training (CE), calibration (KD, correction MSE) and closed-form solves.

No backbone runs here: a step is a few matrix products and one pass through the frozen head.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abi import strict
from abi.alignment import ridge_solve
from abi.errors import DataError, TamperError
from abi.losses import correction_mse, head_losses, log_totals
from abi.module import AbiModule, load_module
from abi.provenance import sha256_file, sha256_tensors, write_tensors
from abi.states import Head, States, load_mapped, open_tensors
from abi.teaching import Lesson, spread_rows
from abi.training import BatchOrder, Member, Schedule, Trained, fit_together

log = logging.getLogger("abi")
ARM_FILE = "arm.safetensors"
LOGIT_ROWS = 128
"""Positions whose logits `[n, V]` are formed at once where no gradient is: they stay in the processor's cache."""
FINALS = "final.safetensors"
"""The final states of an adapted backbone (`lora`)."""


@dataclass(frozen=True)
class Objective:
    """What a gradient fit minimises: `ce`, `kd`, `matched` (temperature, weight of the teacher) or `correction-mse`."""

    kind: str
    temperature: float = 2.0
    kd_weight: float = 0.9


@dataclass(frozen=True)
class Batch:
    """What a step reads: whole `windows`, or `positions` drawn singly from all of them.

    Positions of one window are much alike: a quarter as many drawn singly teach as much (benchmarks/batches.py).
    """

    size: int
    of: str = "windows"

    @classmethod
    def given(cls, section: Mapping[str, Any]) -> "Batch":
        """Return the batch of a section of the config that has one."""
        return cls(section["batch"], section.get("batch_of", "windows"))

    def at_most(self, states: States) -> "Batch":
        """Return a batch that some states can fill."""
        whole = 1 if self.of == "windows" else int(states.manifest["positions"])
        return replace(self, size=min(self.size, len(states) * whole))

    def as_windows(self, states: States) -> int:
        """Return how many whole windows hold at least as many positions, for what must read windows (a backbone); all at most."""
        wanted = self.size if self.of == "windows" else math.ceil(self.size / int(states.manifest["positions"]))
        return min(wanted, len(states))


@dataclass
class FitData:
    """What a fit may read: train states, the frozen head, and for a teacher its corrections `[N, T, D]`.

    `shift` `[N, V]`: of one-position windows, the log-ratio a lesson asks for (`matched`); the corrections then are its
    nearest ones in the head, for closed forms. `held_out`: a lesson no fit sees, on which a gain is chosen. `carried`: the
    source's interface, carried on this text (a share of it keeps that of the whole). `others`: name of another text -> the same on that text.
    """

    states: States
    head: Head
    teacher: Tensor | None = None
    shift: Tensor | None = None
    held_out: Lesson | None = None
    carried: AbiModule | None = None
    others: Mapping[str, "FitData"] = field(default_factory=dict)

    def of_text(self, name: str) -> "FitData":
        """Return the data of another text, these for "". Raises: DataError: there is none of that name."""
        if name and name not in self.others:
            raise DataError(f"fit: there is no {name} text to fit on (there is: {', '.join(self.others) or 'none'})")
        return self.others[name] if name else self

    def first(self, share: float) -> "FitData":
        """Return the first windows only: a share of them."""
        if share == 1:
            return self
        return self.select(list(range(max(1, int(share * len(self.states))))))

    def at_most(self, rows: int | None) -> "FitData":
        """Return whole windows spread evenly over the data that hold about so many positions, all of them without a limit."""
        wanted = None if rows is None else max(1, rows // int(self.states.manifest["positions"]))
        if wanted is None or wanted >= len(self.states):
            return self
        return self.select(spread_rows(len(self.states), wanted).tolist())

    def by_position(self) -> "FitData":
        """Return every position as a window of its own."""
        teacher = None if self.teacher is None else self.teacher.flatten(0, 1).unsqueeze(1)
        return replace(self, states=self.states.by_position(), teacher=teacher)

    def select(self, windows: list[int]) -> "FitData":
        """Return some windows, each with what its teacher says of it."""
        return replace(
            self, states=self.states.select(windows), teacher=None if self.teacher is None else self.teacher[windows],
            shift=None if self.shift is None else self.shift[windows],
        )  # fmt: skip


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

    def standardise(self, states: States, rows: int = 65536) -> None:
        """Take mean and deviation of the features from the first rows of the data, so that one rate suits all of them."""
        windows = slice(0, max(1, rows // int(states.manifest["positions"])))
        features = states.taps(self.taps, windows).flatten(0, 1).flatten(1)
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


class StoredStates(nn.Module):
    """The `lora` arm as evaluation reads it: the final states that an adapted backbone gave for some windows, written once.

    Args: stored: hash of the tensors of a store of states -> (numbers `[N]` of its windows, their final states `[N, T, D]`).
    """

    def __init__(self, stored: Mapping[str, tuple[Tensor, Tensor]], where: str = "stored states") -> None:
        super().__init__()
        self.where, self.finals = where, {key: final for key, (_, final) in stored.items()}
        self.rows = {key: _rows_of(windows) for key, (windows, _) in stored.items()}

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return stored minus plain final states `[B, T, D]`. Raises: DataError: it was not run on these windows."""
        key, windows = str(states.manifest["tensors_sha256"]), states.windows[index]
        rows = self.rows.get(key, windows.new_empty(0))
        known = bool((windows < len(rows)).all()) and bool((rows[windows] >= 0).all())
        plain = states.final(index)
        if not known or self.finals[key].shape[1:] != plain.shape[1:]:
            raise DataError(f"{self.where}: was not run on these windows of {states.path}; rebuild the arm `lora`")
        return self.finals[key][rows[windows]] - plain


def _rows_of(windows: Tensor) -> Tensor:
    """Return the row of each window number, -1 where a window is not stored."""
    rows = torch.full((int(windows.max()) + 1,), -1, dtype=torch.long)
    rows[windows.long()] = torch.arange(len(windows))
    return rows


class Mixture(nn.Module):
    """Several modules of one backbone at once: the weighted sum of their corrections."""

    def __init__(self, parts: Sequence[tuple[float, AbiModule]]) -> None:
        super().__init__()
        self.parts = list(parts)

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the mixed correction `[B, T, D]` of some windows."""
        found = [weight * module(states.taps(module.config.taps, index)) for weight, module in self.parts]
        return torch.stack(found).sum(0)


Fitted = AbiModule | LinearMap | LogitBias
Evaluated = Fitted | StoredStates | Mixture


def taps_of(model: Fitted) -> tuple[int, ...]:
    """Return the taps a fitted arm reads."""
    return model.config.taps if isinstance(model, AbiModule) else model.taps


def correction_of(model: Evaluated | None, states: States, index: Tensor | slice) -> Tensor | None:
    """Return an arm's correction `[B, T, D]` of some windows, or None where it makes none."""
    if model is None or isinstance(model, LogitBias):
        return None
    if isinstance(model, StoredStates | Mixture):
        return model.correction(states, index)
    correction: Tensor = model(states.taps(taps_of(model), index))
    return correction


def logit_bias_of(model: Evaluated | None) -> Tensor | None:
    """Return an arm's logit bias `[V]`, or None."""
    return model.logit_bias if isinstance(model, LogitBias) else None


class Readout:
    """What an arm does to the logits of the plain backbone, `plain + scale * read @ weight.T + bias`: they are linear in the final state.

    So a module's logits are as well read from the A numbers of its ABI state as from the D of its correction, at a cost of
    A / D (benchmarks/evaluation_cost.py); the plain backbone's are formed once for all arms.
    """

    def __init__(self, model: Evaluated | None, head: Head) -> None:
        self.model, self.bias = model, logit_bias_of(model)
        self.narrow = isinstance(model, AbiModule) and model.config.d_abi < model.config.width
        self.weight, self.scale = head.weight, head.scale
        if self.narrow and isinstance(model, AbiModule):
            self.weight = head.weight @ model.proj_out.weight

    def read(self, states: States, index: Tensor | slice) -> Tensor | None:
        """Return what it reads of some windows, `[B, T, A]` or `[B, T, D]`, or None where it changes no state."""
        if self.narrow and isinstance(self.model, AbiModule):
            return self.model.abi_state(states.taps(self.model.config.taps, index))
        return correction_of(self.model, states, index)

    def logits(self, plain: Tensor, read: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return an arm's logits `[n, V]`. Args: plain: the backbone's, left as they are; read: `[N, A]` or `[N, D]`, of which `rows`."""
        logits = plain if read is None else torch.addmm(plain, read[rows], self.weight.T, alpha=self.scale)
        return logits if self.bias is None else logits + self.bias


@torch.no_grad()
def corrections(model: AbiModule, states: States, batch: int = 64) -> Tensor:
    """Return a module's corrections `[N, T, D]` of all windows."""
    parts = [correction_of(model, states, slice(i, i + batch)) for i in range(0, len(states), batch)]
    return torch.cat([part for part in parts if part is not None])


def derive_seed(*parts: object) -> int:
    """Return a 31-bit seed of names and numbers: seeds of different roles share nothing."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


@dataclass
class ToFit:
    """An arm before its gradient fit: the model, what of it trains and is frozen (name -> tensor), its rates, its label."""

    model: Fitted
    trainable: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor]
    schedule: Schedule
    label: str = "fit"


def fit_gradients(
    arms: Sequence[ToFit], data: FitData, objective: Objective, *, batch: Batch, seed: int, checkpoint: Path | None = None,
    before_step: Callable[[int], None] | None = None,
) -> list[Trained]:  # fmt: skip
    """Train some parameters of every arm on the same stored states; `frozen` ones are hashed before and after.

    The arms take every step together, so that batch and teacher are computed once; no arm's result depends on the others.
    Args: batch: what a step reads; seed: of the batch order; before_step: as in `training.fit_together`.
    Raises: DataError: an objective that needs a teacher has none.
    """
    if objective.kind != "ce" and (data.shift if objective.kind == "matched" else data.teacher) is None:
        raise DataError(f"{arms[0].label}: objective {objective.kind} needs a teacher")
    data = data.by_position() if batch.of == "positions" else data
    order = BatchOrder(len(data.states), batch.size, seed, batch.of)
    trained = fit_together(
        lambda step: objectives([arm.model for arm in arms], data, objective, order[step]),
        [Member(arm.label, arm.trainable, arm.schedule, arm.frozen) for arm in arms],
        checkpoint=checkpoint,
        before_step=before_step,
    )
    for arm in arms:
        arm.model.requires_grad_(False)
    return trained


def objectives(
    models: Sequence[Fitted], data: FitData, objective: Objective, index: Tensor | slice
) -> Sequence[Tensor]:
    """Return the objective of every model on some windows: a mean over positions, of which the teacher is computed once."""
    states, teacher, shift = data.states, data.teacher, data.shift
    if objective.kind == "correction-mse":
        assert teacher is not None
        return [correction_mse(model(states.taps(taps_of(model), index)), teacher[index]) for model in models]
    final = states.final(index)
    found = [correction_of(model, states, index) for model in models]
    students = [final if correction is None else final + correction for correction in found]
    taught = final + teacher[index] if objective.kind == "kd" and teacher is not None else final
    return head_losses(
        [(student.flatten(0, 1), logit_bias_of(model)) for student, model in zip(students, models, strict=True)],
        data.head, states.targets(index).flatten(), teacher=None if objective.kind == "ce" else taught.flatten(0, 1),
        teacher_shift=None if shift is None or objective.kind != "matched" else shift[index].float(),
        temperature=objective.temperature, kd_weight=objective.kd_weight,
    )  # fmt: skip


@torch.no_grad()
def solve(model: Fitted, data: FitData, penalty: float, most_rows: int = 8192) -> None:
    """Fit an arm without gradient steps, in place: `proj_out` or the linear map by ridge on the teacher's corrections,
    the bias as the shift of the mean distribution. Source: EXPERIMENTS E3 (analytical calibration), protocol arm `solved`.
    """
    assert data.teacher is not None
    batch = max(1, most_rows // int(data.states.manifest["positions"]))
    if isinstance(model, LogitBias):
        model.logit_bias.copy_(
            _unigram_shift(data, min(batch, max(1, LOGIT_ROWS // int(data.states.manifest["positions"]))))
        )
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
        logits = data.head.logits(final)
        raw = raw + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
        if data.shift is None:
            logits = data.head.logits(final + data.teacher[part])
        else:
            logits = logits + data.shift[part].float().unsqueeze(1)
        taught = taught + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
    return (taught.clamp_min(1e-12) / raw.clamp_min(1e-12)).log().float()


GAINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SOLVED = {AbiModule: ("proj_out.weight",), LinearMap: ("weight", "bias"), LogitBias: ("logit_bias",)}
"""What a closed form sets and a gain scales, by kind of arm."""


@torch.no_grad()
def choose_gains(models: Sequence[Fitted], lesson: Lesson, batch: int = LOGIT_ROWS) -> list[float]:
    """Scale every arm in place by the gain of `GAINS` whose distributions come closest to a held-out lesson; return the gains.

    Closest is the least mean KL(lesson || arm), nats per position, of which the part that no gain changes is left out.
    No domain text is read.
    """
    totals = torch.zeros(len(models), len(GAINS), dtype=torch.float64)
    readouts = [Readout(model, lesson.head) for model in models]
    for start in range(0, len(lesson.states), batch):
        part = slice(start, start + batch)
        logits = lesson.head.logits(lesson.states.final(part)).flatten(0, 1)
        taught = torch.softmax(logits + lesson.shift[part].float(), -1)
        for i, readout in enumerate(readouts):
            read = readout.read(lesson.states, part)
            own = readout.logits(torch.zeros(()), None if read is None else read.flatten(0, 1))
            asked = (taught * own).sum(dtype=torch.float64)
            for at, gain in enumerate(GAINS):
                totals[i, at] += log_totals(logits + gain * own).sum(dtype=torch.float64) - gain * asked
    best = [GAINS[at] for at in totals.argmin(1).tolist()]
    for model, gain in zip(models, best, strict=True):
        for name in SOLVED[type(model)]:
            model.get_parameter(name).mul_(gain)
    return best


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


def load_stored(path: str | Path, sha256: str, scopes: Mapping[str, States], base_sha256: str) -> StoredStates:
    """Return a `lora` arm from its stored final states (`<scope>.final` `[N, T, D]`, `<scope>.windows` `[N]`).

    Args: sha256: of the file, as its manifest says; scopes: the states it is to be compared with; base_sha256: of its backbone.
    Raises: DataError: damaged, or of another backbone or other windows than the states; TamperError: not the file recorded.
    """
    tensors = load_mapped(path)
    if sha256_file(path) != sha256:
        raise TamperError(f"{path}: is not the file that was recorded; delete its folder and rebuild the arm `lora`")
    try:
        of: dict[str, str] = strict.parse((open_tensors(path).metadata() or {})["scopes"])
    except (KeyError, ValueError):
        raise DataError(f"{path}: holds no final states of abi; delete its folder and rebuild it") from None
    stored = {}
    for scope, states in scopes.items():
        if states.manifest["base_sha256"] != base_sha256:
            raise DataError(f"{path}: is an arm of another backbone than {states.path}; rebuild the arm `lora`")
        key = str(states.manifest["tensors_sha256"])
        if of.get(scope) != key or f"{scope}.final" not in tensors:
            raise DataError(f"{path}: was not run on the windows of {states.path}; rebuild the arm `lora`")
        stored[key] = (tensors[f"{scope}.windows"], tensors[f"{scope}.final"])
    return StoredStates(stored, str(path))
