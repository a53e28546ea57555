"""Files: hashes, atomic writes, strict JSON (no NaN, no key twice), documents validated against their schema."""

import errno
import functools
import hashlib
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from abi.base.errors import DataError, TamperError

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
Json = Any  # whatever a JSON file may hold
FRESH_NS = 10**8
"""Age below which a file's times do not tell whether it was written again; their clock ticks every few ms."""
MOST_JSON = 500_000_000
"""Bytes of the largest JSON file that is read."""
OF_DISKS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""Errors that name no file and can only be of the one that is written."""
MANIFEST = "MANIFEST.sha256"
"""Name of the list of hashes in a folder whose files it lists, in the form that `sha256sum -c` reads."""


def checkout() -> Path:
    """Return the checkout that is meant: the working directory if it is one, else that of this code."""
    return Path() if Path("config/claims.yaml").is_file() else ROOT


def scales(folder: Path | None = None) -> list[str]:
    """Return the names of the scales there are. Args: folder: of scales, None for that of the checkout meant."""
    folder = folder or checkout() / "config" / "scales"
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.endswith(".lock"))


def sha256_file(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_once(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read once per process while inode, size and times of the file stay."""
    found = os.stat(path)
    if age_ns(found) < FRESH_NS:
        return sha256_file(path)  # so young that another write might leave its times as they are
    return _sha256_of(str(path), identity(found))


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return what of a file changes when somebody writes to it; no program can set the last, the time of change."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def age_ns(found: os.stat_result) -> int:
    """Return how long ago a file changed, in nanoseconds."""
    return time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns)


@functools.cache
def _sha256_of(path: str, identity: tuple[int, ...]) -> str:
    return sha256_file(path)


def sha256_json(value: object) -> str:
    """Return the hex SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_tensors(tensors: Mapping[str, "Tensor"]) -> str:
    """Return the hex SHA-256 over names, dtypes, shapes and bytes of torch tensors, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def listing(hashes: Mapping[str, str]) -> str:
    """Return the list of some files. Args: hashes: name -> hex SHA-256."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def listed(text: str) -> dict[str, str]:
    """Return name -> hex SHA-256 of a list; lines of another form are left out."""
    parts = (line.partition("  ") for line in text.splitlines())
    return {name: sha256 for sha256, _, name in parts if name}


def temporary_beside(path: Path) -> Path:
    """Return a name beside a path that nobody has, of the form that `recovery` clears after a kill."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it only if the block succeeds.

    Raises: DataError: it cannot be written; what else goes wrong inside the block stays what it is.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        # Not by `tempfile`, whose files are private: to widen that one must set the umask, which other threads share.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        own = error.errno in OF_DISKS if error.filename is None else str(error.filename) == str(temporary)
        if not own:
            raise
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_folder(path: str | Path) -> None:
    """Raise DataError where a folder is due and a file or a broken link stands, at `path` or above it."""
    for place in (*reversed(Path(path).parents), Path(path)):
        if os.path.lexists(place) and not place.is_dir():
            raise DataError(f"{place}: is not a folder (a file or a broken link); move it away and run again")


def unwritable(path: str | Path, error: Exception) -> DataError:
    """Return the error of a file or folder that cannot be written."""
    reason = str(getattr(error, "strerror", None) or error).splitlines()[0][:160]
    return DataError(f"{path}: cannot be written ({reason}); free space or make the folder writable")


def write_tensors(path: str | Path, tensors: Mapping[str, "Tensor"], metadata: dict[str, str] | None = None) -> None:
    """Write torch tensors as safetensors, atomically. Raises: DataError: the disk is full or the folder read-only."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(on_cpu, temporary, metadata=metadata)
        except SafetensorError as error:
            raise unwritable(path, error) from error


def read_tensors(path: str | Path, sha256: str | None = None) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Return the tensors of a safetensors file, memory-mapped, and what its header says beside them.

    Args: sha256: what a manifest promises of the file; not compared if None. A job reads a file for it once.
    Raises: DataError: missing, truncated or not safetensors; TamperError: not the file that was promised.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if sha256 not in (None, sha256_once(path)):
            raise TamperError(f"{path}: is not the file that its manifest promises; delete both and rebuild them")
        with safe_open(str(path), "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist; ask Snakemake for it, or check the path") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: is not a readable safetensors file ({error}); delete it and rebuild it") from None


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_texts(files: dict[Path, str]) -> None:
    """Write UTF-8 files: none is replaced before every one is written, and the first is replaced first."""
    with ExitStack() as stack:
        for path, text in reversed(files.items()):
            stack.enter_context(atomic_path(path)).write_text(text, encoding="utf-8")


def lock(handle: int, path: str | Path, mend: str) -> bool:
    """Return whether an open file could be locked: until the handle is closed or the process ends it is this one's.

    Raises: DataError: its disk has no locks. Args: path: of the file; mend: what to do then.
    """
    import fcntl  # of Unix alone, as locks are

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise DataError(f"{path}: cannot be locked ({error.strerror}); {mend}") from None
    return True


def read_regular(path: str | Path, most_bytes: int) -> str:
    """Return the text of a UTF-8 file of limited size.

    Raises: OSError: missing, larger, or something else than a file: reading a pipe or a device might never end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
        kind = f"it has more than {most_bytes} bytes" if stat.S_ISREG(found.st_mode) else "it is no file"
        raise OSError(errno.EINVAL, kind, str(path))
    return Path(path).read_text(encoding="utf-8")


def parse_file(path: str | Path) -> Json:
    """Return the JSON value of a file. Raises: DataError: missing or not strict JSON."""
    try:
        return parse_json(read_regular(path, MOST_JSON))
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist; ask Snakemake for it, or check the path") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path}: is not readable JSON ({error}); delete it and rebuild it") from None


def parse_json(text: str, *, number: Callable[[str], Any] | None = None) -> Json:
    """Return the JSON value of a text. Args: number: makes a number of its digits, int and float if None.

    Raises: ValueError: not JSON, a key twice, NaN or infinity, or nested too deeply.
    """
    real = number or _finite
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=real, parse_int=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a figure")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key occurs twice")
    return keys
