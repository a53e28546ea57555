"""The original's loop as an oracle: on the same windows the engine takes the same steps; and what benchmarks say of themselves."""

from dataclasses import replace

import pytest
import torch

from abi.arms import metrics
from benchmarks import reference, timing
from benchmarks.sides import Shape, Sides

SMALL = Shape("kd", 61, width=16, layers=2, positions=12, taps=(2,), d_abi=8, batch=4, rate=3e-3)
SHAPES = {
    "correction-mse on T5": replace(SMALL, kind="correction-mse", prefix=6, taps=(1, 2), tap_norms=True, micro=4, weight_decay=0.0),
    "kd on GPT-2": SMALL,
    "kd on GPT-2 in two parts": replace(SMALL, micro=2),
    "kd on T5": replace(SMALL, prefix=6),
    "ce on GPT-2": replace(SMALL, kind="ce"),
    "ce on T5": replace(SMALL, kind="ce", prefix=6, taps=(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_engine_takes_the_steps_of_the_originals_loop(name, tmp_path):
    sides, steps = Sides.of(SHAPES[name], 20, tmp_path), 12
    [student], [trained] = sides.fit(steps)
    loop = sides.training(dropout=False)
    losses = [loop.step(sides.micro_batches(step)) for step in range(steps)]
    assert trained.losses == pytest.approx(losses, rel=2e-5)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3), "nothing was learned, so nothing was compared"
    start = sides.shape.modules()[0].state_dict()
    for key, value in loop.student.state_dict().items():
        assert torch.allclose(student.state_dict()[key], value, atol=2e-4), key
        assert not torch.equal(value, start[key]), f"{key} did not train"


def test_the_originals_student_has_dropout_and_its_teacher_has_none(tmp_path):
    sides = Sides.of(SMALL, 8, tmp_path)
    same, [tokens] = reference.Module(16, (2,), 8).requires_grad_(False), sides.micro_batches(0)
    given = [sides.model, same, same, tokens, "correction-mse"]
    assert float(reference.loss(*given, dropout=False)) == 0
    assert float(reference.loss(*given, dropout=True)) > 0


def test_agreement_of_a_window_is_that_of_the_published_formulas():
    torch.manual_seed(0)
    one = 3 * torch.randn(40, 300)
    other = one + 0.3 * torch.randn(40, 300)
    found = metrics.agreement(metrics.distribution(one), metrics.distribution(other))
    for name, values in reference.nib(one, other).items():
        assert torch.allclose(found[name], values, atol=2e-6), name


def test_turns_are_timed_without_the_first_and_count_the_work_of_a_step(tmp_path):
    sides = Sides.of(SMALL, 8, tmp_path)
    found = sides.turns(3)
    assert len(found.engine) == len(found.reference) == len(found.without_dropout) == len(found.product) == 3
    positions, head = 4 * 12, 16 * 61
    module = 16 * 8 + 2 * 8 * 32 + 8 * 16
    least = 2 * positions * (3 * head + 2 * module)
    assert least <= found.flop <= 2 * positions * (3 * head + 3 * module)


def test_peak_memory_is_what_something_takes_above_what_is_there():
    kept = torch.ones(8 * timing.MIB)
    found = timing.peak_mib(lambda: torch.ones(16 * timing.MIB).sum())
    assert found is None or found == pytest.approx(64, abs=6)
    assert float(kept[0]) == 1
