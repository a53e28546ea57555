"""The one table of this package, and how it looks in Markdown and on a terminal (HTML: `blocks.html.j2`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | bool | None
NUMBER = re.compile(r"^([a-z-]+ )?[-+]?\d[\d.,e+-]*( / [-+]?\d[\d.,e+-]*)?( \[.*\])?( \([\d.]+ s\))?$|^-$")
"""A figure in a cell: a name before it, that of another run, an interval and seconds behind it, or a dash."""


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with three significant digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def bounds(lower: float | None, upper: float | None) -> str:
    """Return ` [lower, upper]` with a space before it, to stand behind a figure; nothing where there is no interval."""
    return "" if lower is None else f" [{figure(lower)}, {figure(upper)}]"


def text_of(cell: Cell) -> str:
    """Return the text of a cell: figures with three significant digits, truth values in words, nothing as a dash."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return figure(cell) if isinstance(cell, float | None) else str(cell)


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads. Text may hold `code`, **strong** and [words](#anchor), as in Markdown."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    @property
    def texts(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[text_of(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Return for every column whether it holds figures alone."""
        return [all(NUMBER.match(row[i]) for row in self.texts) for i in range(len(self.heads))]

    @property
    def label(self) -> str:
        """Return what the table is called for readers who do not see it: how its caption begins."""
        return re.sub(r"[`*]", "", self.caption.partition(". ")[0]) or f"Table of {self.heads[0]}"

    def filled(self) -> "Table":
        """Return the table without the columns that say nothing."""
        texts = self.texts
        kept = [i for i in range(len(self.heads)) if any(row[i] != "-" for row in texts)]
        return Table([self.heads[i] for i in kept], [[row[i] for i in kept] for row in self.rows], self.caption)

    def coded(self) -> "Table":
        """Return the table with the first cell of every row as `code`."""
        return Table(self.heads, [[f"`{text_of(row[0])}`", *row[1:]] for row in self.rows], self.caption)


def markdown(table: Table) -> str:
    """Return a Markdown table; a bar in a cell becomes a slash."""
    rows = [[plain(cell).replace("|", "/") for cell in row] for row in table.texts]
    lines = [map(plain, table.heads), ["---"] * len(table.heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return text as one line, without what Markdown would take for HTML (`code` stays as it is)."""
    return re.sub("`[^`]*`|<", lambda found: "&lt;" if found[0] == "<" else found[0], text).replace("\n", " ")


def terminal(table: Table, indent: str = "  ") -> list[str]:
    """Return the lines of a table in aligned columns."""
    rows = [list(table.heads), *table.texts]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.heads))]
    cells = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [indent + line.rstrip() for line in cells]


# plain words


def link(claim: str) -> str:
    """Return the id of a claim as a link to its section of the report."""
    return f"[{claim}](#claim-{claim})"


def listed(words: Sequence[str]) -> str:
    """Return words joined with commas and an `and`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def percent(values: Sequence[float]) -> str:
    """Return the least and greatest of some parts in percent: below ten with one decimal."""
    whole = [round(100 * part, 0 if abs(part) >= 0.1 else 1) + 0.0 for part in (min(values), max(values))]  # no -0
    least, most = (f"{part:.{0 if abs(part) >= 10 else 1}f}" for part in whole)
    return f"{least} %" if least == most else f"{least} to {most} %"
