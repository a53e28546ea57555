"""Evidence files of one batch of seeds: two csv.gz and the manifest that promises what is in them (no numpy).

The manifest holds hash, number of rows and contents of both files. Whoever reads the rows checks it: `kept` by hash
(`abi verify`), `check_promise` by hash and contents (the verdict).
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from abi.base.errors import EvidenceError, TamperError
from abi.base.files import atomic_path, sha256_file
from abi.base.manifests import EvidenceContents, EvidenceFiles, EvidenceManifest, RowsFile
from abi.base.typed import Provenance

COLUMNS = ("fit", "arm", "draw", "seed", "scope", "group", "document", "n_positions", "metric", "value")
DRAW_COLUMNS = ("fit", "arm", "draw", "seed", "rng_seed", "chunk", "metric", "value")
SUFFIXES = {"evidence": ".csv.gz", "draws": ".draws.csv.gz"}
READING = (OSError, EOFError, UnicodeDecodeError, ValueError, IndexError, StopIteration, csv.Error, zlib.error)
"""What reading a csv.gz that is damaged may raise."""
TOLD = {"fits": "fit", "arms": "arm", "draws": "draw", "seeds": "seed", "scopes": "scope"}
"""What a manifest tells of the evidence rows -> column whose different values it lists."""


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as csv.gz, atomically, byte-identical for identical rows; numbers keep 9 significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as handle:
        handle.write(text.getvalue().encode())
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getvalue())


def files_of(manifest: str | Path) -> dict[str, Path]:
    """Return the paths of the evidence and the draws that lie beside a manifest."""
    return {name: Path(manifest).with_suffix(suffix) for name, suffix in SUFFIXES.items()}


def write_promise(manifest: str | Path, provenance: Provenance) -> None:
    """Write the manifest of the two files beside it, from what is on the disk."""
    EvidenceManifest.model_validate({**promise_of(manifest), "provenance": provenance}).write(manifest)


def promise_of(manifest: str | Path) -> dict[str, EvidenceFiles | EvidenceContents]:
    """Return what a manifest must say of the files beside it: hash and rows of both, contents of the evidence.

    Raises: EvidenceError: a file that cannot be read, or without one of its columns.
    """
    paths = files_of(manifest)
    told: dict[str, set[str]] = {column: set() for column in TOLD.values()}
    counts = {"evidence": _read(paths["evidence"], told), "draws": _read(paths["draws"], {})}
    files = {name: RowsFile(sha256=sha256_file(path), rows=counts[name]) for name, path in paths.items()}
    words = {key: sorted(told[column], key=_order) for key, column in TOLD.items()}
    whole = {key: [int(value) for value in words[key]] for key in ("draws", "seeds")}
    return {"files": EvidenceFiles(**files), "contents": EvidenceContents.model_validate(words | whole)}


def kept(manifest: str | Path, promise: EvidenceManifest) -> dict[Path, bool | None]:
    """Return file beside a manifest -> whether it has the promised hash; None where it is not there."""
    promised = dict(promise.files)
    return {
        path: sha256_file(path) == promised[name].sha256 if path.is_file() else None
        for name, path in files_of(manifest).items()
    }


def check_promise(manifest: str | Path) -> dict[str, Path]:
    """Return the files beside a manifest after checking that they are what it promises.

    Raises: DataError: no valid manifest; TamperError: another file than the one promised, or other contents;
        EvidenceError: a file that cannot be read.
    """
    promise = EvidenceManifest.read(manifest)
    for path, same in kept(manifest, promise).items():
        if not same:
            words = "is not the file" if same is False else "is missing, the file"
            raise TamperError(f"{path}: {words} that {manifest} promises; rerun the evaluation that writes both")
    for key, real in promise_of(manifest).items():
        if getattr(promise, key) != real:
            raise TamperError(f"{manifest}: its {key} are not those of the rows; rerun the evaluation that writes both")
    return files_of(manifest)


def _read(path: Path, told: Mapping[str, set[str]]) -> int:
    """Return the number of rows of a csv.gz and add the values of some columns to `told`."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
            reader = csv.reader(handle)
            header = next(reader)
            places = [(header.index(column), values) for column, values in told.items()]
            n_rows = 0
            for row in reader:
                n_rows += 1
                for i, values in places:
                    values.add(row[i])
            return n_rows
    except READING as error:
        raise EvidenceError(f"{path}: cannot be read ({error}); rerun the evaluation that writes it") from None


def _order(value: str) -> tuple[int, str]:
    """Order whole numbers by size and words by letters."""
    return (int(value), "") if value.isdigit() else (-1, value)
