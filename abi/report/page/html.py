"""A page as one HTML file: no script, no request, figures inline."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from abi.report.page.blocks import Block, Bullets, Code, Fold, Page, Para, Plots, Section, Table
from abi.report.page.looks import CSS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
NUMBER = re.compile(r"^([a-z-]+ )?[-+]?\d[\d.,e+-]*( \[.*\])?( \([\d.]+ s\))?$|^-$")


LONG = 60  # characters of a cell that would else become a tower of words


def render(page: Page, figures: Mapping[str, str]) -> str:
    """Return a page as HTML. Args: figures: name -> SVG of every figure of the page."""
    body = "\n".join(_block(section, 2, figures) for section in page.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(page.title)}</h1>\n<p>{inline(page.about)}</p>\n</header>\n"
        f"{_contents(page.sections)}\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def inline(text: str) -> str:
    """Return the text of a block as HTML; a strong word in capitals gets a class of its name."""
    text = escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([A-Z]+(?: [A-Z]+)?)\*\*", lambda m: _word(m[1]), text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\((#[\w.-]+)\)", r'<a href="\2">\1</a>', text)


def _word(word: str) -> str:
    return f'<strong class="word {word.lower().replace(" ", "-")}">{word}</strong>'


def _contents(sections: Sequence[Section]) -> str:
    lines = []
    for section in sections:
        inner = [block for block in section.blocks if isinstance(block, Section)]
        under = "".join(f"<li>{_link(block)}</li>" for block in inner)
        lines.append(f"<li>{_link(section)}{f'<ul>{under}</ul>' if under else ''}</li>")
    return '<nav aria-label="Contents">\n<p>Contents</p>\n<ol>\n' + "\n".join(lines) + "\n</ol>\n</nav>"


def _link(section: Section) -> str:
    return f'<a href="#{escape(section.anchor)}">{inline(section.title)}</a>'


def _block(block: Block, level: int, figures: Mapping[str, str]) -> str:
    match block:
        case Para(text, kind):
            return f'<p class="{kind}">{inline(text)}</p>' if kind else f"<p>{inline(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{inline(item)}</li>" for item in items) + "\n</ul>"
        case Table():
            return _table(block)
        case Plots(drawings):
            return _plots([(d.name, d.caption) for d in drawings], figures)
        case Code(text):
            return f'<pre tabindex="0">{escape(text)}</pre>'
        case Fold(title, blocks):
            inner = "\n".join(_block(b, level, figures) for b in blocks)
            return f"<details>\n<summary>{inline(title)}</summary>\n{inner}\n</details>"
        case Section(anchor, title, blocks):
            inner = "\n".join(_block(b, min(level + 1, 6), figures) for b in blocks)
            return f'<section id="{escape(anchor)}">\n<h{level}>{inline(title)}</h{level}>\n{inner}\n</section>'


def _table(table: Table) -> str:
    numeric = [all(NUMBER.match(row[i]) for row in table.rows) for i in range(len(table.heads))]
    marks = [' class="number"' if number else "" for number in numeric]
    heads = "".join(f'<th scope="col"{mark}>{inline(head)}</th>' for head, mark in zip(table.heads, marks, strict=True))
    rows = "\n".join(f"<tr>{_cells(row, marks)}</tr>" for row in table.rows)
    caption = f"<caption>{inline(table.caption)}</caption>" if table.caption else ""
    label = escape(re.sub(r"[`*]", "", table.caption) or f"Table of {table.heads[0]}")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{caption}\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(row: Sequence[str], marks: Sequence[str]) -> str:
    first, *rest = [_cell(cell, mark) for cell, mark in zip(row, marks, strict=True)]
    return f'<th scope="row"{first}</th>' + "".join(f"<td{cell}</td>" for cell in rest)


def _cell(text: str, mark: str) -> str:
    """Return the inside of a cell: an interval stands below its mean, a long text gets room."""
    if mark:
        below = re.sub(r" (\[.*)", r"<span>\1</span>", inline(text))
        return f"{mark}>{below}"
    room = ' class="long"' if len(text) > LONG else ""
    return f"{room}>{inline(text)}"


def _plots(drawings: Sequence[tuple[str, str]], figures: Mapping[str, str]) -> str:
    parts = [
        f'<figure id="figure-{name}">\n<div class="plot" tabindex="0" role="region" aria-label="Figure {name}">{figures[name]}</div>\n'
        f"<figcaption>{inline(caption)} Numbers: <code>figures/{name}.csv</code></figcaption>\n</figure>"
        for name, caption in drawings
    ]
    return '<div class="plots">\n' + "\n".join(parts) + "\n</div>"
