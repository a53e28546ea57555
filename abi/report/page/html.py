"""A page as one HTML file: no script, no request, figures inline (`templates/page.html.j2`)."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from abi.report.page.blocks import Block, Page, Section
from abi.report.render import Table
from abi.report.templates import environment

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

LONG = 60
"""Characters of a cell that would else become a tower of words."""


def render(page: Page, figures: Mapping[str, str]) -> str:
    """Return a page as HTML. Args: figures: name -> SVG of every figure of the page."""
    template = environment().get_template("page.html.j2")
    functions = {"inline": inline, "inner": inner, "label": label, "split": split, "kind": kind_of, "long": LONG}
    return template.render(page=page, figures={name: Markup(svg) for name, svg in figures.items()}, **functions)


def inline(text: str) -> Markup:
    """Return the text of a block as HTML; a strong word in capitals gets a class of its name."""
    html = reader().renderInline(text)
    return Markup(re.sub(r"<strong>([A-Z]+(?: [A-Z]+)?)</strong>", lambda found: _word(found[1]), html))


def _word(word: str) -> str:
    return f'<strong class="word {word.lower().replace(" ", "-")}">{word}</strong>'


@functools.cache
def reader() -> "MarkdownIt":
    """Return what reads `code`, **strong** and [words](#anchor); everything else stays as it is written."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("zero").enable(["backticks", "emphasis", "link"])
    made.validateLink = lambda url: url.startswith("#")  # type: ignore[method-assign]
    for name in ("em_open", "em_close", "strong_open", "strong_close"):
        made.add_render_rule(name, _emphasis)
    return made


def _emphasis(_: Any, tokens: Sequence[Any], place: int, *__: Any) -> str:
    token = tokens[place]
    return f"<{'/' * (token.nesting < 0)}strong>" if token.markup == "**" else str(token.markup)


def kind_of(block: Block) -> str:
    """Return the name of a block's kind."""
    return type(block).__name__


def inner(section: Section) -> list[Section]:
    """Return the sections right inside a section."""
    return [block for block in section.blocks if isinstance(block, Section)]


def label(table: Table) -> str:
    """Return what a table is called for readers who do not see it."""
    return re.sub(r"[`*]", "", table.caption) or f"Table of {table.heads[0]}"


def split(cell: str) -> tuple[str, str]:
    """Return a figure and the interval that stands below it."""
    figure, bracket, rest = cell.partition(" [")
    return figure, bracket.strip() + rest
