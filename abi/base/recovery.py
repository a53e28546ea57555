"""After a kill: which run of a folder is alive, and what a dead one left there.

A run holds a lease, a lock of the kernel on a file of the folder, which ends with its process, however that ends.
Snakemake's own lock is a file and outlives it. What a run starts carries the folder in its environment, so that it is
found when it outlives its scheduler: a job without warm start does.
"""

import contextlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from abi.base.errors import DataError
from abi.base.files import lock, parse_file, require_folder, unwritable
from abi.base.typed import Typed

MARK = "ABI_RUN"
"""Environment variable of everything that a run starts: the folder it runs in."""
LEASE = Path(".snakemake/abi/run.json")
LOCKS, SCRIPTS = Path(".snakemake/locks"), Path(".snakemake/scripts")
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""The names that `files.atomic_path` gives to what is not yet written."""
SCRATCH, KEPT_DAYS = re.compile(r"[a-z_]+-[0-9a-f]{20}"), 30
"""The names of folders of resumable work (`Job.scratch`), and how long one is kept that no job goes on with."""
LOOKS = re.compile(
    r"-[npqkrFftih]*[nhvlSD].*"
    r"|--(dry-?run|help|version|list[\w-]*|lint|dag|rulegraph|filegraph|d3dag|[\w-]*summary)(=.*)?"
)
"""Options with which Snakemake looks and changes nothing: short ones may follow others that take no value, and be
followed by any; a long one may have a value.
"""
GRACE_S = 5.0
AHEAD_S = 60.0
"""How far clocks of a file system and of its machines may be apart."""


class Holder(Typed):
    """The process that has the lease, or had it last."""

    host: str
    pid: int


def begin(place: Path) -> list[str]:
    """Make this process the run of a folder, and it stays that when it becomes another program; clear what is dead.

    Returns: what was cleared, in words; nothing where no run was killed.
    Raises: DataError: another run of this folder is alive, or may be on another machine; the folder is read-only.
    """
    os.environ[MARK] = str(place)
    last = _last(place)
    if _take(place, inherited=True) is None:
        raise DataError(f"{place}: {_named(_last(place))} is running here; wait for it, or end it")
    alive = next(_plain_schedulers(place), None)
    if alive is not None:
        raise DataError(f"{place}: process {alive} (snakemake) is running here; wait for it, or end it")
    locks = sorted((place / LOCKS).glob("*.lock"))
    if locks and last is not None and last.host != socket.gethostname():
        raise DataError(
            f"{place}: {_named(last)} left its lock, and cannot be seen from this machine; "
            "when it is dead, run `snakemake --unlock`"
        )
    _sign(place)
    ended = _end_orphans(place)
    written = [*_files(place / "results")]
    _redate(written)
    begun = (path for path in written if TEMPORARY.fullmatch(path.name))
    unfinished = [*begun, *(place / SCRIPTS).glob("tmp*.py")]
    for path in (*locks, *unfinished):
        path.unlink(missing_ok=True)
    forgotten = _forgotten(place / LEASE.parent)
    for path in forgotten:
        shutil.rmtree(path, ignore_errors=True)
    said = {
        "its lock cleared": bool(locks),
        f"processes ended that it had left: {', '.join(map(str, ended))}": bool(ended),
        f"unfinished files removed: {len(unfinished)}": bool(unfinished),
        f"work removed that no job has gone on with for {KEPT_DAYS} days: {len(forgotten)}": bool(forgotten),
    }
    return [words for words, true in said.items() if true]


def looks(words: Iterable[str]) -> bool:
    """Return whether Snakemake, called with some words, looks and changes nothing."""
    return any(LOOKS.fullmatch(word) for word in words)


def hold(place: Path) -> None:
    """Mark what this scheduler starts, and take the lease where it was started without `begin`."""
    os.environ[MARK] = str(place)
    with contextlib.suppress(DataError):  # Snakemake has made its own lock by now
        if _take(place, inherited=False) is not None:
            _sign(place)


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold the lease of a folder for a block, so that no run begins there.

    Raises: DataError: a run of this folder is alive; the folder is read-only.
    """
    handle = _take(place, inherited=False)
    if handle is None:
        raise DataError(f"{place}: {_named(_last(place))} is running here; wait for it, or end it")
    _sign(place)
    try:
        yield
    finally:
        os.close(handle)


def _take(place: Path, *, inherited: bool) -> int | None:
    """Return the descriptor that holds the lease of a folder until it is closed, None where another process has it.

    Args: inherited: a program that this process becomes keeps it.
    """
    path = place / LEASE
    require_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from None
    if not lock(handle, path, "call `snakemake` itself on this disk"):
        os.close(handle)
        return None
    os.set_inheritable(handle, inherited)
    return handle


def _sign(place: Path) -> None:
    """Write who has the lease into its file: in place, since the lock belongs to the file and not to its name."""
    text = Holder(host=socket.gethostname(), pid=os.getpid()).model_dump_json()
    try:
        (place / LEASE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(place / LEASE, error) from None


def _last(place: Path) -> Holder | None:
    """Return who has the lease or had it last; None where nobody had, or died while writing it."""
    try:
        return Holder.model_validate(parse_file(place / LEASE))
    except (DataError, ValueError):
        return None


def _named(holder: Holder | None) -> str:
    return "another run" if holder is None else f"another run (process {holder.pid} on {holder.host})"


def _plain_schedulers(place: Path) -> Iterator[int]:
    """Yield the processes that are Snakemake in a folder, started without `begin`, and that have no lease yet."""
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] != str(place) or process.pid == os.getpid() or looks(words):
            continue
        if _is_snakemake(words) and _mark(process) != str(place):
            yield process.pid


def _is_snakemake(words: Sequence[str]) -> bool:
    """Return whether a command line runs Snakemake, by its own name or by an interpreter."""
    program, *others = [Path(word).name for word in words[:3]] or [""]
    return program == "snakemake" or (program.startswith("python") and "snakemake" in others)


def _mark(process: psutil.Process) -> str | None:
    """Return the folder whose run started a process; None where none did."""
    try:
        found: str | None = process.environ().get(MARK)
        return found
    except (psutil.Error, OSError):  # gone, or another user's
        return None


def _end_orphans(place: Path) -> list[int]:
    """End what dead runs of a folder have left, gently and then not, until nothing is left; return their numbers.

    Raises: DataError: one that cannot be ended.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    ended: list[int] = []
    while found := [p for p in psutil.process_iter() if p.pid not in own and _mark(p) == str(place)]:
        ended += [process.pid for process in found if process.pid not in ended]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(found, GRACE_S)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in psutil.wait_procs(found, GRACE_S)[1]:
            raise DataError(f"{place}: process {process.pid} of a killed run does not end; end it and run again")
    return ended


def _files(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder and is none itself."""
    for top, _, names in os.walk(folder):
        yield from (Path(top, name) for name in names)


def _redate(paths: Iterable[Path]) -> None:
    """Give files of the future the time of now: a clock was ahead, and Snakemake would fail until it is right again."""
    for path in paths:
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime > time.time() + AHEAD_S:
                os.utime(path, follow_symlinks=False)


def _forgotten(folder: Path) -> list[Path]:
    """Return the resumable work of jobs that nothing has touched for long: after an edit no job asks for it again."""
    last, found = time.time() - KEPT_DAYS * 86400, []
    for path in folder.iterdir():
        if SCRATCH.fullmatch(path.name) and path.is_dir():
            touched = [file.lstat().st_mtime for file in _files(path)]
            found += [path] if max(touched, default=path.stat().st_mtime) < last else []
    return found
