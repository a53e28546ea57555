"""Figures of results as SVG with the numbers they show as CSV: the same file for the same figures.

matplotlib and networkx are loaded when something is drawn.
"""

import html
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from abi.base.catalogue import ARMS, BOUND, CLAIMED, CONTROL, INSTEAD, PLACEBO, RECIPE_OF_RECORD, SMALLER
from abi.base.files import write_text
from abi.base.tables import csv_text
from abi.judge.fits import Curve, Matrix, Series
from abi.report.render import figure

SKY = "#56b4e9"
CYCLE = (
    *(purpose.colour for purpose in (CONTROL, CLAIMED, INSTEAD, RECIPE_OF_RECORD, SMALLER)),
    SKY,
    BOUND.colour,
    PLACEBO.colour,
)
"""Colours that readers with any colour vision tell apart (after Okabe and Ito), two of them darkened for thin lines."""

LINES = ("-", "--", ":", "-.")
"""Of arms of one purpose, which share its colour."""
MOST_TICKS = 6
"""Points of an axis that each have a tick; of more, some would lie on each other."""
FONTS = ("DejaVu Sans", "Arial")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
STYLE: Any = {
    "svg.hashsalt": "abi",
    "svg.fonttype": "none",
    "font.size": 8.5,
    "font.family": "sans-serif",
    "font.sans-serif": [*FONTS],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#555555",
}
RULES = (
    "The rules of the pipeline, from text (top) to pages (bottom); an arrow that a longer path implies is left out, "
    "and so are those of an admitted update, which is a backbone again."
)
AGAIN = "admit_update"
"""The rule whose output goes to the rules that it came from: a graph of rules has no cycle without its arrows."""
Edge = tuple[str, str]


@dataclass(frozen=True)
class Drawing:
    """A figure: its file name without ending, caption, its numbers in words and as a table, and what draws it.

    Args: draw, size: on a panel of matplotlib, in inches; svg: or what returns the whole figure.
    """

    name: str
    caption: str
    words: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    draw: Callable[[Any], None] | None = None
    size: tuple[float, float] = (0.0, 0.0)
    svg: Callable[[], str] | None = None


# files


def write(drawing: Drawing, folder: str | Path) -> str:
    """Write `<name>.svg` and `<name>.csv`, every number with all its digits, into a folder and return the SVG."""
    svg = svg_of(drawing)
    write_text(Path(folder) / f"{drawing.name}.svg", svg)
    write_text(Path(folder) / f"{drawing.name}.csv", csv_text(drawing.columns, drawing.rows))
    return svg


