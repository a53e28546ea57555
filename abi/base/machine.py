"""How fast this machine is: what it says of itself, and how fast it multiplies matrices."""

import os
import time
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from abi.base.typed import Hardware, Positive, Typed

SIDE = 768
"""Rows and columns of the matrices that are multiplied."""

Rate = Annotated[float, Field(gt=0)]


class Machine(Typed):
    """The machine of a measurement, as it was then."""

    hardware: Hardware
    threads: Positive
    load: float | None
    """Processes that wanted to run, over the last minute; None where the system keeps no count."""
    gflops: Rate
    """10^9 fp32 operations per CPU second of a large matrix product, one thread."""


def load() -> float | None:
    """Return how many processes wanted to run over the last minute, None where the system keeps no count."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def gemm_gflops(seconds: float = 1.0) -> float:
    """Return 10^9 fp32 operations per CPU second of large matrix products: the best of what fits in some seconds.

    By numpy, since torch takes seconds to load. CPU time, and the best, since other processes make a product slower
    (they take the cache) and none makes it faster.
    """
    import numpy as np

    a = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    return _rate(lambda: a @ a, 2 * SIDE**3, seconds)


def _rate(run: Callable[[], object], flop: int, seconds: float) -> float:
    run()  # the first one loads the library
    spent: list[float] = []
    began = time.perf_counter()
    while not spent or time.perf_counter() - began < seconds:
        before = time.process_time()
        run()
        spent.append(time.process_time() - before)
    return flop / max(min(spent), 1e-9) / 1e9
