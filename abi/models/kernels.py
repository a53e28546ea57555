"""Loops over the logits of a position on a CPU, compiled by numba: a row stays in the cache while it is summed.

Torch writes a whole matrix for each exponential, product and sum. What is here gives what the torch code beside each
caller gives, within rounding (`tests/unit/test_kernels.py`); that code is for cards and for gradients, and what this
one is checked against. Rows do not depend on each other: no figure depends on the number of threads.

What numba compiled is kept in `__pycache__`, or below the home where that is read-only; where neither can be written or
what is there is damaged, each process compiles anew.
"""

import math
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Row = NDArray[np.float32]
"""A row `[V]` of logits, or a figure per row `[N]`."""
Rows = NDArray[np.float32]
Ids = NDArray[np.int64]
Kernel = Callable[..., None]

LOG2_E = math.log2(math.e)
LEAST = -62.0
"""Power of 2 that an exponential is at least: less adds nothing to a sum, and its square would be no normal number, for
each of which a CPU takes ten times as long."""
LANES = 64
"""Numbers of a row that are compared side by side: of one comparison after the other LLVM makes no vectors."""
SUMMED = 4096
"""Numbers that are added in fp32; these sums are added in fp64."""
SHARED = 2**16
"""Logits from which threads share the rows, where torch has several."""

# Sums in any order, a product and a sum in one instruction; NaN and infinities keep their meaning.
OPTIONS: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
inlined = njit(inline="always", **OPTIONS)


def compiled(function: Kernel) -> Kernel:
    """Return a function as numba compiles it when it is first called, or reads it from its cache."""
    try:
        kernel: Kernel = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder can be written
        kernel = njit(**OPTIONS)(function)
    return kernel


@inlined
def exp2(x: np.float32) -> np.float32:
    """Return 2 ** x for `LEAST` <= x <= 0; NaN of NaN. Source: the coefficients of Cephes (`exp2f.c`)."""
    whole = np.floor(x + np.float32(0.5))
    rest = x - whole
    power = np.float32(1.535336188319500e-4)
    power = power * rest + np.float32(1.339887440266574e-3)
    power = power * rest + np.float32(9.618437357674640e-3)
    power = power * rest + np.float32(5.550332471162809e-2)
    power = power * rest + np.float32(2.402264791363012e-1)
    power = power * rest + np.float32(6.931472028550421e-1)
    power = power * rest + np.float32(1.0)
    return power * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@inlined
def log2(x: np.float32) -> np.float32:
    """Return the logarithm to base 2 of a normal number above 0. Source: the coefficients of Cephes (`logf.c`)."""
    bits = np.float32(x).view(np.int32)
    exponent = np.float32(np.int32((bits >> np.int32(23)) - np.int32(127)))
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    large = mantissa > np.float32(math.sqrt(2))
    rest = (mantissa * np.float32(0.5) if large else mantissa) - np.float32(1.0)
    exponent = exponent + np.float32(1.0) if large else exponent
    square = rest * rest
    series = np.float32(7.0376836292e-2)
    series = series * rest + np.float32(-1.1514610310e-1)
    series = series * rest + np.float32(1.1676998740e-1)
    series = series * rest + np.float32(-1.2420140846e-1)
    series = series * rest + np.float32(1.4249322787e-1)
    series = series * rest + np.float32(-1.6668057665e-1)
    series = series * rest + np.float32(2.0000714765e-1)
    series = series * rest + np.float32(-2.4999993993e-1)
    series = series * rest + np.float32(3.3333331174e-1)
    return (rest * square * series - np.float32(0.5) * square + rest) * np.float32(LOG2_E) + exponent


@inlined
def largest(row: Row, lanes: Row) -> np.float32:
    """Return the largest number of a row. Args: lanes: room for `LANES` numbers."""
    n = len(row)
    lanes[:] = row[0]
    for start in range(0, n - n % LANES, LANES):
        part = row[start : start + LANES]
        for k in range(LANES):
            lanes[k] = part[k] if part[k] > lanes[k] else lanes[k]
    most = row[0]
    for k in range(LANES):
        most = lanes[k] if lanes[k] > most else most
    for value in row[n - n % LANES :]:
        most = value if value > most else most
    return most


