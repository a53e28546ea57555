"""A head that caps its logits softly, as Gemma 2 does: losses, readouts, gains and corrections know that it bends."""

import pytest
import torch
from made_shifts import dense
from torch.nn import functional as F

from abi.arms.closed_form import GAINS, choose_gains, solve
from abi.arms.forms import LinearMap, LogitBias, Readout
from abi.arms.general_lesson import carried_corrections
from abi.arms.gradient import FitData
from abi.arms.losses import head_losses
from abi.arms.metrics import evaluate, margins
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig

CAP = 3.0
CONFIG = ModuleConfig(8, (0, 2), 6)


@pytest.fixture
def capped(head):
    """The head of the fixtures with a cap that its logits reach."""
    return Head(2 * head.weight, head.scale, head.bias, CAP)


def by_hand(head, states):
    return CAP * torch.tanh((head.scale * states @ head.weight.T + head.bias) / CAP)


def module_of(seed=1):
    return AbiModule(CONFIG, seed=seed).requires_grad_(False)


def test_a_stored_head_has_its_cap_and_one_without_has_the_bytes_it_had(capped, head, tmp_path, refuses):
    capped.write(tmp_path / "capped")
    found = Head.read(tmp_path / "capped")
    assert (found.soft_cap, found.scale) == (CAP, 0.5)
    assert torch.equal(found.weight, capped.weight)
    from abi.base.files import write_tensors

    head.write(tmp_path / "plain")
    write_tensors(tmp_path / "before", {"weight": head.weight, "bias": head.bias}, {"scale": repr(head.scale)})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "before").read_bytes()
    assert Head.read(tmp_path / "before").soft_cap is None
    Head(head.weight, 0.5, head.bias, -1.0).write(tmp_path / "wrong")
    with refuses("holds no head"):
        Head.read(tmp_path / "wrong")


def test_logits_at_some_tokens_are_those_of_the_whole_vocabulary(capped, head):
    states, tokens = torch.randn(5, 8), torch.tensor([[3, 0, 3], [10, 1, 2], [4, 5, 6], [9, 9, 9], [0, 1, 10]])
    for own in (capped, head, Head(head.weight, head.scale)):
        torch.testing.assert_close(own.logits_at(states, tokens), own.logits(states).gather(-1, tokens))


