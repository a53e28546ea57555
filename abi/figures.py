"""Figures of results as SVG (matplotlib, imported only here): dots with intervals, the same file for the same figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abi.provenance import atomic_path

COLOURS = {
    "transferred": "#c1272d", "random": "#7f7f7f", "permuted": "#b0b0b0", "native": "#1f4e9c", "direct": "#2e8b57",
    "lora": "#8e44ad", "linear": "#d9a441", "bias": "#c9b28f", "no-domain": "#5f9ea0",
}  # fmt: skip


def transfer_figure(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw gap closure with intervals: a panel per regime, a line per pair, a dot per arm. Args: rows: of `transfers.rows`."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    settings: Any = {"svg.hashsalt": "abi", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    regimes = [
        regime for regime in ("oracle-kd", "few-shot", "general-only") if any(r["regime"] == regime for r in rows)
    ]
    pairs = list(dict.fromkeys(row["claim"] for row in rows))
    primary = {"oracle-kd": "kd", "few-shot": "ce", "general-only": "matched"}
    with plt.rc_context(settings):
        size = (4 * len(regimes), 1 + 0.9 * len(pairs))
        figure, panels = plt.subplots(1, len(regimes), figsize=size, sharey=True, squeeze=False, layout="constrained")
        for panel, regime in zip(panels[0], regimes, strict=True):
            for i, (arm, colour) in enumerate(COLOURS.items()):
                chosen = [r for r in rows if r["regime"] == regime and r["arm"] == arm and r["fit"] == primary[regime]]
                y = [pairs.index(r["claim"]) + 0.4 - 0.1 * i for r in chosen]
                x = [r["gap_closure"] for r in chosen]
                panel.plot(x, y, "o", color=colour, markersize=4, label=arm)
                for row, height in zip(chosen, y, strict=True):
                    if row["lower"] is not None:
                        panel.plot([row["lower"], row["upper"]], [height, height], color=colour, linewidth=1.2)
            panel.axvline(0, color="black", linewidth=0.6)
            panel.axvline(1, color="black", linewidth=0.6, linestyle=":")
            panel.set_title(regime)
            panel.set_xlabel("gap closure (raw 0, oracle 1)")
            panel.set_yticks(range(len(pairs)), pairs)
        figure.legend(
            *panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": "abi"})
        plt.close(figure)
