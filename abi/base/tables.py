"""Tables as text, read by what wrote them."""

import csv
import io
from collections.abc import Iterable, Sequence


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; what is None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def csv_rows(text: str, columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table that `csv_text` made. Raises: ValueError: it is none, or has other columns."""
    head, *rows = csv.reader(text.splitlines())
    if head != [*columns] or any(len(row) != len(head) for row in rows):
        raise ValueError(f"no table of {', '.join(columns)}")
    return rows