@inlined
def put(value: np.float32, token: int, kept: Row, ids: Ids, held: int) -> int:
    """Put a number into its place among the largest, after its equals; return how many of them are held."""
    k = len(kept)
    if held == k and value <= kept[k - 1]:
        return held
    at = min(held, k - 1)
    while at > 0 and kept[at - 1] < value:
        kept[at], ids[at] = kept[at - 1], ids[at - 1]
        at -= 1
    kept[at], ids[at] = value, token
    return min(held + 1, k)


@inlined
def below(x: np.float32, peak: np.float32, scale: np.float32) -> np.float32:
    """Return by how many powers of 2 a logit lies below the largest one, `LEAST` at least; NaN of NaN."""
    x = (x - peak) * scale
    return np.float32(LEAST) if x < np.float32(LEAST) else x


@compiled
def _totals(logits: Rows, peaks: Row, totals: Row) -> None:
    lanes, scale = np.empty(LANES, np.float32), np.float32(LOG2_E)
    for i in range(len(logits)):
        row = logits[i]
        peak, total = largest(row, lanes), np.float64(0)
        for start in range(0, len(row), SUMMED):
            part, own = row[start : start + SUMMED], np.float32(0)
            for j in range(len(part)):
                own += exp2(below(part[j], peak, scale))
            total += own
        peaks[i], totals[i] = peak, np.log(total)


@compiled
def _softened(logits: Rows, scale: np.float32, peaks: Row, totals: Row, means: Row) -> None:
    lanes = np.empty(LANES, np.float32)
    for i in range(len(logits)):
        row = logits[i]
        peak, total, mean = largest(row, lanes), np.float64(0), np.float64(0)
        for start in range(0, len(row), SUMMED):
            part, own, own_mean = row[start : start + SUMMED], np.float32(0), np.float32(0)
            for j in range(len(part)):
                x = below(part[j], peak, scale)
                e = exp2(x)
                part[j] = e
                own += e
                own_mean += e * x
            total += own
            mean += own_mean
        share = np.float32(1 / total)
        for j in range(len(row)):
            row[j] *= share
        peaks[i], totals[i], means[i] = peak, np.log(total), mean / total


@compiled
def _entropies_of_sums(p: Rows, q: Rows, found: Row) -> None:
    for i in range(len(p)):
        total = np.float64(0)
        for start in range(0, p.shape[1], SUMMED):
            one, other, own = p[i, start : start + SUMMED], q[i, start : start + SUMMED], np.float32(0)
            for j in range(len(one)):
                twice = one[j] + other[j]
                own += twice * log2(twice)
            total += own
        found[i] = total


@compiled
def _learned(logits: Rows, targets: Ids, found: Row) -> None:
    lanes, scale = np.empty(LANES, np.float32), np.float32(LOG2_E)
    for i in range(len(logits)):
        row, target = logits[i], targets[i]
        peak, total, asked = largest(row, lanes), np.float64(0), row[target]
        for start in range(0, len(row), SUMMED):
            part, own = row[start : start + SUMMED], np.float32(0)
            for j in range(len(part)):
                e = exp2(below(part[j], peak, scale))
                part[j] = e
                own += e
            total += own
        found[i] = np.log(total) - (asked - peak)
        share = np.float32(1 / total)
        for j in range(len(row)):
            row[j] *= share
        row[target] -= np.float32(1)


