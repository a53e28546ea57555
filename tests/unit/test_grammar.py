import hashlib
import os
import random
import sqlite3
import subprocess
import sys

import pytest

from abi.text import grammar

PINNED = "4ccf56c664dfc1bc3500964836e309bbbc0df85c428da59a4e3546f6f1488ce1"
MADE = list(grammar.documents(1, 60, 20, 60))


def tables_of(text):
    return {line.split()[2] for line in text.splitlines() if line.startswith("CREATE TABLE")}


def test_a_seed_always_gives_the_same_text_and_another_seed_another():
    assert list(grammar.documents(1, 60, 20, 60)) == MADE
    others = {text for _, text in grammar.documents(2, 60, 20, 60)}
    assert not others & {text for _, text in MADE}


def test_more_documents_leave_the_first_ones_as_they_are():
    assert list(grammar.documents(1, 80, 20, 60))[:60] == MADE


def test_the_text_is_that_of_every_version_and_process():
    digest = hashlib.sha256("".join(text for _, text in MADE).encode()).hexdigest()
    code = "from abi.text import grammar as g; import hashlib; print(hashlib.sha256(''.join(t for _, t in g.documents(1, 60, 20, 60)).encode()).hexdigest())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert said.stdout.strip() == digest == PINNED


def test_only_plain_draws_are_used(monkeypatch):
    for name in ("choice", "choices", "shuffle", "sample", "randrange", "randint", "uniform"):
        monkeypatch.setattr(random.Random, name, None)
    assert list(grammar.documents(1, 60, 20, 60)) == MADE


@pytest.mark.parametrize(("schema", "text"), MADE[::5])
def test_every_statement_of_a_document_executes(schema, text):
    base = sqlite3.connect(":memory:")
    statements = text.strip().split("\n\n")
    for statement in statements:
        assert sqlite3.complete_statement(statement)
        base.execute(statement)
    assert not base.execute("PRAGMA foreign_key_check").fetchall() or "DELETE" in text
    base.close()


def test_every_kind_of_statement_occurs():
    text = "".join(text for _, text in MADE)
    for words in (
        "CREATE TABLE",
        "INSERT INTO",
        "SELECT",
        "UPDATE",
        "DELETE",
        "JOIN",
        "WHERE",
        "GROUP BY",
        "HAVING",
        "ORDER BY",
    ):
        assert text.count(words) > 10, words


def test_documents_of_a_schema_share_its_tables_and_have_the_lines_asked():
    schemas = {}
    for schema, text in MADE:
        schemas.setdefault(schema, []).append(text)
        assert text.count("\n") >= 58
    assert len(schemas) == 20
    assert all(len(texts) == 3 and len(set(texts)) == 3 for texts in schemas.values())
    assert all(len(set().union(*map(tables_of, texts))) <= 6 for texts in schemas.values())


def test_draws_are_even_and_depend_on_their_name_alone():
    draws = grammar.Draws("a", 1)
    counts = [sum(n == k for n in [grammar.Draws("a", i).below(4) for i in range(4000)]) for k in range(4)]
    assert max(counts) - min(counts) < 200
    assert [draws.below(100) for _ in range(5)] == [
        n for d in [grammar.Draws("a", 1)] for n in (d.below(100) for _ in range(5))
    ]
    assert sorted(draws.some("abcdef", 6)) == list("abcdef")
