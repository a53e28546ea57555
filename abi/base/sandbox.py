"""Foreign Python, for example what a model wrote, called in a process of its own that can do nothing but compute.

What holds it:

- the kernel's filter of system calls (seccomp, `sandboxed.CALLS`): no file, socket, process, signal or trace at all;
- limits of the kernel: seconds of CPU, address space, no byte to any file;
- the caller: seconds on the wall, bytes of the answer (the process is killed), an empty folder, an environment that
  holds the seed of hashes alone, no descriptor but request and answer;
- what is expected is compared by the caller and never enters the process, so code cannot pass by claiming that it did.

What is not held: faults of the kernel in the calls that are left, and what can be inferred from time.
"""

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from abi.base import sandboxed
from abi.base.errors import DataError

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
PROGRAM = str(Path(sandboxed.__file__).resolve())
"""Imported for its path, so that the digest of a job covers it."""
NOT_CONFINED = 3
CONFINED = b"+"
"""What the process writes once it is confined: until then no foreign code runs, so none can claim that it is not."""
LARGEST = 1e300
"""Whole numbers above it may be no fraction."""


@dataclass(frozen=True)
class Limits:
    """What a call may take."""

    cpu_s: int = 1
    wall_s: float = 20.0
    """far above the CPU time, so that a busy machine changes no outcome"""
    memory_bytes: int = 256 * 2**20
    answer_bytes: int = 16384


@dataclass(frozen=True)
class Answer:
    """How a run ended: `values` of all calls, or none where it failed or went over a limit."""

    ended: Literal["answered", "failed", "over time", "too long an answer"]
    values: list[Value] | None = None


def call(source: str, name: str, calls: Sequence[Sequence[Value]], limits: Limits | None = None) -> Answer:
    """Return what a function of some source gives for each list of arguments, called in the sandbox.

    Values are those of JSON: a tuple comes back as a list; a value that JSON has not counts as a failure.
    Raises: DataError: this machine cannot confine a process, so nothing was run.
    """
    limits = limits or Limits()
    request = json.dumps([source, name, calls, limits.cpu_s, limits.memory_bytes]).encode()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as asked:
        asked.write(request)
        asked.seek(0)
        # -P -s -S and no other variable: -I without its -E, since the order of sets is to be the same in every run.
        with subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", PROGRAM],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            try:
                told = _read(process.stdout.fileno(), limits)
            finally:
                process.kill()
    if isinstance(told, Answer):
        return told
    if told.startswith(CONFINED):
        return _values(told.removeprefix(CONFINED), len(calls))
    if process.returncode == NOT_CONFINED:
        raise DataError("sandbox: this machine confines no process (Linux with seccomp does, on x86-64 and ARM64)")
    return Answer("failed")


def _read(source: int, limits: Limits) -> bytes | Answer:
    """Return all that a process answers, or why that is nothing."""
    deadline, told = time.monotonic() + limits.wall_s, b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([source], [], [], left)[0]:
            break
        part = os.read(source, 4096)
        if not part:
            return told
        told += part
        if len(told) > limits.answer_bytes + len(CONFINED):
            return Answer("too long an answer")
    return Answer("over time")


def _values(told: bytes, count: int) -> Answer:
    """Return the values of an answer, which may be anything."""
    try:
        values = json.loads(told)
    except (ValueError, RecursionError):
        return Answer("failed")
    return Answer("answered", values) if isinstance(values, list) and len(values) == count else Answer("failed")


def same(value: Value, expected: Value) -> bool:
    """Return whether a value is what is expected: true and 1 differ, 2 and 2.0 do not, fractions to 9 digits."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, (int, float)) and isinstance(expected, (int, float)):
        near = isinstance(value, float) or isinstance(expected, float)
        near = near and abs(value) < LARGEST and math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)
        return near or value == expected
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    return type(value) is type(expected) and value == expected
