"""Where a job computes and in which precision: asked by the scale, decided on the machine that the job runs on.

The device is no part of a job's spec: what is finished on one stays finished on another. The precision of stored states
is, since they are what every figure is made of.
"""

import functools
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from abi.base.errors import ConfigError
from abi.base.typed import Compute

if TYPE_CHECKING:
    import torch

Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
Precision = Literal["auto", "fp32", "bf16"]

CPU = Compute(device="cpu", precision="fp32", deterministic=True)
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""How Linux names what multiplies bf16 numbers; without either a CPU is six times slower in bf16 than in fp32."""

CARD_ROWS, CARD_SHARE, CARD_LOGITS = 8, 8, 2**28
"""On a card: copies of `[rows, V]` numbers that a step forms, the part (an eighth) of the free memory they may take,
and the most logits of one copy."""

log = logging.getLogger("abi")
_now = CPU


def current() -> Compute:
    """Return where this process computes."""
    return _now


def device() -> "torch.device":
    """Return the device that what is read goes to."""
    import torch

    return torch.device(_now.device)


@contextmanager
def using(compute: Compute) -> Iterator[Compute]:
    """Compute there until the end of the block."""
    global _now
    before, _now = _now, compute
    try:
        yield compute
    finally:
        _now = before


def decided(asked: str) -> Compute:
    """Return where a job computes that asks for a device: for `auto` a card where there is one.

    Raises: ConfigError: a card that is not there.
    """
    import torch

    n_cards = 0 if asked == "cpu" else torch.cuda.device_count()
    if asked == "cpu" or (asked == "auto" and n_cards == 0):
        return CPU
    number = int(asked.partition(":")[2] or 0)
    if number >= n_cards:
        raise ConfigError(
            f"device {asked} is asked for and this machine has {n_cards} CUDA cards that torch {torch.__version__} can "
            "use; set `compute.device` of the scale to auto or cpu, or install torch with CUDA"
        )
    # cuBLAS takes its workspace when it is first used: without this its sums may be taken in another order each time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    name = torch.cuda.get_device_name(number)
    return Compute(device=f"cuda:{number}", name=name, precision="fp32", deterministic=True)


def use_precision(asked: Precision) -> "torch.dtype":
    """Return the precision in which frozen backbones run here and their states are stored; what is said of it later.

    `auto` is bf16 where the processor multiplies in it, else fp32. Raises: ConfigError: a card without bf16.
    """
    global _now
    import torch

    able = _has_bf16()
    if asked == "bf16" and not able and _now.device != "cpu":
        raise ConfigError(f"precision bf16 is asked for and {_now.name} has none; set `compute.precision` to fp32")
    chosen: Literal["fp32", "bf16"] = "bf16" if asked == "bf16" or (asked == "auto" and able) else "fp32"
    _now = _now.model_copy(update={"precision": chosen})
    _say(chosen, _now.name or _now.device)
    return torch.bfloat16 if chosen == "bf16" else torch.float32


@functools.cache
def _say(precision: str, where: str) -> None:
    """Log once where backbones run."""
    log.info("frozen backbones run in %s on %s", precision, where)
    if precision == "bf16" and where == "cpu" and not _has_bf16():
        log.warning("bf16 is asked for and this CPU has none: it takes about six times as long as fp32")


def _has_bf16() -> bool:
    if _now.device != "cpu":
        import torch

        with torch.cuda.device(_now.device):  # it is asked of the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(BF16_FLAGS & set(flags.split()))


def rows_at_once(usual: int, n_tokens: int, where: "torch.device") -> int:
    """Return how many positions' logits `[rows, V]` are formed at once: on a CPU the usual number, made for its cache.

    On a card it is a power of two by its free memory, chosen once in a job, so that a little more or less of it changes
    no sum. Args: n_tokens: V.
    """
    return usual if where.type != "cuda" else max(usual, _card_rows(n_tokens, where))


@functools.cache
def _card_rows(n_tokens: int, where: "torch.device") -> int:
    import torch

    free = torch.cuda.mem_get_info(where)[0] // (4 * CARD_ROWS * CARD_SHARE)
    fits = max(1, min(free, CARD_LOGITS) // n_tokens)
    return 1 << (fits.bit_length() - 1)


def finite(tensor: "torch.Tensor") -> bool:
    """Return whether no number of a tensor is NaN or infinite, in one pass without a copy."""
    import torch

    return math.isfinite(float(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())
