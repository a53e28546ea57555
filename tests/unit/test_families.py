"""The classes of transformers that predict text: which are admitted, which are refused in a sentence."""

import csv
import sys
from collections import Counter

import pytest

from abi.base.files import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import families

with families.TABLE.open(encoding="utf-8") as file:
    TABLE = [families.Row(*row) for row in csv.reader(file)][1:]


def test_the_table_holds_no_wrong_class_and_every_refusal_is_one_sentence():
    assert not {row.outcome for row in TABLE} & families.BAD
    assert len({row.name for row in TABLE if row.outcome == "admitted"}) >= 75
    for row in TABLE:
        if row.outcome == "refused":
            assert row.said.startswith("backbone: ")
            assert row.said.count("\n") == 0


def test_the_words_on_families_are_counted_from_the_table():
    counts, classes = Counter(row.outcome for row in TABLE), {row.name for row in TABLE if row.outcome == "admitted"}
    text = " ".join((ROOT / "docs/backbones.md").read_text(encoding="utf-8").split())
    told = f"of {len(TABLE)} entries of the two tables (decoders, encoder-decoders) {counts['admitted']} "
    assert f"{told}({len(classes)} classes) were admitted" in text
    assert f"{counts['refused']} were refused in one sentence" in text
    assert f"{counts['not made']} could not be made small" in text


def test_a_class_with_other_logits_and_a_traceback_end_the_survey_with_1(monkeypatch, capsys):
    assert families.main(["gpt2"]) == 0
    monkeypatch.setattr(families, "attached", lambda _: 1.0)
    assert families.main(["gpt2"]) == 1
    assert "WRONG     gpt2" in capsys.readouterr().out
    monkeypatch.setattr(families, "admit", lambda _: 1 / 0)
    assert families.main(["gpt2"]) == 1
    assert "error     gpt2" in capsys.readouterr().out


@pytest.mark.long
def test_every_class_comes_out_as_the_table_says():
    found = [*families.survey()]
    assert [row[:3] for row in found] == [row[:3] for row in TABLE]
