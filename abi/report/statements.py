"""The tables that a result brings along, read by the names of their columns; and what an experiment says by them."""

from abi.base.names import CANDIDATE
from abi.base.typed import Typed, Verdict
from abi.base.wording import number
from abi.judge.contrasts import lower_is_better
from abi.judge.results import STATEMENTS, LadderResult, StudyResult
from abi.report.render import Cell, bounds, figure, listed

OF_STATEMENTS = {
    "REFUTED": ("is refuted", "are refuted"),
    "INCONCLUSIVE": ("is not shown", "are not shown"),
    "VACUOUS": ("is VACUOUS", "are VACUOUS"),
    "SUPPORTED": ("holds", "hold"),
}
"""Verdict -> what it means for one statement of an experiment, and for several; what decides most stands first."""
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


def well_aligned(dose: LadderResult) -> str:
    """Return which rungs of an alignment are well aligned, in words."""
    asked = _asked_of(dose)
    return f"only {asked[0]} is" if len(asked) == 1 else f"{listed(asked)} are"


def like_aligned(dose: LadderResult) -> str:
    """Return which rungs two spaces have to be aligned as well as, in words."""
    asked = _asked_of(dose)
    return f"in {listed(asked)}" + (", the only such pair here" if len(asked) == 1 else "")


def _asked_of(dose: LadderResult) -> list[str]:
    """Return the rungs that are aligned well enough to be asked."""
    return [f"`{row['rung']}`" for row in rows_of(dose, "doses") if str(row["asked"]).startswith("yes")]


def told(result: StudyResult) -> list[Stated]:
    """Return the statements of an experiment."""
    return [Stated.model_validate(row) for row in rows_of(result, STATEMENTS)]


def deciding_statements(result: StudyResult) -> list[Stated]:
    """Return the statements of an experiment that decide its verdict."""
    found: dict[str, list[Stated]] = {}
    for one in told(result):
        found.setdefault(one.verdict, []).append(one)
    return found[next(word for word in (result.verdict, *OF_STATEMENTS) if word in found)]


def decided_by(one: Stated) -> str:
    """Return the deciding figure of a statement in words, under the name of the arm that it is about."""
    named = one.contrast.replace(CANDIDATE, one.candidate)
    above = f", to exceed {figure(one.limit)}" if one.limit else ""
    own = "" if one.figure is None else f"; `{one.candidate}` itself {figure(one.figure)}"
    turned = ", sign turned" if lower_is_better(one.metric) else ""
    return f"{named} = {figure(one.mean)}{bounds(one.lower, one.upper)}{above} ({one.metric}{turned}{own})"


def statements_words(result: StudyResult) -> str:
    """Return the statements of an experiment that decide its verdict, in their own words."""
    says = deciding_statements(result)
    word = says[0].verdict
    passing = sum(one.placebo == "yes" for one in says) if word == "SUPPORTED" else 0
    decides = f"{len(says)} of {number(len(told(result)), 'statement')} {OF_STATEMENTS[word][len(says) > 1]}"
    too = f" ({passing} for a placebo, too)" if passing else ""
    first = ", ".join(f"“{one.statement.rstrip('.')}”" for one in says[:SAID])
    refuted = sum(one.verdict == "REFUTED" for one in told(result)) if word != "REFUTED" else 0
    # An experiment asks every statement at a level that allows for all of them.
    alone = f"; {'another' if refuted == 1 else refuted} {OF_STATEMENTS['REFUTED'][refuted > 1]} if asked alone"
    too += " only if asked alone" if word == "REFUTED" != result.verdict else ""
    return f"{decides}{too}{', such as' if len(says) > SAID else ':'} {first}{alone if refuted else ''}"
