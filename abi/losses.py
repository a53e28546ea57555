"""Losses against a frozen head, in chunks: never `[N, V]` for all N positions.

`head_loss` forms the gradient with respect to the states in the forward pass, chunk by chunk, as Liger-Kernel and
ml-cross-entropy do; the head itself never gets a gradient.
"""

import torch
from torch import Tensor

from abi.states import Head

CHUNK = 64


def head_loss(
    states: Tensor,
    head: Head,
    targets: Tensor,
    *,
    teacher: Tensor | None = None,
    teacher_shift: Tensor | None = None,
    temperature: float = 2.0,
    kd_weight: float = 0.9,
    logit_bias: Tensor | None = None,
) -> Tensor:
    """Return the scalar CE, or KD + CE, of final states through a frozen head, in nats per position.

    Equals `(1 - w) * cross_entropy(s, y) + w * T^2 * kl_div(log_softmax(s / T), softmax(t / T), "batchmean")` with
    `s = head(states) + logit_bias`, `t = head(teacher) + teacher_shift`; without a teacher w is 0.

    Args: states: `[N, D]`; targets: `[N]` ids; teacher: `[N, D]` final states of the teacher; teacher_shift: `[N, V]`, added
        to its logits; logit_bias: `[V]`, trainable.
    Source: EXPERIMENTS section 0, KD loss (Hinton et al. 2015).
    """
    weight = kd_weight if teacher is not None else 0.0
    loss: Tensor = _HeadLoss.apply(states, logit_bias, head, targets, teacher, teacher_shift, temperature, weight)
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, logit_bias, head, targets, teacher, shift, temperature, weight):  # noqa: ANN001, ANN205
        n = states.shape[0]
        grad_states = torch.empty_like(states)
        grad_bias = torch.zeros_like(logit_bias) if logit_bias is not None else None
        total = states.new_zeros(())
        for start in range(0, n, CHUNK):
            part = slice(start, min(start + CHUNK, n))
            logits = head.logits(states[part])
            if logit_bias is not None:
                logits += logit_bias
            taught = None if teacher is None else head.logits(teacher[part])
            if taught is not None and shift is not None:
                taught += shift[part]
            loss, grad = _ce_and_kd(logits, targets[part], taught, temperature, weight)
            total += loss
            torch.mm(grad, head.weight, out=grad_states[part])
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        grad_states *= head.scale / n
        ctx.save_for_backward(grad_states, grad_bias / n if grad_bias is not None else None)
        return total / n

    @staticmethod
    def backward(ctx, grad_output):  # noqa: ANN001, ANN205
        grad_states, grad_bias = ctx.saved_tensors
        bias = grad_bias * grad_output if grad_bias is not None else None
        return grad_states * grad_output, bias, None, None, None, None, None, None


def _ce_and_kd(
    logits: Tensor, targets: Tensor, teacher: Tensor | None, temperature: float, weight: float
) -> tuple[Tensor, Tensor]:
    """Return the summed loss of a chunk and its gradient `[C, V]` with respect to the logits.

    One exponential per logit and model: at temperature 1 or 2 the student's plain exponentials are powers of the tempered ones,
    and KL needs no logarithm but of the two sums. Overwrites its arguments.
    """
    rows = torch.arange(len(targets))
    scaled = logits.sub_(logits.amax(-1, keepdim=True))
    own = scaled[rows, targets]
    if teacher is None or weight == 0:
        grad = scaled.exp_()
        total = grad.sum(-1, keepdim=True)
        grad /= total
        grad[rows, targets] -= 1
        return (total.log().squeeze(-1) - own).sum(), grad
    scaled = scaled.div_(temperature)
    asked = teacher.sub_(teacher.amax(-1, keepdim=True)).div_(temperature)
    e, t = scaled.exp(), asked.exp()
    total, total_t = e.sum(-1, keepdim=True), t.sum(-1, keepdim=True)
    kl = torch.linalg.vecdot(t, asked.sub_(scaled)) / total_t.squeeze(-1) + (total / total_t).log().squeeze(-1)
    loss = weight * temperature**2 * kl.sum()
    slope = weight * temperature
    grad = torch.addcdiv(t.mul_(-slope / total_t), e, total, value=slope)
    if weight < 1:
        plain = e.pow_(temperature) if temperature in (1, 2) else scaled.mul_(temperature).exp_()
        total = plain.sum(-1, keepdim=True)
        loss = loss + (1 - weight) * (total.log().squeeze(-1) - own).sum()
        grad.addcdiv_(plain, total, value=1 - weight)
        grad[rows, targets] -= 1 - weight
    return loss, grad


def correction_mse(correction: Tensor, reference: Tensor) -> Tensor:
    """Return the mean over positions and components of the squared difference of two corrections (the record's corrMSE)."""
    return torch.mean((correction - reference) ** 2)
