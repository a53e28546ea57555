"""How everything here is timed: CPU seconds of ways that take turns in one process, the machine's own rate beside them.

A ratio of medians of turns is little moved by what else the machine does, since that hits all ways alike.
"""

import gc
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from abi.base import heap
from abi.models import products

MIB = 1 << 20
SIDE = 1024
"""Rows and columns of the matrices whose product says how fast this machine multiplies."""
GEMM_FLOP = 2 * SIDE**3


def seconds_of(run: Callable[[], object]) -> float:
    """Return the CPU seconds that this process takes for something."""
    began = time.process_time()
    run()
    return time.process_time() - began


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Return way -> CPU seconds of every round, all ways in every round; the first `warm` rounds are not counted.

    Args: before: way -> what is called before each of its turns and is not counted either.
    """
    first = before or {}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for at in range(warm + rounds):
        for name, run in ways.items():
            if name in first:
                first[name]()
            took = seconds_of(run)
            if at >= warm:
                spent[name].append(took)
    return spent


def medians(spent: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return way -> median seconds."""
    return {name: statistics.median(times) for name, times in spent.items()}


def product() -> Callable[[], object]:
    """Return what multiplies two square matrices in fp32, by the library that the engine uses: `GEMM_FLOP` of work."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    return lambda: products.linear(a, b)


def of_command(
    command: Sequence[str], folder: Path, rounds: int, environment: Mapping[str, str] | None = None
) -> float:
    """Return the median CPU seconds of a command and all its children, in a folder; it must end with 0.

    The first run, which may compile, is not counted.
    """
    spent = []
    for _ in range(1 + rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, env={**os.environ, **(environment or {})}, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(spent[1:])


def peak_mib(run: Callable[[], object]) -> float | None:
    """Return how far the memory of this process rises above where it stood, in MiB; None where the system cannot say.

    Linux alone forgets a process's greatest memory when asked (proc(5), `clear_refs`).
    """
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    gc.collect()
    heap.give_back()
    try:
        forget.write_text("5")
    except OSError:
        return None
    before = _status_kb(status, "VmRSS")
    run()
    return (_status_kb(status, "VmHWM") - before) / 1024


def _status_kb(path: Path, name: str) -> int:
    [line] = [line for line in path.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])
