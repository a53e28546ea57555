"""Memory that a job frees stays with it: the next step takes it again, without asking the system.

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
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(what, value) for what, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT)))
