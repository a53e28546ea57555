"""What a page is made of, and how it looks: one HTML file (no script, no request, figures inline), and Markdown."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from abi.report.figures import Drawing
from abi.report.render import Table, plain
from abi.report.render import markdown as table_in_markdown
from abi.report.templates import Used, fill

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


TO_DOCUMENTS = re.compile(r"\[([^\]]+)\]\((?!#|https://)[^)\s]+\)")
"""A link as Markdown has it, to a file."""


@dataclass(frozen=True)
class Para:
    """A paragraph; `kind` is a class for its looks (`lead`, `quote`, `note`).

    Text in blocks may hold `code`, **strong** and [words](#anchor), as in Markdown.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Plots:
    """Figures side by side where there is room."""

    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Code:
    """Text as it is."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader opens."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Section:
    """Blocks under a head with an anchor."""

    anchor: str
    title: str
    blocks: list[Block]


Block = Para | Bullets | Table | Plots | Code | Fold | Section


@dataclass(frozen=True)
class Page:
    """A whole page: title, one line below it, sections. Args: folder: of its figures; "" where they have no files."""

    title: str
    about: str
    sections: Sequence[Section]
    folder: str = "figures"

    def drawings(self) -> Iterator[Drawing]:
        """Yield every figure in the order of the page."""
        return _drawings(self.sections)


def _drawings(blocks: Sequence[Block]) -> Iterator[Drawing]:
    for block in blocks:
        if isinstance(block, Plots):
            yield from block.drawings
        elif isinstance(block, Section | Fold):
            yield from _drawings(block.blocks)


# from text

ALONE = re.compile(r"(?m)^ *(</?details>.*|##+.*|\0\d+) *$")
"""Lines that stand for themselves."""
HEAD = re.compile(r"(##+)(?: ([\w.-]+): (.*))?")
KIND = re.compile(r"\{\.(\w+)\} ")
STYLE = re.compile(r"<style[^>]*>(.*?)</style>\s*", re.DOTALL)


def parsed(text: str, placed: Sequence[Block]) -> list[Section]:
    r"""Return the sections of a text, written much as Markdown; paragraphs and lists end with an empty line.

    `## anchor: title` opens a section and `##` alone ends those of its depth; `<details> title` and `</details>` stand
    around what a reader opens; `{.kind} ` begins a paragraph of a kind; `\0n` is the n-th block of `placed`.
    """
    sections: list[Section] = []
    inside: list[tuple[int, list[Any]]] = [(0, sections)]
    for part in re.split(r"\n\s*\n", ALONE.sub(r"\n\n\1\n\n", text).strip()):
        depth, blocks = inside[-1]
        lines = [line.strip() for line in part.strip("\n").split("\n")]
        words = " ".join(lines)
        if words.startswith("\0"):
            blocks.append(placed[int(words[1:])])
        elif head := HEAD.fullmatch(words):
            while inside[-1][0] >= len(head[1]):
                inside.pop()
            if head[2]:
                section = Section(head[2], head[3], [])
                inside[-1][1].append(section)
                inside.append((len(head[1]), section.blocks))
        elif words.startswith("<details> "):
            fold = Fold(words.removeprefix("<details> "), [])
            blocks.append(fold)
            inside.append((depth, fold.blocks))
        elif words == "</details>":
            inside.pop()
        elif words.startswith("- "):
            items = re.split(r"(?m)^- ", "\n".join(lines))[1:]
            blocks.append(Bullets([" ".join(item.split("\n")).strip() for item in items]))
        else:
            kind = KIND.match(words)
            blocks.append(Para(words[kind.end() :], kind[1]) if kind else Para(words))
    return sections


def sections_of(template: str, *used: Used, **given: Any) -> list[Section]:
    """Return the sections of a template, which places a block by `put(block)`, and nothing by `put(None)`.

    Args: used, given: as of `fill`.
    """
    placed: list[Block] = []

    def put(block: Block | None) -> str:
        if block is None:
            return ""
        placed.append(block)
        return f"\0{len(placed) - 1}"

    return parsed(fill(template, put, *used, **given), placed)


# HTML


def html(page: Page, figures: Mapping[str, str]) -> str:
    """Return a page as HTML. Args: figures: name -> SVG of every figure of the page.

    The style of a figure holds for the whole page it stands in, so each kind of style is written once.
    """
    styles = dict.fromkeys(found[1] for svg in figures.values() for found in STYLE.finditer(svg))
    svgs = {name: Markup(STYLE.sub("", svg)) for name, svg in figures.items()}
    used = {"inline": _inline, "breaking": _breaking}
    return fill("page.html.j2", page=page, figures=svgs, styles=Markup("\n".join(styles)), **used)


def _inline(text: str) -> Markup:
    """Return the text of a block as HTML; a strong word in capitals gets a class of its name."""
    html = _reader().renderInline(_standing_alone(text))
    return Markup(re.sub(r"<strong>([A-Z]+(?: [A-Z]+)?)</strong>", _word, html))


def _breaking(text: str) -> Markup:
    """Return the name of a row as HTML, which may break after `_` where a screen is narrow."""
    return Markup(re.sub(r"[^<>]+(?=<|$)", lambda found: found[0].replace("_", "_<wbr>"), _inline(text)))


def _standing_alone(text: str) -> str:
    """Return a text with the words alone of links to documents: a page is read where these are not."""
    return TO_DOCUMENTS.sub(r"\1", text)


def _word(found: re.Match[str]) -> str:
    return f'<strong class="word {found[1].lower().replace(" ", "-")}">{found[1]}</strong>'


@functools.cache
def _reader() -> MarkdownIt:
    """Return what reads `code`, **strong**, *emphasis* and [words](#anchor); all else stays as it is written."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("zero").enable(["backticks", "emphasis", "link"])
    made.validateLink = lambda url: url.startswith(("#", "https://"))  # type: ignore[method-assign]
    for name in ("em_open", "em_close", "strong_open", "strong_close"):
        made.add_render_rule(name, _emphasis)
    return made


def _emphasis(_: Any, tokens: Sequence[Any], place: int, *__: Any) -> str:
    token = tokens[place]
    tag = {"**": "strong", "*": "em"}.get(token.markup)
    return str(token.markup) if tag is None else f"<{'/' * (token.nesting < 0)}{tag}>"


# Markdown


def markdown(page: Page) -> str:
    """Return a page as Markdown: figures are linked from the folder beside it, what a reader opens in HTML is open."""
    return _joined([f"# {page.title}", page.about], page.sections, 2) + "\n"


def _plain(text: str) -> str:
    return plain(_standing_alone(text))


def _joined(head: Sequence[str], blocks: Sequence[Block], level: int) -> str:
    return "\n\n".join([*head, *(_in_markdown(block, level) for block in blocks)])


def _in_markdown(block: Block, level: int) -> str:
    match block:
        case Para(text, kind):
            return f"> {_plain(text)}" if kind == "quote" else _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Table(_, _, caption):
            return (f"{_plain(caption)}\n\n" if caption else "") + table_in_markdown(block)
        case Plots(drawings):
            return "\n\n".join(
                f"![{_plain(d.caption)}](figures/{d.name}.svg)\n\n*{_plain(d.caption)}*" for d in drawings
            )
        case Code(text):
            return f"```\n{text}\n```"
        case Fold(title, blocks):
            return _joined([f"**{_plain(title).replace('**', '')}**"], blocks, level)
        case Section(anchor, title, blocks):
            head = [f'<a id="{anchor}"></a>', f"{'#' * level} {_plain(title)}"]
            return _joined(head, blocks, min(level + 1, 6))
