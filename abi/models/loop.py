"""The one training loop: batches, loss, phases, clipping, frozen-hash check, checkpoint and resume.

Backbones, modules and calibration all go through `fit_together`; what differs between them is the losses they hand in.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_json, sha256_tensors, write_tensors
from abi.base.job import progress
from abi.plan.specs.shared import Phase as PhaseSection

log = logging.getLogger("abi")


@dataclass(frozen=True)
class Phase:
    """Consecutive steps at one peak rate: linear warm-up, then `constant` or `cosine` (down to a tenth)."""

    steps: int
    lr: float
    warmup: int = 0
    decay: str = "constant"

    def rate(self, step: int) -> float:
        """Return the learning rate at a step of this phase, 0-based."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.decay == "constant":
            return self.lr
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: phases, AdamW weight decay, gradient-norm limit."""

    phases: Sequence[Phase]
    weight_decay: float = 0.01
    clip: float = 1.0

    @classmethod
    def given(cls, phases: Sequence[PhaseSection], weight_decay: float, steps: int | None = None) -> "Schedule":
        """Return the schedule of phases as the config has them. Args: steps: of every phase, its own if None."""
        own = [Phase(phase.steps if steps is None else steps, phase.lr, phase.warmup, phase.decay) for phase in phases]
        return cls(own, weight_decay)

    def at(self, rate: float) -> "Schedule":
        """Return these phases with their rates as shares of one rate."""
        return replace(self, phases=[replace(phase, lr=phase.lr * rate) for phase in self.phases])

    @property
    def peak(self) -> float:
        """The greatest rate of all phases."""
        return max(phase.lr for phase in self.phases)

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return sum(phase.steps for phase in self.phases)

    def rate(self, step: int) -> float:
        """Return the learning rate at a global step."""
        for phase in self.phases:
            if step < phase.steps:
                return phase.rate(step)
            step -= phase.steps
        raise IndexError(step)


class BatchOrder:
    """Which windows (or positions) each step sees: epochs of seeded permutations, the same for every arm of a seed."""

    def __init__(self, n: int, batch: int, seed: int, of: str = "windows") -> None:
        if n < batch:
            raise DataError(f"training: {n} {of} are fewer than one batch of {batch}; lower the batch or add text")
        self.n, self.batch, self.seed = n, batch, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, step: int) -> Tensor:
        """Return the indices `[B]` of a step."""
        per_epoch = self.n // self.batch
        epoch, at = divmod(step, per_epoch)
        if epoch != self._epoch:
            # Of the epoch alone, not of a running generator: a resumed run sees the same order.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.n, generator=generator)
        return self._order[at * self.batch : (at + 1) * self.batch]


@dataclass(frozen=True)
class Trained:
    """What a run of the loop leaves a member: losses per step (nats or squared units), its share of the seconds.

    Args: beside: the figure per step that was kept with the losses, where one was.
    """

    losses: list[float]
    elapsed_s: float
    beside: list[float] = field(default_factory=list)

    def last_loss(self, last: int = 50) -> float:
        """Return the mean of the last losses."""
        window = self.losses[-last:]
        return sum(window) / len(window)

    def floors(self, schedule: Schedule, last: int = 200) -> list[float]:
        """Return per phase the mean of its last losses (the record's phase floors)."""
        ends, start = [], 0
        for phase in schedule.phases:
            window = self.losses[start : start + phase.steps][-last:]
            ends.append(sum(window) / max(1, len(window)))
            start += phase.steps
        return ends


@dataclass(frozen=True)
class Member:
    """One model of a run: its name, what trains (name -> leaf tensor), at which rates, and what must not change.

    `may_diverge`: a loss that is no longer finite ends neither its run nor that of the others.
    """

    label: str
    trainable: Mapping[str, Tensor]
    schedule: Schedule
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    may_diverge: bool = False


def fit(
    loss: Callable[[int], Tensor],
    trainable: Mapping[str, Tensor],
    schedule: Schedule,
    *,
    frozen: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 120.0,
    label: str = "training",
    may_diverge: bool = False,
    beside: Callable[[], float] | None = None,
) -> Trained:
    """Minimise `loss(step)` over the `trainable` tensors, in place: `fit_together` with one member."""
    member = Member(label, trainable, schedule, frozen or {}, may_diverge)
    [trained] = fit_together(
        lambda step: (loss(step),),
        [member],
        checkpoint=checkpoint,
        checkpoint_every_s=checkpoint_every_s,
        beside=beside,
    )
    return trained


def fit_together(
    losses: Callable[[int], Sequence[Tensor]],
    members: Sequence[Member],
    *,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 120.0,
    before_step: Callable[[int], None] | None = None,
    beside: Callable[[], float] | None = None,
) -> list[Trained]:
    """Minimise one loss per member over its own tensors, in place, all members on the same batches.

    Members share no tensor that trains, and each has its own optimizer and gradient limit: the result is that of
    separate runs, bit for bit. What they have in common (a teacher, the batch) is computed once per step.

    Args: losses: scalar losses of a global step, one per member in order; draws its own batch.
        checkpoint: where to keep a resumable state outside the outputs; removed at success.
        before_step: called with the number of steps done, before every step and after the last.
        beside: a figure of the step that was taken, kept with its losses, so that a resumed run has those before.
    Raises: TamperError: a frozen tensor changed.
        DataError: a loss became NaN or infinite that may not, or members with different numbers of steps.
    """
    [n_steps, *others] = {member.schedule.steps for member in members}
    if others:
        raise DataError(
            f"training: {', '.join(m.label for m in members)} have different numbers of steps; make them equal"
        )
    before = frozen_hashes([member.frozen for member in members])
    optimizers = [_optimizer(member) for member in members]
    past = _resume(checkpoint, members, optimizers)
    history, figures = past.history, past.figures
    report = progress(n_steps)
    saved = time.perf_counter()
    began = saved - past.elapsed_s
    for step in range(len(history[0]), n_steps):
        if before_step is not None:
            before_step(step)
        for optimizer, member in zip(optimizers, members, strict=True):
            optimizer.param_groups[0]["lr"] = member.schedule.rate(step)
            optimizer.zero_grad(set_to_none=True)
        values = losses(step)
        torch.autograd.backward(list(values))
        for own, value, optimizer, member in zip(history, values, optimizers, members, strict=True):
            # A limit each: the spike of one member may not shorten the step of another.
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], member.schedule.clip)
            optimizer.step()
            own.append(_usable(float(value.detach()), member, step))
        if beside is not None:
            figures.append(beside())
        report(step + 1, f"{', '.join(m.label for m in members)} loss {', '.join(f'{h[-1]:.4f}' for h in history)}")
        if checkpoint is not None and time.perf_counter() - saved > checkpoint_every_s:
            saved = time.perf_counter()
            _save_checkpoint(checkpoint, members, optimizers, Past(history, figures, saved - began))
    if before_step is not None:
        before_step(n_steps)
    _check_frozen(members, before)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    elapsed_s = (time.perf_counter() - began) / len(members)
    return [Trained(own, elapsed_s, figures) for own in history]


