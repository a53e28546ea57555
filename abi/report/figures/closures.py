"""The figure of the transfer table: gap closure per pair, regime and arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abi.base.files import write_text
from abi.report.figures.canvas import MARKERS, Drawing, colour_of, svg_of
from abi.report.render import figure
from abi.report.transfer_table import ADVISED, COLUMNS, SEEN, Row

CAPTION = (
    "Part of the gap in bits per byte that an arm closes, with 95 % intervals: 0 is the plain backbone, 1 the oracle."
)


def transfer_drawing(rows: Sequence[Row], name: str = "transfers") -> Drawing:
    """Return the figure of gap closures with intervals: a panel per regime, a line per pair, a mark per arm.

    Args: rows: of `transfers.rows`; only the fit that decides in each regime is drawn.
    """
    shown = [row for row in rows if row.decides and row.arm in ADVISED]
    regimes = [regime for regime in SEEN if any(row.regime == regime for row in shown)]
    pairs = list(dict.fromkeys(row.claim for row in shown))
    return Drawing(
        name=name,
        caption=CAPTION,
        words="; ".join(f"{row.claim} {row.regime} {row.arm} {figure(row.gap_closure)}" for row in shown),
        columns=COLUMNS,
        rows=tuple(tuple(getattr(row, column) for column in COLUMNS) for row in shown),
        draw=lambda panel: _draw(panel, shown, regimes, pairs),
        size=(1.3 + 2.6 * max(len(regimes), 1), 1.3 + 1.15 * len(pairs)),
    )


def transfer_figure(rows: Sequence[Row], path: str | Path) -> None:
    """Write the figure of the transfer table as SVG. Args: rows: of `transfers.rows`."""
    write_text(path, svg_of(transfer_drawing(rows)))


def _draw(panel: Any, rows: Sequence[Row], regimes: Sequence[str], pairs: Sequence[str]) -> None:
    panels = panel.subplots(1, max(len(regimes), 1), sharey=True, squeeze=False)[0]
    drawn: dict[str, Any] = {}
    for axes, regime in zip(panels, regimes, strict=False):
        there = [row for row in rows if row.regime == regime and row.gap_closure is not None]
        for row in sorted(there, key=lambda row: ADVISED.index(row.arm)):
            i = ADVISED.index(row.arm)
            height, colour = pairs.index(row.claim) - 0.4 + 0.1 * i, colour_of(row.arm, i)
            look = {"color": colour, "markersize": 4.4, "markeredgewidth": 0}
            [drawn[row.arm]] = axes.plot([row.gap_closure], [height], MARKERS[i], **look)
            if row.lower is not None:
                axes.plot([row.lower, row.upper], [height, height], color=colour, linewidth=1.1)
        for at, line in ((0, "-"), (1, ":")):
            axes.axvline(at, color="black", linewidth=0.6, linestyle=line)
        axes.set_xlabel(f"{regime}\ngap closure")
        axes.set_yticks(range(len(pairs)), pairs)
        axes.set_ylim(len(pairs) - 0.4, -0.6)
    if drawn:
        panel.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
