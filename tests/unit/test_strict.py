import pytest

from abi.base.files import parse_file, parse_json
from abi.judge.published import Token
from abi.judge.published import parse as parse_record


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": NaN}', "NaN is not a figure"),
        ("[Infinity]", "Infinity is not a figure"),
        ("[1e999]", "1e999 is not a figure"),
        ('{"a": -2.5E+400}', "-2.5E.400 is not a figure"),
        ('{"a": {"b": 1, "b": 1}}', "a key occurs twice"),
        ("[" * 99_999, "nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_is_not_strict_json_is_refused_by_every_reader(text, words, refuses, tmp_path):
    with pytest.raises(ValueError, match=words):
        parse_json(text)
    with refuses(words):
        parse_record(text, "some file")
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with refuses(words):
        parse_file(tmp_path / "result.json")


def test_numbers_are_made_by_what_is_asked():
    assert parse_json('{"a": [1, 2.50]}') == {"a": [1, 2.5]}
    assert parse_json("[1, 2.50]", number=Token) == ["1", "2.50"]
