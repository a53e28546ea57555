"""Several arms that take every step together: the same bits as alone, one teacher, one checkpoint."""

import itertools
from dataclasses import replace

import pytest
import torch
from made_shifts import dense

from abi.arms.forms import LinearMap, LogitBias, corrections
from abi.arms.gradient import Batch, FitData, Objective, fit_gradients
from abi.arms.losses import head_loss, head_losses
from abi.base.errors import DataError
from abi.models import loop
from abi.models.loop import Member, Phase, Schedule, fit_together
from abi.models.module import AbiModule, ModuleConfig

CONFIG = ModuleConfig(8, (0, 2), 6)
OBJECTIVES = {
    "ce": Objective("ce"),
    "kd": Objective("kd"),
    "kd alone": Objective("kd", 1.0, 1.0),
    "matched": Objective("matched", 1.0, 1.0),
    "correction-mse": Objective("correction-mse"),
}
SCHEDULES = [
    Schedule([Phase(2, 3e-2, 1), Phase(3, 1e-2)]),
    Schedule([Phase(5, 2e-1)], 0.1, 0.5),
    Schedule([Phase(5, 1e-3)]),
]


@pytest.fixture
def data(make_states, head):
    states = make_states()
    teacher = corrections(AbiModule(CONFIG, 9).requires_grad_(False), states)
    return FitData(states, head, teacher)


@pytest.fixture
def shifted(make_states, head):
    states = make_states(n=40, positions=1, skip=0)
    shift = torch.randn(40, 11, generator=torch.Generator().manual_seed(2))
    return FitData(states, head, torch.zeros(40, 1, 8), dense(shift))


def arms_of(objective, width=8, vocabulary=11):
    """Two modules, a linear map and, where the loss has logits, a logit bias; each with its own schedule."""
    models = [AbiModule(CONFIG, 1), AbiModule(ModuleConfig(8, (2,), 4, tap_norms=True), 2), LinearMap((0, 2), width)]
    models += [] if objective.kind == "correction-mse" else [LogitBias(vocabulary)]
    schedules = [*SCHEDULES, SCHEDULES[1]]
    return [
        (model, Member(f"arm {i}", dict(model.named_parameters()), schedule))
        for i, (model, schedule) in enumerate(zip(models, schedules, strict=False))
    ]


def fitted(arms, data, objective, **options):
    models, members = zip(*arms, strict=True)
    trained = fit_gradients(models, members, data, objective, batch=Batch(4), seed=3, **options)
    return [(dict(model.state_dict()), one.losses) for model, one in zip(models, trained, strict=True)]


def same(one, other):
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_joint_fit_is_that_of_each_arm_alone_bit_for_bit(data, shifted, name):
    objective = OBJECTIVES[name]
    given = shifted if objective.kind == "matched" else data
    joint = fitted(arms_of(objective), given, objective)
    for i, together in enumerate(joint):
        [alone] = fitted(arms_of(objective)[i : i + 1], given, objective)
        assert same(alone, together)
        assert len(set(alone[1])) == 5


def test_the_order_of_the_arms_does_not_matter(data):
    forth = fitted(arms_of(OBJECTIVES["kd"]), data, OBJECTIVES["kd"])
    back = fitted(arms_of(OBJECTIVES["kd"])[::-1], data, OBJECTIVES["kd"])
    assert all(same(a, b) for a, b in zip(forth, back[::-1], strict=True))


def test_arms_of_different_lengths_are_refused(data, refuses):
    arms = arms_of(OBJECTIVES["ce"])
    arms[1] = arms[1][0], replace(arms[1][1], schedule=Schedule([Phase(4, 1e-2)]))
    with refuses("arm 0, arm 1, arm 2, arm 3 have different numbers of steps; make them equal", DataError):
        fitted(arms, data, OBJECTIVES["ce"])


