"""Products of fp32 matrices by the libraries that torch contains: CPU microseconds of forward pass and both gradients.

python -m benchmarks.products   -> CSV on stdout, some twenty seconds on one thread

Shapes are those of arms, modules and heads; both ways take turns in one process.
"""

import csv
import sys
from collections.abc import Callable

import torch
from torch.nn.functional import linear

from abi.base import heap
from abi.models import products
from benchmarks.timing import in_turns, medians

SHAPES = {
    "an arm's small layer": (32, 64, 64),
    "an arm's projection": (128, 144, 64),
    "an arm's domain net": (128, 64, 256),
    "a wide module's domain net": (256, 256, 1024),
    "a backbone's MLP": (1024, 128, 384),
    "a head of 1,280 tokens": (128, 144, 1280),
    "a head of 49,152 tokens": (64, 576, 49152),
    "a head of 49,152 tokens, one position": (1, 576, 49152),
    "a head of 262,144 tokens": (64, 640, 262144),
    "a narrow readout of 262,144 tokens": (64, 64, 262144),
}
"""What is multiplied: `[rows, in]` by a weight `[out, in]`."""

AT_ONCE = 2**24
"""Multiplications that are timed at once at least."""


def main() -> None:
    """Print a row per shape and product: both medians in microseconds, and how many times faster oneDNN is."""
    torch.set_num_threads(1)
    heap.keep_freed()
    write = csv.writer(sys.stdout, lineterminator="\n")
    write.writerow(["what", "rows", "in", "out", "product", "torch_us", "onednn_us", "ratio"])
    for what, (rows, inner, outer) in SHAPES.items():
        x, weight, grad = torch.randn(rows, inner), torch.randn(outer, inner), torch.randn(rows, outer)
        ways = {"forward": (x, weight), "gradient of the input": (grad, weight.T)}
        if outer < 2**15:  # larger ones are heads, which are frozen
            ways["gradient of the weight"] = (grad.T, x.T)
        times = max(1, AT_ONCE // (rows * inner * outer))
        for product, (left, right) in ways.items():
            both = {
                "torch": repeated(times, lambda left=left, right=right: linear(left, right)),
                "onednn": repeated(times, lambda left=left, right=right: products._multiplied(left, right, None)),
            }
            took = medians(in_turns(both, 5))
            us = [took[name] / times * 1e6 for name in both]
            write.writerow(
                [what, rows, inner, outer, product, *(round(value, 1) for value in us), round(us[0] / us[1], 2)]
            )


def repeated(times: int, run: Callable[[], object]) -> Callable[[], object]:
    """Return what runs something so many times."""
    return lambda: [run() for _ in range(times)]


if __name__ == "__main__":
    main()
