"""Fits on stored states: what they may read (windows, head, teacher, lesson), what a step draws, and gradient steps.

No backbone runs here: a step is a few matrix products and one pass through the frozen head.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from abi.arms.alignment import spread_rows
from abi.arms.forms import FittableForm, StoredStates
from abi.arms.losses import correction_mse, head_losses
from abi.base.errors import DataError
from abi.models.head import Head
from abi.models.loop import BatchOrder, Member, Trained, fit_together
from abi.models.module import AbiModule
from abi.models.states import States


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

    def at_most(self, states: States) -> "Batch":
        """Return a batch that some states can fill."""
        whole = 1 if self.of == "windows" else states.manifest.positions
        return replace(self, size=min(self.size, len(states) * whole))

    def as_windows(self, states: States) -> int:
        """Return how many whole windows hold at least as many positions (a backbone must read windows); all at most."""
        wanted = self.size if self.of == "windows" else math.ceil(self.size / states.manifest.positions)
        return min(wanted, len(states))


@dataclass(frozen=True)
class Shift:
    """By how much a module moves log-probabilities at P positions, at the tokens that two vocabularies share.

    At all others of V it is 0, which is not kept: P x V numbers of Qwen's 152,000 tokens are 18 GB.
    Args: shared: `[P, S]`, float16; tokens: ids `[S]` of what is shared; n_tokens: V.
    """

    shared: Tensor
    tokens: Tensor
    n_tokens: int

    def __len__(self) -> int:
        return len(self.shared)

    def select(self, positions: list[int]) -> "Shift":
        """Return the shift at some positions."""
        return replace(self, shared=self.shared[positions])

    def rows(self, index: Tensor | slice, device: torch.device) -> Tensor:
        """Return the shift of some positions at every token, `[B, V]` in fp32 on a device."""
        shared = self.shared[index].to(device).float()
        return shared.new_zeros(len(shared), self.n_tokens).index_copy_(1, self.tokens.to(device), shared)


@dataclass(frozen=True)
class Lessons:
    """What modules teach on the source backbone where target and source have read the same of some windows.

    Args: shifts: teacher -> its shift at P positions, as `FitData.shift`; row: of a shift per position `[N, T]`, -1
        where the source has no position that has read the same. Windows that are selected share the shifts.
    """

    shifts: Mapping[str, Shift]
    row: Tensor

    def select(self, windows: list[int]) -> "Lessons":
        """Return the lessons on some windows."""
        return replace(self, row=self.row[windows])

    def by_position(self) -> "Lessons":
        """Return the lessons with every position as a window of its own."""
        return replace(self, row=self.row.flatten().unsqueeze(1))


@dataclass
class FitData:
    """What a fit may read: train states, the frozen head, and for a teacher its corrections `[N, T, D]`.

    A lesson (`matched`) is paired positions as one-position windows. Its `shift` is the log-ratio of the source's
    distribution with and without its module at every token both vocabularies hold, 0 elsewhere; the corrections are its
    nearest ones in the head, for closed forms. `held_out`: a lesson no fit sees, on which a gain is chosen. `carried`:
    the interfaces of the `source` and of its `other` (wrong) domain, carried on this text.
    `others`: (name of another text or "", share of it) -> the same on that, where it is no mere part of this.
    `lessons`: what arms that have a teacher of their own are taught beside the objective. What is kept per position
    lies on the CPU; what a step reads of it goes to the device.
    """

    states: States
    head: Head
    teacher: Tensor | None = None
    shift: Shift | None = None
    held_out: "FitData | None" = None
    carried: Mapping[str, AbiModule] = field(default_factory=dict)
    others: Mapping[tuple[str, float], "FitData"] = field(default_factory=dict)
    lessons: Lessons | None = None

    def shifted(self, index: Tensor | slice) -> Tensor | None:
        """Return the lesson of some windows on the device, `[B, V]` in fp32, where there is one."""
        return None if self.shift is None else self.shift.rows(index, self.states.device)

    def of_text(self, name: str, share: float) -> "FitData":
        """Return a share of the data of a text, of this one for "". Raises: DataError: there is none of that name."""
        if (name, share) in self.others:
            return self.others[name, share]
        if name or (share < 1 and self.carried):  # an interface carried on all of a text knows more than its share says
            texts = ", ".join(f"{share:.0%} of {name or 'this'}" for name, share in self.others)
            raise DataError(
                f"fit: there is no {share:.0%} of {name or 'this'} text to fit on (there is: {texts or 'none'})"
            )
        return self.first(share)

    def first(self, share: float) -> "FitData":
        """Return the first windows only: a share of them."""
        if share == 1:
            return self
        return self.select(list(range(max(1, int(share * len(self.states))))))

    def at_most(self, rows: int | None) -> "FitData":
        """Return whole windows spread evenly over the data, of about so many positions; all without a limit."""
        wanted = None if rows is None else max(1, rows // self.states.manifest.positions)
        if wanted is None or wanted >= len(self.states):
            return self
        return self.select(spread_rows(len(self.states), wanted).tolist())

    def by_position(self) -> "FitData":
        """Return every position as a window of its own."""
        teacher = None if self.teacher is None else self.teacher.flatten(0, 1).unsqueeze(1)
        lessons = None if self.lessons is None else self.lessons.by_position()
        return replace(self, states=self.states.by_position(), teacher=teacher, lessons=lessons)

    def select(self, windows: list[int]) -> "FitData":
        """Return some windows, each with what its teacher says of it."""
        return replace(
            self,
            states=self.states.select(windows),
            teacher=None if self.teacher is None else self.teacher[windows],
            shift=None if self.shift is None else self.shift.select(windows),
            lessons=None if self.lessons is None else self.lessons.select(windows),
        )


def fit_gradients(
    models: Sequence[FittableForm],
    members: Sequence[Member],
    data: FitData,
    objective: Objective,
    *,
    batch: Batch,
    seed: int,
    checkpoint: Path | None = None,
    before_step: Callable[[int], None] | None = None,
    teachers: Sequence[str] = (),
) -> list[Trained]:
    """Train some parameters of every arm on the same stored states.

    The arms take every step together on one batch: so no arm has luckier text than another, and batch and teacher are
    computed once. No arm's result depends on the others.
    Args: members: what of each model trains and is frozen; batch: what a step reads; seed: of the batch order;
        before_step: as in `loop.fit_together`; teachers: as in `objectives`.
    Raises: DataError: an objective that needs a teacher has none.
    """
    if objective.kind != "ce" and (data.shift if objective.kind == "matched" else data.teacher) is None:
        raise DataError(f"{members[0].label}: objective {objective.kind} needs a teacher")
    data = data.by_position() if batch.of == "positions" else data
    order = BatchOrder(len(data.states), batch.size, seed, batch.of)
    trained = fit_together(
        lambda step: objectives(models, data, objective, order[step], teachers),
        members,
        checkpoint=checkpoint,
        before_step=before_step,
    )
    for model in models:
        model.requires_grad_(False)
    return trained


def objectives(
    models: Sequence[FittableForm | StoredStates],
    data: FitData,
    objective: Objective,
    index: Tensor | slice,
    teachers: Sequence[str] = (),
) -> Sequence[Tensor]:
    """Return the objective of every model on some windows, a mean over positions; a teacher is computed once.

    Args: teachers: of every model its own one in `data.lessons`, "" for none; without them no model has one.
    """
    states, teacher = data.states, data.teacher
    if objective.kind == "correction-mse":
        assert teacher is not None
        wanted = teacher[index].to(states.device)
        return [correction_mse(correction_of(model, states, index), wanted) for model in models]
    final = states.final(index)
    found = [model.correction(states, index) for model in models]
    students = [final if correction is None else final + correction for correction in found]
    taught = final + teacher[index].to(states.device) if objective.kind == "kd" and teacher is not None else final
    flat = [(student.flatten(0, 1), model.logit_bias) for student, model in zip(students, models, strict=True)]
    teachers = teachers or [""] * len(models)
    losses: dict[int, Tensor] = {}
    for name in dict.fromkeys(teachers):
        own = [i for i, of_model in enumerate(teachers) if of_model == name]
        if name:
            values: Sequence[Tensor] = _taught_losses([flat[i] for i in own], data, objective, index, name)
        else:
            values = head_losses(
                [flat[i] for i in own],
                data.head,
                states.targets(index).flatten(),
                teacher=None if objective.kind == "ce" else taught.flatten(0, 1),
                teacher_shift=data.shifted(index) if objective.kind == "matched" else None,
                temperature=objective.temperature,
                kd_weight=objective.kd_weight,
            )
        losses |= dict(zip(own, values, strict=True))
    return [losses[i] for i in range(len(models))]


def _taught_losses(
    students: Sequence[tuple[Tensor, Tensor | None]],
    data: FitData,
    objective: Objective,
    index: Tensor | slice,
    teacher: str,
) -> list[Tensor]:
    """Return per student `(1 - w) CE + w T^2 KL`, CE on every position and KL on those that have a lesson.

    What every other arm reads of a window is read here too. A position without a lesson teaches no shift: a shift of 0
    there would teach that the plain backbone is right.
    """
    assert data.lessons is not None
    rows, targets, shifts = data.lessons.row[index].flatten(), data.states.targets(index).flatten(), data.lessons.shifts
    final, weight = data.states.final(index).flatten(0, 1), objective.kd_weight
    totals = [torch.zeros(()) for _ in students]
    for part, known in ((torch.nonzero(rows >= 0).flatten(), True), (torch.nonzero(rows < 0).flatten(), False)):
        if not len(part):
            continue
        at = part.to(final.device)
        values = head_losses(
            [(states[at], bias) for states, bias in students],
            data.head,
            targets[at],
            teacher=final[at] if known else None,
            teacher_shift=shifts[teacher].rows(rows[part], final.device) if known else None,
            temperature=objective.temperature,
            kd_weight=weight,
        )
        share = len(part) / len(rows) * (1 if known else 1 - weight)
        totals = [total + share * value for total, value in zip(totals, values, strict=True)]
    return totals


def correction_of(model: FittableForm | StoredStates, states: States, index: Tensor | slice) -> Tensor:
    """Return the correction `[B, T, D]` of an arm that must make one. Raises: DataError: it makes none."""
    found = model.correction(states, index)
    if found is None:
        raise DataError("fit: an arm that changes no state makes no correction to be fitted; leave it out")
    return found
