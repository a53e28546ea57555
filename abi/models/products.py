"""Products of fp32 matrices on a CPU, by the faster of the two libraries that torch contains.

torch multiplies fp32 matrices by the library of its build (MKL), which on an AMD EPYC reaches half of what the machine
can do; oneDNN, which torch contains for its convolutions, takes half the time there, and of few rows and a large head a
quarter (`benchmarks/products.csv`). torch has no public way to ask for it: its own operator is called where there is
one, and elsewhere torch multiplies as it always does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as by_torch
from torch.overrides import TorchFunctionMode

LEAST = 2**21
"""Multiplications from which oneDNN's operator is faster, gradients in Python and all."""


def _operator() -> Any:
    """Return oneDNN's product with a weight `[O, I]`; None where this torch has it not."""
    try:
        return torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
    except (AttributeError, RuntimeError):
        return None


_product = _operator()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias` `[..., O]` of `[..., I]`, `[O, I]` and `[O]`, with gradients for all three."""
    if not takes(x, weight):
        return by_torch(x, weight, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)):
        found: Tensor = _Linear.apply(x, weight, bias)
        return found
    return _multiplied(x, weight, bias)


def added(plain: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return `plain + x @ weight.T` `[N, O]` of `[N, O]`, `[N, I]` and `[O, I]`, without gradients."""
    if not takes(x, weight):
        return torch.addmm(plain, x, weight.T)
    return _multiplied(x, weight, None).add_(plain)


def into(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """Write `x @ weight` `[N, I]` of `[N, O]` and `[O, I]` into `out`, without gradients."""
    if takes(x, weight):
        out.copy_(_multiplied(x, weight.T, None))
    else:
        torch.mm(x, weight, out=out)


def takes(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes a product of these."""
    return (
        _product is not None
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() * weight.shape[0] >= LEAST
    )


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = _product(x, weight, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):  # noqa: ANN001, ANN205
        ctx.save_for_backward(x, weight)
        return _multiplied(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):  # noqa: ANN001, ANN205
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2)
        return (
            _multiplied(grad, weight.T, None) if of_x else None,
            _multiplied(flat.T, x.flatten(0, -2).T, None) if of_weight else None,
            flat.sum(0) if of_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` whose product is `linear` above."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., O]` of `[..., I]`."""
        return linear(x, self.weight, self.bias)


class Products(TorchFunctionMode):
    """Within a `with` block the products of a model of transformers are `linear` above, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, or `linear` in place of torch's and of the product of GPT-2's `Conv1D`."""
        named = kwargs or {}
        if func is by_torch:
            return linear(*args, **{"x" if name == "input" else name: given for name, given in named.items()})
        if func is torch.addmm and not named and args[0].dim() == 1:
            bias, x, weight = args
            return linear(x, weight.T, bias)
        return func(*args, **named)
