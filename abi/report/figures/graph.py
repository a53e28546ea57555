"""The DAG of rules as a figure: layers by longest path, edges that a longer path implies left out."""

from collections.abc import Iterable, Mapping
from typing import Any

from abi.report.figures.canvas import Drawing

Edge = tuple[str, str]
CAPTION = (
    "The rules of the pipeline, from text (top) to pages (bottom); an arrow that a longer path implies is left out."
)


def drawing(edges: Iterable[Edge], name: str = "rules") -> Drawing:
    """Return the figure of a graph of rules. Args: edges: (rule, rule that needs it), without a cycle."""
    edges = sorted(set(edges))
    places = layout(edges)
    deepest = max((row for _, row in places.values()), default=0)
    widest = max((abs(x) for x, _ in places.values()), default=0)
    return Drawing(
        name=name,
        caption=CAPTION,
        words="; ".join(f"{start} before {end}" for start, end in edges),
        columns=("rule", "needed by"),
        rows=tuple(edges),
        draw=lambda panel: _draw(panel, reduced(edges), places),
        size=(2.9 * widest + 1.6, 0.55 * deepest + 0.6),
    )


def depths(edges: Iterable[Edge]) -> dict[str, int]:
    """Return the layer of every node: the length of the longest path to it."""
    edges = list(edges)
    found = {node: 0 for edge in edges for node in edge}
    for _ in found:
        for start, end in edges:
            found[end] = max(found[end], found[start] + 1)
    return found


def layout(edges: Iterable[Edge]) -> dict[str, tuple[float, int]]:
    """Return node -> (x, layer): layers centred, each sorted by the mean place of what its nodes need."""
    edges = list(edges)
    layer = depths(edges)
    places: dict[str, tuple[float, int]] = {}
    for row in range(max(layer.values(), default=-1) + 1):
        nodes = [node for node in sorted(layer) if layer[node] == row]
        above = {node: [places[s][0] for s, e in edges if e == node and s in places] for node in nodes}
        nodes.sort(key=lambda node: sum(above[node]) / max(len(above[node]), 1))
        for i, node in enumerate(nodes):
            places[node] = (i - (len(nodes) - 1) / 2, row)
    return places


def reduced(edges: Iterable[Edge]) -> list[Edge]:
    """Return the edges that no longer path implies."""
    edges = list(edges)
    after: dict[str, set[str]] = {}
    for start, end in edges:
        after.setdefault(start, set()).add(end)
    return [(s, e) for s, e in edges if not any(e in _reached(after, other) for other in after[s] - {e})]


def _reached(after: Mapping[str, set[str]], node: str) -> set[str]:
    todo, seen = [node], set[str]()
    while todo:
        for other in after.get(todo.pop(), set()) - seen:
            seen.add(other)
            todo.append(other)
    return seen


def _draw(panel: Any, edges: Iterable[Edge], places: Mapping[str, tuple[float, int]]) -> None:
    axes = panel.add_subplot()
    arrow = {"arrowstyle": "-|>", "color": "#8a8a8a", "linewidth": 0.8, "shrinkA": 9, "shrinkB": 9}
    for start, end in edges:
        axes.annotate("", xy=places[end], xytext=places[start], arrowprops=arrow)
    box = {"boxstyle": "round,pad=0.35", "facecolor": "#eef3f8", "edgecolor": "#0072b2", "linewidth": 0.7}
    for node, (x, row) in places.items():
        axes.text(x, row, node, ha="center", va="center", fontsize=8, bbox=box)
    widest = max((abs(x) for x, _ in places.values()), default=0) + 0.6
    axes.set_xlim(-widest, widest)
    axes.set_ylim(max((row for _, row in places.values()), default=0) + 0.5, -0.5)
    axes.axis("off")
