"""Text as documents: sources, extraction, groups, split by group, manifest.

A document is one source file or one text; documents of one folder of one package are a group (PROTOCOL section 1).
"""

import ast
import base64
import csv
import gzip
import hashlib
import inspect
import io
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from abi.errors import DataError, TamperError
from abi.provenance import atomic_path, read_json, sha256_file, sha256_json

log = logging.getLogger("abi")
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


@dataclass(frozen=True)
class RawFile:
    """A file as found: `key` orders the choice (a content hash), `group` its folder."""

    name: str
    group: str
    source: str
    version: str
    key: str
    path: Path
    text: str | None = None


def find_files(source: Mapping[str, str]) -> list[RawFile]:
    """Return the files of one source, ordered by content hash.

    Args: source: `kind` is `package` (an installed distribution, `package`, `version`), `folder` (`path`, `pattern`)
        or `hub` (a pinned data set, see `hub_files`).
    Raises: DataError: the source is missing, or is another version than the one pinned.
    """
    finder = {"package": _package_files, "folder": _folder_files, "hub": _hub_files}[source["kind"]]
    files = finder(source)
    if not files:
        raise DataError(f"corpus source {source}: holds no file of that pattern; check the path and the pattern")
    return sorted(files, key=lambda file: (file.key, file.name))


def _package_files(source: Mapping[str, str]) -> list[RawFile]:
    name, wanted = source["package"], source["version"]
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise DataError(f"corpus source {name}: is not installed; run `make setup`") from None
    if distribution.version != wanted:
        raise DataError(
            f"corpus source {name}: version {distribution.version} is installed, {wanted} is pinned; run `make setup`"
        )
    pattern = source.get("pattern", "**/*.py")
    found = []
    for entry in distribution.files or []:
        if entry.hash is None or not entry.match(pattern.removeprefix("**/")) or ".." in entry.parts:
            continue
        key = base64.urlsafe_b64decode(entry.hash.value + "=").hex()
        group = _folder_group(name, entry.parent.as_posix())
        found.append(RawFile(entry.as_posix(), group, name, wanted, key, Path(str(distribution.locate_file(entry)))))
    return found


def _folder_files(source: Mapping[str, str]) -> list[RawFile]:
    root = Path(os.path.expanduser(source["path"]))
    if not root.is_dir():
        raise DataError(f"corpus source {root}: is not a folder; correct `path`")
    label = source.get("label", root.name)
    found = []
    for path in _matching(root, source.get("pattern", "**/*")):
        if path.is_file():
            name = path.relative_to(root).as_posix()
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise DataError(f"corpus source {root}: the file name {name!r} is not UTF-8; rename the file")
            key = hashlib.sha256(path.read_bytes()).hexdigest()
            group = _folder_group(label, path.parent.relative_to(root).as_posix())
            found.append(RawFile(f"{label}/{name}", group, label, source.get("version", "local"), key, path))
    return found


def _matching(root: Path, pattern: str) -> list[Path]:
    """Return the paths below a folder that match a glob, sorted. Raises: DataError: it is no glob below the folder."""
    try:
        return sorted(path for path in root.glob(pattern) if ".." not in path.relative_to(root).parts)
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"corpus source {root}: pattern {pattern!r} cannot be used ({error}); correct it") from None


def _hub_files(source: Mapping[str, str]) -> list[RawFile]:
    """Return the files of a data set of the Hugging Face hub at a pinned revision (from the local cache if it is there)."""
    from huggingface_hub import snapshot_download

    name, revision, pattern = source["id"], source["revision"], source.get("pattern", "**/*.txt")
    try:
        root = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=pattern)
    except Exception as error:
        raise DataError(
            f"corpus source {name}@{revision}: cannot be downloaded ({type(error).__name__}); go online once, or set HF_HOME"
        ) from None
    if not pattern.endswith(".parquet"):
        return _folder_files({"path": root, "pattern": pattern, "label": name, "version": revision})
    found = []
    for path in sorted(Path(root).glob(pattern)):
        texts = split_rows(_parquet_rows(path, source["column"]), source.get("heading"))
        for i, text in enumerate(texts):
            title = f"{name}/{path.stem}/{i}"
            found.append(RawFile(title, title, name, revision, hashlib.sha256(text.encode()).hexdigest(), path, text))
    return found


