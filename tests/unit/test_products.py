"""Products by oneDNN: those of torch, with their gradients, wherever they are asked for."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as by_torch
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from abi.arms.losses import head_loss
from abi.models import products
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig
from abi.models.products import Linear, Products, added, into, linear

onednn = pytest.mark.skipif(products._product is None, reason="this torch has no product of oneDNN")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Let every product be oneDNN's, whatever its size; return the shapes of the inputs that it was asked for."""
    asked = []
    own = products._multiplied
    monkeypatch.setattr(products, "LEAST", 1)
    monkeypatch.setattr(products, "_multiplied", lambda x, *rest: asked.append(tuple(x.shape)) or own(x, *rest))
    return asked


@contextmanager
def switched_off():
    """What `torch.backends.mkldnn.flags(enabled=False)` does, which warns of its other flags."""
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


def same(found, wanted):
    assert_close(found, wanted, rtol=1e-5, atol=1e-4)


def gradients(made, given, turn):
    return torch.autograd.grad((made * turn).sum(), given)


# what is multiplied


@onednn
@pytest.mark.parametrize("shape", [(7, 16), (2, 3, 16), (1, 16), (0, 16)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_and_its_gradients_are_those_of_torch(shape, with_bias, calls):
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if with_bias else None
    given, turn = [tensor for tensor in (x, weight, bias) if tensor is not None], torch.randn(*shape[:-1], 50)
    found, wanted = linear(x, weight, bias), by_torch(x, weight, bias)
    assert found.shape == wanted.shape
    same(found, wanted)
    for own, of_torch in zip(gradients(found, given, turn), gradients(wanted, given, turn), strict=True):
        same(own, of_torch)
    assert len(calls) == (3 if len(x) else 0)


@onednn
@pytest.mark.parametrize("bias", [torch.randn(80)[::2], torch.randn(1).expand(40)], ids=["strided", "expanded"])
def test_matrices_and_biases_are_read_as_they_lie(bias, calls):
    x, weight = torch.randn(6, 32)[:, ::2], torch.randn(40, 32)[:, ::2]
    same(linear(x, weight, bias), by_torch(x, weight, bias))
    assert len(calls) == 1


@onednn
@pytest.mark.parametrize("n_threads", [1, 2])
def test_it_is_right_with_one_thread_and_with_two(n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        x, weight, bias = torch.randn(64, 128), torch.randn(512, 128), torch.randn(512)
        same(linear(x, weight, bias), by_torch(x.double(), weight.double(), bias.double()).float())
    finally:
        torch.set_num_threads(before)


@onednn
def test_a_result_may_be_changed_in_place():
    """As models do that clamp what a projection gives, and adapters that add to it."""
    x, weight = torch.randn(2, 3, 16), torch.randn(40, 16, requires_grad=True)
    found, wanted = linear(x, weight), by_torch(x, weight)
    for made in (found, wanted):
        made += 1
        made.clamp_(min=0)
    turn = torch.randn(2, 3, 40)
    same(*(gradients(made, weight, turn)[0] for made in (found, wanted)))


@onednn
def test_beside_a_frozen_weight_the_input_is_not_kept():
    kept = []
    weight = torch.randn(40, 16)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        out = linear(torch.randn(6, 16, requires_grad=True) * 1, weight)
    assert (6, 16) not in kept
    assert (40, 16) in kept
    out.sum().backward()


@onednn
def test_what_asks_for_no_gradient_gets_none(calls):
    x, weight = torch.randn(6, 16, requires_grad=True), torch.randn(40, 16)
    linear(x, weight).sum().backward()
    assert weight.grad is None
    assert calls == [(6, 16), (6, 40)]
    with torch.no_grad():
        assert not linear(x, weight).requires_grad


@onednn
def test_a_second_derivative_is_that_of_torch():
    x, weight = torch.randn(6, 16, requires_grad=True), torch.randn(40, 16, requires_grad=True)
    found = []
    for product in (linear, by_torch):
        [first] = torch.autograd.grad(product(x, weight).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.pow(2).sum(), weight)[0])
    assert_close(*found, rtol=1e-4, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_transforms_of_torch_see_through_it():
    x, weight = torch.randn(6, 16), torch.randn(40, 16)
    found, wanted = (
        torch.func.grad(lambda w, product=product: product(x, w).pow(2).sum())(weight) for product in (linear, by_torch)
    )
    same(found, wanted)
    _, moved = torch.func.jvp(lambda w: linear(x, w), (weight,), (torch.ones_like(weight),))
    same(moved, by_torch(x, torch.ones_like(weight)))


@onednn
def test_a_sum_and_a_product_into_memory_are_those_of_torch(calls):
    plain, x, weight = torch.randn(6, 40), torch.randn(6, 16), torch.randn(40, 16)
    kept = plain.clone()
    same(added(plain, x, weight), torch.addmm(plain, x, weight.T))
    assert torch.equal(plain, kept)
    out = torch.zeros(9, 16)
    into(out[2:8], plain, weight)
    same(out[2:8], plain @ weight)
    assert not out[:2].any()
    assert len(calls) == 2


# what is left to torch


class Quantised(torch.Tensor):
    """A subclass that has a product of its own."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is by_torch:
            return torch.full((6, 40), 7.0)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        (torch.randn(6, 16).double(), torch.randn(40, 16).double(), None),
        (torch.randn(6, 16).bfloat16(), torch.randn(40, 16).bfloat16(), None),
        (torch.randn(16), torch.randn(40, 16), None),
        (torch.randn(6, 16), torch.randn(16), None),
        (torch.randn(6, 16), torch.randn(40, 16), torch.randn(1)),
        (torch.randn(6, 16), torch.randn(40, 16), torch.randn(6, 40)),
        (torch.randn(6, 16), torch.randn(40, 16).to_sparse_coo(), None),
    ],
    ids=["fp64", "bf16", "one row", "one column", "one bias", "a bias per row", "sparse"],
)
def test_what_the_operator_cannot_do_is_left_to_torch(x, weight, bias, calls):
    same(linear(x, weight, bias), by_torch(x, weight, bias))
    assert calls == []


def test_a_subclass_multiplies_in_its_own_way(calls):
    weight = torch.randn(40, 16).as_subclass(Quantised)
    with Products():
        assert torch.equal(by_torch(torch.randn(6, 16), weight), torch.full((6, 40), 7.0))
    assert calls == []


def test_shapes_that_do_not_fit_are_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(6, 16), torch.randn(40, 15))


def test_a_user_may_switch_it_off_or_ask_for_another_precision(calls):
    x, weight = torch.randn(6, 16), torch.randn(40, 16)
    with switched_off():
        assert torch.equal(linear(x, weight), by_torch(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    assert calls == []


@onednn
def test_small_products_are_left_to_torch(calls, monkeypatch):
    monkeypatch.setattr(products, "LEAST", 6 * 16 * 40)
    linear(torch.randn(5, 16), torch.randn(40, 16))
    assert calls == []
    linear(torch.randn(6, 16), torch.randn(40, 16))
    assert calls == [(6, 16)]


def test_a_torch_without_it_computes_as_before(calls, monkeypatch):
    monkeypatch.setattr(products, "_product", None)
    x, weight, out = torch.randn(6, 16), torch.randn(40, 16), torch.empty(6, 16)
    assert torch.equal(linear(x, weight), by_torch(x, weight))
    assert torch.equal(added(out, x, weight[:16]), torch.addmm(out, x, weight[:16].T))
    into(out, x @ weight.T, weight)
    assert torch.equal(out, x @ weight.T @ weight)
    assert calls == []


# who uses it


@onednn
@pytest.mark.parametrize("layer", [nn.Linear(16, 40), Conv1D(40, 16)])
def test_within_a_block_layers_of_transformers_are_it_too(layer, calls):
    x = torch.randn(2, 3, 16)
    wanted = layer(x)
    assert calls == []
    with Products():
        found = layer(x)
    assert len(calls) == 1
    same(found, wanted)
    turn = torch.randn(2, 3, 40)
    same(*(gradients(made, layer.weight, turn)[0] for made in (found, wanted)))


@onednn
def test_within_a_block_arguments_may_be_named(calls):
    x, weight, bias = torch.randn(3, 16), torch.randn(40, 16), torch.randn(40)
    with Products():
        found = by_torch(input=x, weight=weight, bias=bias)
    same(found, by_torch(x, weight, bias))
    assert len(calls) == 1


@onednn
def test_a_backbone_runs_by_it(backbone, window_of, calls):
    with torch.no_grad():
        found = backbone.logits(torch.randint(2, 200, (2, 12)), window_of(backbone))
    n_layers = len([layer for layer in backbone.model.modules() if isinstance(layer, nn.Linear | Conv1D)])
    assert found.isfinite().all()
    assert len(calls) >= n_layers > 0


@onednn
def test_a_model_that_recomputes_its_layers_may_be_trained(make_backbone, window_of, calls):
    backbone = make_backbone("gpt2")
    model = backbone.model.train().requires_grad_(True)
    model.activation_checkpointing_enable({"use_reentrant": False})
    backbone.logits(torch.randint(2, 200, (2, 12)), window_of(backbone)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert calls == []


@onednn
def test_a_linear_layer_loads_what_torchs_saves(calls):
    plain, own = nn.Linear(16, 40), Linear(16, 40)
    own.load_state_dict(plain.state_dict())
    x = torch.randn(3, 16)
    same(own(x), plain(x))
    assert len(calls) == 1


@onednn
def test_a_module_multiplies_by_it_rotation_and_all(calls):
    module, taps = AbiModule(ModuleConfig(16, (2,), 8), seed=1), torch.randn(2, 3, 1, 16)
    module.set_rotation(torch.linalg.qr(torch.randn(8, 8))[0])
    found = module(taps)
    assert len(calls) == 6  # in, rotation, two layers, rotation back, out
    with switched_off():
        same(found, module(taps))


@onednn
def test_a_head_and_its_loss_are_multiplied_by_it(calls):
    head, targets = Head(torch.randn(50, 16), 2.0, torch.randn(50)), torch.randint(50, (3,))
    states = torch.randn(3, 16, requires_grad=True)
    same(head.linear(states), 2 * states @ head.weight.T + head.bias)
    calls.clear()
    [own] = torch.autograd.grad(head_loss(states, head, targets), states)
    assert calls == [(3, 16), (3, 50)]
    [wanted] = torch.autograd.grad(torch.nn.functional.cross_entropy(head.logits(states), targets), states)
    same(own, wanted)
