"""Curves and matrices that a result brings along: lines with bands, heat maps with their numbers."""

from typing import Any

from abi.judge.shown import Curve, Matrix
from abi.report.figures.canvas import MARKERS, Drawing, colour_of, name_of, tidied
from abi.report.render import figure


def curve(claim: str, entry: Curve) -> Drawing:
    """Return the figure of an entry of `curves`: one line per series, a band where it has bounds."""
    rows = [
        (series.name, x, y, _at(series.lower, i), _at(series.upper, i))
        for series in entry.series
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]
    return Drawing(
        name=name_of("curve", claim, entry.id),
        caption=_sentences(f"{claim}: {entry.title}", entry.caption),
        words="; ".join(f"{name} at {figure(x)}: {figure(y)}" for name, x, y, _, _ in rows),
        columns=("series", "x", "y", "lower", "upper"),
        rows=tuple(rows),
        draw=lambda panel: _lines(panel, entry),
        size=(5.2, 3.2 + 0.2 * ((len(entry.series) + 2) // 3)),
    )


def _at(values: list[float | None] | None, place: int) -> float | None:
    return None if values is None else values[place]


def _lines(panel: Any, entry: Curve) -> None:
    axes = tidied(panel.add_subplot())
    for place, series in enumerate(entry.series):
        colour, marker = colour_of(series.name, place), MARKERS[place % len(MARKERS)]
        known = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
        x_known, y_known = [x for x, _ in known], [y for _, y in known]
        axes.plot(x_known, y_known, marker=marker, markersize=4, linewidth=1.2, color=colour, label=series.name)
        bands = list(zip(series.x, series.lower or (), series.upper or (), strict=False))
        for x, lower, upper in bands:
            if lower is not None and upper is not None:
                axes.plot([x, x], [lower, upper], color=colour, linewidth=0.9, alpha=0.7)
    if entry.log_x:
        axes.set_xscale("log")
    axes.set_xlabel(entry.x_label)
    axes.set_ylabel(entry.y_label)
    axes.grid(color="#ececec", linewidth=0.5)
    panel.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def matrix(claim: str, entry: Matrix) -> Drawing:
    """Return the figure of an entry of `matrices`: a heat map with a number in every cell."""
    cells = [
        f"{row} / {column} {figure(value)}"
        for row, values in zip(entry.rows, entry.values, strict=True)
        for column, value in zip(entry.columns, values, strict=True)
    ]
    widest = max(len(name) for name in entry.rows)
    return Drawing(
        name=name_of("matrix", claim, entry.id),
        caption=_sentences(f"{claim}: {entry.title}", entry.caption),
        words="; ".join(cells),
        columns=(entry.row_label, *entry.columns),
        rows=tuple((row, *values) for row, values in zip(entry.rows, entry.values, strict=True)),
        draw=lambda panel: _heat(panel, entry),
        size=(1.1 + 0.07 * widest + 0.72 * len(entry.columns), 1.1 + 0.42 * len(entry.rows)),
    )


def _heat(panel: Any, entry: Matrix) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in entry.values]
    known = [value for row in entry.values for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    axes = tidied(panel.add_subplot())
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


def _sentences(*parts: str) -> str:
    """Return parts as sentences, each closed by one stop."""
    return " ".join(part.rstrip(".") + "." for part in parts if part)
