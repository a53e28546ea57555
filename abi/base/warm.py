"""Warm start of jobs: one process imports torch and transformers once, and every job of a local run is forked from it.

Starting Python with these libraries takes 3 to 5 seconds, more than most jobs of scale `smoke` compute; a fork takes
some hundredths. `ABI_WARM=1 snakemake ...` turns it on, as the Makefile does. The workflow starts the server, and jobs
find its socket in `ABI_WARM_SOCKET`: a name that the kernel keeps, not a file, so that a killed server leaves nothing.
A job is handed over as its script path, working folder, environment, import path and standard streams. Its own process
waits, returns the exit code, and takes the job with it when it is killed. Where no server answers, a job runs in its
own process as always.

Nothing here outlives the scheduler, however it ends: the standard input of the server is a pipe that the scheduler
alone holds open and never writes to. At its end the server and every job forked from it end, too.

The server loads the steps too, which takes a third of a second. A job whose files of `abi` are no longer those that
were loaded forgets them and imports its own, so an edit is seen by the next job.
Snakemake's benchmark then measures the waiting process: its seconds are those of the job, while CPU and memory stand in
the job's own log.
"""

import atexit
import gc
import importlib
import importlib.machinery
import json
import os
import runpy
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from abi.base.quiet import QUIET

WANTED, SOCKET = "ABI_WARM", "ABI_WARM_SOCKET"
WAIT = "wait"
"""Value of `ABI_WARM` with which a run waits for the server, so that its first job is forked, too."""
PRELOADED = (
    *("torch", "scipy.linalg", "pandas", "pydantic", "safetensors.torch", "snakemake.script", "tokenizers"),
    *("sentencepiece", "transformers.models.auto.modeling_auto"),
    *(f"transformers.models.{name}.modeling_{name}" for name in ("gpt2", "t5", "qwen2", "gpt_neox")),
    "torch._dynamo",  # which the first optimizer of a process imports, though nothing is compiled
)
SINGLE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow, which pandas loads where it is installed
}
"""Keeps libraries from starting threads when they are loaded."""
PACKAGE = Path(__file__).resolve().parents[1]
Files = dict[str, tuple[int, int]]
LOST = 70
"""Exit code of a job whose forked process died without one, as when the system kills it."""


class Request(NamedTuple):
    """What a job is handed over as, beside its standard streams."""

    argv: list[str]
    cwd: str
    environ: dict[str, str]
    path: list[str]
    prefix: str


def start() -> None:
    """Start the server of a run, if the environment asks for one, and tell the jobs where it listens.

    It ends with this process. Only on Linux: elsewhere libraries that have been loaded do not survive a fork.
    """
    if os.environ.get(WANTED) not in ("1", WAIT) or SOCKET in os.environ or sys.platform != "linux":
        return
    name = f"abi-warm-{secrets.token_hex(16)}"
    command = [sys.executable, "-m", "abi.base.warm", name]
    server = subprocess.Popen(command, env={**QUIET, **os.environ, **SINGLE}, stdin=subprocess.PIPE)
    os.environ[SOCKET] = name
    atexit.register(_stop, server)
    if os.environ[WANTED] == WAIT:
        while server.poll() is None and f"@{name}" not in Path("/proc/net/unix").read_text(encoding="utf-8"):
            time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        told = "what it printed (under `abi run`: .snakemake/abi/run.log) says why"
        print(f"abi: the process that jobs are forked from ended early, so they started cold; {told}", file=sys.stderr)
    server.terminate()
    server.wait()


def hand_over() -> None:
    """Run this process's script in one forked by the server, and exit with its code; return where none answers.

    Libraries of linear algebra are loaded with one thread here, too, whatever Snakemake says: a product of several
    threads has other last bits. Torch gets the threads of its rule from the job itself.
    """
    os.environ.update(SINGLE)
    name, script = os.environ.pop(SOCKET, None), sys.argv[0] if sys.argv else ""
    if name is None or Path(script).parts[-3:-1] != (".snakemake", "scripts"):
        return
    with socket.socket(socket.AF_UNIX) as connection:
        request = Request(sys.argv, os.getcwd(), dict(os.environ), sys.path, sys.prefix)
        body = json.dumps(request).encode()
        try:
            connection.connect(_address(name))
            if not _is_ours(connection):
                return
            socket.send_fds(connection, [len(body).to_bytes(8, "big")], [0, 1, 2])
            connection.sendall(body)
            answer = connection.recv(1)  # a server of another environment closes the connection at once
            if answer != b"+":
                return
        except OSError:
            return
        code = connection.recv(1)
    sys.exit(code[0] if code else LOST)


