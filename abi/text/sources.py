"""Where text comes from: installed distributions and their descriptions, folders, data sets of the hub, a grammar."""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from abi.base.errors import DataError, first_line
from abi.base.files import read_regular, sha256_file
from abi.base.hub import Repository, fetch
from abi.plan.specs.text import Folder, HubData, Metadata, Package, Source, Synthetic
from abi.text import grammar
from abi.text.extraction import FENCE

MOST_TEXT = 500_000_000
"""Bytes of the largest file that is read as a text, and of the text of a parquet file."""
ROWS = 1000
"""Rows of a parquet file that are read at once."""
HEADING = re.compile(r"#{1,6} ")
UNDERLINE = re.compile(r"([=\-~^\"*+#])\1{2,}\s*$")


NAMING = ("package", "path", "id", "name", "pattern")
"""Keys of a source that name it."""


@dataclass(frozen=True)
class RawFile:
    """A file as found: `key` orders the choice, `group` its folder.

    `key` is the hash of the file, or anything where `text` holds what would be read.
    """

    name: str
    group: str
    source: str
    version: str
    key: str
    path: Path
    text: str | None = None


def half_surrogate(text: str) -> bool:
    """Return whether a string holds half a surrogate pair, which no UTF-8 can say."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def find_files(source: Source) -> list[RawFile]:
    """Return the files of one source, ordered by key.

    Raises: DataError: the source is missing, or is another version than the one pinned.
    """
    files = FINDERS[source.kind](source)
    if not files:
        given = source.plain()
        told = ", ".join(f"{key} {given[key]}" for key in ("kind", *NAMING) if given.get(key))
        raise DataError(
            f"corpus source {told}: gives no file; check its path, its pattern and what a file must contain"
        )
    return sorted(files, key=lambda file: (file.key, file.name))


def _installed(name: str, wanted: str) -> metadata.Distribution:
    """Return an installed distribution. Raises: DataError: it is missing, or of another version than the one pinned."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise DataError(f"corpus source {name}: is not installed; run `make setup`") from None
    if distribution.version != wanted:
        raise DataError(
            f"corpus source {name}: version {distribution.version} is installed, {wanted} is pinned; run `make setup`"
        )
    return distribution


def _package_files(source: Package) -> list[RawFile]:
    name, wanted = source.package, source.version
    distribution = _installed(name, wanted)
    found = []
    for entry in distribution.files or []:
        if entry.hash is None or not entry.match(source.pattern.removeprefix("**/")) or ".." in entry.parts:
            continue
        path = Path(str(distribution.locate_file(entry)))
        if source.containing is not None and not re.search(source.containing, read_text(path)):
            continue
        key = base64.urlsafe_b64decode(entry.hash.value + "=").hex()
        group = _folder_group(name, (entry.parent if source.group_by == "folder" else entry).as_posix())
        found.append(RawFile(entry.as_posix(), group, name, wanted, key, path))
    return found


def _metadata_files(source: Metadata) -> list[RawFile]:
    """Return the descriptions of distributions (what a package index shows) in parts; a package is a group."""
    found = []
    for name, version in source.packages.items():
        body = (_installed(name, version).read_text("METADATA") or "").partition("\n\n")[2]
        if not body.strip():
            raise DataError(f"corpus source {name}: has no description; take it off `packages`")
        parts = sections(body, source.part_bytes)
        named = {f"{name}/description/{i:02d}.md": part for i, part in enumerate(parts)}
        found += _in_turn(named, f"{name}/description", name, version)
    return found


def sections(text: str, least: int) -> list[str]:
    """Return Markdown or reStructuredText cut at headings outside of code blocks, in sections of `least` bytes or more.

    A heading is a line that begins with `#`, or one that the next line underlines.
    """
    parts, fenced = [""], False
    lines = text.splitlines(keepends=True)
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        fenced ^= bool(FENCE.match(line))
        heading = HEADING.match(line) or (line[0].isalnum() and UNDERLINE.match(following))
        if heading and not fenced and len(parts[-1].encode()) >= least:
            parts.append("")
        parts[-1] += line
    return parts


def _grammar_files(source: Synthetic) -> list[RawFile]:
    """Return synthetic documents, marked as such by their names; a schema of the grammar is a group."""
    label = f"synthetic-{source.name}"
    groups: dict[str, dict[str, str]] = {}
    made = grammar.documents(source.seed, source.documents, source.groups, source.lines_per_document)
    for i, (schema, text) in enumerate(made):
        groups.setdefault(f"{label}/{schema}", {})[f"{label}/{schema}/{i:04d}.{source.name}"] = text
    return [file for group, texts in groups.items() for file in _in_turn(texts, group, label, f"seed {source.seed}")]


def _in_turn(texts: Mapping[str, str], group: str, source: str, version: str) -> list[RawFile]:
    """Return texts of one group, keyed so that every group's first comes before any group's second."""
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    ranked = sorted(texts, key=lambda name: (hashes[name], name))
    return [
        RawFile(name, group, source, version, f"{rank:04d}{hashes[name]}", Path(name), texts[name])
        for rank, name in enumerate(ranked)
    ]


