"""A second device on a machine that has none: tensors that say they are on a card and refuse what is not.

Their numbers lie on the CPU, so that everything computes what it does there. An operation that meets a tensor of each
kind fails, as on a real card.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch._dynamo  # it notes at its first import which functions are torch's: before one of them is another
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from abi.base import compute
from abi.base.typed import Compute
from abi.models import backbone

CARD = torch.device("cuda:0")
MOVES = {"aten::copy_", "aten::_to_copy"}
"""What may see both devices: it brings numbers from one to the other."""
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_"}
"""Where the second argument, the indices, may be on the CPU."""


class OnCard(Tensor):
    """A tensor on the card; `inner` holds its numbers. To torch's own machinery it is on `meta`, which needs none."""

    inner: Tensor
    device = property(lambda self: CARD)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCard":
        told = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        found = Tensor._make_wrapper_subclass(cls, inner.size(), **told, device="meta")  # type: ignore[attr-defined]
        found.inner = inner
        return found

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.inner!r})"

    def tolist(self) -> Any:
        """Return its numbers, as a tensor of any device does."""
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the numbers; what it makes is where its tensors are, or where it was asked for."""
    name, given = func._schema.name, [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = [leaf for leaf in given if isinstance(leaf, OnCard)]
    if here and name not in MOVES:
        free = tree_leaves(args[1]) if name in INDEXED and isinstance(args[0], OnCard) else []
        strict = [leaf for leaf in given if all(leaf is not other for other in free)]
        apart = [leaf for leaf in strict if not isinstance(leaf, OnCard) and leaf.dim() > 0]
        assert not apart, f"{name}: a tensor of shape {tuple(apart[0].shape)} is on the CPU and others are on the card"
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    to_card = bool(here) if asked is None else asked != "cpu"
    if name == "aten::copy_":
        to_card = isinstance(args[0], OnCard)
    if name == "aten::_to_copy" and to_card and here and kwargs.get("dtype") in (None, args[0].dtype):
        return args[0]
    given_numbers = tree_map(_numbers, args), tree_map(_numbers, kwargs)
    if name == "aten::multinomial" and here:  # a card draws from a generator of its own
        given_numbers[1]["generator"] = torch.Generator()
    if asked is not None:
        given_numbers[1]["device"] = torch.device("cpu")
    out = func(*given_numbers[0], **given_numbers[1])
    if torch.Tag.inplace_view in func.tags and isinstance(args[0], OnCard):  # its own shape changes too
        with no_dispatch():
            func(*args, **kwargs)
    known = {id(leaf.inner): leaf for leaf in here}  # what is changed in place stays the tensor it was
    known |= {id(leaf): leaf for leaf in given if not isinstance(leaf, OnCard)}

    def placed(leaf: Any) -> Any:
        return known[id(leaf)] if id(leaf) in known else OnCard(leaf) if isinstance(leaf, Tensor) and to_card else leaf

    return tree_map(placed, out)


def _numbers(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, OnCard) else leaf


class _Moving(TorchDispatchMode):
    """Lets plain tensors be brought to the card, and made there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # there operations made of others come whole
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return run(func, args, kwargs or {})


@contextmanager
def fake_card(monkeypatch: Any) -> Iterator[Compute]:
    """Compute on a fake card until the end of the block."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    plain = torch.tensor  # which asks the card for memory, and no dispatcher

    def tensor(data: Any, *, device: Any = None, **told: Any) -> Tensor:
        if device is None or torch.device(device) != CARD:
            return plain(data, device=device, **told)
        return plain(data, **told).to(CARD)

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**34))
    read = backbone.read_backbone

    def read_elsewhere(folder: Any, **given: Any) -> Any:
        """Read a backbone as transformers does it: on the CPU, by ways of its own."""
        torch.__future__.set_swap_module_params_on_conversion(False)
        try:
            with _disable_current_modes():
                return read(folder, **given)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(True)

    monkeypatch.setattr(backbone, "read_backbone", read_elsewhere)
    # Parameters become others in place, so that what shares one goes on sharing it.
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        there = Compute(device=str(CARD), name="none", precision="fp32", deterministic=True)
        with compute.using(there), _Moving():
            yield there
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
