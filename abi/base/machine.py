"""What this machine has: its free memory, what it says of itself, and how fast it multiplies matrices."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field

from abi.base.typed import Hardware, Positive, Typed

GB = 10**9
"""Bytes, of memory and of disks."""
SIDE = 768
"""Rows and columns of the matrices that are multiplied."""

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux tells the limits of groups of processes (of a container, of a job of a cluster), and its own of each."""

Rate = Annotated[float, Field(gt=0)]


class Machine(Typed):
    """The machine of a measurement, as it was then."""

    hardware: Hardware
    threads: Positive
    load: float | None
    """Processes that wanted to run, over the last minute; None where the system keeps no count."""
    gflops: Rate
    """10^9 fp32 operations per CPU second of a large matrix product, one thread."""


def free_memory() -> int:
    """Return the bytes of memory that this process can still take: of the machine, or of the limit it runs under."""
    return min([int(psutil.virtual_memory().available), *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Yield what is left below the limit of every group of processes that this one is in, outer ones too."""
    try:
        lines = OWN.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        root = GROUPS if kinds == "" else GROUPS / "memory" if "memory" in kinds.split(",") else None
        if root is None:
            continue
        inner = root / place.strip("/")
        for group in (inner, *(outer for outer in inner.parents if outer.is_relative_to(root))):
            limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
            used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
            if limit is not None and used is not None:
                yield max(0, limit - used + _dropped(group))


def _number(file: Path) -> int | None:
    """Return the number that a file holds, None where there is none (`max`: no limit)."""
    try:
        told = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(told) if told.isdecimal() else None


def _dropped(group: Path) -> int:
    """Return the bytes of a group that hold pages of files, which the kernel drops where memory is asked for."""
    try:
        told = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
    return int(told.get("total_inactive_file", told.get("inactive_file", 0)))


def load() -> float | None:
    """Return how many processes wanted to run over the last minute, None where the system keeps no count."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def gemm_gflops(seconds: float = 1.0) -> float:
    """Return 10^9 fp32 operations per CPU second of large matrix products: the best of what fits in some seconds.

    In a process of its own with one thread, as jobs have: several would wait for each other, and that is CPU time too.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = f"from abi.base.machine import products_rate; print(products_rate({seconds!r}))"
    told = subprocess.run(
        [sys.executable, "-c", run],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **one},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return float(told.stdout)


def products_rate(seconds: float) -> float:
    """Return the rate of `gemm_gflops` in this process, with the threads that numpy has here.

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