def _address(name: str) -> str:
    """Return the address of a server's name: the kernel keeps it, no file does."""
    return f"\0{name}"


def _is_ours(connection: socket.socket) -> bool:
    """Return whether the other end is a process of this user: anybody can read such a name, and connect to it."""
    form = "3i"
    _, user, _ = struct.unpack(
        form, connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    )
    return bool(user == os.getuid())


def serve(name: str, libraries: Sequence[str], steps: Sequence[str]) -> None:
    """Load some libraries and steps, then fork a process per job that is handed over, until stopped or left."""
    for library in libraries:
        if _left(0.0):
            return
        importlib.import_module(library)
    loaded = _files()
    try:
        for step in steps:
            importlib.import_module(f"{PACKAGE.name}.steps.{step}")
        if kernels := sys.modules.get(f"{PACKAGE.name}.models.kernels"):
            kernels.load()
        if steps:
            _make_ready(steps)
    except Exception:  # an edit that is not finished: the jobs say so, if they need it
        loaded = {}
    if len(os.listdir("/proc/self/task")) > 1:
        raise SystemExit("abi.base.warm: a library has started threads, so that nothing can be forked; jobs start cold")
    gc.collect()
    gc.freeze()  # else every collection in a job walks the 400,000 objects of these libraries
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forked: the jobs' own processes hear from them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted run ends its jobs, then this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(_address(name))
        listener.listen(64)
        while not _left(None, listener):
            connection, _ = listener.accept()
            if _is_ours(connection) and os.fork() == 0:
                listener.close()
                _be(connection, loaded)
            connection.close()


def _make_ready(steps: Sequence[str]) -> None:
    """Do once what every job would do: parse the code for its digest, build the models of documents, list versions."""
    from abi.base.digest import parse_ahead
    from abi.base.job import step_of, versions
    from abi.base.typed import Typed

    parse_ahead([step_of(step) for step in steps])
    models: list[type[Typed]] = [Typed]
    for model in models:
        model.model_rebuild(raise_errors=False)
        models += model.__subclasses__()
    versions()


def _left(seconds: float | None, *others: socket.socket) -> bool:
    """Return whether the scheduler is gone, after waiting for that or for one of some other sockets to be readable."""
    return 0 in select.select([0, *(other.fileno() for other in others)], [], [], seconds)[0]


def _files() -> Files:
    """Return the time of change and the size of every file of this package."""
    found = ((path, path.stat()) for path in PACKAGE.rglob("*.py"))
    return {str(path): (about.st_mtime_ns, about.st_size) for path, about in found}


def _forget_unless(loaded: Files) -> None:
    """Forget this package where its files are not those that were loaded, or the job would import it elsewhere."""
    place = importlib.machinery.PathFinder.find_spec(PACKAGE.name, sys.path)
    if place is None or place.origin != str(PACKAGE / "__init__.py") or _files() != loaded:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE.name]:
            del sys.modules[name]


def _be(connection: socket.socket, loaded: Files) -> NoReturn:
    """Be the process of one job, and nothing after it."""
    code = 1
    try:
        code = _run(connection, loaded)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _run(connection: socket.socket, loaded: Files) -> int:
    """Run the job that a connection hands over, in its surroundings; send and return its exit code."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = Request(*json.loads(connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)))
    if request.prefix != sys.prefix:
        return 0
    connection.sendall(b"+")
    scheduler = os.dup(0)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    threading.Thread(target=_leave_with, args=(connection, scheduler), daemon=True).start()
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.environ)
    sys.argv, sys.path[:] = request.argv, request.path
    _forget_unless(loaded)
    code = _exit_code(sys.argv[0])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    return code


def _leave_with(connection: socket.socket, scheduler: int) -> None:
    """End this process when the one that waits for it is gone, or the scheduler. Neither ever writes."""
    select.select([connection.fileno(), scheduler], [], [])
    os._exit(LOST)


def _exit_code(script: str) -> int:
    """Run a script as the interpreter would; return the exit code that it would give."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return (left.code or 0) & 255
        print(left.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    every = [path.stem for path in sorted((PACKAGE / "steps").glob("[a-z]*.py"))]
    serve(sys.argv[1], *((sys.argv[2:], []) if sys.argv[2:] else (PRELOADED, every)))
