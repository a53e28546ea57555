"""The figure of the transfer table: gap closure per pair, regime and arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abi.base.files import write_text
from abi.report.figures.canvas import MARKERS, Drawing, colour_of, svg_of
from abi.report.tables import figure
from abi.report.transfers import ADVISED, COLUMNS, REGIMES

PRIMARY = {"oracle-kd": "kd", "few-shot": "ce", "general-only": "matched"}


def transfer_drawing(rows: Sequence[dict[str, Any]], name: str = "transfers") -> Drawing:
    """Return the figure of gap closures with intervals: a panel per regime, a line per pair, a mark per arm.

    Args: rows: of `transfers.rows`; only the fit that decides in each regime is drawn.
    """
    shown = [row for row in rows if row["fit"] == PRIMARY.get(row["regime"]) and row["arm"] in ADVISED]
    regimes = [regime for regime in REGIMES if any(row["regime"] == regime for row in shown)]
    pairs = list(dict.fromkeys(row["claim"] for row in shown))
    words = [f"{r['claim']} {r['regime']} {r['arm']} {figure(r['gap_closure'])}" for r in shown]
    return Drawing(
        name=name,
        caption="Part of the gap in bits per byte that an arm closes, with 95 % intervals: 0 is the plain backbone, 1 the oracle.",
        words="; ".join(words),
        columns=COLUMNS,
        rows=tuple(tuple(row[column] for column in COLUMNS) for row in shown),
        draw=lambda panel: _draw(panel, shown, regimes, pairs),
        size=(1.3 + 2.6 * max(len(regimes), 1), 1.3 + 1.15 * len(pairs)),
    )


def transfer_figure(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Write the figure of the transfer table as SVG. Args: rows: of `transfers.rows`."""
    write_text(path, svg_of(transfer_drawing(rows)))


def _draw(panel: Any, rows: Sequence[dict[str, Any]], regimes: Sequence[str], pairs: Sequence[str]) -> None:
    panels = panel.subplots(1, max(len(regimes), 1), sharey=True, squeeze=False)[0]
    drawn: dict[str, Any] = {}
    for axes, regime in zip(panels, regimes, strict=False):
        for i, arm in enumerate(ADVISED):
            for row in (r for r in rows if r["regime"] == regime and r["arm"] == arm and r["gap_closure"] is not None):
                height, colour = pairs.index(row["claim"]) - 0.4 + 0.1 * i, colour_of(arm, i)
                [drawn[arm]] = axes.plot(
                    [row["gap_closure"]], [height], MARKERS[i], color=colour, markersize=4.4, markeredgewidth=0
                )
                if row["lower"] is not None:
                    axes.plot([row["lower"], row["upper"]], [height, height], color=colour, linewidth=1.1)
        for at, line in ((0, "-"), (1, ":")):
            axes.axvline(at, color="black", linewidth=0.6, linestyle=line)
        axes.set_xlabel(f"{regime}\ngap closure")
        axes.set_yticks(range(len(pairs)), pairs)
        axes.set_ylim(len(pairs) - 0.4, -0.6)
    if drawn:
        panel.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