def test_every_step_is_announced_and_the_end_too(data):
    arm, seen, weights = arms_of(OBJECTIVES["kd"])[0], [], []

    def before_step(done):
        seen.append(done)
        weights.append(arm[0].proj_out.weight.detach().clone())

    start = arm[0].proj_out.weight.detach().clone()
    fitted([arm], data, OBJECTIVES["kd"], before_step=before_step)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert torch.equal(weights[0], start)
    assert torch.equal(weights[-1], arm[0].proj_out.weight)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(weights))


def test_looking_on_the_way_changes_nothing(data):
    [seen] = fitted(arms_of(OBJECTIVES["kd"])[:1], data, OBJECTIVES["kd"], before_step=lambda done: None)
    [unseen] = fitted(arms_of(OBJECTIVES["kd"])[:1], data, OBJECTIVES["kd"])
    assert same(seen, unseen)


@pytest.mark.parametrize("killed_at", [1, 3])
def test_several_killed_arms_go_on_to_the_same_bits(data, tmp_path, monkeypatch, killed_at):
    objective, checkpoint = OBJECTIVES["kd"], tmp_path / "together.safetensors"
    whole = fitted(arms_of(objective), data, objective)

    def mortal(done):
        if done == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setitem(loop.fit_together.__kwdefaults__, "checkpoint_every_s", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fitted(arms_of(objective), data, objective, checkpoint=checkpoint, before_step=mortal)
    resumed_at = []
    resumed = fitted(arms_of(objective), data, objective, checkpoint=checkpoint, before_step=resumed_at.append)
    assert resumed_at[0] == killed_at
    assert all(same(a, b) for a, b in zip(whole, resumed, strict=True))
    assert not checkpoint.exists()


def test_a_checkpoint_of_fewer_arms_is_of_another_fit_and_replaced(data, tmp_path, monkeypatch):
    objective, checkpoint = OBJECTIVES["kd"], tmp_path / "together.safetensors"

    def mortal(done):
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setitem(loop.fit_together.__kwdefaults__, "checkpoint_every_s", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fitted(arms_of(objective)[:1], data, objective, checkpoint=checkpoint, before_step=mortal)
    anew = fitted(arms_of(objective)[:2], data, objective, checkpoint=checkpoint)
    whole = fitted(arms_of(objective)[:2], data, objective)
    assert all(same(one, other) for one, other in zip(anew, whole, strict=True))


def test_a_loss_that_is_not_finite_names_its_arm(refuses):
    weights = [torch.ones(2), torch.ones(2)]
    members = [Member(f"arm {i}", {"w": w}, Schedule([Phase(2, 0.1)])) for i, w in enumerate(weights)]
    with refuses("arm 1: the loss is nan at step 0", DataError):
        fit_together(lambda step: [weights[0].sum(), weights[1].sum() * float("nan")], members)


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_losses_and_gradients_of_several_students_are_those_of_each(head, taught, weight):
    rng = torch.Generator().manual_seed(4)
    students = [torch.randn(130, 8, generator=rng) for _ in range(3)]
    biases = [None, torch.randn(11, generator=rng), None]
    targets = torch.randint(11, (130,), generator=rng)
    about = {"kd_weight": weight, "teacher": torch.randn(130, 8, generator=rng) if taught else None}

    def leaves():
        return [(s.clone().requires_grad_(), None if b is None else b.clone().requires_grad_())
                for s, b in zip(students, biases, strict=True)]  # fmt: skip

    joint, single = leaves(), leaves()
    losses = head_losses(joint, head, targets, **about)
    torch.autograd.backward([factor * loss for factor, loss in zip((1.0, 2.0, 0.5), losses, strict=True)])
    for factor, (states, bias), (own, own_bias), loss in zip((1.0, 2.0, 0.5), single, joint, losses, strict=True):
        alone = head_loss(states, head, targets, logit_bias=bias, **about)
        (factor * alone).backward()
        assert torch.equal(alone, loss)
        assert torch.equal(states.grad, own.grad)
        assert bias is None or torch.equal(bias.grad, own_bias.grad)