def _usable(loss: float, member: Member, step: int) -> float:
    """Return a loss. Raises: DataError: it is not finite, and may not be."""
    if not math.isfinite(loss) and not member.may_diverge:
        raise DataError(
            f"{member.label}: the loss is {loss} at step {step}; lower the learning rate or check the states"
        )
    return loss


def _optimizer(member: Member) -> torch.optim.Optimizer:
    """Return the optimizer of what of a member trains; what is frozen asks for no gradient from here on."""
    for tensor in member.frozen.values():
        tensor.requires_grad_(False)
    parameters = [tensor.requires_grad_(True) for tensor in member.trainable.values()]
    return torch.optim.AdamW(parameters, lr=1.0, weight_decay=member.schedule.weight_decay, fused=True)


def frozen_hashes(parts: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Return the hash of each set of frozen tensors; one that several share, as they do the head, is read once."""
    read: dict[int, str] = {}

    def of(tensor: Tensor) -> str:
        if id(tensor) not in read:
            read[id(tensor)] = sha256_tensors({"": tensor})
        return read[id(tensor)]

    return [sha256_json({name: of(tensor) for name, tensor in part.items()}) for part in parts]


def _check_frozen(members: Sequence[Member], before: Sequence[str]) -> None:
    """Raise TamperError where what is frozen no longer has the hash it had."""
    after = frozen_hashes([member.frozen for member in members])
    for member, digest, now in zip(members, before, after, strict=True):
        if now != digest:
            raise TamperError(f"{member.label}: a frozen part changed during training; nothing was written")


class Past(NamedTuple):
    """What a run has behind it: losses per member and step, the figures beside them, seconds."""

    history: list[list[float]]
    figures: list[float]
    elapsed_s: float


def _save_checkpoint(
    path: Path, members: Sequence[Member], optimizers: Sequence[torch.optim.Optimizer], past: Past
) -> None:
    beside = {"figures": past.figures, "elapsed_s": [past.elapsed_s]}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in beside.items()}
    for i, (member, optimizer) in enumerate(zip(members, optimizers, strict=True)):
        tensors[f"{i}|losses"] = torch.tensor(past.history[i], dtype=torch.float64)
        for name, tensor in member.trainable.items():
            tensors[f"{i}|{name}|value"] = tensor.detach()
            tensors |= {f"{i}|{name}|{key}": value for key, value in optimizer.state[tensor].items()}
    # One key: safetensors writes several in any order.
    write_tensors(path, tensors, {"promised": json.dumps({"sha256": sha256_tensors(tensors), "of": _said(members)})})


def _said(members: Sequence[Member]) -> list[list[str | int]]:
    """Return which fit a checkpoint is of: arms of one shape would load that of others as their own."""
    return [[member.label, member.schedule.steps] for member in members]


def _resume(path: Path | None, members: Sequence[Member], optimizers: Sequence[torch.optim.Optimizer]) -> Past:
    """Restore parameters and optimizers from a checkpoint if there is one; return what lies behind."""
    if path is None or not path.exists():
        return Past([[] for _ in members], [], 0.0)
    try:
        with safe_open(path, "pt") as stored:
            kept = {key: stored.get_tensor(key) for key in stored.keys()}
            promised = json.loads((stored.metadata() or {})["promised"])
        if sha256_tensors(kept) != promised["sha256"]:
            raise KeyError("its hash differs")
        if promised["of"] != _said(members):
            log.info("%s is of another fit; it is replaced", path)
            return Past([[] for _ in members], [], 0.0)
        for i, (member, optimizer) in enumerate(zip(members, optimizers, strict=True)):
            for name, tensor in member.trainable.items():
                with torch.no_grad():
                    tensor.copy_(kept[f"{i}|{name}|value"])
                keys = [key for key in kept if key.startswith(f"{i}|{name}|") and key != f"{i}|{name}|value"]
                optimizer.state[tensor] = {key.rpartition("|")[2]: kept[key].to(tensor.device) for key in keys}
        history = [kept[f"{i}|losses"].tolist() for i in range(len(members))]
        past = Past(history, kept["figures"].tolist(), float(kept["elapsed_s"]))
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is not a usable checkpoint ({error}); delete it to start afresh") from None
    log.info("resuming at step %d from %s", len(history[0]), path)
    return past
