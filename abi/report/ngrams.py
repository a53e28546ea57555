"""What an n-gram model does in place of a portable module, as it was measured beside the committed runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from abi.base.errors import DataError
from abi.base.files import ROOT, csv_rows
from abi.report.render import Table, figure

MEASURED = ROOT / "benchmarks" / "ngrams.csv"


class Beside(NamedTuple):
    """Both on the held-out text of one transfer; `benchmarks/ngrams.py` says what each figure is."""

    claim: str
    closure_ngram: float
    closure_portable: float
    harm_ngram: float
    harm_portable: float
    ahead: float
    ahead_low: float
    ahead_high: float


COLUMNS = ("scale", *Beside._fields)
"""Of the table."""


@dataclass(frozen=True)
class Rival:
    """What an n-gram model does in place of a portable module, over some transfers."""

    rows: Sequence[Beside]

    @property
    def closed(self) -> list[float]:
        """Which parts of the gap it closes."""
        return [row.closure_ngram for row in self.rows]

    @property
    def harm(self) -> list[float]:
        """By how many bits per byte general text gets worse."""
        return [row.harm_ngram for row in self.rows]

    @property
    def leads(self) -> list[float]:
        """How many bits per byte of domain text it is ahead of the module by."""
        return [-row.ahead for row in self.rows]

    @property
    def ahead(self) -> int:
        """In how many transfers it is shown to be ahead of the module."""
        return sum(row.ahead_high < 0 for row in self.rows)

    @property
    def words(self) -> str:
        """Which of the two does better."""
        if self.ahead == len(self.rows):
            return ", but an n-gram model does better"
        return ", and an n-gram model sometimes does better" if self.ahead else ""


def measured(scale: str, claims: Collection[str], path: Path = MEASURED) -> list[Beside]:
    """Return what was measured of some claims of a scale. Raises: DataError: a table of other columns or no figures."""
    try:
        rows = csv_rows(path.read_text(encoding="utf-8"), COLUMNS)
        found = [(place, Beside(claim, *map(float, figures))) for place, claim, *figures in rows]
    except ValueError:
        raise DataError(
            f"{path}: is no table of benchmarks/ngrams.py; run it again, or `git checkout {path}`"
        ) from None
    return [row for place, row in found if place == scale and row.claim in claims]


def table(rows: list[Beside]) -> Table:
    """Return both side by side, and by how many bits per byte the module is ahead on domain text."""
    columns = ["transfer", "gap closed: n-grams", "module", "general text gets worse by: n-grams", "module"]
    return Table(
        [*columns, "module - n-grams (bits per byte)"],
        [
            [
                f"`{row.claim.removesuffix('_zero_text')}`",
                figure(row.closure_ngram),
                figure(row.closure_portable),
                figure(row.harm_ngram),
                figure(row.harm_portable),
                f"{figure(row.ahead)} [{figure(row.ahead_low)}, {figure(row.ahead_high)}]",
            ]
            for row in rows
        ],
    )
