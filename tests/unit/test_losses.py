import pytest
import torch
from torch.nn import functional as F

from abi.arms import losses
from abi.arms.losses import correction_mse, head_loss
from abi.models import kernels
from abi.models.head import Head

V, D = 37, 8
ROWS = 64


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def computed_by(request, monkeypatch):
    """What is compiled, and the torch code that cards take."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "take", lambda *_: False)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Products of at most 64 positions, gradients of 24 at a time, so that few positions are several of both."""
    monkeypatch.setattr(losses, "LOSS_ROWS", (16, 128))
    monkeypatch.setattr(losses, "LOSS_LOGITS", ROWS * V)
    monkeypatch.setattr(losses, "CACHED_LOGITS", 24 * V)


def naive(states, head, targets, teacher, temperature, weight, logit_bias):
    """The published KD + CE loss, from whole logits (docs/experiments.md, section 0)."""

    def logits(x):
        return x @ head.weight.T * head.scale + (0 if head.bias is None else head.bias)

    s = logits(states) + (0 if logit_bias is None else logit_bias)
    ce = F.cross_entropy(s, targets)
    if teacher is None:
        return ce
    soft = F.log_softmax(s / temperature, -1), F.softmax(logits(teacher) / temperature, -1)
    return (1 - weight) * ce + weight * temperature**2 * F.kl_div(*soft, reduction="batchmean")


