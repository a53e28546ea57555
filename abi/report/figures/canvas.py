"""What all figures share: one style, colours, and how a figure becomes files (matplotlib, loaded when drawn)."""

import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abi.base.catalogue import ARMS, BOUND, CLAIMED, CONTROL, INSTEAD, PLACEBO, RECIPE_OF_RECORD, SMALLER
from abi.base.files import write_text

GREY = PLACEBO.colour
SKY = "#56b4e9"
CYCLE = (
    CONTROL.colour,
    CLAIMED.colour,
    INSTEAD.colour,
    RECIPE_OF_RECORD.colour,
    SMALLER.colour,
    SKY,
    BOUND.colour,
    PLACEBO.colour,
)
"""Colours that readers with any colour vision tell apart (after Okabe and Ito), two of them darkened for thin lines."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
STYLE: Any = {
    "svg.hashsalt": "abi",
    "svg.fonttype": "none",
    "font.size": 8.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#555555",
}


@dataclass(frozen=True)
class Drawing:
    """A figure: its file name without ending, caption, its numbers in words and as a table, and what draws it."""

    name: str
    caption: str
    words: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    draw: Callable[[Any], None]
    size: tuple[float, float]


def write(drawing: Drawing, folder: str | Path) -> str:
    """Write `<name>.svg` and `<name>.csv` into a folder and return the SVG."""
    svg = svg_of(drawing)
    write_text(Path(folder) / f"{drawing.name}.svg", svg)
    write_text(Path(folder) / f"{drawing.name}.csv", as_csv(drawing))
    return svg


def svg_of(drawing: Drawing) -> str:
    """Return a figure as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    text = io.StringIO()
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=drawing.size, layout="constrained")
        drawing.draw(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
        plt.close(figure)
    return described(text.getvalue(), drawing)


def as_csv(drawing: Drawing) -> str:
    """Return the numbers of a figure with every digit they have."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(drawing.columns)
    writer.writerows(["" if value is None else value for value in row] for row in drawing.rows)
    return text.getvalue()


def described(svg: str, drawing: Drawing) -> str:
    """Return an SVG with ids of its own, a title and its numbers in words for readers who do not see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{drawing.name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{drawing.name}-", svg)
    title, words = html.escape(drawing.caption), html.escape(drawing.words)
    head, _, body = svg.partition(">")
    label = f' role="img" aria-label="{title}"'
    return f"{head}{label}>\n <title>{title}</title>\n <desc>{words}</desc>{body}"


def name_of(*parts: str) -> str:
    """Return a file name for a figure from words."""
    return "-".join(re.sub(r"[^a-z0-9_.]+", "-", part.lower()).strip("-") for part in parts)


def colour_of(name: str, place: int) -> str:
    """Return the colour of an arm's role, or the next of the cycle for a name that is no arm."""
    return ARMS[name].role.colour if name in ARMS else CYCLE[place % len(CYCLE)]


def tidied(axes: Any) -> Any:
    """Return axes with short ticks."""
    axes.tick_params(length=2.5, width=0.6)
    return axes
