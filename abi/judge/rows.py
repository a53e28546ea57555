"""Evidence rows, read and checked: columns, types, words, ranges, and every row once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abi.base.catalogue import ARMS
from abi.base.diagnostics import METRICS as CATALOGUE
from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT, SCOPES, UNFITTED
from abi.judge.contrasts import TEACHER
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, check_promise, files_of, read_rows

if TYPE_CHECKING:
    import pandas as pd

METRICS = (*AGREEMENT, *(f"{TEACHER}{metric}" for metric in AGREEMENT), *(m for m in CATALOGUE if m not in AGREEMENT))


@dataclass(frozen=True)
class Form:
    """The columns of a csv file of rows: which hold whole numbers (`value` a figure), valid words, and the key."""

    name: str
    columns: tuple[str, ...]
    whole: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    key: tuple[str, ...]


EVIDENCE = Form(
    "evidence",
    COLUMNS,
    ("draw", "seed", "n_positions"),
    {"scope": SCOPES, "metric": METRICS},
    ("fit", "arm", "draw", "seed", "scope", "document", "metric"),
)
APART = frozenset(arm.name for arm in ARMS.values() if arm.apart)
DRAWS = Form(
    "draws", DRAW_COLUMNS, ("draw", "seed", "rng_seed", "chunk"), {"metric": AGREEMENT}, tuple(DRAW_COLUMNS[:-1])
)


def read_promised(manifests: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the validated evidence rows and random draws of some batches, each checked against its manifest.

    Raises: DataError, TamperError: a file is not what its manifest promises (see `check_promise`); EvidenceError:
        rows that break their form, or that stand in two batches.
    """
    import pandas as pd

    found: dict[str, list[pd.DataFrame]] = {EVIDENCE.name: [], DRAWS.name: []}
    for manifest in manifests:
        rows, paths = check_promise(manifest), files_of(manifest)
        found["evidence"].append(validate(rows["evidence"], str(paths["evidence"])))
        found["draws"].append(formed(rows["draws"], DRAWS, str(paths["draws"])))
    evidence, draws = (pd.concat(frames, ignore_index=True) for frames in found.values())
    for form, frame in ((EVIDENCE, evidence), (DRAWS, draws)):
        _check_unique(frame, form, f"{form.name} of all batches")
    return evidence, draws


def read_evidence(path: str | Path) -> pd.DataFrame:
    """Return the validated rows of an evidence file.

    Args: path: a csv or csv.gz with the columns of `evidence_files.COLUMNS`, in any order.
    Raises: EvidenceError: one sentence for the first fault found (see `validate`), or a file that cannot be read.
    """
    return validate(read_rows(path), str(path))


def validate(frame: pd.DataFrame, where: str = "frame") -> pd.DataFrame:
    """Return a copy of evidence rows with checked columns, types, names and values.

    Raises: EvidenceError: a column missing or unknown, no rows, a value that is not a finite number or outside its
        metric's range, an unknown scope or metric, a document in two groups or with different n_positions, a row twice.
    """
    frame = formed(frame, EVIDENCE, where)
    _check_documents(frame, f"{EVIDENCE.name} {where}")
    return frame


def formed(frame: pd.DataFrame, form: Form, where: str) -> pd.DataFrame:
    """Return a copy of `frame` with the columns, types, words and ranges of a form, every row once."""
    where = f"{form.name} {where}"
    if wrong := sorted(set(form.columns) ^ set(frame.columns)):
        raise EvidenceError(
            f"{where}: missing or unknown column {', '.join(wrong)}; needed are {', '.join(form.columns)}"
        )
    if frame.empty:
        raise EvidenceError(f"{where}: no rows; rerun the evaluation that writes it")
    frame = frame.loc[:, list(form.columns)].reset_index(drop=True)
    for column in form.columns:
        if column in (*form.whole, "value"):
            frame[column] = _numbers(frame[column], where, whole=column in form.whole)
        else:
            frame[column] = _text(frame[column], where)
    for column, valid in form.words.items():
        if unknown := sorted(set(frame[column].unique()) - set(valid)):
            raise EvidenceError(f"{where}: {column} {unknown[0]!r} is none of {', '.join(valid)}")
    _check_ranges(frame, where)
    _check_unique(frame, form, where)
    return frame


def _text(column: pd.Series, where: str) -> pd.Series:
    bad = column.isna()
    if empty := [word for word in column[~bad].unique() if not str(word).strip()]:
        bad |= column.isin(empty)
    if bad.any():
        raise EvidenceError(f"{where}: column {column.name!r} row {_line(bad)} is empty; every row needs one")
    return column.astype(str)


def _numbers(column: pd.Series, where: str, *, whole: bool) -> pd.Series:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = ~numbers.between(-math.inf, math.inf, inclusive="neither") | (
        whole & ((numbers != numbers.round()) | (numbers < 0))
    )
    if bad.any():
        found, kind = column[bad].iloc[0], "a whole number from 0 on" if whole else "a finite number"
        raise EvidenceError(f"{where}: column {column.name!r} row {_line(bad)} holds {found!r}; expected {kind}")
    return numbers.astype(np.int64) if whole else numbers


def _line(bad: pd.Series) -> int:
    """Return the line in the file of the first bad row; the header is line 1."""
    return int(np.flatnonzero(bad.to_numpy())[0]) + 2


def largest(metric: str) -> float:
    """Return the largest value that a metric can have; the least is 0."""
    return 1.0 if "top" in metric else math.log(2) if "js" in metric else math.inf


def _check_ranges(frame: pd.DataFrame, where: str) -> None:
    """Raise for a value that its metric cannot have: a wrong sign or unit would turn a verdict."""
    upper = frame["metric"].map({metric: largest(metric) for metric in frame["metric"].unique()})
    bad = (frame["value"] < -1e-6) | (frame["value"] > upper + 1e-6)
    if bad.any():
        row, limits = frame[bad].iloc[0], f"[0, {upper[bad].iloc[0]:.4g}]"
        words = f"{row['metric']} is {row['value']:.6g} and cannot lie outside {limits}"
        raise EvidenceError(f"{where}: row {_line(bad)}: {words}")


def _check_unique(frame: pd.DataFrame, form: Form, where: str) -> None:
    twice = frame.duplicated(list(form.key))
    if twice.any():
        row = frame[twice].iloc[0]
        named = ", ".join(f"{name} {row[name]}" for name in form.key)
        raise EvidenceError(f"{where}: row {_line(twice)} is there twice ({named}); write every row once")


def _check_documents(frame: pd.DataFrame, where: str) -> None:
    """Raise for a document that is not the same one in all rows that are read together: those of a fit, and of no fit.

    Studies of several texts are fits of one file; code and prose of one source file are documents of one name in two.
    An arm that stands apart may score other positions.
    """
    unfitted = frame["fit"] == UNFITTED
    for fit in sorted(frame.loc[~unfitted, "fit"].unique()) or [UNFITTED]:
        part = frame[unfitted | (frame["fit"] == fit)]
        for column, keys in (("group", ["scope", "document"]), ("n_positions", ["scope", "document", "metric"])):
            compared = part[~part["arm"].isin(APART)] if column == "n_positions" else part
            different = compared[[*keys, column]].drop_duplicates()
            twice = different.duplicated(keys)
            if twice.any():
                name = min(different.loc[twice, keys].itertuples(index=False, name=None))
                raise EvidenceError(
                    f"{where}: document {name[1]!r} on {name[0]} has more than one {column}; "
                    "every arm and seed must score the same positions of the same documents"
                )
