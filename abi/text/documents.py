"""Documents of a text as a file: written, read, checked against the record that assigns them to groups and splits."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from abi.base.errors import DataError, TamperError
from abi.base.files import atomic_path, sha256_json
from abi.base.manifests.texts import TextManifest
from abi.base.typed import Split

SPLITS: tuple[Split, ...] = ("train", "calibration", "test")
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


def split_of(group: str, shares: Mapping[str, float], salt: str) -> Split:
    """Return the split of a group, by its hash alone: code and prose of one folder lie on the same side."""
    point = int.from_bytes(hashlib.sha256(f"{salt}|{group}".encode()).digest()[:8], "big") / 2**64
    for name in SPLITS:
        if point < shares[name]:
            return name
        point -= shares[name]
    return SPLITS[-1]


def write_documents(documents: Sequence[Document], path: str | Path) -> None:
    """Write documents as gzip JSON lines, byte-identical for identical documents."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as handle:
        for document in documents:
            handle.write((json.dumps(asdict(document), ensure_ascii=False) + "\n").encode())
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_documents(path: str | Path, most_bytes: int = 2**32) -> list[Document]:
    """Return the documents of a text; each text is checked against its hash.

    Raises: DataError: damaged, or an archive that holds more bytes than are wanted; no more than those are unpacked.
    """
    try:
        with gzip.open(path, "rb") as handle:
            documents = [Document(**json.loads(line)) for line in _lines(handle, most_bytes)]
        digests = [hashlib.sha256(document.text.encode()).hexdigest() for document in documents]
    except (OSError, EOFError, ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise DataError(f"{path}: is not a text of abi ({error}); delete it and rebuild it") from None
    for document, digest in zip(documents, digests, strict=True):
        if digest != document.sha256 or document.split not in SPLITS:
            raise DataError(
                f"{path}: document {document.document} does not match its hash; delete the file and rebuild it"
            )
    return documents


def _lines(handle: gzip.GzipFile, most_bytes: int) -> Iterator[bytes]:
    """Yield lines of some bytes in all. Raises: ValueError: there are more."""
    while line := handle.readline(most_bytes + 1):
        most_bytes -= len(line)
        if most_bytes < 0:
            raise ValueError("unpacked it is larger than its record says")
        yield line


def assignment_sha256(documents: Sequence[Document]) -> str:
    """Return a hash of document -> (group, split, sha256 of its text), independent of their order."""
    return sha256_json(sorted([d.document, d.group, d.split, d.sha256] for d in documents))


def read_assigned(path: str | Path, record: str | Path, split: str | None = None) -> list[Document]:
    """Return the documents of a text (of one split if given) after checking them against the text's record.

    Raises: DataError: a file that cannot be read; TamperError: a document, group or split is not the one recorded.
    """
    promised = TextManifest.read(record)
    # A byte of text takes six of JSON at most (as an escape), a document names itself and its group in addition.
    most = sum(6 * of.bytes + 2**16 * of.documents for of in promised.splits.values())
    documents = read_documents(path, most)
    if assignment_sha256(documents) != promised.assignment_sha256:
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
