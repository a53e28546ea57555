"""Every objective of an experiment equals a naive formula, position by position, with its gradient."""

import pytest
import torch
from torch.nn import functional as F

from abi.arms.experiment_losses import Goal, losses
from abi.arms.gradient import FitData
from abi.base.errors import DataError
from abi.models.head import Head
from abi.plan.specs.experiments import ObjectiveName

V, D = 23, 8


class Given:
    """An arm whose correction is a tensor."""

    logit_bias = None

    def __init__(self, tensor):
        self.tensor = tensor

    def correction(self, states, index):
        return self.tensor[index]


@pytest.fixture
def problem(make_states):
    rng = torch.Generator().manual_seed(3)
    states = make_states(n=5, positions=4, width=D, vocabulary=V)
    head = Head(torch.randn(V, D, generator=rng), 0.7, torch.randn(V, generator=rng))
    taught, own = (torch.randn(5, 4, D, generator=rng) for _ in range(2))
    return FitData(states, head, taught), own.requires_grad_(True)


def naive(kind, final, own, taught, target, head, temperature, weight):
    """The objective of one position, but for weights of positions."""
    student, teacher = (head.weight @ (final + x) * head.scale + head.bias for x in (own, taught))
    ce = -F.log_softmax(student, -1)[target]

    def kl(s, t, at):
        p = (t / at).softmax(-1)
        return at**2 * (p * (p.log() - (s / at).log_softmax(-1))).sum()

    if kind == "ce":
        return ce
    if kind in ("kd", "kl"):
        at, w = (temperature, weight) if kind == "kd" else (1.0, 1.0)
        return w * kl(student, teacher, at) + (1 - w) * ce
    if kind == "logit-mse":
        return ((student - teacher) ** 2).mean()
    if kind == "local-kl":
        near = teacher.argsort(descending=True)[:10]
        return kl(student[near], teacher[near], 1.0)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum().detach()
    factor = {"entropy-weighted-mse": entropy, "confidence-weighted-mse": 1 / (1 + entropy)}.get(kind, 1.0)
    return torch.stack([((own - taught) ** 2).mean() * factor, torch.as_tensor(factor)])


def whole(kind, data, own, index, temperature=2.0, weight=0.9):
    places = [(i, t) for i in index.tolist() for t in range(own.shape[1])]
    final, targets = data.states.final(slice(None)), data.states.targets(slice(None))
    found = torch.stack(
        [
            naive(kind, final[p], own[p], data.teacher[p], int(targets[p]), data.head, temperature, weight)
            for p in places
        ]
    )
    return found.mean() if found.dim() == 1 else found[:, 0].sum() / found[:, 1].sum()


@pytest.mark.parametrize("kind", ObjectiveName.__args__)
def test_an_objective_and_its_gradient_equal_the_naive_formula(problem, kind):
    data, own = problem
    index = torch.tensor([3, 0, 4])
    [value] = losses([Given(own)], [Goal(kind)], data, index)
    wanted = whole(kind, data, own, index)
    torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(v, own, retain_graph=True)[0] for v in (value, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_a_local_term_is_added_at_the_temperature_of_kd(problem):
    data, own = problem
    index = torch.tensor([1, 2])
    plain, both = losses([Given(own)] * 2, [Goal("kd", 4.0, 1.0), Goal("kd", 4.0, 1.0, 0.3)], data, index)
    final, added = data.states.final(index).flatten(0, 1), []
    for x, mine, taught in zip(final, own[index].flatten(0, 1), data.teacher[index].flatten(0, 1), strict=True):
        s, t = (data.head.weight @ (x + c) * data.head.scale + data.head.bias for c in (mine, taught))
        near = t.argsort(descending=True)[:10]
        p = (t[near] / 4).softmax(-1)
        added.append(16 * (p * (p.log() - (s[near] / 4).log_softmax(-1))).sum())
    torch.testing.assert_close(both - plain, 0.3 * torch.stack(added).mean(), atol=1e-5, rtol=1e-3)


def test_no_objective_changes_where_other_arms_stand_beside_it(problem):
    data, own = problem
    kinds = ObjectiveName.__args__
    alone = [losses([Given(own)], [Goal(kind)], data, slice(0, 2))[0] for kind in kinds]
    assert torch.equal(
        torch.stack(alone),
        torch.stack(list(losses([Given(own)] * len(kinds), [Goal(k) for k in kinds], data, slice(0, 2)))),
    )


def test_a_text_without_a_teacher_is_refused(problem):
    data, own = problem
    with pytest.raises(DataError, match="has no teacher"):
        losses([Given(own)], [Goal("kl")], FitData(data.states, data.head), slice(0, 1))
