"""Memory that a process has freed: a job keeps it, so that the next step takes it again without asking the system.

The GNU C library returns every block above 32 MB to the system when it is freed, and each new one is cleared page by
page. A logit of a step at a vocabulary of 262,144 is such a block: half of a step's CPU time was the system's
(`benchmarks/heap.csv`). Figures do not change.
"""

import ctypes
import platform
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of `mallopt(3)`."""
LARGEST, MAPPINGS = 1 << 25, 1 << 16
"""Bytes from which glibc, once it has seen large blocks freed, asks the system for each by itself; most such blocks."""
KEPT = 1 << 30
"""Bytes of free memory that are kept at most."""


def keep_freed() -> bool:
    """Let this process keep the memory it frees; return whether its C library can be told so."""
    return _told({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT})


def return_freed() -> bool:
    """Let this process return what it frees as a process does that was told nothing; return whether it can be told so.

    Told nothing, glibc learns its limits from the blocks that are freed (mallopt(3)), so the same loop takes twice as
    long or not by what ran before it. These are the limits it ends with.
    """
    give_back()  # else what was kept so far is taken again
    return _told({M_MMAP_MAX: MAPPINGS, M_MMAP_THRESHOLD: LARGEST, M_TRIM_THRESHOLD: 2 * LARGEST})


def _told(settings: Mapping[int, int]) -> bool:
    libc = _glibc()
    return libc is not None and all(libc.mallopt(what, value) for what, value in settings.items())


def give_back() -> None:
    """Give what was freed back to the system, so that what is taken again is seen; nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the GNU C library that this process runs on, None on another."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