def _parquet_rows(path: Path, column: str) -> list[str]:
    try:
        import pandas

        return [str(row) for row in pandas.read_parquet(path, columns=[column])[column]]
    except ImportError:
        raise DataError(f"{path}: reading parquet needs pyarrow; run `.venv/bin/pip install pyarrow`") from None


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


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises: DataError: it is binary or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); convert it, or narrow the source's `pattern`") from None
    if "\0" in text:
        raise DataError(f"{path}: holds NUL bytes, so it is no text; narrow the source's `pattern`")
    return text


def extract(text: str, how: str, name: str) -> str:
    """Return the part of a file that is the wanted kind of text.

    Args: how: `code` (Python without docstrings and licence header), `prose` (docstrings of a Python file, or a
        prose file, without code blocks, doctests and tables) or `plain` (all of it).
    """
    if how == "plain":
        return text.strip() + "\n" if text.strip() else ""
    python = name.endswith(".py")
    try:
        if how == "code":
            return _without_docstrings(text) if python else ""
        return strip_code("\n\n".join(_docstrings(text)) if python else text)
    except (SyntaxError, ValueError, RecursionError):
        return ""


def _docstring_nodes(text: str) -> list[tuple[ast.Expr, bool]]:
    """Return each docstring statement, in order, with whether it is the only statement of its block."""
    found = []
    for node in _blocks(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.append((first, len(node.body) == 1 and not isinstance(node, ast.Module)))
    return sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset))


def _blocks(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that can hold statements; expressions hold no docstring, so they are not walked."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            value = getattr(node, field, None)
            todo += [item for item in value if isinstance(item, ast.AST)] if isinstance(value, list) else []


def _docstrings(text: str) -> list[str]:
    return [inspect.cleandoc(str(node.value.value)) for node, _ in _docstring_nodes(text)]  # type: ignore[attr-defined]


def _without_docstrings(text: str) -> str:
    """Return source with docstrings cut out by span, and without the comment block that heads the file."""
    lines = text.encode().splitlines(keepends=True)
    for node, only in reversed(_docstring_nodes(text)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset or 0 :]
        tail = re.sub(rb"^\s*;[ \t]*", b"", tail) if tail.lstrip().startswith(b";") else tail
        kept = head + (b"pass" if only else b"") + tail
        lines[first : last + 1] = [kept] if kept.strip() else []
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(b"#")), len(lines))
    return re.sub(r"\n{4,}", "\n\n\n", b"".join(lines[start:]).decode())


FENCE = re.compile(r"^\s*(```|~~~)")
TABLE = re.compile(r"^\s*(\|.*\||\+[-=+]+\+|[=\-]{2,}(\s+[=\-]{2,})+)\s*$")
RULER = re.compile(r"^\s*([=\-~^\"'*#_+`])\1{2,}\s*$")
INLINE = re.compile(r"``?[^`]*``?")
CODE_LIKE = re.compile(
    r"[\w\])]\s*=\s*\S|^\s*(import|from|def|class|return|for|if)\b.*[:(]$|[{}\[\];]|self\.|->|^\s*\w+ \(.*\):?$|^\s*\w+ ?: \w+"
)
IDENTIFIER = re.compile(r"`[^`\n]+`|\b\w+_\w+\b|\b[a-z]+[A-Z]\w*\b|\b\w+\.\w+\b|\w\(")


def strip_code(text: str) -> str:
    """Return prose without fenced and literal blocks, doctests, directives, tables, rulers and lines that look like code."""
    kept: list[str] = []
    fenced, literal, doctest = False, -1, False
    for line in text.splitlines():
        indent, blank = len(line) - len(line.lstrip()), not line.strip()
        if FENCE.match(line):
            fenced = not fenced
            continue
        doctest = line.lstrip().startswith((">>>", "... ")) or (doctest and not blank)
        if literal >= 0 and not blank and indent <= literal:
            literal = -1
        if fenced or doctest or literal >= 0 or TABLE.match(line) or RULER.match(line):
            continue
        code = bool(CODE_LIKE.search(INLINE.sub("", line)))
        if line.lstrip().startswith(".. ") or line.rstrip().endswith("::"):
            literal = indent
            line = "" if line.lstrip().startswith(".. ") else line.rstrip()[:-1]
        if not code:
            kept.append(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() + "\n" if any(kept) else ""


def identifier_share(texts: Iterable[str]) -> float:
    """Return the share of words that are program identifiers (snake_case, camelCase, dotted, backticked, calls)."""
    words = identifiers = 0
    for text in texts:
        words += len(text.split())
        identifiers += sum(1 for _ in IDENTIFIER.finditer(text))
    return identifiers / words if words else 0.0


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
    sources: Sequence[Mapping[str, str]]
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
