"""The sandbox: what code of a task may do, and every way out that was tried, each held."""

import os
import platform
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from abi.base import sandbox
from abi.base.errors import DataError
from abi.base.sandbox import Limits, call, same

BY_CTYPES = "import sys\nctypes = sys.modules['ctypes']\nlibc = ctypes.CDLL(None, use_errno=True)\n"
"""ctypes is loaded, since it sets the filter; what it calls meets the filter too."""
ESCAPES = {
    "read a file outside": "open('/etc/passwd').read()",
    "read the secret": "open(SECRET).read()",
    "write a file outside": "open(OUTSIDE, 'w').write('x')",
    "write a file inside": "open('here', 'w').write('x')",
    "append by the descriptor calls": "import os\nos.open(OUTSIDE, os.O_CREAT | os.O_WRONLY)",
    "delete a file": "import os\nos.remove(SECRET)",
    "rename a file": "import os\nos.rename(SECRET, OUTSIDE)",
    "symlink to a file outside": "import os\nos.symlink(SECRET, 'link')\nopen('link').read()",
    "hard link to a file outside": "import os\nos.link(SECRET, 'link')",
    "make a folder": "import os\nos.mkdir(OUTSIDE)",
    "list a folder": "import os\nos.listdir('/')",
    "leave the folder": "import os\nos.chdir('/')",
    "change the mode of a file": "import os\nos.chmod(SECRET, 0o777)",
    "read /proc": "open('/proc/self/environ').read()",
    "memory of the parent": "import os\nopen(f'/proc/{PARENT}/mem', 'rb').read(1)",
    "secrets of the environment": "import os\nassert 'ABI_SECRET' in os.environ",
    "a socket": "import _socket\n_socket.socket(2, 1)",
    "a connection": BY_CTYPES + "assert libc.socket(2, 1, 0) >= 0",
    "a socket of this machine": BY_CTYPES + "assert libc.socket(1, 1, 0) >= 0",
    "a pair of sockets": BY_CTYPES + "assert libc.socketpair(1, 1, 0, (ctypes.c_int * 2)()) == 0",
    "fork": "import os\nos.fork()",
    "a fork bomb": "import os\nwhile True:\n    os.fork()",
    "fork by ctypes": BY_CTYPES + "assert libc.fork() > 0",
    "a thread": "import _thread\n_thread.start_new_thread(print, ())",
    "a program in its place": "import os\nos.execv('/bin/true', ['true'])",
    "a shell": "import os\nassert os.system('true') == 0",
    "a program by posix_spawn": "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    "subprocess": "import subprocess\nsubprocess.run(['true'])",
    "a signal to the parent": "import os\nos.kill(PARENT, 9)",
    "a signal to the group": "import os\nos.killpg(0, 9)",
    "a signal by ctypes": BY_CTYPES + "assert libc.kill(PARENT, 0) == 0",
    "tracing the parent": BY_CTYPES + "assert libc.ptrace(16, PARENT, 0, 0) == 0",
    "more memory by the limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "another filter": BY_CTYPES + "assert libc.prctl(22, 0, 0, 0, 0) == 0",
    "another user": "import os\nos.setuid(1234)",
    "a mount": BY_CTYPES + "assert libc.mount(b'none', b'/', b'tmpfs', 0, None) == 0",
    "new namespaces": BY_CTYPES + "assert libc.unshare(0x10000000) == 0",
    "another root": "import os\nos.chroot('.')",
    "our package": "import abi",
    "our package by its path": "import sys\nsys.path.insert(0, ROOT)\nimport abi",
    "packages of the environment": "import torch",
    "a module of the library not loaded": "import http.client",
    "a library by ctypes": BY_CTYPES + "ctypes.CDLL('libssl.so.3')",
    "memory": "x = bytearray(2**30)",
    "memory by and by": "x = []\nwhile True:\n    x.append('a' * 2**20)",
    "no end": "while True:\n    pass",
    "no end that catches all": "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
    "sleep for ever": "import time\ntime.sleep(10**6)",
    "a deep recursion": "def g():\n    return g()\ng()",
    "a huge answer": "return 'x' * 10**7",
    "an answer without end": "import os\nwhile True:\n    os.write(1, b'x' * 4096)",
    "descriptors of the parent": "import os\nassert any(not fails(os.fstat, n) for n in range(3, 256))",
    "an answer nested without end": "x = []\nfor _ in range(10**5):\n    x = [x]\nreturn x",
    "an exit that claims success": "import os\nos._exit(0)",
    "an answer of other length": 'import os\nos.write(1, b\'["out", "out"]\')\nos._exit(0)',
}
"""What is tried -> code that comes to its end only if it got out."""
HELPER = "def fails(call, *given):\n    try:\n        call(*given)\n    except OSError:\n        return True\n    return False\n\n"
SHORT = Limits(cpu_s=1, wall_s=3.0)


