"""Products by oneDNN: those of torch, with their gradients, wherever they are asked for."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as by_torch
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from abi.models import products
from abi.models.head import Head
from abi.models.products import Linear, Products, added, into, linear, takes

pytestmark = pytest.mark.skipif(products._product is None, reason="this torch has no product of oneDNN")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Let every product be oneDNN's, whatever its size; return the shapes that it was asked for."""
    asked = []
    own = products._multiplied
    monkeypatch.setattr(products, "LEAST", 1)
    monkeypatch.setattr(products, "_multiplied", lambda x, *rest: asked.append(tuple(x.shape)) or own(x, *rest))
    return asked


@pytest.mark.parametrize("shape", [(7, 16), (2, 3, 16), (1, 16)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_and_its_gradients_are_those_of_torch(shape, with_bias, calls):
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if with_bias else None
    given, turn = [tensor for tensor in (x, weight, bias) if tensor is not None], torch.randn(*shape[:-1], 50)
    found, wanted = linear(x, weight, bias), by_torch(x, weight, bias)
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    gradients = (torch.autograd.grad((made * turn).sum(), given) for made in (found, wanted))
    for own, of_torch in zip(*gradients, strict=True):
        assert_close(own, of_torch, rtol=1e-5, atol=1e-4)
    assert len(calls) == 3


def test_strided_matrices_are_read_as_they_lie():
    x, weight = torch.randn(6, 32)[:, ::2], torch.randn(40, 32)[:, ::2]
    assert_close(linear(x, weight), x.double().matmul(weight.double().T).float(), rtol=1e-5, atol=1e-5)


def test_what_asks_for_no_gradient_gets_none(calls):
    x, weight = torch.randn(6, 16, requires_grad=True), torch.randn(40, 16)
    linear(x, weight).sum().backward()
    assert weight.grad is None
    assert calls == [(6, 16), (6, 40)]
    with torch.no_grad():
        assert not linear(x, weight).requires_grad


def test_a_sum_and_a_product_into_memory_are_those_of_torch():
    plain, x, weight = torch.randn(6, 40), torch.randn(6, 16), torch.randn(40, 16)
    kept = plain.clone()
    assert_close(added(plain, x, weight), torch.addmm(plain, x, weight.T), rtol=1e-5, atol=1e-5)
    assert torch.equal(plain, kept)
    out = torch.empty(9, 16)
    into(out[2:8], plain, weight)
    assert_close(out[2:8], plain @ weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_left_to_torch(dtype, calls):
    x, weight = torch.randn(6, 16, dtype=dtype), torch.randn(40, 16, dtype=dtype)
    assert torch.equal(linear(x, weight), by_torch(x, weight))
    assert not takes(x, weight.float())
    assert calls == []


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


@pytest.mark.parametrize("layer", [nn.Linear(16, 40), Conv1D(40, 16)])
def test_within_a_block_layers_of_transformers_are_it_too(layer, calls):
    x = torch.randn(2, 3, 16)
    wanted = layer(x)
    assert calls == []
    with Products():
        found = layer(x)
    assert len(calls) == 1
    assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    weight, turn = layer.weight, torch.randn(2, 3, 40)
    own, of_torch = (torch.autograd.grad((made * turn).sum(), weight)[0] for made in (found, wanted))
    assert_close(own, of_torch, rtol=1e-5, atol=1e-4)


def test_within_a_block_arguments_may_be_named(calls):
    x, weight, bias = torch.randn(3, 16), torch.randn(40, 16), torch.randn(40)
    with Products():
        found = by_torch(input=x, weight=weight, bias=bias)
    assert_close(found, by_torch(x, weight, bias), rtol=1e-5, atol=1e-5)
    assert len(calls) == 1


def test_a_linear_layer_loads_what_torchs_saves():
    plain, own = nn.Linear(16, 40), Linear(16, 40)
    own.load_state_dict(plain.state_dict())
    x = torch.randn(3, 16)
    assert_close(own(x), plain(x), rtol=1e-5, atol=1e-5)


def test_a_head_is_multiplied_by_it_and_may_be_asked_for_a_gradient(calls):
    head = Head(torch.randn(50, 16), 2.0, torch.randn(50))
    states = torch.randn(3, 16, requires_grad=True)
    assert_close(head.linear(states), 2 * states @ head.weight.T + head.bias, rtol=1e-5, atol=1e-5)
    head.linear(states).sum().backward()
    assert_close(states.grad, 2 * head.weight.sum(0).expand(3, 16), rtol=1e-5, atol=1e-5)
    assert calls
