"""A job keeps the memory it frees."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from abi.base.heap import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * 64_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(3)][-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told so")
def test_a_block_of_64_mb_is_cleared_once():
    again = {
        way: int(subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, check=True, text=True).stdout)
        for way in ("returned", "kept")
    }
    assert again["returned"] > 1000
    assert again["kept"] < 100
