"""Memory that a process has freed: a job keeps it, so that the next step takes it again without asking the system.

The GNU C library returns every block above 32 MB to the system when it is freed, and each new one is cleared page by
page. A logit of a step at a vocabulary of 262,144 is such a block: half of a step's CPU time was the system's
(`benchmarks/heap.csv`). Figures do not change.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of `mallopt(3)`."""
KEPT = 1 << 30
"""Bytes of free memory that are kept at most."""


def keep_freed() -> bool:
    """Let this process keep the memory it frees; return whether its C library can be told so."""
    libc = _glibc()
    settings = (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT)
    return libc is not None and all(libc.mallopt(what, value) for what, value in settings)


def give_back() -> None:
    """Give what was freed back to the system, so that what is taken again is seen; nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the GNU C library that this process runs on, None on another."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
