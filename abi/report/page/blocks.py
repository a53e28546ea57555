"""What a page is made of. Text in blocks may hold `code`, **strong** and [words](#anchor), as in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from abi.report.figures.canvas import Drawing
from abi.report.render import Table


@dataclass(frozen=True)
class Para:
    """A paragraph; `kind` is a class for its looks (`lead`, `quote`, `note`)."""

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
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """Blocks under a head with an anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


Block = Para | Bullets | Table | Plots | Code | Fold | Section


@dataclass(frozen=True)
class Page:
    """A whole page: title, one line below it, sections."""

    title: str
    about: str
    sections: Sequence[Section]

    def drawings(self) -> Iterator[Drawing]:
        """Yield every figure in the order of the page."""
        for section in self.sections:
            yield from _drawings(section)


def _drawings(block: Block) -> Iterator[Drawing]:
    if isinstance(block, Plots):
        yield from block.drawings
    elif isinstance(block, Section | Fold):
        for inner in block.blocks:
            yield from _drawings(inner)
