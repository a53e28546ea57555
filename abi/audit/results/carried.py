"""Edits that change no figure: the code of a committed run, carried on to the code that came after.

The table of codes beside a committed run (`adopted`) holds what made it. An edit that only makes the engine faster,
safer or clearer need not wait for a whole new run. A small run, `smoke`, goes through every rule: it is built by the
code before and by the code after. Where both hold the same tensors, evidence and figures, bit for bit, the digests
after stand for those before. What `smoke` does not reach is not shown by it.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from abi.audit.results.places import result_paths
from abi.audit.results.records import made_by
from abi.base.errors import DataError
from abi.base.files import Json
from abi.base.job import starts_of
from abi.base.tables import csv_rows
from abi.base.typed import Provenance

CARRIED = "carried.csv"
COLUMNS = ("rule", "files", "before", "after", "compared")
ASIDE = frozenset({"provenance", "elapsed_s", "format", "seal", "sha256"})
"""Leaves that tell how a file was made, not what was found: a hash or seal of a file covers its provenance."""
WORDS = frozenset({"reason", "caption", "x_label", "y_label", "title", "words"})
"""Leaves that say figures in words, or what was asked. A committed result keeps the words it has; `abi verify` makes
those of now again, and calls a result that has others STALE."""
RECORD = ("value", "comparator", "threshold", "holds", "document", "file", "leaf", "file_value")
"""What a result quotes of the published record; how the record was judged stands in the report."""
DATA = (".safetensors", ".gz")
"""Files that hold what was computed, and nothing of how."""


class Carried(NamedTuple):
    """A row of the table: code of a rule that stands for earlier code, and in words what was compared."""

    rule: str
    files: str
    before: str
    after: str
    compared: str


class Job(NamedTuple):
    """Where a job's code starts, as `MadeBy` has it."""

    rule: str
    files: str


def read_carried(folder: Path) -> list[Carried]:
    """Return the table of a committed run, empty where there is none. Raises: DataError: it is damaged."""
    path = folder / CARRIED
    if not path.is_file():
        return []
    try:
        return [Carried(*row) for row in csv_rows(path.read_text(encoding="utf-8"), COLUMNS)]
    except (OSError, ValueError):
        raise DataError(f"{path}: is no table of {', '.join(COLUMNS)}; restore it from the repository") from None


def stands_for(rule: str, files: str, made: str, rows: Iterable[Carried]) -> set[str]:
    """Return every code of a rule that gives the figures of the one that made a run, itself among them."""
    own, found = [row for row in rows if (row.rule, row.files) == (rule, files)], {made}
    while more := {row.after for row in own if row.before in found} - found:
        found |= more
    return found


def carried(before: Path, after: Path, but: Collection[str] = ()) -> list[Carried]:
    """Return a row for every rule whose code differs between two runs of one scale, all of whose figures are equal.

    Args: before, after: folders of results; but: result files that are not compared.
    Raises: DataError: a file or a figure differs, there is none, or a run was made by several codes of one rule.
    """
    jobs = [{path.relative_to(run).as_posix(): made_by(path) for path in _records(run)} for run in (before, after)]
    wrong, n_files = [*differences(before, after, but)], 0
    for name in sorted(jobs[0].keys() | jobs[1].keys()):
        if name not in jobs[0] or name not in jobs[1]:
            wrong.append(f"{name}: only in one of the runs")
            continue
        written = [_data(made[name]) for made in jobs]
        n_files += len(written[0])
        others = sorted(written[0].keys() ^ written[1].keys())
        wrong += [f"{file}: only in one of the runs" for file in others]
        both = sorted(written[0].keys() & written[1].keys())
        wrong += [f"{file}: not the same file" for file in both if written[0][file] != written[1][file]]
    compared = [path for path in result_paths(before) if path.name not in but]
    n_leaves = sum(len([*leaves(json.loads(path.read_text(encoding="utf-8")))]) for path in compared)
    if wrong or not n_leaves or not n_files:
        first = wrong[0] if wrong else "there is no result" if not n_leaves else "no job wrote tensors or evidence"
        raise DataError(f"{before}, {after}: {len(wrong)} differences, so no code is carried on; {first}")
    words = f"{n_leaves} figures and {n_files} files of {after.name}" + (f" but {' '.join(sorted(but))}" if but else "")
    codes = [_codes(made.values()) for made in jobs]
    return [
        Carried(*job, code, codes[1][job], words) for job, code in sorted(codes[0].items()) if codes[1][job] != code
    ]


def _records(run: Path) -> list[Path]:
    """Return the records of a run's jobs."""
    found = [path for path in sorted(run.rglob("*.json")) if not path.name.endswith(".tokens.json")]
    return [path for path in found if '"provenance"' in path.read_text(encoding="utf-8")]


def _data(made: Provenance) -> dict[str, str]:
    """Return path below its run -> hash of what a job wrote of data: as it was recorded, wherever the run lies now."""
    below = {file.partition("results/")[2].partition("/")[2]: sha256 for file, sha256 in made.outputs.items()}
    return {file: sha256 for file, sha256 in below.items() if file.endswith(DATA)}


def _codes(made: Iterable[Provenance]) -> dict[Job, str]:
    """Return the code of every rule of a run. Raises: DataError: several of one."""
    found: dict[Job, str] = {}
    for one in made:
        job = Job(one.rule, " ".join(starts_of(one.rule, one.spec)))
        if found.setdefault(job, one.code) != one.code:
            raise DataError(f"{one.rule}: its jobs were run by different codes; build the run whole by one")
    return found


def leaves(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield (path, value) of every leaf that a redesign may not change: figures, and words that are a verdict."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ASIDE or key in WORDS:
                continue
            if path == "/record" and isinstance(value, dict):
                value = {name: value[name] for name in RECORD if name in value}
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, node


def differences(before: Path, after: Path, but: Collection[str] = ()) -> Iterator[str]:
    """Yield a sentence per result file that one run lacks and per leaf that differs. Args: but: files left out."""
    names = {path.name for folder in (before, after) for path in result_paths(folder)} - {*but}
    for name in sorted(names):
        if not (before / name).exists() or not (after / name).exists():
            yield f"{name}: only in one of the runs"
            continue
        old, new = (_leaves_of(folder / name) for folder in (before, after))
        for path in sorted(old.keys() | new.keys()):
            if old.get(path, "(absent)") != new.get(path, "(absent)"):
                yield f"{name}{path}: {old.get(path, '(absent)')!r} before, {new.get(path, '(absent)')!r} after"


def _leaves_of(path: Path) -> Mapping[str, Json]:
    return dict(leaves(json.loads(path.read_text(encoding="utf-8"))))