@pytest.mark.parametrize("weight", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_losses_and_their_gradients_equal_those_of_autograd(capped, weight, temperature):
    rng = torch.Generator().manual_seed(3)
    states, teacher = (torch.randn(90, 8, generator=rng) for _ in range(2))
    targets, bias = torch.randint(11, (90,), generator=rng), torch.randn(11, generator=rng)
    values = []
    for whole in (False, True):
        s, b = states.clone().requires_grad_(True), bias.clone().requires_grad_(True)
        if whole:
            logits = by_hand(capped, s) + b
            soft = F.log_softmax(logits / temperature, -1), F.softmax(by_hand(capped, teacher) / temperature, -1)
            kl = temperature**2 * F.kl_div(*soft, reduction="batchmean")
            value = (1 - weight) * F.cross_entropy(logits, targets) + weight * kl
        else:
            taught = {"teacher": teacher, "temperature": temperature, "kd_weight": weight} if weight else {}
            [value] = head_losses([(s, b)], capped, targets, **taught)
        values.append([value, *torch.autograd.grad(value, [s, b])])
    for own, wanted in zip(*values, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("d_abi", [3, 8, 13])
def test_the_shortcut_of_a_readout_ends_below_the_cap(make_states, capped, d_abi):
    states, module = make_states(), AbiModule(ModuleConfig(8, (0, 2), d_abi), seed=1).requires_grad_(False)
    final = states.final(slice(None)).flatten(0, 1)
    readout = Readout(module, capped)
    found = readout.logits(capped.linear(final), readout.read(states, slice(None)).flatten(0, 1))
    wanted = by_hand(capped, final + module(states.taps((0, 2), slice(None))).flatten(0, 1))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    uncapped = Head(capped.weight, capped.scale, capped.bias)
    assert (Readout(module, uncapped).logits(capped.linear(final), readout.read(states, slice(None)).flatten(0, 1))
            - wanted).abs().max() > 1  # fmt: skip


def test_evaluation_reads_the_capped_logits(make_states, capped):
    states, module, bias = make_states(), module_of(), LogitBias(11).requires_grad_(False)
    bias.logit_bias.copy_(torch.linspace(-1, 1, 11))
    arms = {"raw": None, "module": module, "bias": bias}
    found = {(a, m): v for a, m, v in evaluate(arms, states, capped, reference=module, teacher=None)}
    final = states.final(slice(None))
    logits = {
        "raw": by_hand(capped, final),
        "module": by_hand(capped, final + module(states.taps((0, 2), slice(None)))),
    }
    logits["bias"] = logits["raw"] + bias.logit_bias
    for arm, own in logits.items():
        loss = F.cross_entropy(own[:, 1:].flatten(0, 1), states.targets(slice(None))[:, 1:].flatten(), reduction="none")
        torch.testing.assert_close(found[arm, "loss_nats"].float(), loss.view(12, -1).mean(1), rtol=1e-4, atol=1e-5)
    top = logits["module"][:, 1:].softmax(-1).sort(-1, descending=True).values
    wanted = (top[..., 4] - top[..., 5]).median(1).values
    torch.testing.assert_close(margins(module, states, capped).float(), wanted, rtol=1e-4, atol=1e-6)


def test_gains_are_chosen_on_capped_logits(make_states, capped):
    states = make_states().positions(torch.arange(60))
    linear = LinearMap((0, 2), 8)
    linear.weight.data.normal_(generator=torch.Generator().manual_seed(4)).mul_(0.4)
    linear.requires_grad_(False)
    final = states.final(slice(None)).flatten(0, 1)
    correction = linear.correction(states, slice(None)).flatten(0, 1)
    shift = (by_hand(capped, final + 0.75 * correction) - by_hand(capped, final)).half()
    assert choose_gains([linear], FitData(states, capped, shift=dense(shift))) == [0.75]
    assert 0.75 in GAINS
    bias = LogitBias(11).requires_grad_(False)
    bias.logit_bias.copy_(torch.linspace(-1, 1, 11))
    shift = (0.5 * bias.logit_bias).expand(60, 11).half()  # a bias is added where the cap has been
    assert choose_gains([bias], FitData(states, capped, shift=dense(shift))) == [0.5]


def test_a_small_shift_gives_the_correction_that_makes_it(make_states, capped):
    """To first order: what the mean slope of each token says, which is no longer the matrix alone."""
    states = make_states().positions(torch.arange(60))
    lesson = Head(0.1 * capped.weight, capped.scale, capped.bias, CAP)
    final = states.final(slice(None)).flatten(0, 1)
    wanted = 0.05 * torch.randn(60, 8, generator=torch.Generator().manual_seed(2))
    shift = by_hand(lesson, final + wanted) - by_hand(lesson, final)
    found = carried_corrections(FitData(states, lesson, shift=dense(shift)), 1e-10).squeeze(1)
    blind = carried_corrections(
        FitData(states, Head(lesson.weight, 0.5, lesson.bias), shift=dense(shift)), 1e-10
    ).squeeze(1)
    assert (found - wanted).norm() < 0.35 * wanted.norm()
    assert (found - wanted).norm() < 0.7 * (blind - wanted).norm()


def test_a_mean_shift_is_that_of_capped_distributions(make_states, capped):
    states, module, bias = make_states(), module_of(), LogitBias(11)
    teacher = module(states.taps((0, 2), slice(None)))
    solve(bias, FitData(states, capped, teacher), 1e-3)
    final = states.final(slice(None))
    mean = [by_hand(capped, x).softmax(-1).mean((0, 1)) for x in (final + teacher, final)]
    torch.testing.assert_close(bias.logit_bias.detach(), (mean[0] / mean[1]).log(), rtol=1e-3, atol=1e-4)
