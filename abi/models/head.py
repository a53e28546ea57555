"""The head of a backbone: the map from its final state to logits, as stored and as measured on a live model."""

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abi.base.compute import finite
from abi.base.errors import DataError
from abi.base.files import read_tensors, write_tensors
from abi.models.products import linear

CAP_NAMES = re.compile(r"soft_?cap")
"""How configs name the cap of their logits; those of attention and of routers match too, and fit nothing."""

LOUD = 60.0
"""Size to which the logits of a measurement are raised, so that a cap shows: published caps are 15 to 50."""

SAME = 1e-4
"""Most that two results may differ, relative to the largest number, to count as one in fp32."""


@dataclass(frozen=True)
class Head:
    """The frozen map from a final state to logits: `cap(scale * state @ weight.T + bias)`.

    Args: weight: `[V, D]`; scale: of the product; bias: `[V]`; soft_cap: c of `c * tanh(logits / c)`, None for no cap.
    """

    weight: Tensor
    scale: float
    bias: Tensor | None = None
    soft_cap: float | None = None

    @classmethod
    def read(cls, path: str | Path, sha256: str | None = None) -> "Head":
        """Return a stored head. Args: sha256: as its backbone's manifest says. Raises: as `read_tensors`."""
        tensors, meta = read_tensors(path, sha256)
        weight, bias, cap = tensors.get("weight"), tensors.get("bias"), tensors.get("soft_cap")
        try:
            scale = float(meta["scale"])
        except (KeyError, ValueError):
            scale = math.nan
        fits = weight is not None and weight.dim() == 2 and (bias is None or bias.shape == weight.shape[:1])
        fits = fits and (cap is None or (cap.numel() == 1 and 0 < float(cap) < math.inf))
        if weight is None or not fits or not (math.isfinite(scale) and all(map(finite, tensors.values()))):
            raise DataError(f"{path}: holds no head (a weight and a scale); delete it and rebuild the backbone")
        return cls(weight, scale, bias, None if cap is None else float(cap))

    def write(self, path: str | Path) -> None:
        """Write the head as `read` reads it. Raises: DataError: the disk is full or the folder read-only."""
        tensors = {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})
        if self.soft_cap is not None:  # a tensor: safetensors writes several keys of a header in any order
            tensors["soft_cap"] = torch.tensor(self.soft_cap, dtype=torch.float64)
        write_tensors(path, tensors, {"scale": repr(self.scale)})

    def to(self, device: torch.device) -> "Head":
        """Return the head on a device."""
        return replace(self, weight=self.weight.to(device), bias=None if self.bias is None else self.bias.to(device))

    def linear(self, states: Tensor) -> Tensor:
        """Return the logits `[..., V]` of final states `[..., D]` before the cap: what is linear in the state."""
        return linear(states * self.scale, self.weight, self.bias)

    def logits(self, states: Tensor) -> Tensor:
        """Return logits `[..., V]` of final states `[..., D]`."""
        return self.capped(self.linear(states))

    def logits_at(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits `[N, K]` of final states `[N, D]` at K tokens of each, without those of the vocabulary."""
        own = torch.bmm(self.weight[tokens], (states * self.scale).unsqueeze(-1)).squeeze(-1)
        return self.capped(own if self.bias is None else own + self.bias[tokens])

    def capped(self, logits: Tensor) -> Tensor:
        """Return logits as the head gives them: those of `linear` under its cap, or as they are."""
        return logits if self.soft_cap is None else self.soft_cap * torch.tanh(logits / self.soft_cap)

    def slope(self, logits: Tensor) -> Tensor | None:
        """Return how much capped logits `[..., V]` move with the uncapped ones; None without a cap, where it is 1."""
        return None if self.soft_cap is None else 1 - (logits / self.soft_cap) ** 2


@dataclass(frozen=True)
class HeadForm:
    """What a model does to its final state beside the matrix of its head.

    Args: before: factor of the state that the head's first module reads (T5: D ** -0.5); after: factor of what its
        matrix gives (Cohere, Granite); soft_cap: as in `Head`.
    """

    before: float
    after: float
    soft_cap: float | None

    @property
    def scale(self) -> float:
        """Both factors: `scale` of the head."""
        return self.before * self.after


def measure_form(
    final: Tensor,
    numbers: dict[str, float],
    width: int,
    run: Callable[[float], tuple[Tensor, Tensor, Tensor]],
    name: str,
    most: float,
) -> HeadForm:
    """Return the form of a head, measured on one pass.

    Args: final: final states `[B, T, D]`; numbers: of the config, by name; width: D; run: loudness k -> what the head
        read before it was multiplied by k, what its matrix gave of that, and the model's logits without a bias that
        stands apart; name: of the class; most: that results may differ, relative.
    Raises: DataError: the head reads something other than a multiple of the final state, or its logits are no scaled
        or softly capped product.
    """
    read, product, _ = run(1.0)
    if read.shape != final.shape:
        raise DataError(
            f"backbone: {name} is refused, its head reads {tuple(read.shape)} and its final state is "
            f"{tuple(final.shape)}; abi knows no such head"
        )
    before, miss = _factor(final, read)
    if not miss <= most:
        raise DataError(
            f"backbone: {name} is refused, its head reads no multiple of the final state (it misses by {miss:.1e}, "
            "relative); abi knows no such head"
        )
    loud = LOUD / max(float(product.abs().max()), 1e-6)
    _, product, logits = run(loud)
    if product.shape != logits.shape:
        raise DataError(
            f"backbone: {name} is refused, its logits are {tuple(logits.shape)} and its head gives "
            f"{tuple(product.shape)}; abi knows no such head"
        )
    known = {1.0, *(v for n in numbers.values() if n for v in (n, 1 / n))}
    caps = [value for key, value in numbers.items() if CAP_NAMES.search(key) and value > 0]
    for cap in (None, *caps):
        straight = logits if cap is None else cap * torch.atanh((logits.double() / cap).clamp(-0.95, 0.95))
        inside = torch.ones_like(logits, dtype=torch.bool) if cap is None else logits.abs() < 0.9 * cap
        if not bool(inside.any()):
            continue
        after = _snapped(_factor(product[inside], straight[inside])[0], known)
        form = HeadForm(_snapped(before, {1.0, width**-0.5}), after, cap)
        told = Head(product, after, None, cap).capped(product * after)
        if float((told - logits).abs().max() / logits.abs().max().clamp_min(1e-9)) <= most:
            return form
    raise DataError(
        f"backbone: {name} is refused, its logits are no scaled or softly capped product of its head; "
        "abi knows no such head"
    )


def _factor(of: Tensor, found: Tensor) -> tuple[float, float]:
    """Return the least-squares f of `found = f * of`, and how much of `found` it misses (relative)."""
    x, y = of.double().flatten(), found.double().flatten()
    factor = float((x @ y) / (x @ x).clamp_min(1e-30))
    return factor, float((y - factor * x).abs().max() / y.abs().max().clamp_min(1e-30))


def _snapped(value: float, known: set[float]) -> float:
    """Return the nearest known number where a measured one is it but for rounding, else the measured one."""
    nearest = min(known, key=lambda number: abs(number - value))
    return nearest if abs(nearest - value) <= SAME * abs(value) else value


def config_numbers(config: Any) -> dict[str, float]:
    """Return the numbers that stand in a config, by name; truth values are none."""
    return {
        key: float(value)
        for key, value in config.to_dict().items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def blocks_of(decoder: nn.Module, depth: int) -> nn.ModuleList | None:
    """Return the list of a decoder's blocks, the first of which reads tap 0; None where it keeps them in no list."""
    lists = (part for part in decoder.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    return next(lists, None)


def in_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that does nothing in the passes of other threads."""
    own = threading.get_ident()
    return lambda *given: hook(*given) if threading.get_ident() == own else None


@contextmanager
def reading(modules: Mapping[Any, nn.Module]) -> Iterator[dict[Any, Tensor]]:
    """Yield a dict that is filled with what some modules read, by their keys, while they run in this thread."""
    read: dict[Any, Tensor] = {}

    def note(key: Any) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            read[key] = first_input(args, kwargs)

        return in_this_thread(hook)

    handles = [module.register_forward_pre_hook(note(key), with_kwargs=True) for key, module in modules.items()]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the states a module was called with: its first argument, or `hidden_states`."""
    found: Tensor = args[0] if args else kwargs["hidden_states"]
    return found
