"""Evidence files of one batch of seeds: two csv.gz and the manifest that promises what is in them.

The manifest holds hash, number of rows and contents of both files. Whoever reads the rows checks it: `kept` by hash
(`abi verify`), `check_promise` by hash and contents (the verdict).
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abi.base.errors import EvidenceError, TamperError
from abi.base.files import atomic_path, sha256_file
from abi.base.manifests.evidence import EvidenceContents, EvidenceFiles, EvidenceManifest, RowsFile
from abi.base.tables import csv_text
from abi.base.typed import Provenance

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("fit", "arm", "draw", "seed", "scope", "group", "document", "n_positions", "metric", "value")
DRAW_COLUMNS = ("fit", "arm", "draw", "seed", "rng_seed", "chunk", "metric", "value")
SUFFIXES = {"evidence": ".csv.gz", "draws": ".draws.csv.gz"}
TOLD = {"fits": "fit", "arms": "arm", "draws": "draw", "seeds": "seed", "scopes": "scope"}
"""What a manifest tells of the evidence rows -> column whose different values it lists."""


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as csv.gz, atomically, byte-identical for identical rows; numbers keep 9 significant digits."""
    text = csv_text(columns, ([f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as handle:
        handle.write(text.encode())
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getvalue())


def files_of(manifest: str | Path) -> dict[str, Path]:
    """Return the paths of the evidence and the draws that lie beside a manifest."""
    return {name: Path(manifest).with_suffix(suffix) for name, suffix in SUFFIXES.items()}


def write_evidence(
    outputs: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    draws: Iterable[Sequence[Any]],
    provenance: Callable[[], Provenance],
) -> None:
    """Write `evidence` and `draws`, and then `manifest`, which says what is in them and what made them."""
    write_csv(outputs["evidence"], COLUMNS, rows)
    write_csv(outputs["draws"], DRAW_COLUMNS, draws)
    write_promise(outputs["manifest"], provenance())


def rows_of(manifest: str | Path) -> dict[str, pd.DataFrame]:
    """Return the rows of the files beside a manifest as they are written. Raises: EvidenceError: as `read_rows`."""
    return {name: read_rows(path) for name, path in files_of(manifest).items()}


def read_rows(path: str | Path) -> pd.DataFrame:
    """Return the rows of a csv or csv.gz, every value as it is written. Raises: EvidenceError: it cannot be read."""
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EvidenceError(f"{path}: cannot be read ({reason}); rerun the evaluation that writes it") from None


def write_promise(manifest: str | Path, provenance: Provenance) -> None:
    """Write the manifest of the two files beside it, from what is on the disk."""
    promise = promise_of(manifest, rows_of(manifest))
    EvidenceManifest.model_validate({**promise, "provenance": provenance}).write(manifest)


def promise_of(manifest: str | Path, rows: Mapping[str, pd.DataFrame]) -> dict[str, EvidenceFiles | EvidenceContents]:
    """Return what a manifest must say of the files beside it: hash and rows of both, contents of the evidence.

    Raises: EvidenceError: the evidence lacks a column.
    """
    paths, evidence = files_of(manifest), rows["evidence"]
    if lacking := set(TOLD.values()) - set(evidence.columns):
        raise EvidenceError(f"{paths['evidence']}: cannot be read (no column {min(lacking)}); rerun the evaluation")
    files = {name: RowsFile(sha256=sha256_file(path), rows=len(rows[name])) for name, path in paths.items()}
    words = {key: sorted(evidence[column].unique(), key=_order) for key, column in TOLD.items()}
    whole = {key: [int(value) for value in words[key]] for key in ("draws", "seeds")}
    return {"files": EvidenceFiles(**files), "contents": EvidenceContents.model_validate(words | whole)}


def kept(manifest: str | Path, promise: EvidenceManifest) -> dict[Path, bool | None]:
    """Return file beside a manifest -> whether it has the promised hash; None where it is not there."""
    promised = dict(promise.files)
    return {
        path: sha256_file(path) == promised[name].sha256 if path.is_file() else None
        for name, path in files_of(manifest).items()
    }


def check_promise(manifest: str | Path) -> dict[str, pd.DataFrame]:
    """Return the rows of the files beside a manifest after checking that they are what it promises.

    Raises: DataError: no valid manifest; TamperError: another file than the one promised, or other contents;
        EvidenceError: a file that cannot be read.
    """
    promise = EvidenceManifest.read(manifest)
    for path, same in kept(manifest, promise).items():
        if not same:
            words = "is not the file" if same is False else "is missing, the file"
            raise TamperError(f"{path}: {words} that {manifest} promises; rerun the evaluation that writes both")
    rows = rows_of(manifest)
    for key, real in promise_of(manifest, rows).items():
        if getattr(promise, key) != real:
            raise TamperError(f"{manifest}: its {key} are not those of the rows; rerun the evaluation that writes both")
    return rows


def _order(value: str) -> tuple[int, str]:
    """Order whole numbers by size and words by letters."""
    return (int(value), "") if value.isdigit() else (-1, value)
