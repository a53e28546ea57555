"""Fits without gradient steps: ridge regression on the teacher's corrections, the shift of a mean distribution, gains."""

from collections.abc import Sequence

import torch
from torch import Tensor

from abi.arms.alignment import ridge_solve
from abi.arms.data import LOGIT_ROWS, FitData, Lesson
from abi.arms.forms import Fitted, LinearMap, LogitBias, Readout, taps_of
from abi.arms.losses import log_totals
from abi.models.module import AbiModule


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
