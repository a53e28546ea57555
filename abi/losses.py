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
    temperature: float = 2.0,
    kd_weight: float = 0.9,
    logit_bias: Tensor | None = None,
) -> Tensor:
    """Return the scalar CE, or KD + CE, of final states through a frozen head, in nats per position.

    Equals `(1 - w) * cross_entropy(s, y) + w * T^2 * kl_div(log_softmax(s / T), softmax(t / T), "batchmean")` with
    `s = head(states) + logit_bias`, `t = head(teacher)`; without a teacher w is 0.

    Args: states: `[N, D]`; targets: `[N]` ids; teacher: `[N, D]` final states of the teacher; logit_bias: `[V]`, trainable.
    Source: EXPERIMENTS section 0, KD loss (Hinton et al. 2015).
    """
    weight = kd_weight if teacher is not None else 0.0
    loss: Tensor = _HeadLoss.apply(states, logit_bias, head, targets, teacher, temperature, weight)
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, logit_bias, head, targets, teacher, temperature, weight):  # noqa: ANN001, ANN205
        n = states.shape[0]
        grad_states = torch.empty_like(states)
        grad_bias = torch.zeros_like(logit_bias) if logit_bias is not None else None
        total = states.new_zeros(())
        for start in range(0, n, CHUNK):
            part = slice(start, min(start + CHUNK, n))
            logits = head.logits(states[part])
            if logit_bias is not None:
                logits += logit_bias
            loss, grad = _ce_and_kd(
                logits, targets[part], None if teacher is None else head.logits(teacher[part]), temperature, weight
            )
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
        return grad_states * grad_output, bias, None, None, None, None, None


def _ce_and_kd(
    logits: Tensor, targets: Tensor, teacher: Tensor | None, temperature: float, weight: float
) -> tuple[Tensor, Tensor]:
    """Return the summed loss of a chunk and its gradient `[C, V]` with respect to the logits."""
    rows = torch.arange(len(targets))
    loss = logits.new_zeros(())
    grad = torch.zeros_like(logits)
    if weight < 1:
        log_p = torch.log_softmax(logits, dim=-1)
        loss = loss - (1 - weight) * log_p[rows, targets].sum()
        grad = log_p.exp_().mul_(1 - weight)
        grad[rows, targets] -= 1 - weight
    if teacher is not None and weight > 0:
        log_q = torch.log_softmax(logits / temperature, dim=-1)
        log_t = torch.log_softmax(teacher / temperature, dim=-1)
        t = log_t.exp()
        loss = loss + weight * temperature**2 * (t * (log_t - log_q)).sum()
        grad += (log_q.exp_() - t).mul_(weight * temperature)
    return loss, grad


def correction_mse(correction: Tensor, reference: Tensor) -> Tensor:
    """Return the mean over positions and components of the squared difference of two corrections (the record's corrMSE)."""
    return torch.mean((correction - reference) ** 2)
