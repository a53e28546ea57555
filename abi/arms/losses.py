"""Losses against a frozen head, in chunks: never `[N, V]` for all N positions.

`head_losses` forms the gradient with respect to the states in the forward pass, chunk by chunk, as Liger-Kernel and
ml-cross-entropy do; the head itself never gets a gradient.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abi.base.compute import rows_at_once
from abi.models import kernels, products
from abi.models.head import Head
from abi.models.kernels import LOG2_E

# How much is formed at once: every size is part of a figure's last bits, since sums are taken chunk by chunk.
LOSS_ROWS = 64, 256
"""Fewest and most positions of a training step whose logits `[n, V]` are formed at once: a product of fewer rows waits
for the head's memory (`snakemake benchmarks`)."""

LOSS_LOGITS = 2**23
"""Logits of a training step that are formed at once between those limits: the C library keeps blocks of up to 32 MB."""

CACHED_LOGITS = 2**19
"""Logits of a training step that become a gradient at once: what torch forms on the way, 2 MB each, stays in the cache,
and the calls cost little beside it."""

LOGIT_ROWS = 128
"""Positions whose logits `[n, V]` are formed at once where there is no gradient, which needs half the room."""

EVALUATION_LOGITS = 2**19
"""Logits of an evaluation that are formed at once, positions times vocabulary: every arm's and the judges' are held
together, and of fewer the calls cost as much as the numbers (`benchmarks/evaluation_cost.py`)."""

EVALUATION_ROWS = 64
"""Fewest positions of an evaluation: a product of fewer rows with a large head waits for the head's memory."""

PAIRED_ROWS = 2048
"""Paired positions that are read at once where moments of states, and no comparison of arms, are made of them."""

PAIRED_LOGITS = 2**25
"""Most logits of paired positions that are formed at once, 134 MB: what a module says of a vocabulary of 262,144."""


def head_loss(
    states: Tensor, head: Head, targets: Tensor, *, logit_bias: Tensor | None = None, **teaching: Any
) -> Tensor:
    """Return the loss of one student: `head_losses` with `states` `[N, D]` and, if it has one, `logit_bias` `[V]`."""
    [loss] = head_losses([(states, logit_bias)], head, targets, **teaching)
    return loss


def head_losses(
    students: Sequence[tuple[Tensor, Tensor | None]],
    head: Head,
    targets: Tensor,
    *,
    teacher: Tensor | None = None,
    teacher_shift: Tensor | None = None,
    temperature: float = 2.0,
    kd_weight: float = 0.9,
) -> tuple[Tensor, ...]:
    """Return per student the scalar CE, or KD + CE, of final states through a frozen head, in nats per position.

    Equals `(1 - w) * cross_entropy(s, y) + w * T^2 * kl_div(log_softmax(s / T), softmax(t / T), "batchmean")` with
    `s = head(states) + logit_bias`, `t = head(teacher) + teacher_shift`; without a teacher w is 0. The teacher is
    computed once for all students.

    Args: students: final states `[N, D]` and logit bias `[V]` (or None) of each, both trainable; targets: `[N]` ids;
        teacher: `[N, D]` its final states; teacher_shift: `[N, V]`, added to its logits.
    Source: Hinton et al. 2015, with the temperature and weight of the record (`docs/experiments.md`).
    """
    weight = kd_weight if teacher is not None else 0.0
    flat = [tensor for student in students for tensor in student]
    losses: tuple[Tensor, ...] = _HeadLoss.apply(head, targets, teacher, teacher_shift, temperature, weight, *flat)
    return losses


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, head, targets, teacher, shift, temperature, weight, *flat):  # noqa: ANN001, ANN002, ANN205
        students = list(zip(flat[::2], flat[1::2], strict=True))
        n, learns = len(targets), any(ctx.needs_input_grad)
        moved = ctx.needs_input_grad[6::2]  # the states of an arm that trains its bias alone stay
        grads = [torch.empty_like(states) if own else None for (states, _), own in zip(students, moved, strict=True)]
        bias_grads = [None if bias is None or not learns else torch.zeros_like(bias) for _, bias in students]
        totals = [states.new_zeros(()) for states, _ in students]
        # The gradient is formed here, while a chunk's logits are at hand: kept for `backward`, they would be `[N, V]`.
        at_once, cached = _rows(n, len(head.weight), targets.device)
        for start in range(0, n, at_once):
            part = slice(start, min(start + at_once, n))
            asked = None if weight == 0 else head.logits(teacher[part])
            slices = [slice(at, at + cached) for at in range(0, part.stop - start, cached)]
            taught = [] if asked is None else [_taught(asked[of], shift, part, of, temperature) for of in slices]
            for i, (states, bias) in enumerate(students):
                logits, own = head.logits(states[part]), targets[part]
                for of, lesson in zip_longest(slices, taught):
                    slope = head.slope(logits[of]) if learns else None
                    if bias is not None:
                        logits[of] += bias
                    loss, grad = _ce_and_kd(logits[of], own[of], lesson, temperature, weight, learns)
                    totals[i] += loss
                    if grad is None:
                        continue
                    bias_grad = bias_grads[i]
                    if bias_grad is not None:
                        bias_grad += grad.sum(0)
                    if slope is not None:
                        grad *= slope
                if (moves := grads[i]) is not None:  # the gradient has taken the place of the logits
                    products.into(moves[part], logits, head.weight)
        if learns:
            for grad, bias_grad in zip(grads, bias_grads, strict=True):
                if grad is not None:
                    grad *= head.scale / n
                if bias_grad is not None:
                    bias_grad /= n
            ctx.save_for_backward(*(tensor for pair in zip(grads, bias_grads, strict=True) for tensor in pair))
        return tuple(total / n for total in totals)

    @staticmethod
    def backward(ctx, *grad_outputs):  # noqa: ANN001, ANN002, ANN205
        saved = ctx.saved_tensors
        flat = [
            None if grad is None else grad * out
            for out, *pair in zip(grad_outputs, saved[::2], saved[1::2], strict=True)
            for grad in pair
        ]
        return (None,) * 6 + tuple(flat)


