"""Text as documents: groups, split by group, caps, copies, manifest.

A document is one source file or one text; documents of one folder of one package are a group (`docs/protocol.md`,
section 1).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.manifests.texts import HeldOutDocument, SplitCounts, TextManifest
from abi.base.typed import Provenance
from abi.plan.specs.text import BuildText
from abi.text.documents import SPLITS, Document, assignment_sha256, split_of
from abi.text.extraction import extract, identifier_share
from abi.text.sources import RawFile, find_files, read_text


def build_text(spec: BuildText) -> list[Document]:
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
    owner: dict[bytes, str] = {}
    total = 0
    for file in files:
        if total >= spec.max_bytes:
            break
        if per_group.get(file.group, 0) >= spec.max_documents_per_group:
            continue
        document = _document(file, spec)
        if document is None:
            continue
        lines = _long_lines(document.text)
        copied = sum(owner.get(line, document.group) != document.group for line in lines)
        if lines and copied / len(lines) > spec.max_copied_share:
            continue
        for line in lines:  # the first group to show a line owns it
            owner.setdefault(line, document.group)
        per_group[file.group] = per_group.get(file.group, 0) + 1
        total += document.n_bytes
        chosen.append(document)
    _check_groups(chosen, spec)
    return chosen


def _document(file: RawFile, spec: BuildText) -> Document | None:
    if file.text is None and sha256_file(file.path) != file.key:
        raise DataError(f"{file.name}: is not the file its source recorded; reinstall {file.source} {file.version}")
    text = extract(read_text(file.path) if file.text is None else file.text, spec.extract, file.name)
    data = text.encode()
    if len(data) > spec.max_bytes_per_document:  # the longest head of whole lines that fits
        text = data[: spec.max_bytes_per_document].decode(errors="ignore").rpartition("\n")[0] + "\n"
        data = text.encode()
    if len(data) < spec.min_bytes_per_document:
        return None
    digest = hashlib.sha256(data).hexdigest()
    name = file.name if file.name.startswith(file.source) else f"{file.source}/{file.name}"
    split = split_of(file.group, dict(spec.split), spec.salt)
    return Document(name, file.group, file.source, file.version, digest, split, len(data), text)


def _long_lines(text: str) -> set[bytes]:
    """Return the hashes of the lines that are long enough to be somebody's; short ones (`return x`) are anybody's."""
    lines = {line.strip() for line in text.splitlines()}
    return {hashlib.blake2b(line.encode(), digest_size=8).digest() for line in lines if len(line) >= 20}


def held_out(documents: Sequence[Document]) -> dict[str, HeldOutDocument]:
    """Return every document of calibration and test with its package and how much of it train holds too.

    Raises: DataError: two documents of one name.
    """
    if twice := [name for name, n in Counter(d.document for d in documents).items() if n > 1]:
        raise DataError(f"corpus: two documents are named {twice[0]}; give their sources different labels")
    train = {line for d in documents if d.split == "train" for line in _long_lines(d.text)}
    several = len({d.source for d in documents}) > 1
    return {
        d.document: HeldOutDocument.model_validate(
            {"split": d.split, "package": d.source if several else d.group, "in_train": _share_in(train, d.text)}
        )
        for d in documents
        if d.split != "train"
    }


def _share_in(known: set[bytes], text: str) -> float:
    """Return the share of a text's long lines that are known, 0 where it has none."""
    lines = _long_lines(text)
    return len(lines & known) / len(lines) if lines else 0.0


def _check_groups(documents: Sequence[Document], spec: BuildText) -> None:
    counts = {name: len({d.group for d in documents if d.split == name}) for name in SPLITS}
    if counts["test"] < spec.min_test_groups or min(counts.values()) == 0:
        raise DataError(
            f"corpus: {counts['train']} train, {counts['calibration']} calibration and {counts['test']} test groups; "
            f"at least {spec.min_test_groups} test groups (folders) are needed: add sources, or raise `max_bytes`"
        )


def summary(documents: Sequence[Document], provenance: Provenance) -> TextManifest:
    """Return the manifest of a text: counts per split, code that is left, who is in which split, what is near train.

    Raises: DataError: two documents of one name.
    """
    per_split = {
        name: SplitCounts(
            groups=len({d.group for d in documents if d.split == name}),
            documents=sum(d.split == name for d in documents),
            bytes=sum(d.n_bytes for d in documents if d.split == name),
        )
        for name in SPLITS
    }
    return TextManifest(
        splits=per_split,
        assignment_sha256=assignment_sha256(documents),
        identifier_share=round(identifier_share(d.text for d in documents), 4),
        held_out=held_out(documents),
        provenance=provenance,
    )
