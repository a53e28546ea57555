"""A page as Markdown: the same blocks, figures linked from the folder beside it."""

from collections.abc import Sequence

from abi.report.page.blocks import Block, Bullets, Code, Fold, Page, Para, Plots, Section
from abi.report.render import Table, markdown, plain


def render(page: Page) -> str:
    """Return a page as Markdown; what a reader opens in HTML stands open here."""
    parts = [f"# {page.title}", page.about, *(_block(section, 2) for section in page.sections)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, level: int) -> str:
    match block:
        case Para(text, kind):
            return f"> {plain(text)}" if kind == "quote" else plain(text)
        case Bullets(items):
            return "\n".join(f"- {plain(item)}" for item in items)
        case Table(_, _, caption):
            return "\n".join([*([plain(caption), ""] if caption else []), *markdown(block)])
        case Plots(drawings):
            return "\n\n".join(f"![{plain(d.caption)}](figures/{d.name}.svg)\n\n*{plain(d.caption)}*" for d in drawings)
        case Code(text):
            return f"```\n{text.rstrip()}\n```"
        case Fold(title, blocks):
            return _all([f"**{plain(title).replace('**', '')}**"], blocks, level)
        case Section(anchor, title, blocks):
            return _all([f'<a id="{anchor}"></a>', f"{'#' * level} {plain(title)}"], blocks, min(level + 1, 6))


def _all(head: Sequence[str], blocks: Sequence[Block], level: int) -> str:
    return "\n\n".join([*head, *(_block(block, level) for block in blocks)])
