"""Reading the files of a checkout: typed where they can be, a finding where they cannot."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from abi.audit.record.arithmetic import lookup
from abi.audit.results.findings import TAMPERED, UNREADABLE, Finding
from abi.base.errors import DataError
from abi.base.files import Json, parse_file, sha256_file
from abi.base.typed import Document, of_format
from abi.judge.results import KINDS, AnyResult

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class ResultFile:
    """A result file: where it lies, its JSON as it stands, and what it says."""

    path: Path
    document: Mapping[str, Json]
    result: AnyResult

    @property
    def sha256(self) -> str:
        """Return the hash of the file's bytes."""
        return sha256_file(self.path)

    def at(self, leaf: str) -> Json:
        """Return the value that stands at a leaf, or below it. Raises: KeyError: nothing does."""
        return lookup(self.document, leaf)

    @property
    def figures(self) -> dict[str, Json]:
        """Return everything the file says but what made it."""
        return {key: value for key, value in self.document.items() if key not in ("provenance", "seal")}


def read_result(path: Path, found: list[Finding]) -> ResultFile | None:
    """Return the result file of a claim of any kind, by its `format`; None as `read`."""
    document = parsed(path, found)
    if document is None:
        return None
    kind = of_format(document, KINDS)
    if kind is None:
        found.append(Finding(TAMPERED, str(path), "format", "breaks its schema: it names no kind of result"))
        return None
    result = checked(kind, document, path, found)
    return None if result is None else ResultFile(path, document, result)


def read(path: Path, model: type[D], found: list[Finding]) -> D | None:
    """Return a JSON document of a model; None if it cannot be used, with the reasons added to `found`."""
    document = parsed(path, found)
    return None if document is None else checked(model, document, path, found)


def parsed(path: Path, found: list[Finding]) -> Json | None:
    """Return the JSON value of a file; None if it cannot be read, with the reason added to `found`."""
    try:
        return parse_file(path)
    except DataError as error:
        found.append(Finding(UNREADABLE, str(path), "", str(error).removeprefix(f"{path}: ")))
        return None


def checked(model: type[D], document: Json, path: Path, found: list[Finding]) -> D | None:
    """Return a document as its model; None if it breaks it, with every fault added to `found`."""
    try:
        made = model.model_validate(document)
    except ValidationError as error:
        found += [
            Finding(TAMPERED, str(path), "/".join(map(str, fault["loc"])), f"breaks its schema: {fault['msg'][:120]}")
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        return None
    if made.format != model.format_name():
        words = f"breaks its schema: {made.format!r}, not {model.format_name()!r}"
        found.append(Finding(TAMPERED, str(path), "format", words))
        return None
    return made