def svg_of(drawing: Drawing) -> str:
    """Return a figure as SVG with ids of its own, a title, and its numbers in words for readers who do not see it."""
    if drawing.svg is not None:
        return drawing.svg()
    assert drawing.draw is not None
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    text = io.StringIO()
    with plt.rc_context(STYLE):
        panel = plt.figure(figsize=drawing.size, layout="constrained")
        drawing.draw(panel)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        panel.savefig(text, format="svg", metadata=nothing, transparent=True)
        plt.close(panel)
    svg = text.getvalue()
    svg = re.sub(r"\s*\n\s*", "\n", svg[svg.index("<svg") :])
    svg = _shorter(svg)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))  # matplotlib names every group; few are referred to
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{drawing.name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{drawing.name}-", svg)
    svg = _without_idle(svg)
    title, words = html.escape(drawing.caption), html.escape(drawing.words)
    head, _, body = svg.partition(">")
    about = f'font-family="{", ".join((*FONTS, "sans-serif"))}" role="img" aria-label="{title}"'
    return f"{head} {about}>\n <title>{title}</title>\n <desc>{words}</desc>{body}"


def _shorter(svg: str) -> str:
    """Return a figure whose places are no finer than any screen."""

    def rounded(found: re.Match[str]) -> str:
        return re.sub(r"(?<=\d)\.0+(?!\d)", "", re.sub(r"(\d\.\d\d)\d+", r"\1", found[0]))

    return re.sub(r'="[^"]*"', rounded, svg)


def _without_idle(svg: str) -> str:
    """Return a figure without what changes nothing: a tenth of a page of many figures.

    These are fonts that each text repeats, turns by no angle, and groups that hold no attribute.
    """
    svg = re.sub(r"font-family: [^;\"]*(; )?|(?<=\") transform=\"rotate\(-?0 [^)]*\)\"", "", svg)
    while (fewer := re.sub(r"<g>\n((?:(?!<g\b|</g>).)*)</g>\n", r"\1", svg, flags=re.DOTALL)) != svg:
        svg = fewer
    return svg


def name_of(*parts: str) -> str:
    """Return a file name for a figure from words."""
    return "-".join(re.sub(r"[^a-z0-9_.]+", "-", part.lower()).strip("-") for part in parts)


def colour_of(name: str, place: int) -> str:
    """Return the colour of an arm's purpose, or the next of the cycle for a name that is no arm."""
    return ARMS[name].purpose.colour if name in ARMS else CYCLE[place % len(CYCLE)]


def _axes(panel: Any) -> Any:
    axes = panel.add_subplot()
    axes.tick_params(length=2.5, width=0.6)
    return axes


# what a result brings along


def curve(claim: str, entry: Curve) -> Drawing:
    """Return the figure of an entry of `curves`: one line per series, a band where it has bounds."""
    rows = [(series.name, *point) for series in entry.series for point in _points(series)]
    width, names = 5.2, [series.name for series in entry.series]
    columns = columns_of(names, width, most=3)

    def draw(panel: Any) -> None:
        axes, drawn = _axes(panel), Counter[str]()
        for place, series in enumerate(entry.series):
            colour, marker = colour_of(series.name, place), MARKERS[place % len(MARKERS)]
            known = [(x, y) for x, y, _, _ in _points(series) if y is not None]
            x_known, y_known = [x for x, _ in known], [y for _, y in known]
            # Points that go back and forth are no path; arms of one purpose share its colour and differ in their lines.
            line = LINES[drawn[colour] % len(LINES)] if x_known == sorted(x_known) else ""
            drawn[colour] += 1
            look = {"marker": marker, "markersize": 4, "linestyle": line, "linewidth": 1.2, "color": colour}
            axes.plot(x_known, y_known, label=series.name, **look)
            for x, _, lower, upper in _points(series):
                if lower is not None and upper is not None:
                    axes.plot([x, x], [lower, upper], color=colour, linewidth=0.9, alpha=0.7)
        if entry.log_x:
            axes.set_xscale("log")
        places = sorted({x for series in entry.series for x in series.x})
        if len(places) <= MOST_TICKS:  # rounds, windows or doses: a tick between them would name what was not measured
            axes.set_xticks(places, [f"{x:g}" for x in places], minor=False)
            axes.set_xticks([], minor=True)
        axes.set_xlabel(entry.x_label)
        axes.set_ylabel(entry.y_label)
        axes.grid(color="#ececec", linewidth=0.5)
        panel.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)

    return Drawing(
        name=name_of("curve", claim, entry.id),
        caption=_caption(claim, entry),
        words="; ".join(f"{name} at {figure(x)}: {figure(y)}" for name, x, y, _, _ in rows),
        columns=("series", "x", "y", "lower", "upper"),
        rows=rows,
        draw=draw,
        size=(width, 3.2 + 0.2 * math.ceil(len(names) / columns)),
    )


def columns_of(names: Sequence[str], width: float, most: int) -> int:
    """Return how many columns of a legend in letters of 8 points fit into a width in inches; one at least."""
    widest = max((len(name) for name in names), default=0)
    return max(1, min(most, int(width / (0.55 + 0.075 * widest))))


def _points(series: Series) -> list[tuple[float, float | None, float | None, float | None]]:
    """Return (x, y, lower, upper) of every point."""
    return list(zip_longest(series.x, series.y, series.lower or (), series.upper or ()))