def _rows(n: int, vocabulary: int, device: torch.device) -> tuple[int, int]:
    """Return how many of n positions one matrix product takes, and how many of those share the cache."""
    fewest, most = LOSS_ROWS
    at_once = rows_at_once(max(fewest, min(most, LOSS_LOGITS // vocabulary)), vocabulary, device)
    at_once = max(1, math.ceil(n / max(1, math.ceil(n / at_once))))
    return at_once, max(1, CACHED_LOGITS // vocabulary) if device.type == "cpu" else at_once


class _Taught(NamedTuple):
    """A teacher's tempered distribution `[C, V]` of a slice, and sum(p log p) of each row `[C]`."""

    p: Tensor
    negative_entropy: Tensor


def _taught(logits: Tensor, shift: Tensor | None, part: slice, of: slice, temperature: float) -> _Taught:
    """Return what a slice of a chunk is taught; its logits `[C, V]` are overwritten and become `p`."""
    if shift is not None:
        logits += shift[part][of]
    if kernels.take(logits):
        p, _, log_total, mean = kernels.softened(logits, temperature=temperature)
        return _Taught(p, mean - log_total)
    asked = logits.sub_(logits.amax(-1, keepdim=True)).mul_(LOG2_E / temperature)
    e = asked.exp2()
    total = e.sum(-1, keepdim=True)
    own = torch.linalg.vecdot(e, asked).div_(total.squeeze(-1) * LOG2_E) - total.log().squeeze(-1)
    return _Taught(torch.div(e, total, out=logits), own)


def _ce_and_kd(
    logits: Tensor, targets: Tensor, taught: _Taught | None, temperature: float, weight: float, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the summed loss of a chunk and its gradient `[C, V]` with respect to the logits, None where none is asked.

    The gradient takes the place of the logits. One exponential per logit: at temperature 1 or 2 the student's plain
    exponentials are powers of the tempered ones, and KL needs no logarithm but of the two sums.
    """
    if kernels.take(logits):
        if taught is None:
            return kernels.cross_entropies(logits, targets, learns=learns).sum(), logits if learns else None
        if temperature in (1, 2):
            losses = kernels.distilled(
                logits, targets, taught.p, taught.negative_entropy, temperature=temperature, weight=weight
            )
            return losses.sum(), logits if learns else None
    rows = torch.arange(len(targets), device=targets.device)
    scaled = logits.sub_(logits.amax(-1, keepdim=True))
    own = scaled[rows, targets]
    grad = None
    if taught is None:
        e = scaled.mul_(LOG2_E).exp2_()
        total = e.sum(-1, keepdim=True)
        loss = (total.log().squeeze(-1) - own).sum()
        if learns:
            grad = e.div_(total)
            grad[rows, targets] -= 1
        return loss, grad
    scaled = scaled.mul_(LOG2_E / temperature)
    e = scaled.exp2()
    total = e.sum(-1, keepdim=True)
    kl = taught.negative_entropy - torch.linalg.vecdot(taught.p, scaled) / LOG2_E + total.log().squeeze(-1)
    loss = weight * temperature**2 * kl.sum()
    plain = None if temperature in (1, 2) else (scaled * temperature).exp2_()
    if learns:
        slope = weight * temperature
        grad = torch.mul(e, slope / total, out=scaled).sub_(taught.p, alpha=slope)
    if weight < 1:
        plain = e.pow_(temperature) if plain is None else plain
        total = plain.sum(-1, keepdim=True)
        loss = loss + (1 - weight) * (total.log().squeeze(-1) - own).sum()
        if grad is not None:
            grad.addcmul_(plain, (1 - weight) / total)
            grad[rows, targets] -= 1 - weight
    return loss, grad


def log_totals(logits: Tensor) -> Tensor:
    """Return the logarithm `[N]` of the summed exponentials of logits `[N, V]`, which it may overwrite."""
    if kernels.take(logits):
        return kernels.log_totals(logits)
    top = logits.amax(-1, keepdim=True)
    total = logits.sub_(top).mul_(LOG2_E).exp2_().sum(-1, keepdim=True)
    return (total.log() + top).squeeze(-1)


def correction_mse(correction: Tensor, reference: Tensor) -> Tensor:
    """Return the mean squared difference of two corrections over positions and components (the record's corrMSE)."""
    return torch.mean((correction - reference) ** 2)
