"""Texts of a user as documents: strings, a file or a folder; copies are left out, each document has a split."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from abi.api.defaults import COPIED, SALT, SHARES
from abi.api.progress import warn
from abi.base.errors import DataError
from abi.base.wording import number
from abi.text.copies import Copies
from abi.text.documents import SPLITS, Document, split_of
from abi.text.extraction import extract
from abi.text.sources import MOST_TEXT, half_surrogate, read_text

TextSource = str | Path | Iterable[str | Path]
"""A folder, a file, or some strings (each a document) and files."""

SUFFIXES = (".txt", ".md", ".py", ".jsonl")
OTHERWISE = "copy other files to .txt, or give a list of strings"
LABEL = "texts"
FEW = 20
"""Documents to learn from, below which a call says that they are few."""
SALTS = 100
"""How many salts are tried until every split of a few documents has one."""


class Documents(list[Document]):
    """Documents of which none is a copy of another, in the order of their hashes.

    Args: copies: key of a text that was left out as a copy -> that of the document which it mostly copies.
    """

    def __init__(self, documents: Iterable[Document], copies: Mapping[str, str]) -> None:
        super().__init__(documents)
        self.copies = dict(copies)


def key_of(document: Document) -> str:
    """Return the hash by which a record names a document."""
    return document.sha256[:16]


def documents_of(texts: TextSource, what: str = "texts") -> Documents:
    """Return the documents of some texts, each with its split, in the order of their hashes.

    A document most of whose passages stand in another one is a copy, and is left out. The split follows from the hash
    of the text, of few documents from all of theirs, so that it depends neither on names nor on order.
    Args: texts: returned as they are where they are documents already; what: the argument, as errors name it.
    Raises: DataError: no such file, an unknown suffix, no text, or fewer than three documents that differ.
    """
    if isinstance(texts, Documents):
        return texts
    found = _different(texts, what)
    salts = (SALT, *(f"{SALT}-{i}" for i in range(1, SALTS)))  # of few documents the first that fills all splits
    splits = ([split_of(document.group, dict(SHARES), salt) for document in found] for salt in salts)
    chosen = next((some for some in splits if len(set(some)) == len(SPLITS)), None)
    if chosen is None:
        raise DataError(
            f"{what}: {number(len(found), 'document')} of different text cannot be split into train, calibration and "
            "test; give three or more, at best a hundred"
        )
    pairs = zip(found, chosen, strict=True)
    return Documents([replace(document, split=split) for document, split in pairs], found.copies)


def warn_of_few(call: str, documents: Iterable[Document], what: str = "texts") -> None:
    """Warn where a call learns from so few documents that little can come of it."""
    n = len(of_split(documents, "train"))
    if n < FEW:
        warn(f"{call}: {what} has {number(n, 'document')} to learn from; a hundred are better")


def require_general(call: str, general: Documents, domain: Iterable[str], what: str = "general_texts") -> Documents:
    """Return general text, with a warning where it holds domain text.

    Args: domain: keys of its documents; what: its name in the call.

    Raises: DataError: most of it is text of the domain.
    """
    if n := len(seen_here(general, {*domain})):
        told = f"{call}: {n} of {number(len(general), 'document')} of {what} are text of the domain"
        if 2 * n > len(general):
            raise DataError(f"{told}; give text of anything else")
        warn(f"{told}; better give other text")
    return general


def unsplit(texts: TextSource, what: str = "texts") -> Documents:
    """Return the documents of some texts, all as test text; two or one will do. Raises: DataError: there is none."""
    found = _different(texts, what)
    if not found:
        raise DataError(f"{what}: there is no text in it; give some")
    return found


def _different(texts: TextSource, what: str) -> Documents:
    """Return the documents of some texts that are no copies, all as test text."""
    found = sorted(_by_hash(_read(texts, what)).items(), key=lambda one: hashlib.sha256(one[1][1].encode()).hexdigest())
    named = {digest: _document(digest, name, text) for digest, (name, text) in found}
    seen, kept, copies = Copies(COPIED), dict[str, Document](), dict[str, str]()
    for digest, document in named.items():
        original = seen.copied(digest, digest, document.text)
        if original is None:
            kept[digest] = document
        else:
            copies[key_of(document)] = key_of(named[original])
    return Documents(kept.values(), copies)


def _document(digest: str, name: str, text: str) -> Document:
    """Return a text as a document and group of its own."""
    taken = extract(text, "plain", name) or ""
    data = taken.encode()
    return Document(
        name, f"{LABEL}/{digest}", LABEL, "local", hashlib.sha256(data).hexdigest(), "test", len(data), taken
    )


def seen_here(documents: Documents, seen: Collection[str]) -> set[str]:
    """Return the keys of those documents that were seen, themselves or as one of the copies that were left out."""
    copied = {original for copy, original in documents.copies.items() if copy in seen}
    return copied | {key for document in documents if (key := key_of(document)) in seen}


def of_split(documents: Iterable[Document], *splits: str) -> list[Document]:
    """Return the documents of some splits."""
    return [document for document in documents if document.split in splits]


def _by_hash(found: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return hash -> name and text of every text that is not empty, the first of equal ones; no two have one name."""
    named: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for name, text in found:
        text = text.replace("\r\n", "\n").replace("\r", "\n")  # one text, however its lines end
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
            _require_text(text, f"{what}: item {i}")
            if os.path.exists(text):  # of what no name of a file can be, false
                raise DataError(f"{what}: item {i} is a string and names {text!r}, which is there; give it as `Path`")
            yield f"text {i}", text
        else:
            raise DataError(f"{what}: item {i} is of type {type(text).__name__}; give strings, or paths as `Path`")


