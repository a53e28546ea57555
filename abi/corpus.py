"""Text as documents: groups, split by group, caps, copies, manifest.

A document is one source file or one text; documents of one folder of one package are a group (PROTOCOL section 1).
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from abi.errors import DataError, TamperError
from abi.extraction import extract, identifier_share
from abi.provenance import atomic_path, read_json, sha256_file, sha256_json
from abi.sources import RawFile, find_files, read_text

SPLITS = ("train", "calibration", "test")
FIELDS = ("document", "group", "source", "version", "sha256", "split", "n_bytes")


@dataclass(frozen=True)
class Document:
    """One text with where it came from; `split` is its group's."""

    document: str
    group: str
    source: str
    version: str
    sha256: str
    split: str
    n_bytes: int
    text: str


def split_of(group: str, shares: Mapping[str, float], salt: str) -> str:
    """Return the split of a group, by its hash alone: code and prose of one folder lie on the same side."""
    point = int.from_bytes(hashlib.sha256(f"{salt}|{group}".encode()).digest()[:8], "big") / 2**64
    for name in SPLITS:
        if point < shares[name]:
            return name
        point -= shares[name]
    return SPLITS[-1]


@dataclass(frozen=True)
class TextSpec:
    """How one text is made. Sizes in bytes of UTF-8; a cap of a group or document is hit at a line's end."""

    extract: str
    sources: Sequence[Mapping[str, Any]]
    max_bytes: int
    max_bytes_per_document: int
    min_bytes_per_document: int
    max_documents_per_group: int
    max_copied_share: float
    split: Mapping[str, float]
    salt: str
    min_test_groups: int


def build_text(spec: TextSpec) -> list[Document]:
    """Return the chosen documents of a text, in hash order, deduplicated by lines across groups.

    A file whose lines (of 20 characters and more) already stand in documents of other groups by more than
    `max_copied_share` is a copy and is left out, so that a test document is never a train document under another name.
    Raises: DataError: too little text, or too few test groups.
    """
    files = sorted(
        (file for source in spec.sources for file in find_files(source)), key=lambda file: (file.key, file.name)
    )
    chosen: list[Document] = []
    per_group: dict[str, int] = {}
    owner: dict[int, str] = {}
    total = 0
    for file in files:
        if total >= spec.max_bytes:
            break
        if per_group.get(file.group, 0) >= spec.max_documents_per_group:
            continue
        document = _document(file, spec)
        if document is None or _copied_share(document, owner) > spec.max_copied_share:
            continue
        for line in _long_lines(document.text):
            owner.setdefault(line, document.group)
        per_group[file.group] = per_group.get(file.group, 0) + 1
        total += document.n_bytes
        chosen.append(document)
    _check_groups(chosen, spec)
    return chosen


def _document(file: RawFile, spec: TextSpec) -> Document | None:
    if file.text is None and sha256_file(file.path) != file.key:
        raise DataError(f"{file.name}: is not the file its source recorded; reinstall {file.source} {file.version}")
    text = _cut(
        extract(read_text(file.path) if file.text is None else file.text, spec.extract, file.name),
        spec.max_bytes_per_document,
    )
    size = len(text.encode())
    if size < spec.min_bytes_per_document:
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = file.name if file.name.startswith(file.source) else f"{file.source}/{file.name}"
    split = split_of(file.group, spec.split, spec.salt)
    return Document(name, file.group, file.source, file.version, digest, split, size, text)


def _cut(text: str, limit: int) -> str:
    """Return the longest head of whole lines that fits the limit."""
    if len(text.encode()) <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore").rpartition("\n")[0] + "\n"


def _long_lines(text: str) -> set[int]:
    return {hash_line(line.strip()) for line in text.splitlines() if len(line.strip()) >= 20}


def hash_line(line: str) -> int:
    """Return a hash of a line that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "big")


def _copied_share(document: Document, owner: Mapping[int, str]) -> float:
    lines = _long_lines(document.text)
    copied = sum(1 for line in lines if owner.get(line, document.group) != document.group)
    return copied / len(lines) if lines else 0.0


def _check_groups(documents: Sequence[Document], spec: TextSpec) -> None:
    counts = {name: len({d.group for d in documents if d.split == name}) for name in SPLITS}
    if counts["test"] < spec.min_test_groups or min(counts.values()) == 0:
        raise DataError(
            f"corpus: {counts['train']} train, {counts['calibration']} calibration and {counts['test']} test groups; "
            f"at least {spec.min_test_groups} test groups (folders) are needed: add sources, or raise `max_bytes`"
        )


def write_documents(documents: Sequence[Document], path: str | Path) -> None:
    """Write documents as gzip JSON lines, byte-identical for identical documents."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as handle:
        for document in documents:
            handle.write((json.dumps(asdict(document), ensure_ascii=False) + "\n").encode())
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_documents(path: str | Path) -> list[Document]:
    """Return the documents of a text; each text is checked against its hash. Raises: DataError: damaged."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            documents = [Document(**json.loads(line)) for line in handle]
        digests = [hashlib.sha256(document.text.encode()).hexdigest() for document in documents]
    except (OSError, EOFError, ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise DataError(f"{path}: is not a text of abi ({error}); delete it and rebuild it") from None
    for document, digest in zip(documents, digests, strict=True):
        if digest != document.sha256 or document.split not in SPLITS:
            raise DataError(
                f"{path}: document {document.document} does not match its hash; delete the file and rebuild it"
            )
    return documents


def assignment_sha256(documents: Sequence[Document]) -> str:
    """Return a hash of document -> (group, split, sha256 of its text), independent of their order."""
    return sha256_json(sorted([d.document, d.group, d.split, d.sha256] for d in documents))


def read_assigned(path: str | Path, record: str | Path, split: str | None = None) -> list[Document]:
    """Return the documents of a text (of one split if given) after checking them against the text's record.

    Raises: DataError: a file that cannot be read; TamperError: a document, group or split is not the one recorded.
    """
    documents = read_documents(path)
    if assignment_sha256(documents) != read_json(record, "text")["assignment_sha256"]:
        raise TamperError(
            f"{path}: documents, groups or splits are not those of {record}; delete both and rebuild them"
        )
    return [document for document in documents if split in (None, document.split)]


def write_manifest(documents: Sequence[Document], path: str | Path) -> None:
    """Write the manifest of a text: one CSV row per document, without the text."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(asdict(document) for document in documents)
    with atomic_path(path) as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8")


def summary(documents: Sequence[Document]) -> dict[str, object]:
    """Return counts per split and how much code is left (`identifier_share`, of words) and the hash of who is in which split."""
    per_split = {
        name: {
            "groups": len({d.group for d in documents if d.split == name}),
            "documents": sum(d.split == name for d in documents),
            "bytes": sum(d.n_bytes for d in documents if d.split == name),
        }
        for name in SPLITS
    }
    share = round(identifier_share(d.text for d in documents), 4)
    return {"splits": per_split, "assignment_sha256": assignment_sha256(documents), "identifier_share": share}