def matrix(claim: str, entry: Matrix) -> Drawing:
    """Return the figure of an entry of `matrices`: a heat map with a number in every cell."""
    known = [value for row in entry.values for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)

    def draw(panel: Any) -> None:
        axes = _axes(panel)
        values = [[float("nan") if value is None else value for value in row] for row in entry.values]
        axes.pcolormesh(values, cmap="cividis", vmin=low, vmax=high, edgecolors="white", linewidth=1.2)
        for i, row in enumerate(entry.values):
            for j, value in enumerate(row):
                dark = value is not None and (value - low) <= 0.5 * (high - low)
                look = {"ha": "center", "va": "center", "color": "white" if dark else "black", "fontsize": 8}
                axes.text(j + 0.5, i + 0.5, figure(value), **look)
        axes.set_xticks([j + 0.5 for j in range(len(entry.columns))], entry.columns, rotation=20, ha="right")
        axes.set_yticks([i + 0.5 for i in range(len(entry.rows))], entry.rows)
        axes.invert_yaxis()
        axes.set_xlabel(entry.column_label)
        axes.set_ylabel(entry.row_label)

    cells = [
        f"{row} / {column} {figure(value)}"
        for row, values in zip(entry.rows, entry.values, strict=True)
        for column, value in zip(entry.columns, values, strict=True)
    ]
    widest = max(len(name) for name in entry.rows)
    return Drawing(
        name=name_of("matrix", claim, entry.id),
        caption=_caption(claim, entry),
        words="; ".join(cells),
        columns=(entry.row_label, *entry.columns),
        rows=[(row, *values) for row, values in zip(entry.rows, entry.values, strict=True)],
        draw=draw,
        size=(1.1 + 0.07 * widest + 0.72 * len(entry.columns), 1.1 + 0.42 * len(entry.rows)),
    )


def _caption(claim: str, entry: Curve | Matrix) -> str:
    parts = (f"{claim}: {entry.title}", entry.caption)
    return " ".join(part.rstrip(".") + "." for part in parts if part)


# the DAG of rules


def rules(edges: Iterable[Edge]) -> Drawing:
    """Return the figure of a graph of rules.

    Args: edges: (rule, rule that needs it); to need oneself is no arrow, and to lead back is none.
    """
    edges = sorted(set(edges))
    arrows = [(start, end) for start, end in edges if start != end and start != AGAIN]
    places = layout(arrows)
    deepest, widest = max(row for _, row in places.values()), max(abs(x) for x, _ in places.values())

    def draw(panel: Any) -> None:
        axes = panel.add_subplot()
        arrow = {"arrowstyle": "-|>", "color": "#8a8a8a", "linewidth": 0.8, "shrinkA": 9, "shrinkB": 9}
        for start, end in reduced(arrows):
            axes.annotate("", xy=places[end], xytext=places[start], arrowprops=arrow)
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#eef3f8", "edgecolor": "#0072b2", "linewidth": 0.7}
        for node, (x, row) in places.items():
            axes.text(x, row, node, ha="center", va="center", fontsize=8, bbox=box)
        axes.set_xlim(-widest - 0.6, widest + 0.6)
        axes.set_ylim(deepest + 0.5, -0.5)
        axes.axis("off")

    return Drawing(
        name="rules",
        caption=RULES,
        words="; ".join(f"{start} before {end}" for start, end in edges),
        columns=("rule", "needed by"),
        rows=edges,
        draw=draw,
        size=(2.9 * widest + 1.6, 0.55 * deepest + 0.6),
    )


def layout(edges: Iterable[Edge]) -> dict[str, tuple[float, int]]:
    """Return node -> (x, layer): layers by longest path, centred, sorted by the mean place of what their nodes need."""
    import networkx as nx

    graph = nx.DiGraph(edges)
    places: dict[str, tuple[float, int]] = {}
    for row, layer in enumerate(nx.topological_generations(graph)):
        above = {node: [places[start][0] for start in graph.predecessors(node)] for node in layer}
        nodes = sorted(layer, key=lambda node: (sum(above[node]) / max(len(above[node]), 1), node))
        places |= {node: (i - (len(nodes) - 1) / 2, row) for i, node in enumerate(nodes)}
    return places


def reduced(edges: Sequence[Edge]) -> list[Edge]:
    """Return the edges of a graph without a cycle that no longer path implies."""
    import networkx as nx

    kept = nx.transitive_reduction(nx.DiGraph(edges)).edges
    return [edge for edge in edges if edge in kept]
