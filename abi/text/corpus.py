"""Text as documents: groups, split by group, caps, copies, manifest.

A document is one source file or one text; documents of one folder of one package are a group (`docs/protocol.md`,
section 1).
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.manifests.texts import HeldOutDocument, LeftOut, SplitCounts, TextManifest
from abi.base.typed import Provenance
from abi.plan.specs.text import BuildText
from abi.text.copies import Copies, passages, share_in
from abi.text.documents import SPLITS, Document, assignment_sha256, split_of
from abi.text.extraction import extract, identifier_share
from abi.text.sources import RawFile, find_files, read_text

REASONS: dict[LeftOut, str] = {
    "no such text": "without text of the kind that `extract` takes",
    "no Python 3": "that Python 3 cannot parse",
    "short": "shorter than `min_bytes_per_document`",
    "copy": "copies of other documents",
    "group full": "beyond `max_documents_per_group`",
    "text full": "beyond `max_bytes`",
}
"""Why a file gives no document, in words."""


@dataclass(frozen=True)
class Chosen:
    """The documents of a text, in hash order, and what its sources held beside them.

    Args: left_out: reason -> files; copies: a document that is left out -> the one that it mostly copies.
    """

    documents: list[Document]
    left_out: dict[LeftOut, int] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)


def build_text(spec: BuildText) -> Chosen:
    """Return the chosen documents of a text; every file that is left out is counted by its reason.

    A file whose passages already stand in documents of other groups by more than `max_copied_share` is a copy, so that
    a test document is never a train document under another name (`text/copies.py`).
    Raises: DataError: too little text, or too few test groups.
    """
    files = sorted(
        (file for source in spec.sources for file in find_files(source)), key=lambda file: (file.key, file.name)
    )
    chosen: list[Document] = []
    copies: dict[str, str] = {}
    left_out: Counter[LeftOut] = Counter()
    per_group: Counter[str] = Counter()
    seen = Copies(spec.max_copied_share)
    total = 0
    for number, file in enumerate(files):
        if total >= spec.max_bytes:
            left_out["text full"] += len(files) - number
            break
        if per_group[file.group] >= spec.max_documents_per_group:
            left_out["group full"] += 1
            continue
        document = _document(file, spec)
        if isinstance(document, str):
            left_out[document] += 1
            continue
        if (original := seen.copied(document.document, document.group, document.text)) is not None:
            left_out["copy"] += 1
            copies[document.document] = original
            continue
        per_group[file.group] += 1
        total += document.n_bytes
        chosen.append(document)
    _check_groups(chosen, left_out, spec)
    return Chosen(chosen, dict(left_out), copies)


def _document(file: RawFile, spec: BuildText) -> Document | LeftOut:
    """Return the document of a file, or why it gives none."""
    if file.text is None and sha256_file(file.path) != file.key:
        raise DataError(f"{file.name}: is not the file its source recorded; reinstall {file.source} {file.version}")
    text = extract(read_text(file.path) if file.text is None else file.text, spec.extract, file.name)
    if not text:
        return "no such text" if text is not None else "no Python 3"
    data = text.encode()
    if len(data) > spec.max_bytes_per_document:  # the longest head of whole lines that fits
        head = data[: spec.max_bytes_per_document].decode(errors="ignore")
        text = (head.rpartition("\n")[0] or head) + "\n"
        data = text.encode()
    if len(data) < spec.min_bytes_per_document:
        return "short"
    digest = hashlib.sha256(data).hexdigest()
    name = file.name if file.name.startswith(file.source) else f"{file.source}/{file.name}"
    split = split_of(file.group, dict(spec.split), spec.salt)
    return Document(name, file.group, file.source, file.version, digest, split, len(data), text)


def held_out(documents: Sequence[Document]) -> dict[str, HeldOutDocument]:
    """Return every document of calibration and test with its package and how much of it train holds too.

    Raises: DataError: two documents of one name.
    """
    if twice := [name for name, n in Counter(d.document for d in documents).items() if n > 1]:
        raise DataError(f"corpus: two documents are named {twice[0]}; give their sources different labels")
    train = {passage for d in documents if d.split == "train" for passage in passages(d.text)}
    several = len({d.source for d in documents}) > 1
    return {
        d.document: HeldOutDocument.model_validate(
            {"split": d.split, "package": d.source if several else d.group, "in_train": share_in(train, d.text)}
        )
        for d in documents
        if d.split != "train"
    }


def _check_groups(documents: Sequence[Document], left_out: Mapping[LeftOut, int], spec: BuildText) -> None:
    counts = {name: len({d.group for d in documents if d.split == name}) for name in SPLITS}
    if counts["test"] < spec.min_test_groups or min(counts.values()) == 0:
        told = f" (files left out: {reasons(left_out)})" if left_out else ""
        raise DataError(
            f"corpus: {counts['train']} train, {counts['calibration']} calibration and {counts['test']} test groups; "
            f"`min_test_groups` asks for {spec.min_test_groups}: add sources, or raise what leaves "
            f"files out{told}"
        )


def reasons(left_out: Mapping[LeftOut, int]) -> str:
    """Return in words how many files are left out, by reason."""
    return ", ".join(f"{n} {REASONS[reason]}" for reason, n in left_out.items()) or "none"


def summary(chosen: Chosen, provenance: Provenance) -> TextManifest:
    """Return the manifest of a text: counts per split, code that is left, who is in which split, what is near train.

    Raises: DataError: two documents of one name.
    """
    documents = chosen.documents
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
        left_out=chosen.left_out,
        copies=chosen.copies,
        provenance=provenance,
    )
