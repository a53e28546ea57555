"""Texts of a user as documents: strings, a file or a folder; copies are left out, each document has a split."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from abi.api.defaults import COPIED, SALT, SHARES
from abi.api.progress import warn
from abi.base.errors import DataError
from abi.base.files import write_text
from abi.base.wording import number
from abi.plan.specs.text import BuildText, Folder
from abi.text.corpus import build_text
from abi.text.documents import SPLITS, Document, split_of
from abi.text.extraction import extract
from abi.text.sources import find_files, folders_of, read_text

TextSource = str | Path | Iterable[str | Path]
"""A folder, a file, or some strings (each a document) and files."""

SUFFIXES = (".txt", ".md", ".py", ".jsonl")
LABEL = "texts"
FEW = 20
"""Documents to learn from, below which a call says that they are few."""
MANY = 10**9
SALTS = 100
"""How many salts are tried until every split of a few documents has one."""


def documents_of(texts: TextSource, what: str = "texts") -> list[Document]:
    """Return the documents of some texts, each with its split, in the order of their hashes.

    A document most of whose passages stand in another one is a copy, and is left out. The split follows from the hash
    of the text, of few documents from all of theirs, so that it depends neither on names nor on order.
    Args: what: the argument, as errors name it.
    Raises: DataError: no such file, an unknown suffix, no text, or fewer than three documents that differ.
    """
    named = _by_hash(_read(texts, what))
    if len(named) < len(SPLITS):
        raise DataError(
            f"{what}: {len(named)} different documents cannot be split into train, calibration and test; "
            "give more, at best a hundred or more"
        )
    return _chosen(named)


def warn_of_few(call: str, documents: Iterable[Document], what: str = "texts") -> None:
    """Warn where a call learns from so few documents that little can come of it."""
    n = len(of_split(documents, "train"))
    if n < FEW:
        warn(f"{call}: {what} has {number(n, 'document')} to learn from; a hundred are better")


def unsplit(texts: TextSource, what: str = "texts") -> list[Document]:
    """Return the documents of some texts, all as test text; two or one will do. Raises: DataError: there is none."""
    named = _by_hash(_read(texts, what))
    if not named:
        raise DataError(f"{what}: there is no text in it; give some")
    if len(named) >= len(SPLITS):
        return [replace(document, split="test") for document in _chosen(named)]
    return [_document(name, text) for name, text in named.values()]


def _document(name: str, text: str) -> Document:
    """Return a document as `build_text` makes one of a whole file."""
    taken = extract(text, "plain", name) or ""
    data = taken.encode()
    return Document(name, name, LABEL, "local", hashlib.sha256(data).hexdigest(), "test", len(data), taken)


def _chosen(named: Mapping[str, tuple[str, str]]) -> list[Document]:
    """Return the documents that are no copies, with their splits; a few are split by the first salt that fills all."""
    groups = [f"{LABEL}/{digest}" for digest in named]
    salts = (SALT, *(f"{SALT}-{i}" for i in range(1, SALTS)))
    usable = (s for s in salts if len({split_of(group, dict(SHARES), s) for group in groups}) == len(SPLITS))
    with TemporaryDirectory() as folder:
        for digest, (_, text) in named.items():
            write_text(Path(folder, digest, "text"), text)
        found = build_text(_spec(folder, next(usable, SALT))).documents
    return [replace(document, document=named[document.group.rpartition("/")[2]][0]) for document in found]


def of_split(documents: Iterable[Document], *splits: str) -> list[Document]:
    """Return the documents of some splits."""
    return [document for document in documents if document.split in splits]


def _spec(folder: str, salt: str) -> BuildText:
    """Return what `build_text` is asked: all of every file of a folder, but no copies."""
    return BuildText(
        sources=[Folder(kind="folder", path=folder, label=LABEL)],
        extract="plain",
        max_bytes=MANY,
        max_bytes_per_document=MANY,
        min_bytes_per_document=1,
        max_documents_per_group=1,
        max_copied_share=COPIED,
        min_test_groups=1,
        split=SHARES,
        salt=salt,
    )


def _by_hash(found: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return hash -> name and text of every text that is not empty, the first of equal ones; no two have one name."""
    named: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for name, text in found:
        digest = hashlib.sha256(text.strip().encode()).hexdigest()[:16]
        if text.strip() and digest not in named:
            name = name if name not in taken else f"{name} ({digest})"  # files of two folders may have one name
            taken.add(name)
            named[digest] = (name, text)
    return named


def _read(texts: TextSource, what: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of every document."""
    if isinstance(texts, str | Path):
        path = Path(texts)
        if texts != "" and os.path.isdir(path):  # of a name that no file can have, false
            yield from _folder(path, what)
        elif os.path.isfile(path):
            yield from _file(path, path.name, what)
        else:
            raise absent(texts, what)
        return
    if not isinstance(texts, Iterable):
        raise DataError(f"{what}: is a {type(texts).__name__}; give a folder, a file, or a list of strings")
    for i, text in enumerate(texts):
        if isinstance(text, Path):
            yield from _read(text, what)
        elif isinstance(text, str):
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise DataError(f"{what}: item {i} holds NUL or half a surrogate pair, which is no text; take it out")
            if os.path.exists(text):  # of what no name of a file can be, false
                raise DataError(f"{what}: item {i} is a string and names {text!r}, which is there; give it as `Path`")
            yield f"text {i}", text
        else:
            raise DataError(f"{what}: item {i} is of type {type(text).__name__}; give strings, or paths as `Path`")


def absent(text: str | Path, what: str) -> DataError:
    """Return the error of a text that is no file and no folder."""
    shown = str(text) if len(str(text)) < 80 else f"{str(text)[:77]}..."
    return DataError(f"{what}: {shown!r} is neither a folder nor a file; give one, or a list of strings")


def _folder(folder: Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the documents of the files of a folder whose suffix is known; hidden ones are passed over."""
    paths = sorted({file.path for place in folders_of(folder, SUFFIXES) for file in find_files(place)})
    shown = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not shown:
        raise DataError(f"{what}: {folder} holds no file that ends with {', '.join(SUFFIXES)}; give such files")
    for path in shown:
        yield from _file(path, path.relative_to(folder).as_posix(), what)


def _file(path: Path, name: str, what: str) -> Iterator[tuple[str, str]]:
    """Yield the documents of a file: itself, or one per line of JSON."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{what}: {path} ends with none of {', '.join(SUFFIXES)}; rename or convert it")
    text = read_text(path)
    if path.suffix != ".jsonl":
        yield name, text
        return
    for place, line in enumerate(text.split("\n"), 1):  # `splitlines` also ends a line within a JSON string
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        found = row.get("text") if isinstance(row, dict) else row
        if not isinstance(found, str):
            raise DataError(f"{what}: {path}, line {place} is no JSON text and has no key `text`; correct the line")
        yield f"{name}:{place}", found