def tried(code: str, names: dict[str, object]) -> str:
    """Return how an attempt ended; `out` where it got to its end."""
    body = "".join(f"    {line}\n" for line in code.splitlines())
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    answer = call(f"{given}{HELPER}def attempt():\n{body}    return 'out'\n", "attempt", [[]], SHORT)
    return "out" if answer.values == ["out"] else answer.ended


def test_every_way_out_that_was_tried_is_held(tmp_path, monkeypatch):
    monkeypatch.setenv("ABI_SECRET", "secret")
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.write_text("secret")
    names = {"SECRET": str(secret), "OUTSIDE": str(outside), "PARENT": os.getpid(), "ROOT": os.getcwd()}
    before, mode = threading.active_count(), secret.stat().st_mode
    ended = {what: tried(code, names) for what, code in ESCAPES.items()}
    out = [what for what, how in ended.items() if how == "out"]
    print(f"{len(ESCAPES)} ways out tried, {len(ESCAPES) - len(out)} held")
    assert out == []
    assert len(ESCAPES) >= 25
    assert secret.read_text() == "secret"
    assert (secret.stat().st_mode, sorted(tmp_path.iterdir())) == (mode, [secret])
    assert threading.active_count() == before
    assert ended["sleep for ever"] == ended["no end that catches all"].replace("failed", "over time") == "over time"
    assert {ended["an answer without end"], ended["a huge answer"]} <= {"too long an answer", "failed"}


def test_the_attempts_get_out_where_nothing_holds_them(tmp_path):
    """The same code in a plain process: an attempt that fails anyway would prove nothing."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    names = {"SECRET": str(secret), "OUTSIDE": str(tmp_path / "outside"), "PARENT": os.getpid(), "ROOT": os.getcwd()}
    harmless = [
        "read a file outside", "read the secret", "write a file outside", "write a file inside",
        "symlink to a file outside", "list a folder", "leave the folder", "read /proc", "a socket", "a connection",
        "a pair of sockets", "fork", "fork by ctypes", "a thread", "a shell", "subprocess", "a signal by ctypes",
        "a module of the library not loaded", "memory", "a program by posix_spawn",
    ]  # fmt: skip
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    for what in harmless:
        body = "".join(f"    {line}\n" for line in ESCAPES[what].splitlines())
        code = f"import ctypes\n{given}def attempt():\n{body}    return 'out'\nassert attempt() == 'out'\n"
        found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert found.returncode == 0, (what, found.stderr)


def test_no_connection_is_made_to_a_server_that_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import _socket\ns = _socket.socket(2, 1)\ns.connect(('127.0.0.1', {port}))"
        assert tried(code, {}) == "failed"
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("source", "calls", "values"),
    [
        ("def f(a, b):\n    return a + b", [[1, 2], ["x", "y"], [[1], [2]]], [3, "xy", [1, 2]]),
        ("import math, re\ndef f(a):\n    print(a)\n    return [math.gcd(*a), bool(re.match('a', 'ab'))]", [[[4, 6]]],
         [[2, True]]),
        ("def f(s):\n    return list(set(s))", [["hello"]], None),
        ("import random\ndef f():\n    return random.random()", [[]], None),
    ],
)  # fmt: skip
def test_what_only_computes_runs_and_gives_the_same_every_time(source, calls, values):
    first, second = call(source, "f", calls), call(source, "f", calls)
    assert first.ended == "answered"
    assert first == second
    assert values is None or first.values == values


@pytest.mark.parametrize(
    "source",
    [
        *("def f(:", "def g():\n    return 1", "f = 3", "def f():\n    return {1, 2}", "raise SystemExit", "1 / 0"),
        *("raise SystemExit(3)", "import os\nos._exit(3)"),  # with which the sandbox says that it confines nothing
    ],
)
def test_source_that_gives_no_value_fails(source):
    assert call(source, "f", [[]]).ended == "failed"


def test_a_call_ends_within_its_limit_on_the_wall():
    started = time.monotonic()
    assert tried("import time\ntime.sleep(60)", {}) == "over time"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("value", "expected", "alike"),
    [(1, True, False), (1, 1.0, True), (0.1 + 0.2, 0.3, True), ([1, [2]], [1, [2]], True), ([1], [1, 2], False),
     ("1", 1, False), (None, None, True), (None, 0, False), ({"a": 1}, {"a": 1}, True), ({"a": 1}, {"b": 1}, False),
     (float("nan"), 1, False), (10**400, 1.0, False)],
)  # fmt: skip
def test_values_are_compared_with_what_is_expected(value, expected, alike):
    assert same(value, expected) is alike


def test_where_nothing_can_be_confined_nothing_runs(monkeypatch, tmp_path):
    program = tmp_path / "sandboxed.py"
    program.write_text(Path(sandbox.PROGRAM).read_text().replace(f'"{platform.machine()}"', '"vax"'))
    monkeypatch.setattr(sandbox, "PROGRAM", str(program))
    with pytest.raises(DataError, match="confines no process"):
        call("def f():\n    return 1", "f", [[]])
