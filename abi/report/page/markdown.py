"""A page as Markdown: the same blocks, figures linked from the folder beside it."""

from collections.abc import Sequence

from abi.report.page.blocks import Block, Bullets, Code, Fold, Page, Para, Plots, Section, Table
from abi.report.tables import table


def render(page: Page) -> str:
    """Return a page as Markdown; what a reader opens in HTML stands open here."""
    parts = [f"# {page.title}", page.about, *(_block(section, 2) for section in page.sections)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, level: int) -> str:
    match block:
        case Para(text, kind):
            return f"> {_plain(text)}" if kind == "quote" else _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Table(heads, rows, caption):
            lines = table([_plain(head) for head in heads], [[_plain(cell) for cell in row] for row in rows])
            return "\n".join([*([f"{_plain(caption)}", ""] if caption else []), *lines])
        case Plots(drawings):
            lines = [f"![{_plain(d.caption)}](figures/{d.name}.svg)\n\n*{_plain(d.caption)}*" for d in drawings]
            return "\n\n".join(lines)
        case Code(text):
            return f"```\n{text.rstrip()}\n```"
        case Fold(title, blocks):
            return _all([f"**{_plain(title).replace('**', '')}**"], blocks, level)
        case Section(anchor, title, blocks):
            return _all([f'<a id="{anchor}"></a>', f"{'#' * level} {_plain(title)}"], blocks, min(level + 1, 6))


def _all(head: Sequence[str], blocks: Sequence[Block], level: int) -> str:
    return "\n\n".join([*head, *(_block(block, level) for block in blocks)])


def _plain(text: str) -> str:
    """Return text without what Markdown would take for HTML."""
    return text.replace("<", "&lt;").replace("\n", " ")
