"""A job keeps the memory it frees."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from abi.base.heap import keep_freed, return_freed
for told in sys.argv[1:]:
    assert {"kept": keep_freed, "returned": return_freed}[told]()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * 64_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(3)][-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told so")
def test_a_block_of_64_mb_is_cleared_once_where_freed_memory_is_kept():
    ways = ("", "kept", "kept returned")
    again = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, *way.split()], capture_output=True, check=True, text=True
            ).stdout
        )
        for way in ways
    }
    assert again["kept"] < 100
    assert again[""] > 1000
    assert again["kept returned"] > 1000
