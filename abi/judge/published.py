"""The published record as data: what `config/record` holds, and what was published for a claim (unjudged)."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abi.base.errors import ConfigError, DataError
from abi.base.files import Json, parse_json

FIGURES = "published.json"
MANIFEST = "MANIFEST.sha256"
RESULTS = "published_results"
NEEDED = {"claim", "metric", "value", "source_doc", "json_value"}
RESTORE = "restore it with `git checkout -- config/record`"


@dataclass(frozen=True)
class Record:
    """The record's documented figures by id, its result files by name, and every file's text."""

    root: Path
    entries: dict[str, dict[str, Any]]
    thresholds: dict[str, Any]
    counts: dict[str, int]
    files: dict[str, Any]
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
        entries, thresholds, counts = figures["entries"], figures["nib_thresholds"], figures["counts"]
        complete = all(NEEDED <= entry.keys() for entry in entries.values())
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / FIGURES}: not the figures of a record (missing {error})") from error
    if not complete:
        raise DataError(f"{root / FIGURES}: an entry lacks claim, metric, value, source_doc or json_value")
    files = {Path(name).name: value for name, value in data.items()}
    return Record(root, entries, thresholds, counts, files, texts, _read(root / MANIFEST))


def default_root() -> Path:
    """Return the record of the working directory if it has one, else that of this checkout."""
    here = Path("config") / "record"
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "config" / "record"


def claims_of(record: Record) -> list[str]:
    """Return the record's claims, in its order."""
    return list(dict.fromkeys(entry["claim"] for entry in record.entries.values()))


def check_claim(claim: str, valid: list[str]) -> None:
    """Raise ConfigError if a claim is not in the record; the message lists those that are."""
    if claim not in valid:
        close = difflib.get_close_matches(claim, valid, 1)
        meant = f"; did you mean {close[0]}?" if close else "."
        raise ConfigError(f"'{claim}' is not a claim of the record{meant} Claims: {', '.join(valid)}")


def documents(entry: dict[str, Json]) -> str:
    """Return the documents that state a figure, or "" where none does."""
    source = str(entry["source_doc"])
    return "" if source.startswith("(") else re.sub(r",(?! )", ", ", source)


def figures_of(claim: str, root: Path | None = None) -> dict[str, dict[str, Json]]:
    """Return what was published for a claim: metric -> value, threshold, document, file, file value.

    Args: root: folder of the record, `config/record` if None.
    Raises: ConfigError: not a claim of the record; the message lists the valid ones.
    """
    return figures_in(load_record(root or default_root()), claim)


def figures_in(record: Record, claim: str) -> dict[str, dict[str, Json]]:
    """Return what a record holds of a claim. Raises: ConfigError: as `figures_of`."""
    check_claim(claim, claims_of(record))
    return {
        entry["metric"]: {
            "value": entry["value"],
            "comparator": entry["comparator"],
            "threshold": entry["threshold"],
            "holds": entry["holds"],
            "document": documents(entry),
            "file": entry["result_file"],
            "leaf": entry["json_path"],
            "file_value": entry["json_value"],
        }
        for entry in record.entries.values()
        if entry["claim"] == claim
    }
