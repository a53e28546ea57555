"""The published record as data: what `config/record` holds, and what was published for a claim (unjudged)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from abi.base.errors import ConfigError, DataError
from abi.base.files import Json, parse_json
from abi.base.wording import closest

if TYPE_CHECKING:
    from abi.judge.results import PublishedFigure

FIGURES = "published.json"
MANIFEST = "MANIFEST.sha256"
RESULTS = "published_results"
RESTORE = "restore it with `git checkout -- config/record`"


class Entry(NamedTuple):
    """A documented figure: what documents say, the original's own mark, and what the result file holds."""

    claim: str
    kind: str
    metric: str
    value: Json
    threshold: float | None
    comparator: Literal["<", ">", "<=", ">="] | None
    holds: bool | None
    source_doc: str
    result_file: str | None
    json_path: str | None
    json_value: Json
    agrees: bool
    note: str | None

    @property
    def documents(self) -> str:
        """The documents that state the figure, "" where none does."""
        return "" if self.source_doc.startswith("(") else re.sub(r",(?! )", ", ", self.source_doc)


class Bound(NamedTuple):
    """What a figure of the NIB is compared with, and how."""

    cmp: str
    value: float


@dataclass(frozen=True)
class Record:
    """The record's documented figures by id, its result files by name, and every file's text."""

    root: Path
    entries: dict[str, Entry]
    thresholds: dict[str, Bound]
    counts: dict[str, int]
    files: dict[str, Json]
    texts: dict[str, str] = field(repr=False)
    manifest: str = field(repr=False, default="")


class Token(str):
    """A number exactly as it is written in the file, so that no digit is lost on reading."""


def parse(text: str, name: str, *, exact: bool = False) -> Json:
    """Return the JSON value of a record file; with `exact`, numbers stay as written.

    Raises: DataError: not JSON, a key twice, NaN or infinity.
    """
    try:
        return parse_json(text, number=Token if exact else None)
    except ValueError as error:
        raise DataError(f"{name}: not a readable JSON file ({error}); {RESTORE}") from error


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {RESTORE}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text; {RESTORE}") from error


def load_record(root: Path, names: tuple[str, ...] = ()) -> Record:
    """Return the record under `root` (usually `config/record`).

    Args: names: files that must be there, as in the pins; a missing one is an error.
    Raises: DataError: the folder or a file is missing, unreadable, or not the shape of a record.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; point --config to the folder that holds `record/`")
    present = {f"{RESULTS}/{path.name}" for path in (root / RESULTS).glob("*.json")}
    texts = {name: _read(root / name) for name in sorted({FIGURES, *names} | present)}
    data = {name: parse(text, str(root / name)) for name, text in texts.items()}
    figures = data.pop(FIGURES)
    try:
        told, bounds, counts = (figures[key] for key in ("entries", "nib_thresholds", "counts"))
        entries = {name: Entry(*(entry[key] for key in Entry._fields)) for name, entry in told.items()}
        thresholds = {metric: Bound(**bound) for metric, bound in bounds.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / FIGURES}: not the figures of a record (missing {error}); {RESTORE}") from error
    files = {Path(name).name: value for name, value in data.items()}
    return Record(root, entries, thresholds, counts, files, texts, _read(root / MANIFEST))


def default_root() -> Path:
    """Return the record of the working directory if it has one, else that of this checkout."""
    here = Path("config") / "record"
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "config" / "record"


def claims_of(record: Record) -> list[str]:
    """Return the record's claims, in its order."""
    return list(dict.fromkeys(entry.claim for entry in record.entries.values()))


def check_claim(claim: str, valid: list[str]) -> None:
    """Raise ConfigError if a claim is not in the record; the message lists those that are."""
    if claim not in valid:
        raise ConfigError(f"{claim!r} is not a claim of the record{closest(claim, valid)} (valid: {', '.join(valid)})")


def figures_of(claim: str, root: Path | None = None) -> dict[str, PublishedFigure]:
    """Return metric -> what was published for a claim.

    Args: root: folder of the record, `config/record` if None.
    Raises: ConfigError: not a claim of the record; the message lists the valid ones.
    """
    return figures_in(load_record(root or default_root()), claim)


def figures_in(record: Record, claim: str) -> dict[str, PublishedFigure]:
    """Return what a record holds of a claim. Raises: ConfigError: as `figures_of`; DataError: a value of no kind."""
    from pydantic import ValidationError  # which the audit of the record does without

    from abi.base.typed import fault
    from abi.judge.results import PublishedFigure

    check_claim(claim, claims_of(record))
    found = {}
    for entry in (entry for entry in record.entries.values() if entry.claim == claim):
        try:
            found[entry.metric] = PublishedFigure(
                value=entry.value,
                comparator=entry.comparator,
                threshold=entry.threshold,
                holds=entry.holds,
                document=entry.documents,
                file=entry.result_file,
                leaf=entry.json_path,
                file_value=entry.json_value,
            )
        except ValidationError as error:
            raise DataError(f"{record.root / FIGURES}: {claim}.{entry.metric}: {fault(error)}; {RESTORE}") from None
    return found
