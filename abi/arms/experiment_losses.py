"""What the arms of an experiment minimise on one batch; arms of one batch share its states and its teacher.

Objectives that claims have too (`ce`, `kd`, `kl`, `correction-mse`) are theirs (`arms/losses.py`); the others are those
of the original's notes, which ships none of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from abi.arms.forms import FittableForm
from abi.arms.gradient import FitData, correction_of
from abi.arms.losses import correction_mse, head_losses
from abi.base.errors import DataError
from abi.models.head import Head

NEAR = 10
"""Tokens of a local KL, the teacher's likeliest."""
THROUGH_HEAD = {"ce": 0.0, "kl": 1.0}
"""Objective -> its weight of the teacher in KD; KD has its own."""


@dataclass(frozen=True)
class Goal:
    """What one arm minimises. Args: temperature, kd_weight: of KD; local: weight of the local KL beside it."""

    kind: str
    temperature: float = 2.0
    kd_weight: float = 0.9
    local: float = 0.0


@dataclass
class TaughtBatch:
    """A batch: final states `[N, D]`, the teacher's correction of them, targets `[N]`; the teacher's logits once."""

    final: Tensor
    taught: Tensor
    targets: Tensor
    head: Head
    _logits: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, data: FitData, index: Tensor | slice) -> "TaughtBatch":
        """Return some windows of what a fit may read. Raises: DataError: nobody teaches there."""
        if data.teacher is None:
            raise DataError("experiment: its text has no teacher; give the claim an oracle there")
        final = data.states.final(index).flatten(0, 1)
        taught = data.teacher[index].to(final.device).flatten(0, 1)
        return cls(final, taught, data.states.targets(index).flatten(), data.head)

    @property
    def logits(self) -> Tensor:
        """The teacher's logits `[N, V]`."""
        if not self._logits:
            with torch.no_grad():
                self._logits.append(self.head.logits(self.final + self.taught))
        return self._logits[0]


def losses(
    models: Sequence[FittableForm], goals: Sequence[Goal], data: FitData, index: Tensor | slice
) -> Sequence[Tensor]:
    """Return the objective of every model on some windows, a mean over positions (nats, or squared units)."""
    batch = TaughtBatch.of(data, index)
    found: dict[int, Tensor] = {}
    shared: dict[tuple[float, float], list[int]] = {}
    corrections = [correction_of(model, data.states, index).flatten(0, 1) for model in models]
    for i, goal in enumerate(goals):
        if (how := through_head(goal)) is not None:
            shared.setdefault(how, []).append(i)
    for (temperature, weight), own in shared.items():
        students: list[tuple[Tensor, Tensor | None]] = [(batch.final + corrections[i], None) for i in own]
        teacher = batch.final + batch.taught if weight else None
        values = head_losses(
            students, data.head, batch.targets, teacher=teacher, temperature=temperature, kd_weight=weight
        )
        found |= dict(zip(own, values, strict=True))
    for i, goal in enumerate(goals):
        if i not in found:
            found[i] = OF_CORRECTIONS[goal.kind](batch, corrections[i])
        if goal.local:
            found[i] = found[i] + goal.local * local_kl(batch, corrections[i], goal.temperature)
    return [found[i] for i in range(len(models))]


def through_head(goal: Goal) -> tuple[float, float] | None:
    """Return temperature and weight of the teacher of what is KD, or a case of it; None of anything else."""
    if goal.kind == "kd":
        return goal.temperature, goal.kd_weight
    return (1.0, THROUGH_HEAD[goal.kind]) if goal.kind in THROUGH_HEAD else None


def weighted_mse(batch: TaughtBatch, correction: Tensor, weights: Tensor) -> Tensor:
    """Return the mean squared error of corrections, positions weighted by `[N]`, whose mean is made 1."""
    of_position = ((correction - batch.taught) ** 2).mean(-1)
    return (weights / weights.mean() * of_position).mean()


def entropy(batch: TaughtBatch) -> Tensor:
    """Return the entropy `[N]` of the teacher's distributions, nats."""
    logs = torch.log_softmax(batch.logits, -1)
    return -(logs.exp() * logs).sum(-1)


def logit_mse(batch: TaughtBatch, correction: Tensor) -> Tensor:
    """Return the mean squared error of logits over positions and vocabulary."""
    return ((batch.head.logits(batch.final + correction) - batch.logits) ** 2).mean()


def local_kl(batch: TaughtBatch, correction: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) among the teacher's ten likeliest tokens, nats per position.

    Both are renormalised over those tokens, as in the original's atlas.
    """
    near = batch.logits.topk(min(NEAR, batch.logits.shape[-1]), dim=-1).indices
    own = batch.head.logits_at(batch.final + correction, near)
    taught, student = (torch.log_softmax(x / temperature, -1) for x in (batch.logits.gather(-1, near), own))
    return temperature**2 * (taught.exp() * (taught - student)).sum(-1).mean()


OF_CORRECTIONS: Mapping[str, Callable[[TaughtBatch, Tensor], Tensor]] = {
    "correction-mse": lambda batch, correction: correction_mse(correction, batch.taught),
    "entropy-weighted-mse": lambda batch, correction: weighted_mse(batch, correction, entropy(batch)),
    "confidence-weighted-mse": lambda batch, correction: weighted_mse(batch, correction, 1 / (1 + entropy(batch))),
    "logit-mse": logit_mse,
    "local-kl": lambda batch, correction: local_kl(batch, correction, 1.0),
}
"""Objective -> its value on a batch, from an arm's correction `[N, D]`."""