@compiled
def _distilled(
    logits: Rows, targets: Ids, p: Rows, known: Row, temperature: np.float32, weight: np.float32, found: Row
) -> None:
    lanes, scale = np.empty(LANES, np.float32), np.float32(LOG2_E) / temperature
    squared, rest = temperature == np.float32(2), np.float32(1) - weight
    for i in range(len(logits)):
        row, target = logits[i], targets[i]
        peak, asked = largest(row, lanes), row[target]
        total, plain, met = np.float64(0), np.float64(0), np.float64(0)
        for start in range(0, len(row), SUMMED):
            part, taught = row[start : start + SUMMED], p[i, start : start + SUMMED]
            own, own_plain, own_met = np.float32(0), np.float32(0), np.float32(0)
            for j in range(len(part)):
                x = below(part[j], peak, scale)
                e = exp2(x)
                part[j] = e
                own += e
                own_plain += e * e if squared else e
                own_met += taught[j] * x
            total += own
            plain += own_plain
            met += own_met
        kl = known[i] - met / LOG2_E + np.log(total)
        found[i] = weight * temperature * temperature * kl + rest * (np.log(plain) - (asked - peak))
        slope, of_ce = weight * temperature, np.float32(rest / plain)
        of_kl, taught = np.float32(slope / total), p[i]
        for j in range(len(row)):
            e = row[j]
            row[j] = of_kl * e + of_ce * (e * e if squared else e) - slope * taught[j]
        row[target] -= rest


@compiled
def _top_ids(logits: Rows, k: int, found: Ids) -> None:
    n = logits.shape[1]
    whole, lanes, kept = n - n % LANES, np.empty(LANES, np.float32), np.empty(k, np.float32)
    for i in range(len(logits)):
        row, ids = logits[i], found[i]
        lanes[:] = row[:LANES]
        for start in range(LANES, whole, LANES):
            part = row[start : start + LANES]
            for j in range(LANES):
                lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
        for j in range(LANES):
            put(lanes[j], j, kept, ids, min(j, k))
        # At least k numbers reach the k-th largest of these maxima, and hardly more do.
        reached, held = kept[k - 1], 0
        for start in range(0, whole, LANES):
            part, there = row[start : start + LANES], np.int32(0)
            for j in range(LANES):
                there += np.int32(part[j] >= reached)
            if there > 0:
                for j in range(start, start + LANES):
                    held = put(row[j], j, kept, ids, held) if row[j] >= reached else held
        for j in range(whole, n):
            held = put(row[j], j, kept, ids, held) if row[j] >= reached else held


# what torch code calls


class Softened(NamedTuple):
    """Distributions of logits with what is known of each row, in nats of the tempered logits less their largest.

    Args: p: `[N, V]`; peak: the largest logit, as it was, `[N]`; log_total: of the summed exponentials, `[N]`; mean:
        under p, `[N]`.
    """

    p: Tensor
    peak: Tensor
    log_total: Tensor
    mean: Tensor


def take(*matrices: Tensor) -> bool:
    """Return whether the functions below take matrices `[N, V]`: on a CPU, fp32, of one shape, row after row, and not
    where a gradient is to flow through them.
    """
    return all(
        x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 2 and x.shape[1] > 0
        and x.shape == matrices[0].shape and x.is_contiguous() and not (x.requires_grad and torch.is_grad_enabled())
        for x in matrices
    )  # fmt: skip


def log_totals(logits: Tensor) -> Tensor:
    """Return the logarithm `[N]` of the summed exponentials of logits `[N, V]`."""
    peak, log_total = found = [torch.empty(len(logits)) for _ in range(2)]
    _run(_totals, [logits], found=found)
    return log_total + peak


def softened(logits: Tensor, *, temperature: float = 1.0) -> Softened:
    """Return the distributions of logits `[N, V]` at a temperature, which take the place of the logits; p is 2e-19 of
    the largest at least.
    """
    peak, log_total, mean = found = [torch.empty(len(logits)) for _ in range(3)]
    _run(_softened, [logits], np.float32(LOG2_E / temperature), found=found)
    return Softened(logits, peak, log_total, mean / LOG2_E)


def entropies_of_sums(p: Tensor, q: Tensor) -> Tensor:
    """Return per row `[N]` the sum of `(p + q) log2(p + q)` of two matrices `[N, V]` of numbers above 0."""
    return _run(_entropies_of_sums, [p, q])