def problem(n, dtype, *, teacher=True, bias=False, head_bias=False, scale=1.0, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    head = Head(draw(V, D), scale, draw(V) if head_bias else None)
    states, logit_bias = draw(n, D).requires_grad_(True), draw(V).requires_grad_(True) if bias else None
    return states, head, torch.randint(V, (n,), generator=rng), draw(n, D) if teacher else None, logit_bias


def value_and_gradients(function, states, logit_bias):
    value = function()
    return [value.detach(), *torch.autograd.grad(3 * value, [x for x in (states, logit_bias) if x is not None])]


def compare(n, dtype, tolerance, *, temperature=2.0, weight=0.9, **settings):
    states, head, targets, teacher, bias = problem(n, dtype, **settings)
    found = value_and_gradients(
        lambda: head_loss(states, head, targets, teacher=teacher, temperature=temperature, kd_weight=weight, logit_bias=bias),
        states, bias,
    )  # fmt: skip
    wide = [None if x is None else x.detach().double().requires_grad_(True) for x in (states, bias)]
    exact = Head(head.weight.double(), head.scale, None if head.bias is None else head.bias.double())
    taught = None if teacher is None else teacher.double()
    truth = value_and_gradients(lambda: naive(wide[0], exact, targets, taught, temperature, weight, wide[1]), *wide)
    for own, wanted in zip(found, truth, strict=True):
        assert (own.double() - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.parametrize("n", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_value_and_gradient_equal_the_naive_loss_for_any_number_of_positions(n, dtype, tolerance):
    compare(n, dtype, tolerance, bias=True)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_every_mixture_equals_the_naive_loss(weight, teacher, bias):
    compare(70, torch.float64, 1e-12, weight=weight, teacher=teacher, bias=bias)


@pytest.mark.parametrize("head_bias", [True, False])
@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_every_head_and_temperature_equals_the_naive_loss(head_bias, scale, temperature):
    compare(70, torch.float64, 1e-12, head_bias=head_bias, scale=scale, temperature=temperature, bias=True)


def test_the_gradient_is_the_numerical_one():
    states, head, targets, teacher, bias = problem(5, torch.float64, bias=True, head_bias=True)
    assert torch.autograd.gradcheck(
        lambda x, b: head_loss(x, head, targets, teacher=teacher, logit_bias=b), (states, bias)
    )


def test_a_student_that_is_its_teacher_has_no_kd_loss_and_no_gradient():
    states, head, targets, _, _ = problem(70, torch.float64)
    value, gradient = value_and_gradients(
        lambda: head_loss(states, head, targets, teacher=states.detach(), kd_weight=1.0), states, None
    )
    assert abs(value) < 1e-14
    assert gradient.abs().max() < 1e-14


def test_the_loss_does_not_depend_on_a_common_shift_of_the_logits():
    states, head, targets, teacher, _ = problem(70, torch.float64)
    shifted = Head(head.weight, head.scale, torch.full((V,), 50.0, dtype=torch.float64))
    values = [head_loss(states, h, targets, teacher=teacher).item() for h in (head, shifted)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_the_head_and_the_teacher_get_no_gradient():
    states, head, targets, teacher, _ = problem(70, torch.float32)
    head.weight.requires_grad_(True)
    teacher.requires_grad_(True)
    head_loss(states, head, targets, teacher=teacher).backward()
    assert states.grad is not None
    assert head.weight.grad is None
    assert teacher.grad is None


def test_states_and_bias_are_not_changed_by_a_loss():
    states, head, targets, teacher, bias = problem(70, torch.float32, bias=True)
    before = [x.detach().clone() for x in (states, teacher, bias, head.weight)]
    head_loss(states, head, targets, teacher=teacher, logit_bias=bias).backward()
    assert all(torch.equal(x, y) for x, y in zip(before, (states, teacher, bias, head.weight), strict=True))


def test_large_logits_stay_finite():
    states, head, targets, teacher, _ = problem(70, torch.float32, scale=1000.0)
    value, gradient = value_and_gradients(lambda: head_loss(states, head, targets, teacher=teacher), states, None)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_two_losses_are_bit_identical():
    states, head, targets, teacher, _ = problem(200, torch.float32)
    first, second = (
        value_and_gradients(lambda: head_loss(states, head, targets, teacher=teacher), states, None) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_loss_that_nothing_is_learned_from_has_the_same_bits():
    states, head, targets, teacher, bias = problem(200, torch.float32, bias=True)
    learned = head_loss(states, head, targets, teacher=teacher, logit_bias=bias)
    read = head_loss(states.detach(), head, targets, teacher=teacher, logit_bias=bias.detach())
    assert torch.equal(learned, read)
    assert not read.requires_grad


def test_correction_mse_is_the_mean_over_positions_and_components():
    a, b = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    b[0, 0, 0] = 12.0
    assert correction_mse(a, b) == 144 / 24


def test_positions_are_split_into_chunks_of_equal_size_within_limits():
    cpu = torch.device("cpu")
    assert losses._rows(130, V, cpu) == (44, 24)
    assert losses._rows(130, 10 * V, cpu) == (15, 2)
    assert losses._rows(1000, 2, cpu) == (125, 444)
    assert losses._rows(1, 10**9, cpu) == (1, 1)


def shifted(naive_teacher, head, shift):
    """Logits of a teacher moved by a shift per token."""
    return naive_teacher @ head.weight.T * head.scale + (0 if head.bias is None else head.bias) + shift


@pytest.mark.parametrize("n", [1, ROWS, ROWS + 1, 2 * ROWS + 7])
@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.9, 2.0), (0.3, 1.0)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_shifted_teacher_equals_autograd_in_value_and_gradient(n, weight, temperature, bias):
    states, head, targets, teacher, logit_bias = problem(n, torch.float64, bias=bias, head_bias=True, scale=0.5)
    shift = torch.randn(n, V, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    kept = shift.clone()
    found = value_and_gradients(
        lambda: head_loss(states, head, targets, teacher=teacher, teacher_shift=shift, temperature=temperature,
                          kd_weight=weight, logit_bias=logit_bias),
        states, logit_bias,
    )  # fmt: skip

    def plain():
        s = shifted(states, head, 0 if logit_bias is None else logit_bias)
        soft = (shifted(teacher, head, shift) / temperature).softmax(-1)
        kl = F.kl_div((s / temperature).log_softmax(-1), soft, reduction="batchmean")
        return (1 - weight) * F.cross_entropy(s, targets) + weight * temperature**2 * kl

    for own, wanted in zip(found, value_and_gradients(plain, states, logit_bias), strict=True):
        assert (own - wanted).norm() <= 1e-12 * wanted.norm()
    assert torch.equal(shift, kept)


def test_a_shift_of_a_constant_per_position_is_no_shift():
    states, head, targets, teacher, _ = problem(70, torch.float64)
    constant = torch.randn(70, 1, dtype=torch.float64).expand(70, V)
    values = [head_loss(states, head, targets, teacher=teacher, teacher_shift=s).item() for s in (None, constant)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_the_gradient_under_a_shift_is_the_numerical_one():
    states, head, targets, teacher, bias = problem(5, torch.float64, bias=True, head_bias=True)
    shift = torch.randn(5, V, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, b: head_loss(x, head, targets, teacher=teacher, teacher_shift=shift, logit_bias=b), (states, bias)
    )
