"""The tables that a result brings along, read by the names of their columns; and what an experiment says by them."""

from abi.base.typed import Typed, Verdict
from abi.judge.results import STATEMENTS, LadderResult, StudyResult
from abi.report.render import Cell

OF_STATEMENTS = {
    "REFUTED": "refuted",
    "INCONCLUSIVE": "not shown",
    "VACUOUS": "cannot be judged here",
    "SUPPORTED": "holds",
}
"""Verdict -> what it means for a statement of an experiment; what decides most stands first."""
SAID = 1
"""How many statements of an experiment are said in one sentence."""


class Stated(Typed):
    """A row of an experiment's table of statements, its columns by their names. Older files lack what has a default."""

    study: str
    statement: str
    verdict: Verdict
    candidate: str
    figure: float | None = None
    placebo: str = "-"
    contrast: str
    metric: str
    mean: float
    lower: float | None
    upper: float | None
    limit: float | None = None


def rows_of(result: StudyResult | LadderResult, table: str) -> list[dict[str, Cell]]:
    """Return the rows of a table that a result brings along, by the names of its columns; none where it has no such."""
    return [dict(zip(t.columns, row, strict=True)) for t in result.tables if t.id == table for row in t.rows]


def told(result: StudyResult) -> list[Stated]:
    """Return the statements of an experiment."""
    return [Stated.model_validate(row) for row in rows_of(result, STATEMENTS)]


def statements_words(result: StudyResult) -> str:
    """Return the statements of an experiment that decide its verdict, in their own words."""
    found: dict[str, list[Stated]] = {}
    for one in told(result):
        found.setdefault(one.verdict, []).append(one)
    word = next(word for word in (result.verdict, *OF_STATEMENTS) if word in found)
    says = found[word]
    more = f" And {len(says) - SAID} more." if len(says) > SAID else ""
    passing = sum(one.placebo == "yes" for one in says) if word == "SUPPORTED" else 0
    too = f"; {passing} of them for a placebo too" if passing else ""
    decides = f"{OF_STATEMENTS[word]} ({len(says)} of {sum(map(len, found.values()))}{too})"
    return f"{decides}: {' '.join(one.statement for one in says[:SAID])}{more}"
