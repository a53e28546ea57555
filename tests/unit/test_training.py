import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from abi.base.errors import TamperError
from abi.models.loop import BatchOrder, Phase, Schedule, Trained, fit

SCHEDULE = Schedule([Phase(7, 0.05, 2), Phase(5, 0.02, 0, "cosine")], weight_decay=0.1, clip=0.5)


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_covers_every_window_once(batch, batches, seed, epoch):
    order = BatchOrder(batch * batches, batch, seed)
    steps = range(epoch * batches, (epoch + 1) * batches)
    assert sorted(torch.cat([order[step] for step in steps]).tolist()) == list(range(batch * batches))


@settings(max_examples=50)
@given(st.integers(1, 40), st.data())
def test_an_epoch_never_repeats_a_window(n, data):
    batch = data.draw(st.integers(1, n))
    order = BatchOrder(n, batch, 3)
    seen = torch.cat([order[step] for step in range(n // batch)]).tolist()
    assert len(seen) == len(set(seen)) == n // batch * batch


def test_the_order_is_a_function_of_seed_and_step_alone():
    order, again = BatchOrder(10, 3, 5), BatchOrder(10, 3, 5)
    forward = [order[step].tolist() for step in range(20)]
    assert [again[step].tolist() for step in reversed(range(20))] == forward[::-1]
    assert [BatchOrder(10, 3, 6)[step].tolist() for step in range(20)] != forward


def test_epochs_differ_in_order():
    order = BatchOrder(20, 20, 1)
    assert order[0].tolist() != order[1].tolist()


def test_fewer_windows_than_a_batch_are_refused(refuses):
    with refuses("3 windows are fewer than one batch of 4"):
        BatchOrder(3, 4, 0)


def test_the_rate_warms_up_linearly_and_stays():
    phase = Phase(10, 0.4, 4)
    assert [phase.rate(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_cosine_falls_from_the_peak_to_a_tenth():
    phase = Phase(100, 1.0, 20, "cosine")
    rates = [phase.rate(step) for step in range(20, 101)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[40], rates[80]) == pytest.approx((1.0, 0.55, 0.1))
    assert rates[79] == pytest.approx(0.1, abs=1e-3)


def test_phases_follow_each_other_and_then_end():
    schedule = Schedule([Phase(2, 1.0), Phase(3, 0.5, 2)])
    assert schedule.steps == 5
    assert [schedule.rate(step) for step in range(5)] == [1.0, 1.0, 0.25, 0.5, 0.5]
    with pytest.raises(IndexError):
        schedule.rate(5)


def problem():
    """A small regression: parameters and the loss of a step, both the same at every call."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 6, 5, generator=rng), torch.randn(12, 6, 3, generator=rng)
    parameters = {"w": torch.randn(5, 3, generator=rng), "b": torch.zeros(3)}
    return parameters, lambda step: ((x[step] @ parameters["w"] + parameters["b"] - y[step]) ** 2).mean()


def by_hand(steps, fused):
    parameters, loss = problem()
    leaves = [p.requires_grad_(True) for p in parameters.values()]
    optimizer = torch.optim.AdamW(leaves, lr=1.0, weight_decay=0.1, fused=fused)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = SCHEDULE.rate(step)
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(leaves, 0.5)
        optimizer.step()
        losses.append(value.item())
    return parameters, losses


@pytest.mark.parametrize(("fused", "error"), [(True, 0), (False, 1e-6)])
def test_weights_equal_those_of_a_plain_adamw_loop(fused, error):
    parameters, loss = problem()
    trained = fit(loss, parameters, SCHEDULE)
    expected, losses = by_hand(12, fused)
    for name in parameters:
        torch.testing.assert_close(parameters[name], expected[name], rtol=error, atol=error)
    assert trained.losses == pytest.approx(losses, abs=error)


def test_frozen_tensors_stay_as_they_are_and_get_no_gradient():
    parameters, loss = problem()
    frozen = {"f": torch.ones(3, requires_grad=True)}
    fit(lambda step: loss(step) * frozen["f"].sum(), parameters, SCHEDULE, frozen=frozen)
    assert torch.equal(frozen["f"], torch.ones(3))
    assert not frozen["f"].requires_grad
    assert frozen["f"].grad is None


def test_a_frozen_tensor_that_changes_is_tampering(refuses):
    parameters, loss = problem()
    frozen = {"f": torch.zeros(1)}

    def meddle(step):
        frozen["f"] += step == 11
        return loss(step)

    with refuses("net seed 1: a frozen part changed", TamperError):
        fit(meddle, parameters, SCHEDULE, frozen=frozen, label="net seed 1")


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused(factor, refuses):
    parameters, loss = problem()
    with refuses(f"net: the loss is {factor} at step 3"):
        fit(lambda step: loss(step) * (factor if step == 3 else 1), parameters, SCHEDULE, label="net")


def interrupted(step_of_death, path, *, resume=True):
    """Fit with a checkpoint at every step, killed in the loss of one step, then started anew if `resume`."""
    parameters, loss = problem()

    def mortal(step):
        if step == step_of_death:
            raise KeyboardInterrupt
        return loss(step)

    with pytest.raises(KeyboardInterrupt):
        fit(mortal, parameters, SCHEDULE, checkpoint=path, checkpoint_every_s=0)
    assert path.exists()
    parameters, loss = problem()
    if not resume:
        return parameters, None
    steps = []
    trained = fit(lambda step: steps.append(step) or loss(step), parameters, SCHEDULE, checkpoint=path)
    assert steps == list(range(step_of_death, 12))
    return parameters, trained


@pytest.mark.parametrize("step_of_death", [1, 7, 8, 11])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(tmp_path, step_of_death):
    parameters, loss = problem()
    losses = fit(loss, parameters, SCHEDULE).losses
    resumed, trained = interrupted(step_of_death, tmp_path / "c.safetensors")
    assert all(torch.equal(resumed[name], parameters[name]) for name in parameters)
    assert trained.losses == losses
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint_is_written_before_its_time(tmp_path):
    parameters, loss = problem()

    def watch(step):
        assert list(tmp_path.iterdir()) == []
        return loss(step)

    fit(watch, parameters, SCHEDULE, checkpoint=tmp_path / "c.safetensors")


@pytest.mark.parametrize("damage", ["text", "other names", "other shape"])
def test_a_checkpoint_that_cannot_be_used_is_refused(tmp_path, damage, refuses):
    path = tmp_path / "c.safetensors"
    if damage == "text":
        path.write_bytes(b"no safetensors at all")
    else:
        save_file({"w|value" if damage == "other shape" else "x": torch.zeros(4, 4)}, path)
    parameters, loss = problem()
    with refuses("is not a usable checkpoint .*; delete it to start afresh"):
        fit(loss, parameters, SCHEDULE, checkpoint=path)


def test_a_checkpoint_with_one_wrong_bit_is_refused(tmp_path, refuses):
    path = tmp_path / "c.safetensors"
    interrupted(8, path, resume=False)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    parameters, loss = problem()
    with refuses("its hash differs"):
        fit(loss, parameters, SCHEDULE, checkpoint=path)


def test_a_checkpoint_of_another_fit_is_replaced_and_not_taken_for_ones_own(tmp_path):
    """The fits of a trial share a file; arms of one shape loaded the weights and moments of those before."""
    path = tmp_path / "c.safetensors"
    interrupted(8, path, resume=False)  # of "training"
    parameters, loss = problem()
    whole = fit(loss, parameters, SCHEDULE, label="another")
    again, loss = problem()
    trained = fit(loss, again, SCHEDULE, label="another", checkpoint=path)
    assert trained.losses == whole.losses
    assert all(torch.equal(again[name], parameters[name]) for name in parameters)


def test_a_parameter_that_the_loss_does_not_use_can_be_checkpointed(tmp_path):
    parameters, loss = problem()
    fit(loss, parameters | {"idle": torch.zeros(2)}, SCHEDULE, checkpoint=tmp_path / "c", checkpoint_every_s=0)


def test_floors_are_means_of_the_last_losses_of_each_phase():
    schedule = Schedule([Phase(4, 1.0), Phase(2, 1.0)])
    assert Trained([9.0, 8.0, 3.0, 1.0, 5.0, 4.0], 0.0).floors(schedule, last=2) == [2.0, 4.5]


def test_a_schedule_without_steps_changes_nothing():
    parameters, loss = problem()
    before = {name: p.clone() for name, p in parameters.items()}
    assert fit(loss, parameters, Schedule([Phase(0, 1.0)])).losses == []
    assert all(torch.equal(parameters[name], before[name]) for name in before)
