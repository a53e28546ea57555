import pytest
from hypothesis import given
from hypothesis import strategies as st

from abi.text.extraction import extract, strip_html

GONE = {
    "tag": "<br/>",
    "attributes": '<p align="center">\n  <img src="a.png"\n   alt="A">\n</p>',
    "comment": "<!-- not\nshown -->",
    "badge": "![build](https://a.org/b.svg)",
    "linked badge": "[![build](https://a.org/b.svg)](https://a.org) [![x][y]][z]",
    "directive": ".. image:: https://a.org/b.svg\n   :target: https://a.org",
    "substitutions": "|PyPI| |Build Status|",
}


@pytest.mark.parametrize("block", GONE.values(), ids=GONE)
def test_markdown_loses_html_and_badges_and_keeps_what_stands_around_them(block):
    assert strip_html(f"Before it.\n\n{block}\n\nAfter it.\n") == "Before it.\n\nAfter it.\n"


KEPT = [
    "a < b and c > d",
    "<https://a.org>",
    "`<br>`",
    "| a | b |",
    "![plot](a.png) shows it",
    "[text](a.md)",
    "```\n<p>\n```",
    "* `x`_ and |y| there",
]


@pytest.mark.parametrize("line", KEPT)
def test_markdown_stays_otherwise_as_it_is(line):
    text = f"Before it.\n\n{line}\n\nAfter it.\n"
    assert extract(text, "markdown", "a.md") == text


def test_the_text_in_a_tag_stays():
    assert extract("<b>bold</b> and <a href='x'>link</a>\n", "markdown", "a.md") == "bold and link\n"


def test_nothing_but_badges_is_no_text():
    assert extract("<p>\n![a](b)\n</p>\n", "markdown", "a.md") == ""


@given(st.text(alphabet="<>!-[]()`|a \n"))
def test_stripping_never_fails_and_never_adds(text):
    assert len(strip_html(text)) <= len(text)
