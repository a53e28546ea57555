"""Fits on stored states: native training (CE), calibration (KD, correction MSE) and closed-form solves.

No backbone runs here: a step is a few matrix products and one pass through the frozen head.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from abi.arms.data import Batch, FitData, Objective
from abi.arms.forms import ArmForm, FittableForm
from abi.arms.losses import correction_mse, head_losses
from abi.base.errors import DataError
from abi.models.loop import BatchOrder, Member, Schedule, Trained, fit_together
from abi.models.states import States

log = logging.getLogger("abi")


@dataclass
class ToFit:
    """An arm before its gradient fit: the model, what of it trains and is frozen (name -> tensor), rates, label."""

    model: FittableForm
    trainable: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor]
    schedule: Schedule
    label: str = "fit"


def fit_gradients(
    arms: Sequence[ToFit],
    data: FitData,
    objective: Objective,
    *,
    batch: Batch,
    seed: int,
    checkpoint: Path | None = None,
    before_step: Callable[[int], None] | None = None,
) -> list[Trained]:
    """Train some parameters of every arm on the same stored states; `frozen` ones are hashed before and after.

    The arms take every step together on one batch: so no arm has luckier text than another, and batch and teacher are
    computed once. No arm's result depends on the others.
    Args: batch: what a step reads; seed: of the batch order; before_step: as in `loop.fit_together`.
    Raises: DataError: an objective that needs a teacher has none.
    """
    if objective.kind != "ce" and (data.shift if objective.kind == "matched" else data.teacher) is None:
        raise DataError(f"{arms[0].label}: objective {objective.kind} needs a teacher")
    data = data.by_position() if batch.of == "positions" else data
    order = BatchOrder(len(data.states), batch.size, seed, batch.of)
    trained = fit_together(
        lambda step: objectives([arm.model for arm in arms], data, objective, order[step]),
        [Member(arm.label, arm.trainable, arm.schedule, arm.frozen) for arm in arms],
        checkpoint=checkpoint,
        before_step=before_step,
    )
    for arm in arms:
        arm.model.requires_grad_(False)
    return trained


def objectives(
    models: Sequence[ArmForm], data: FitData, objective: Objective, index: Tensor | slice
) -> Sequence[Tensor]:
    """Return the objective of every model on some windows, a mean over positions; the teacher is computed once."""
    states, teacher, shift = data.states, data.teacher, data.shift
    if objective.kind == "correction-mse":
        assert teacher is not None
        return [correction_mse(_correction(model, states, index), teacher[index]) for model in models]
    final = states.final(index)
    found = [model.correction(states, index) for model in models]
    students = [final if correction is None else final + correction for correction in found]
    taught = final + teacher[index] if objective.kind == "kd" and teacher is not None else final
    return head_losses(
        [(student.flatten(0, 1), model.logit_bias) for student, model in zip(students, models, strict=True)],
        data.head,
        states.targets(index).flatten(),
        teacher=None if objective.kind == "ce" else taught.flatten(0, 1),
        teacher_shift=None if shift is None or objective.kind != "matched" else shift[index].float(),
        temperature=objective.temperature,
        kd_weight=objective.kd_weight,
    )


def _correction(model: ArmForm, states: States, index: Tensor | slice) -> Tensor:
    """Return the correction of an arm that must make one. Raises: DataError: it makes none."""
    found = model.correction(states, index)
    if found is None:
        raise DataError("fit: an arm that changes no state cannot be fitted by correction-mse; leave it out")
    return found
