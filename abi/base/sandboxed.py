"""What runs inside the sandbox (`base/sandbox.py`): it gives up every right, then calls a function of foreign source.

Started by its path, never imported by abi, and imports nothing of it. It reads a request as JSON from standard input,
`[source, name, [arguments, ...], CPU seconds, bytes of memory]`, writes `+` once it is confined, and answers
`[value, ...]` as JSON.
"""

import bisect  # noqa: F401 (what code of a task may import is loaded before files are out of reach)
import collections  # noqa: F401
import ctypes
import functools  # noqa: F401
import heapq  # noqa: F401
import io
import itertools  # noqa: F401
import json
import math  # noqa: F401
import operator  # noqa: F401
import os
import platform
import random
import re  # noqa: F401
import resource
import string  # noqa: F401
import sys
import typing  # noqa: F401

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER, SIGKILL = 1, 38, 22, 2, 9
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
"""What the filter answers: go on; fail with EPERM; end the process."""
LOAD, SAME, RETURN = 0x20, 0x15, 0x06
"""Instructions of a filter (linux/bpf_common.h): load a word, jump where equal, return."""
ARCH_AT, NUMBER_AT = 4, 0
"""Where `struct seccomp_data` holds the architecture and the number of the call."""
CALLS = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 35, 39, 60, 96, 131, 201, 202, 219,
                            228, 229, 230, 231, 318)),
    "aarch64": (0xC00000B7, (57, 62, 63, 64, 80, 93, 94, 98, 101, 113, 114, 115, 124, 128, 132, 134, 135, 139, 169,
                             172, 214, 215, 216, 222, 226, 233, 278)),
}  # fmt: skip
"""Machine -> its number for the kernel, and the calls that stay: read and write what is open, close, memory, signals to
itself, clocks, random bytes, exit. None opens, connects, starts, signals or traces anything."""


class Step(ctypes.Structure):
    """One instruction of a filter (`struct sock_filter`)."""

    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class Program(ctypes.Structure):
    """A filter (`struct sock_fprog`)."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.POINTER(Step)))


def confine(cpu_s: int, memory: int) -> None:
    """Set the limits, then refuse all system calls but those of `CALLS`; there is no way back.

    Raises: OSError: the kernel has no such filter; KeyError: another machine.
    """
    for what, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (limit, limit))
    machine, allowed = CALLS[platform.machine()]
    n = len(allowed)
    steps = [
        Step(LOAD, 0, 0, ARCH_AT),
        Step(SAME, 1, 0, machine),
        Step(RETURN, 0, 0, KILL),
        Step(LOAD, 0, 0, NUMBER_AT),
    ]
    steps += [Step(SAME, n - i, 0, number) for i, number in enumerate(allowed)]
    steps += [Step(RETURN, 0, 0, REFUSE), Step(RETURN, 0, 0, ALLOW)]
    program = Program(len(steps), (Step * len(steps))(*steps))
    kernel = ctypes.CDLL(None, use_errno=True)
    for asked in ((PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)):
        if kernel.prctl(*asked):
            raise OSError(ctypes.get_errno(), "prctl")
    if kernel.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def main() -> None:
    """Answer one request. Exit status 3: this machine confines nothing, and nothing was run."""
    source, name, calls, cpu_s, memory = json.loads(sys.stdin.buffer.read())
    answer = 1
    try:
        confine(cpu_s, memory)
    except (OSError, KeyError):
        os._exit(3)
    os.write(answer, b"+")  # from here on no exit status says that nothing was confined
    random.seed(0)
    sys.stdout = sys.stderr = io.StringIO()
    scope: dict[str, object] = {"__name__": "task"}
    exec(compile(source, "task", "exec"), scope)
    function = scope[name]
    values = [function(*arguments) for arguments in calls]  # type: ignore[operator]
    os.write(answer, json.dumps(values).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