def _require_text(text: str, where: str) -> None:
    """Raise DataError for a string that no file of text can hold."""
    if "\0" in text or half_surrogate(text):
        raise DataError(f"{where} holds NUL or half a surrogate pair, which is no text; take it out")


def absent(text: str | Path, what: str) -> DataError:
    """Return the error of a text that is no file and no folder."""
    shown = str(text) if len(str(text)) < 80 else f"{str(text)[:77]}..."
    return DataError(f"{what}: {shown!r} is neither a folder nor a file; give one, or a list of strings")


def _folder(folder: Path, what: str) -> Iterator[tuple[str, str]]:
    """Yield the documents of the files of a folder whose suffix is known; hidden ones are passed over."""
    files = sorted(path for path in folder.rglob("*") if _open(path, folder) and path.is_file())
    shown = [path for path in files if path.suffix in SUFFIXES]
    if not shown:
        raise DataError(f"{what}: {folder} holds no file that ends with {', '.join(SUFFIXES)}; {OTHERWISE}")
    if left := [path for path in files if path.suffix not in SUFFIXES]:
        warn(f"{what}: {number(len(left), 'file')} of {folder} not read, such as {left[0].name}; {OTHERWISE}")
    root = folder.resolve()
    for path in shown:
        if not path.resolve().is_relative_to(root):
            raise DataError(f"{what}: {path} is a link out of the folder; give what it leads to, or take it out")
        yield from _file(path, path.relative_to(folder).as_posix(), what)


def _open(path: Path, folder: Path) -> bool:
    """Return whether no part of a path below a folder is hidden."""
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _file(path: Path, name: str, what: str) -> Iterator[tuple[str, str]]:
    """Yield the documents of a file: itself, or one per line of JSON."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{what}: {path} ends with none of {', '.join(SUFFIXES)}; {OTHERWISE}")
    if half_surrogate(name):
        raise DataError(f"{what}: the file name {name!r} is not UTF-8; rename the file")
    if path.stat().st_size > MOST_TEXT:
        raise DataError(f"{what}: {path} has more than {MOST_TEXT} bytes; split it, or take it out")
    try:
        text = read_text(path)
    except DataError:
        raise DataError(f"{what}: {path} is no UTF-8 text; convert it, or take it out") from None
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
            raise DataError(f"{what}: {path}, line {place} is neither a JSON string nor an object whose `text` is one")
        _require_text(found, f"{what}: {path}, line {place}")
        yield f"{name}:{place}", found
