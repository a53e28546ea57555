"""Fits without gradient steps: ridge regression on a teacher's corrections, the shift of a mean distribution, gains."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from abi.arms.alignment import ridge_solve
from abi.arms.forms import FittableForm, LinearMap, LogitBias, Readout
from abi.arms.gradient import FitData
from abi.arms.losses import LOGIT_ROWS, log_totals

GAINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@torch.no_grad()
def solve(model: FittableForm, data: FitData, penalty: float, most_rows: int = 8192) -> None:
    """Fit an arm without gradient steps, in place: a module's `proj_out`, a linear map whole, by ridge regression on
    the teacher's corrections; a bias by the shift between mean distributions.

    Args: penalty: of the ridge, relative; most_rows: positions that are read at once.
    """
    if isinstance(model, LogitBias):
        model.logit_bias.copy_(mean_shift(data, most_rows))
    elif isinstance(model, LinearMap):

        def rows(taps: Tensor) -> Tensor:
            return torch.cat([model.features(taps), taps.new_ones(*taps.shape[:2], 1)], dim=-1)

        weights = ridge(data, model.taps, rows, penalty, most_rows)
        model.weight.copy_(weights[:-1])
        model.bias.copy_(weights[-1])
    else:
        model.proj_out.weight.copy_(ridge(data, model.config.taps, model.abi_state, penalty, most_rows).T)


def ridge(
    data: FitData, taps: Sequence[int], rows: Callable[[Tensor], Tensor], penalty: float, most_rows: int
) -> Tensor:
    """Return the ridge solution `[F, D]` from `rows(tapped states)` `[B, T, F]` to the teacher's corrections.

    The moments are accumulated in float64: of some 10,000 rows in float32 the small directions of a nearly singular
    `x'x` are rounding, and the solution is made of them.
    """
    assert data.teacher is not None
    batch = max(1, most_rows // data.states.manifest.positions)
    gram = moment = torch.zeros(())
    for start in range(0, len(data.states), batch):
        part = slice(start, start + batch)
        x = rows(data.states.taps(taps, part)).flatten(0, 1).double()
        y = data.teacher[part].to(x.device).flatten(0, 1).double()
        gram, moment = x.T @ x + gram, x.T @ y + moment
    return ridge_solve(gram, moment, penalty)


@torch.no_grad()
def narrowed(linear: LinearMap, data: FitData, rank: int, most_rows: int = 8192) -> LinearMap:
    """Return a solved linear map cut to a rank: the one whose corrections stay closest to its own on the data.

    Reduced-rank regression: the directions kept are the leading ones of the corrections, less their mean.
    Source: Izenman 1975.
    """
    batch = max(1, most_rows // data.states.manifest.positions)
    second, total, n = torch.zeros(()), torch.zeros(()), 0
    for start in range(0, len(data.states), batch):
        made = linear.correction(data.states, slice(start, start + batch)).flatten(0, 1).double()
        second, total, n = second + made.T @ made, total + made.sum(0), n + len(made)
    mean = total / n
    kept = torch.linalg.eigh(second / n - torch.outer(mean, mean)).eigenvectors[:, -rank:]
    cut = copy.deepcopy(linear)
    cut.weight.copy_(linear.weight.double() @ kept @ kept.T)
    cut.bias.copy_(mean + (linear.bias.double() - mean) @ kept @ kept.T)
    return cut


def mean_shift(data: FitData, most_rows: int) -> Tensor:
    """Return log mean teacher distribution minus log mean plain distribution, `[V]`."""
    assert data.teacher is not None
    batch = max(1, min(most_rows, LOGIT_ROWS) // data.states.manifest.positions)
    taught = raw = torch.zeros(())
    for start in range(0, len(data.states), batch):
        part = slice(start, start + batch)
        final = data.states.final(part)
        logits = data.head.logits(final)
        raw = raw + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
        shift = data.shifted(part)
        if shift is None:
            logits = data.head.logits(final + data.teacher[part].to(final.device))
        else:
            logits = logits + shift.unsqueeze(1)
        taught = taught + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
    return (taught.clamp_min(1e-12) / raw.clamp_min(1e-12)).log().float()


@torch.no_grad()
def choose_gains(models: Sequence[FittableForm], lesson: FitData, batch: int = LOGIT_ROWS) -> list[float]:
    """Scale every arm in place by the gain whose distributions come closest to a held-out lesson; return the gains.

    Closest is the least mean KL(lesson || arm), nats per position, of which the part that no gain changes is left out.
    No domain text is read.
    """
    assert lesson.shift is not None
    device = lesson.states.device
    totals = torch.zeros(len(models), len(GAINS), dtype=torch.float64, device=device)
    readouts = [Readout(model, lesson.head) for model in models]
    for start in range(0, len(lesson.states), batch):
        part = slice(start, start + batch)
        plain = lesson.head.linear(lesson.states.final(part)).flatten(0, 1)
        logits = lesson.head.capped(plain)
        taught = torch.softmax(logits + lesson.shift.rows(part, device), -1)
        for i, readout in enumerate(readouts):
            read = readout.read(lesson.states, part)
            own = readout.linear(torch.zeros((), device=device), None if read is None else read.flatten(0, 1))
            if lesson.head.soft_cap is None:
                # KL(lesson || arm) = const - E[gain * own] + log sum exp(logits + gain * own): one pass for all gains
                own = own if readout.bias is None else own + readout.bias
                asked = (taught * own).sum(dtype=torch.float64)
                for at, gain in enumerate(GAINS):
                    totals[i, at] += log_totals(logits + gain * own).sum(dtype=torch.float64) - gain * asked
                continue
            for at, gain in enumerate(GAINS):  # a cap is not linear: every gain has logits of its own
                scaled = lesson.head.capped(plain + gain * own)
                scaled = scaled if readout.bias is None else scaled + gain * readout.bias
                asked = (taught * scaled).sum(dtype=torch.float64)
                totals[i, at] += log_totals(scaled).sum(dtype=torch.float64) - asked
    best = [GAINS[at] for at in totals.argmin(1).tolist()]
    for model, gain in zip(models, best, strict=True):
        for name in model.solved:
            model.get_parameter(name).mul_(gain)
    return best
