"""How much memory a part of a call takes at most, beside what was in use before it."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from abi.base.heap import give_back

EVERY_S = 0.01
"""Between two looks at the memory of the process."""
MB = 2**20


@dataclass
class Memory:
    """The most that was taken, in MB; None until the block has ended."""

    most_mb: float | None = None


@contextmanager
def metered() -> Iterator[Memory]:
    """Run a block and note the most memory that it took: of the process, without files that are mapped; or of the card.

    On a CPU it is looked at a hundred times a second, so that a shorter peak may be missed.
    """
    found, ended = Memory(), threading.Event()
    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)
    gc.collect()
    give_back()
    for card in cards:
        torch.cuda.reset_peak_memory_stats(card)
    before, peak = [_own(), *map(torch.cuda.memory_allocated, cards)], [0.0]

    def look() -> None:
        while not ended.wait(EVERY_S):
            peak[0] = max(peak[0], _own())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()
        after = [max(peak[0], _own()), *map(torch.cuda.max_memory_allocated, cards)]
        found.most_mb = round(sum(max(0.0, last - first) for first, last in zip(before, after, strict=True)) / MB, 1)


def _own() -> float:
    """Return the bytes of memory of this process that are in no file."""
    about = psutil.Process().memory_info()
    return float(about.rss - getattr(about, "shared", 0))
