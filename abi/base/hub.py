"""Files of the Hugging Face hub at a pinned revision: listed, brought into the local cache, checked by their hashes.

What is in the cache needs no network, and the client's own switches hold (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`).
"""

import fnmatch
import hashlib
import io
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from abi.base.errors import DataError, NoAnswer
from abi.base.files import sha256_once
from abi.base.hub_errors import broken_downloads, reason, status_of
from abi.base.machine import GB, free_memory
from abi.base.model_folders import INDEX, WEIGHTS
from abi.base.typed import Count, Positive, Typed

TIMEOUT_S = 20
log = logging.getLogger(__name__)
FP32, STARTED = 4, 8 * 10**8
"""Bytes of a number, and what Python with torch and transformers takes before a model is loaded."""
Kind = Literal["model", "dataset"]
Wanted = Callable[[list[str]], list[str]]
"""Which names of a repository are needed, of all there are."""
RequireClass = Callable[[str, str | None], None]
"""Refuses a model (what it is called, its model_type) that cannot be run."""


class HubFile(Typed):
    """A file of the hub."""

    bytes: Count
    """size"""
    hash: Annotated[str, Field(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$")]
    """SHA-256 of a large file, Git's SHA-1 of any other"""


class Sizes(Typed):
    """Sizes of a model, as the headers of its safetensors tell them."""

    parameters: Positive
    """numbers of its weights"""
    rows: Positive
    """rows V of its largest matrix, which is the head or the embedding"""
    width: Positive
    """columns D of that matrix"""

    @classmethod
    def of(cls, shapes: Iterable[Sequence[int]]) -> "Sizes":
        """Return the sizes of a model whose tensors have some shapes. Raises: ValueError: none of them is a matrix."""
        shapes = [tuple(int(n) for n in shape) for shape in shapes]
        rows, width = max((shape for shape in shapes if len(shape) == 2), key=math.prod)
        return cls(parameters=sum(map(math.prod, shapes)), rows=rows, width=width)

    @property
    def memory_needed(self) -> int:
        """The bytes of memory that admitting the model takes at most: its weights, its head, one matrix at work."""
        return FP32 * (self.parameters + 2 * self.rows * self.width) + STARTED


class Snapshot(Typed):
    """What the hub has of a repository at one revision, as `abi pin` found it."""

    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    files: dict[str, HubFile]
    """name -> size and hash of every file that is needed"""
    sizes: Sizes | None = None
    """of a model"""
    licence: str | None = None
    """of a model, as its card names it"""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub. Args: endpoint: another hub than that of `HF_ENDPOINT`."""

    id: str
    kind: Kind
    endpoint: str | None = None

    @property
    def where(self) -> str:
        """Its name in refusals."""
        return f"{'backbone' if self.kind == 'model' else 'corpus source'} {self.id}"

    @property
    def page(self) -> str:
        """Where its terms are accepted."""
        from huggingface_hub import constants

        return f"{self.endpoint or constants.ENDPOINT}/{self.id}"


def look_up(
    repository: Repository, revision: str | None, wanted: Wanted, require_class: RequireClass | None = None
) -> Snapshot:
    """Return what the hub has of a repository, at its newest revision where none is given; of a model its weights, too.

    Args: require_class: refuses a model by its class, before anything is read of its weights.
    Raises: NoAnswer: the hub cannot be reached; DataError: it refuses, or a needed file is missing; a model without
        safetensors.
    """
    from huggingface_hub import HfApi

    api, where = HfApi(endpoint=repository.endpoint), _at(repository, revision)
    try:
        info: Any = api.repo_info(
            repository.id, repo_type=repository.kind, revision=revision, files_metadata=True, timeout=TIMEOUT_S
        )
        there = {entry.rfilename: entry for entry in info.siblings or []}
        names = wanted(list(there))
        if not names:
            raise DataError(f"{where}: holds no file that is needed; check its id, and `pattern` of a data set")
        about: dict[str, Any] = {}
        if repository.kind == "model":
            if require_class is not None:
                require_class(where, (info.config or {}).get("model_type"))
            if not {WEIGHTS, INDEX} & set(there):
                raise DataError(f"{where}: has no safetensors, and abi unpickles nothing; choose another revision")
            told = api.get_safetensors_metadata(repository.id, revision=info.sha, timeout=TIMEOUT_S)
            weights = {*told.files_metadata, *([INDEX] if told.sharded else [])}
            _require(where, weights, {name for name in there if "/" not in name})
            names = [*names, *weights]
            about = {"sizes": _sizes(told), "licence": _licence(info.card_data)}
        return Snapshot(revision=str(info.sha), files={name: _file(there[name]) for name in sorted(names)}, **about)
    except DataError:
        raise
    except Exception as error:  # the client raises its own, those of its HTTP library, and plain OSError
        kind = NoAnswer if status_of(error) is None else DataError
        raise kind(f"{where}: {reason(error, repository.page)}") from None


def _sizes(told: Any) -> Sizes:
    """Return the sizes of a model. Args: told: headers of all its safetensors files."""
    return Sizes.of(tensor.shape for file in told.files_metadata.values() for tensor in file.tensors.values())


def _licence(card: Any) -> str | None:
    """Return what the card of a model names as its licence, None where there is no card or it names none."""
    named = getattr(card, "license_name", None) or getattr(card, "license", None)
    return None if named is None else str(named)


def _file(entry: Any) -> HubFile:
    if entry.lfs is not None:
        return HubFile(bytes=entry.lfs.size, hash=entry.lfs.sha256)
    return HubFile(bytes=entry.size, hash=entry.blob_id)


def _require(where: str, needed: set[str], there: set[str]) -> None:
    for name in sorted(needed - there):
        raise DataError(f"{where}: the hub has no {name}, which its index names; choose another revision")


def files_beside_weights(names: list[str]) -> list[str]:
    """Return which files of a model are needed but for its weights: config and tokenizer, of the top folder."""
    top = [name for name in names if "/" not in name]
    about = [name for name in top if name.endswith((".json", ".model", ".jinja")) and not name.endswith(".index.json")]
    return about + [name for name in top if name in {"merges.txt", "vocab.txt"}]


def data_files(patterns: Sequence[str]) -> Wanted:
    """Return what chooses the files of a data set by patterns."""
    anywhere = [*patterns, *(pattern.removeprefix("**/") for pattern in patterns)]
    return lambda names: [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in anywhere)]


def fetch(repository: Repository, revision: str, files: Mapping[str, HubFile], copy_to: Path | None = None) -> Path:
    """Return the folder of the local cache that holds files of a repository at a revision, each checked.

    What the cache lacks is downloaded; a connection that breaks off is resumed.
    Args: files: what `abi pin` found; copy_to: where they will be copied to, on a disk that must have room for them.
    Raises: DataError: offline and not in the cache, refused by the hub, too little disk, or other bytes than promised.
    """
    from huggingface_hub import hf_hub_download

    where, kind = _at(repository, revision), repository.kind
    if not files:
        raise DataError(f"{where}: no file of it is pinned; run `abi pin` once")
    require_disk(where, _spent(repository, revision, files, copy_to), broken_downloads)
    # The smallest first: a file that the hub lacks or refuses is told before the weights are paid for.
    for name, promised in sorted(files.items(), key=lambda item: item[1].bytes):
        log.info("fetching %s of %s, %.0f MB", name, repository.where, promised.bytes / 1e6)
        try:
            found = hf_hub_download(
                repository.id,
                name,
                repo_type=kind,
                revision=revision,
                endpoint=repository.endpoint,
                etag_timeout=TIMEOUT_S,
                tqdm_class=None if sys.stderr.isatty() else _in_log(name),
            )
        except Exception as error:  # as in `look_up`
            raise DataError(f"{where}: {reason(error, repository.page, name)}") from None
        folder = Path(found).parents[len(Path(name).parts) - 1]
        if folder.name != revision:
            raise DataError(f"{where}: the hub gives revision {folder.name} instead; check HF_ENDPOINT")
        _check(where, Path(found), name, promised)
    return folder


def _in_log(name: str) -> Any:
    """Return the class of a progress bar that writes lines of a job's log: a terminal has the client's own bar.

    Args: name: of the file.
    """
    from tqdm import tqdm

    from abi.base.job import progress

    class Logged(tqdm):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named | {"file": io.StringIO()})
            self.told = progress(self._mb(self.total))

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            self.told(self._mb(self.n), f"MB of {name}")
            return shown

        def update_transfer(self, n: float | None = 1) -> None:
            """Say nothing of what Xet counts besides: bytes of the network. Without this it would open a second bar."""

        def set_transfer_postfix_str(self, *given: Any, **named: Any) -> None:
            """As `update_transfer`."""

        @staticmethod
        def _mb(size: float | None) -> int:
            return round((size or 0) / 1e6)

    return Logged


def _at(repository: Repository, revision: str | None) -> str:
    return repository.where if revision is None else f"{repository.where}@{revision}"


def _spent(
    repository: Repository, revision: str, files: Mapping[str, HubFile], copy_to: Path | None
) -> dict[Path, int]:
    """Return folder -> bytes that will be written there."""
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(constants.HF_HUB_CACHE)
    missing = sum(
        file.bytes
        for name, file in files.items()
        if not isinstance(
            try_to_load_from_cache(repository.id, name, repo_type=repository.kind, revision=revision), str
        )
    )
    spent = {cache: missing}
    if copy_to is not None:
        spent[copy_to] = sum(file.bytes for file in files.values())
    return spent


def require_disk(where: str, spent: Mapping[Path, int], left: Callable[[], str] = str) -> None:
    """Raise DataError where a disk has too little room.

    Args: spent: folder -> bytes to be written there; left: says what else may be deleted, as `broken_downloads`.
    """
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for folder, size in spent.items():
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        disk = os.stat(place).st_dev
        needed[disk], places[disk] = needed.get(disk, 0) + size, place
    for disk, size in needed.items():
        free = shutil.disk_usage(places[disk]).free
        if size > free:
            raise DataError(
                f"{where}: needs {size / GB:.2f} GB on the disk of {places[disk]}, which has {free / GB:.2f} GB free; "
                f"free space{left()}, or point HF_HOME at another disk"
            )


def require_memory(where: str, sizes: Sizes) -> None:
    """Raise DataError where this process has too little free memory to admit a model of some sizes."""
    needed, free = sizes.memory_needed, free_memory()
    if needed > free:
        raise DataError(
            f"{where}: needs {needed / GB:.1f} GB of memory for {sizes.parameters / 1e6:.0f} million parameters, "
            f"{free / GB:.1f} GB are free; use a larger machine, give the job more, or leave its claims out"
        )


def _check(where: str, path: Path, name: str, promised: HubFile) -> None:
    """Raise DataError where a file is not what was promised; it is removed, so that the next run fetches it again."""
    if path.stat().st_size == promised.bytes and promised.hash == _hash(path, promised.hash):
        return
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)
    raise DataError(
        f"{where}: {name} does not have the bytes that were pinned; it was removed from the cache, run again to fetch "
        "it anew"
    )


def _hash(path: Path, like: str) -> str:
    """Return the hash of a file: SHA-256, or Git's where that is what it is compared with."""
    if len(like) == 64:
        return sha256_once(path.resolve())
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