def folders_of(folder: Path, suffixes: Iterable[str], label: str | None = None) -> list[Folder]:
    """Return the sources of a folder: one per kind of file that is in it."""
    there = [suffix for suffix in suffixes if any(path.is_file() for path in folder.rglob(f"*{suffix}"))]
    return [Folder(kind="folder", path=str(folder), pattern=f"**/*{suffix}", label=label) for suffix in there]


def _folder_files(source: Folder, within: Path | None = None) -> list[RawFile]:
    """Return the files of a folder. Args: within: where links may lead, into the folder itself if None."""
    root = Path(os.path.expanduser(source.path))
    if not root.is_dir():
        raise DataError(f"corpus source {root}: is not a folder; correct `path`")
    label = root.name if source.label is None else source.label
    try:
        paths = sorted(path for path in root.glob(source.pattern) if ".." not in path.relative_to(root).parts)
    except (ValueError, NotImplementedError) as error:
        raise DataError(
            f"corpus source {root}: pattern {source.pattern!r} cannot be used ({error}); correct it"
        ) from None
    found = []
    for path in paths:
        if path.is_file():
            name = path.relative_to(root).as_posix()
            if not path.resolve().is_relative_to((within or root).resolve()):
                raise DataError(
                    f"corpus source {root}: {name} is a link out of the folder; "
                    "name its target as a source of its own, or narrow `pattern`"
                )
            if half_surrogate(name):
                raise DataError(f"corpus source {root}: the file name {name!r} is not UTF-8; rename the file")
            if path.stat().st_size > MOST_TEXT:
                raise DataError(
                    f"corpus source {root}: {name} has more than {MOST_TEXT} bytes; split it, or narrow `pattern`"
                )
            key = sha256_file(path)
            of_group = path if source.group_by == "file" else path.parent
            group = _folder_group(label, of_group.relative_to(root).as_posix())
            found.append(RawFile(f"{label}/{name}", group, label, source.version, key, path))
    return found


def _hub_files(source: HubData) -> list[RawFile]:
    """Return the files of a data set of the Hugging Face hub at a pinned revision, from the local cache if there."""
    name, revision, pattern = source.id, source.revision, source.pattern
    root = fetch(Repository(name, "dataset"), revision, source.files)
    if not pattern.endswith(".parquet"):
        cache = root.parents[1]  # where the hub's client keeps what its snapshots link to
        folder = Folder(kind="folder", path=str(root), pattern=pattern, label=name, version=revision)
        return _folder_files(folder, cache)
    if source.column is None:
        raise DataError(f"corpus source {name}: names no `column` of its parquet files; add it")
    found = []
    for path in sorted(root.glob(pattern)):
        for i, text in enumerate(split_rows(parquet_rows(path, source.column), source.heading)):
            title = f"{name}/{path.stem}/{i}"
            found.append(RawFile(title, title, name, revision, hashlib.sha256(text.encode()).hexdigest(), path, text))
    return found


def parquet_rows(path: Path, column: str) -> Iterator[str]:
    """Yield the rows of the text column of a parquet file, read by and by.

    Raises: DataError: pyarrow is missing, the file is damaged or has no such column, or it holds too much text.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow; run `.venv/bin/pip install pyarrow`") from None
    read = 0
    try:
        with parquet.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise DataError(
                    f"{path}: has no column {column!r}, only {', '.join(file.schema_arrow.names)}; correct it"
                )
            for batch in file.iter_batches(ROWS, columns=[column]):
                for text in batch.column(0).to_pylist():
                    if text is None:
                        continue
                    if not isinstance(text, str):
                        kind = type(text).__name__
                        raise DataError(f"{path}: column {column!r} holds a {kind} and no text; correct `column`")
                    if (read := read + len(text.encode())) > MOST_TEXT:
                        raise DataError(f"{path}: holds more than {MOST_TEXT} bytes of text; narrow `pattern`")
                    yield text
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({first_line(error)}); correct `pattern`") from None


def split_rows(rows: Iterable[str], heading: str | None) -> list[str]:
    """Return the documents of a data set's rows: one per row, or from one line that matches `heading` to the next."""
    if heading is None:
        return [row for row in rows if row.strip()]
    documents: list[list[str]] = []
    for row in rows:
        if re.match(heading, row) or not documents:
            documents.append([])
        documents[-1].append(row)
    return [text for text in ("".join(part) for part in documents) if text.strip()]


def _folder_group(source: str, folder: str) -> str:
    """Return the group of a folder; a `tests` folder belongs to what it tests."""
    parts = [part for part in folder.split("/") if part not in {"tests", "testing", "."}]
    return "/".join([source, *parts[1:]]) if parts and parts[0] == source else "/".join([source, *parts])


FINDERS: dict[str, Callable[[Any], list[RawFile]]] = {
    "package": _package_files,
    "metadata": _metadata_files,
    "folder": _folder_files,
    "hub": _hub_files,
    "grammar": _grammar_files,
}


def read_text(path: Path) -> str:
    """Return a file's text. Raises: DataError: it is binary, not UTF-8 or too large to be one text."""
    try:
        text = read_regular(path, MOST_TEXT)
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); convert it, or narrow the source's `pattern`") from None
    text = text.removeprefix("\ufeff")  # a byte order mark is no text
    if "\0" in text:
        raise DataError(f"{path}: holds NUL bytes, so it is no text; narrow the source's `pattern`")
    return text
