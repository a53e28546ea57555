"""Synthetic text by a seeded grammar: SQL over randomly drawn schemas. Nothing here was written by people.

Every draw is made of `random()` alone, which the standard library promises to keep the same in every version of Python.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

TABLES = (
    "account airport album animal artist auction author battery booking branch bridge building camera carrier "
    "channel city clinic company concert contract country course customer depot device doctor driver employee "
    "engine factory farm ferry festival film flight garden guest harbour hotel invoice island journal library "
    "machine market member museum novel office orchard parcel patient payment planet player poem printer product "
    "project railway recipe region reservoir river rocket route satellite"
).split()
NUMBERS = (
    "age amount area balance budget capacity cost depth distance fee floors height length pages price rating score"
).split()
TEXTS = (
    "brand category city colour country district genre kind label language material model name state status title"
).split()
DATES = "born closed created ended founded hired joined made opened paid released shipped signed started".split()
VALUES = (
    "amber basic blue bronze central coastal cotton daily eastern express fresh frozen gold green heavy hidden iron "
    "junior large lower lunar maple marble mobile narrow old open oval plain prime quiet rapid red royal rural "
    "senior short silver small upper"
).split()
STATEMENTS = ("select", "select", "joined", "joined", "grouped", "grouped", "update", "delete")
RULES: dict[str, Sequence[str]] = {
    "select": ("SELECT {columns}\nFROM {table}{where}{order};", "SELECT DISTINCT {columns}\nFROM {table}{filter};"),
    "joined": (
        "SELECT b.id, {columns}\nFROM {table} AS a\n{join} {parent} AS b ON b.id = a.{parent}_id{where}{order};",
    ),
    "grouped": ("SELECT {key}, COUNT(*) AS n, {total}\nFROM {table}{filter}\nGROUP BY {key}{having}{ranked};",),
    "having": ("", "\nHAVING COUNT(*) > {digit}", "\nHAVING {total} {compared} {amount}"),
    "ranked": ("", "\nORDER BY n DESC", "\nORDER BY {key}", "\nORDER BY {total} DESC\nLIMIT {digit}"),
    "update": ("UPDATE {table}\nSET {change}{where};",),
    "delete": ("DELETE FROM {table}{where};",),
    "change": ("{text} = '{value}'", "{number} = {amount}", "{number} = {number} * 1.{digit}", "{date} = {day}"),
    "where": ("\nWHERE {condition}", "\nWHERE {condition}\n  AND {condition}", "\nWHERE {condition}\n  OR {condition}"),
    "condition": (
        "{text} = '{value}'",
        "{text} IN ('{value}', '{value}')",
        "{text} LIKE '%{value}%'",
        "{any} IS NOT NULL",
        "{number} {compared} {amount}",
        "{number} BETWEEN {digit} AND {amount}",
        "{date} {compared} {day}",
    ),
    "order": ("", "\nORDER BY {any}", "\nORDER BY {any} DESC", "\nORDER BY {any} DESC\nLIMIT {digit}"),
    "columns": (
        "{any}",
        "{text}, {number}",
        "{text}, {date}",
        "{number}, {date}",
        "{any}, {any}",
        "{text}, {any}, {number}",
    ),
    "amount": ("{d}", "{n}{d}", "{n}{d}{d}", "{n}{d}{d}{d}{d}", "{d}.{d}{n}", "{n}{d}.{d}{n}", "{n}{d}{d}.{d}{n}"),
    "filter": ("", "{where}"),
    "join": ("JOIN", "JOIN", "LEFT JOIN"),
    "compared": ("=", "<", ">", "<=", ">=", "<>"),
    "digit": ("{n}", "{n}{d}"),
    "n": "123456789",
    "d": "0123456789",
    "day": (
        "'19{d}{d}-0{n}-1{d}'",
        "'19{d}{d}-0{n}-0{n}'",
        "'20{d}{d}-0{n}-2{d}'",
        "'20{d}{d}-10-1{d}'",
        "'20{d}{d}-12-0{n}'",
    ),
    "value": ("{word}", "{word}", "{word} {noun}"),
    "word": VALUES,
    "noun": TABLES,
}


@dataclass(frozen=True)
class Table:
    """A table: the kind (`text`, `number`, `date`) of its columns, and the table it refers to (the first to itself)."""

    name: str
    columns: Mapping[str, str]
    parent: str


class Draws:
    """Draws that depend on a name alone."""

    def __init__(self, *name: object) -> None:
        digest = hashlib.sha256("|".join(map(str, name)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:8], "big"))

    def below(self, n: int) -> int:
        """Return a number from 0 to n - 1."""
        return int(self._random.random() * n)

    def one(self, items: Sequence[str]) -> str:
        """Return one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[str], n: int) -> list[str]:
        """Return n different items, in the order drawn."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(n)]

    def fill(self, form: str, known: Mapping[str, Callable[[], str]]) -> str:
        """Return a text with every `{name}` in it drawn by `known`, or else one of the forms of that rule, filled."""

        def draw(found: re.Match[str]) -> str:
            name = found[1]
            return known[name]() if name in known else self.fill(self.one(RULES[name]), known)

        return re.sub(r"\{(\w+)\}", draw, form)


def documents(seed: int, n_documents: int, n_groups: int, n_lines: int) -> Iterator[tuple[str, str]]:
    """Yield (schema, text) of every document; document i is about schema i modulo the number of schemas.

    A text is at least `n_lines` lines of whole statements that run one after the other in an empty SQLite data base.
    """
    for i in range(n_documents):
        group = i % n_groups
        yield f"schema{group:03d}", _document(_schema(Draws("schema", seed, group)), Draws("text", seed, i), n_lines)


def _schema(draws: Draws) -> list[Table]:
    """Return four to six tables, each but the first referring to one before it."""
    tables: list[Table] = []
    for name in draws.some(TABLES, 4 + draws.below(3)):
        columns = dict.fromkeys(draws.some(TEXTS, 2 + draws.below(3)), "text")
        columns |= dict.fromkeys(draws.some(NUMBERS, 2 + draws.below(3)), "number")
        columns |= dict.fromkeys(draws.some(DATES, 1 + draws.below(2)), "date")
        tables.append(Table(name, columns, tables[draws.below(len(tables))].name if tables else name))
    return tables


def _document(schema: Sequence[Table], draws: Draws, n_lines: int) -> str:
    """Return the definition of some tables of a schema, with those they refer to, then statements about them."""
    wanted = {schema[draws.below(len(schema))].name for _ in range(2)}
    for table in reversed(schema):
        wanted |= {table.parent} if table.name in wanted else set()
    tables, rows = [table for table in schema if table.name in wanted], dict.fromkeys(wanted, 0)
    parts = [_create(table) for table in tables] + [_insert(table, draws, rows) for table in tables]
    while sum(part.count("\n") + 2 for part in parts) < n_lines:
        table = tables[draws.below(len(tables))]
        parts.append(_insert(table, draws, rows) if draws.below(8) == 0 else _statement(table, draws))
    return "\n\n".join(parts) + "\n"


def _create(table: Table) -> str:
    kinds = {"text": "TEXT NOT NULL", "number": "NUMERIC", "date": "DATE"}
    columns = [f"{name} {kinds[kind]}" for name, kind in table.columns.items()]
    keys = ["id INTEGER PRIMARY KEY", f"{table.parent}_id INTEGER REFERENCES {table.parent} (id)"]
    return f"CREATE TABLE {table.name} (\n  " + ",\n  ".join([*keys, *columns]) + "\n);"


def _insert(table: Table, draws: Draws, rows: dict[str, int]) -> str:
    """Return an INSERT of one to four rows; `rows`, how many each table has, counts them."""
    rules = {"text": "'{value}'", "number": "{amount}", "date": "{day}"}
    lines = []
    for _ in range(1 + draws.below(4)):
        rows[table.name] += 1
        keys = [str(rows[table.name]), str(1 + draws.below(rows[table.parent]))]
        lines.append(", ".join([*keys, *(draws.fill(rules[kind], {}) for kind in table.columns.values())]))
    names = ", ".join(["id", f"{table.parent}_id", *table.columns])
    return f"INSERT INTO {table.name} ({names}) VALUES\n  (" + "),\n  (".join(lines) + ");"


def _statement(table: Table, draws: Draws) -> str:
    """Return a query or a change of a table; `key`, and the column that a total is of, are the same all through it."""
    rule = draws.one(STATEMENTS)
    columns, prefix = table.columns, "a." if rule == "joined" else ""
    of = {kind: [prefix + name for name in columns if columns[name] == kind] for kind in ("text", "number", "date")}
    key, number, total = draws.one(of["text"]), draws.one(of["number"]), draws.one(["SUM", "AVG", "MIN", "MAX"])
    known: dict[str, Callable[[], str]] = {
        "table": lambda: table.name,
        "parent": lambda: table.parent,
        "key": lambda: key,
        "number": lambda: number,
        "text": lambda: draws.one(of["text"]),
        "date": lambda: draws.one(of["date"]),
        "total": lambda: f"{total}({number})",
        "any": lambda: prefix + draws.one(list(columns)),
    }
    return draws.fill(f"{{{rule}}}", known)
