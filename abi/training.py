"""The one training loop: batches, loss, phases, clipping, frozen-hash check, checkpoint and resume.

Backbones, modules and calibration all go through `fit`; what differs between them is the loss they hand in.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from abi.errors import DataError, TamperError
from abi.provenance import progress, sha256_tensors, write_tensors

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
    """Which windows each step sees: epochs of seeded permutations, the same for every arm of a seed."""

    def __init__(self, n: int, batch: int, seed: int) -> None:
        if n < batch:
            raise DataError(f"training: {n} windows are fewer than one batch of {batch}; lower the batch or add text")
        self.n, self.batch, self.seed = n, batch, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __getitem__(self, step: int) -> Tensor:
        """Return the window indices `[B]` of a step."""
        per_epoch = self.n // self.batch
        epoch, at = divmod(step, per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.n, generator=generator)
        return self._order[at * self.batch : (at + 1) * self.batch]


@dataclass(frozen=True)
class Trained:
    """What a run of the loop leaves: losses per step (nats or squared units) and seconds."""

    losses: list[float]
    elapsed_s: float

    def floors(self, schedule: Schedule, last: int = 200) -> list[float]:
        """Return per phase the mean of its last losses (the record's phase floors)."""
        ends, start = [], 0
        for phase in schedule.phases:
            window = self.losses[start : start + phase.steps][-last:]
            ends.append(sum(window) / max(1, len(window)))
            start += phase.steps
        return ends


def fit(
    loss: Callable[[int], Tensor],
    trainable: Mapping[str, Tensor],
    schedule: Schedule,
    *,
    frozen: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 120.0,
    label: str = "training",
) -> Trained:
    """Minimise `loss(step)` over the `trainable` tensors, in place.

    Args:
        loss: scalar loss of a global step; draws its own batch.
        trainable: name -> leaf tensor; nothing else may change.
        frozen: tensors hashed before and after.
        checkpoint: where to keep a resumable state outside the outputs; removed at success.

    Raises:
        TamperError: a frozen tensor changed.
        DataError: the loss became NaN or infinite.
    """
    before = sha256_tensors(frozen or {})
    for tensor in (frozen or {}).values():
        tensor.requires_grad_(False)
    parameters = [tensor.requires_grad_(True) for tensor in trainable.values()]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=schedule.weight_decay, fused=True)
    start, losses = _resume(checkpoint, trainable, optimizer)
    report = progress(schedule.steps)
    began = saved = time.perf_counter()
    for step in range(start, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimizer.step()
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            raise DataError(
                f"{label}: the loss is {losses[-1]} at step {step}; lower the learning rate or check the states"
            )
        report(step + 1, f"{label} loss {losses[-1]:.4f}")
        if checkpoint is not None and time.perf_counter() - saved > checkpoint_every_s:
            saved = time.perf_counter()
            _save_checkpoint(checkpoint, trainable, optimizer, losses)
    if sha256_tensors(frozen or {}) != before:
        raise TamperError(f"{label}: a frozen part changed during training; nothing was written")
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Trained(losses, time.perf_counter() - began)


def _save_checkpoint(
    path: Path, trainable: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, losses: list[float]
) -> None:
    tensors = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for name, tensor in trainable.items():
        tensors[f"{name}|value"] = tensor.detach()
        tensors |= {f"{name}|{key}": value for key, value in optimizer.state[tensor].items()}
    write_tensors(path, tensors, {"sha256": sha256_tensors(tensors)})


def _resume(
    path: Path | None, trainable: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, list[float]]:
    """Restore parameters and optimizer state from a checkpoint if there is one; return the next step and the losses.

    Raises: DataError: it is damaged (it carries the hash of its tensors) or of something else.
    """
    if path is None or not path.exists():
        return 0, []
    try:
        with safe_open(path, "pt") as stored:
            kept = {key: stored.get_tensor(key) for key in stored.keys()}
            promised = (stored.metadata() or {}).get("sha256")
        if sha256_tensors(kept) != promised:
            raise KeyError("its hash differs")
        for name, tensor in trainable.items():
            with torch.no_grad():
                tensor.copy_(kept[f"{name}|value"])
            keys = [key for key in kept if key.startswith(f"{name}|") and key != f"{name}|value"]
            optimizer.state[tensor] = {key.rpartition("|")[2]: kept[key] for key in keys}
        losses = kept["losses"].tolist()
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: is not a usable checkpoint ({error}); delete it to start afresh") from None
    log.info("resuming at step %d from %s", len(losses), path)
    return len(losses), losses
