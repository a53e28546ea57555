"""Products of fp32 matrices on a CPU, by the faster of the two libraries that torch contains.

torch multiplies fp32 matrices by the library of its build (MKL), which on an AMD EPYC reaches half of what the machine
can do; oneDNN, which torch contains for its convolutions, takes half the time there, and of few rows and a large head a
quarter (`benchmarks/products.csv`; no other processor was measured). torch has no public way to ask for it: its own
operator is called where there is one, and elsewhere torch multiplies as it always does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as by_torch
from torch.overrides import TorchFunctionMode

LEAST = 2**21
"""Rows x in x out of a product from which on oneDNN's operator is faster, with what Python costs around it."""


def _operator() -> Any:
    """Return oneDNN's product with a weight `[O, I]`; None where this torch has it not."""
    try:
        return torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
    except (AttributeError, RuntimeError):
        return None


_product = _operator()
PLAIN = (Tensor, nn.Parameter)
"""What holds its numbers as they are: a subclass (quantised, distributed) multiplies in its own way."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias` `[..., O]` of `[..., I]`, `[O, I]` and `[O]`, with gradients for all three."""
    if not takes(x, weight, bias):
        return by_torch(x, weight, bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)):
        # Whole rows: of more dimensions the operator returns a view, which nobody could change in place.
        found: Tensor = _Linear.apply(x.flatten(0, -2), weight, bias)
        return found.view(*x.shape[:-1], len(weight))
    return _multiplied(x, weight, bias)


def added(plain: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return `plain + x @ weight.T` `[N, O]` of `[N, O]` or one number, `[N, I]` and `[O, I]`, without gradients."""
    if not takes(x, weight):
        return torch.addmm(plain, x, weight.T)
    return _multiplied(x, weight, None).add_(plain)


def into(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """Write `x @ weight` `[N, I]` of `[N, O]` and `[O, I]` into `out`, without gradients."""
    # Counted by the rows of a head, of which there are more than columns: of few positions MKL takes longest.
    if x.numel() * len(weight) >= LEAST and _able(x, weight.T, None):
        out.copy_(_multiplied(x, weight.T, None))
    else:
        torch.mm(x, weight, out=out)


def takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN computes a product of these: it gains by it, its operator can, and it may."""
    return weight.dim() == 2 and x.numel() * len(weight) >= LEAST and _able(x, weight, bias)


def _able(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN's operator multiplies these as torch does, and may."""
    return bool(
        _product is not None
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.dim() > 1
        and x.shape[-1] == weight.shape[-1]
        and (bias is None or (type(bias) in PLAIN and bias.shape == weight.shape[:1] and bias.dtype == x.dtype))
        and type(x) in PLAIN
        and type(weight) in PLAIN
        and x.layout == weight.layout == torch.strided
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()  # of `torch.func`, which need a formula of torch's own
    )


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # The operator reads a bias as if it were contiguous, whatever it is.
    found: Tensor = _product(x, weight, None if bias is None else bias.contiguous(), "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):  # noqa: ANN001, ANN205
        of_x, of_weight, _ = ctx.needs_input_grad  # beside a frozen weight nobody needs the input again
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return _multiplied(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):  # noqa: ANN001, ANN205
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            linear(grad, weight.T) if of_x else None,  # and not the operator: a second derivative may be asked for
            linear(grad.T, x.T) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` whose product is `linear` above."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., O]` of `[..., I]`."""
        return linear(x, self.weight, self.bias)


class Products(TorchFunctionMode):
    """Within a `with` block the products of a model of transformers are `linear` above, too.

    What runs again in the backward pass (gradient checkpointing) is outside of the block, and must not be within.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, or `linear` in place of torch's and of the product of GPT-2's `Conv1D`."""
        named = kwargs or {}
        if func is by_torch:
            return linear(*args, **{"x" if name == "input" else name: given for name, given in named.items()})
        if func is torch.addmm and not named and len(args) == 3 and args[0].dim() == 1:
            bias, x, weight = args
            return linear(x, weight.T, bias)
        return func(*args, **named)
