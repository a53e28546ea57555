"""Fits without gradient steps: ridge regression on a teacher's corrections, the shift of a mean distribution, gains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from abi.arms.alignment import ridge_solve
from abi.arms.chunks import LOGIT_ROWS
from abi.arms.data import FitData, Lesson
from abi.arms.forms import FittableForm, Readout
from abi.arms.losses import log_totals

GAINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@torch.no_grad()
def solve(model: FittableForm, data: FitData, penalty: float, most_rows: int = 8192) -> None:
    """Fit an arm without gradient steps, in place, by what its form says of itself (`ArmForm.solve`)."""
    model.solve(ClosedForm(data, penalty, most_rows))


@dataclass(frozen=True)
class ClosedForm:
    """What arms are solved with: the data, the ridge penalty, and how many positions are read at once."""

    data: FitData
    penalty: float
    most_rows: int

    def ridge(self, taps: tuple[int, ...], rows: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the ridge solution `[F, D]` from `rows(tapped states)` `[B, T, F]` to the teacher's corrections.

        The moments are accumulated in float64: of some 10,000 rows in float32 the small directions of a nearly singular
        `x'x` are rounding, and the solution is made of them.
        """
        states, teacher = self.data.states, self.data.teacher
        assert teacher is not None
        batch = max(1, self.most_rows // states.manifest.positions)
        gram = moment = None
        for start in range(0, len(states), batch):
            part = slice(start, start + batch)
            x = rows(states.taps(taps, part)).flatten(0, 1).double()
            y = teacher[part].flatten(0, 1).double()
            gram = x.T @ x + (0 if gram is None else gram)
            moment = x.T @ y + (0 if moment is None else moment)
        assert gram is not None
        assert moment is not None
        return ridge_solve(gram, moment, self.penalty)

    def shift(self) -> Tensor:
        """Return log mean teacher distribution minus log mean plain distribution, `[V]`."""
        data, teacher = self.data, self.data.teacher
        assert teacher is not None
        batch = max(1, min(self.most_rows, LOGIT_ROWS) // data.states.manifest.positions)
        taught = raw = torch.zeros(())
        for start in range(0, len(data.states), batch):
            part = slice(start, start + batch)
            final = data.states.final(part)
            logits = data.head.logits(final)
            raw = raw + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
            if data.shift is None:
                logits = data.head.logits(final + teacher[part])
            else:
                logits = logits + data.shift[part].float().unsqueeze(1)
            taught = taught + torch.softmax(logits, -1).sum((0, 1), dtype=torch.float64)
        return (taught.clamp_min(1e-12) / raw.clamp_min(1e-12)).log().float()


@torch.no_grad()
def choose_gains(models: Sequence[FittableForm], lesson: Lesson, batch: int = LOGIT_ROWS) -> list[float]:
    """Scale every arm in place by the gain whose distributions come closest to a held-out lesson; return the gains.

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
            # KL(lesson || arm) = const - E[gain * own] + log sum exp(logits + gain * own): one pass serves all gains
            asked = (taught * own).sum(dtype=torch.float64)
            for at, gain in enumerate(GAINS):
                totals[i, at] += log_totals(logits + gain * own).sum(dtype=torch.float64) - gain * asked
    best = [GAINS[at] for at in totals.argmin(1).tolist()]
    for model, gain in zip(models, best, strict=True):
        for name in model.solved:
            model.get_parameter(name).mul_(gain)
    return best