def cross_entropies(logits: Tensor, targets: Tensor, *, learns: bool) -> Tensor:
    """Return the loss `[N]` in nats of targets `[N]`; if it `learns`, the logits `[N, V]` become their gradient.

    Raises: IndexError: a target that is no token.
    """
    _check(targets, logits)
    if learns:
        return _run(_learned, [logits, targets])
    peak, log_total = found = [torch.empty(len(logits)) for _ in range(2)]
    _run(_totals, [logits], found=found)
    return log_total - (logits.gather(1, targets.long().unsqueeze(1)).squeeze(1) - peak)


def distilled(
    logits: Tensor, targets: Tensor, p: Tensor, known: Tensor, *, temperature: float, weight: float
) -> Tensor:
    """Return `(1 - w) CE + w T^2 KL` `[N]` in nats; the logits `[N, V]` become their gradient.

    Args: p: what a teacher says at the temperature, `[N, V]`; known: its `sum(p log p)`, `[N]`; temperature: 1 or 2,
        where the plain exponentials are powers of the tempered ones.
    Raises: IndexError: a target that is no token.
    """
    _check(targets, logits)
    return _run(_distilled, [logits, targets, p, known], np.float32(temperature), np.float32(weight))


def top_ids(logits: Tensor, k: int) -> Tensor:
    """Return the ids `[N, k]` of the k largest of `LANES` logits or more, ties by the smaller id; k is 64 at most."""
    found = torch.empty(len(logits), k, dtype=torch.long)
    _run(_top_ids, [logits], k, found=[found])
    return found


def load() -> None:
    """Read or compile every kernel now, so that processes forked from this one need not."""
    logits, targets = torch.zeros(1, LANES), torch.zeros(1, dtype=torch.long)
    taught = softened(logits.clone())
    entropies_of_sums(taught.p, taught.p)
    for learns in (False, True):
        cross_entropies(logits.clone(), targets, learns=learns)
    distilled(logits.clone(), targets, taught.p, taught.mean, temperature=2.0, weight=0.5)
    top_ids(logits, 1)


def _check(targets: Tensor, logits: Tensor) -> None:
    """Raise IndexError where a target is no column of the logits: a kernel would read or write beyond them."""
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
        raise IndexError(f"kernels: targets {int(targets.min())} to {int(targets.max())} of {logits.shape[1]} logits")


def _run(kernel: Kernel, given: Sequence[Tensor], *numbers: object, found: Sequence[Tensor] | None = None) -> Tensor:
    """Run a kernel on the rows of tensors, on as many threads as torch has where that pays; return the first result."""
    rows = len(given[0])
    found = [torch.empty(rows)] if found is None else found
    arrays, results = ([tensor.detach().numpy() for tensor in tensors] for tensors in (given, found))
    threads = torch.get_num_threads() if given[0].numel() >= SHARED else 1
    if threads == 1:
        _call(kernel, *arrays, *numbers, *results)
        return found[0]

    def of(part: slice) -> None:
        _call(kernel, *(array[part] for array in arrays), *numbers, *(result[part] for result in results))

    ends = [rows * i // threads for i in range(threads + 1)]
    list(_pool(threads).map(of, (slice(start, end) for start, end in pairwise(ends) if start < end)))
    return found[0]


def _call(kernel: Kernel, *given: object) -> None:
    """Run a kernel; one whose kept code is damaged or cannot be written is compiled for this process alone."""
    try:
        _uncached.get(kernel, kernel)(*given)
    except (EOFError, OSError, pickle.UnpicklingError):  # before its first line: a kernel itself raises none of them
        _uncached[kernel] = njit(**OPTIONS)(kernel.py_func)  # type: ignore[attr-defined]
        _uncached[kernel](*given)


_uncached: dict[Kernel, Kernel] = {}


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


os.register_at_fork(after_in_child=_pool.cache_clear)  # the threads of a pool do not come along
