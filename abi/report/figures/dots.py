"""Arms as dots and intervals: every seed a dot, mean and interval above it, the published threshold a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from abi.report.figures.canvas import GREY, Drawing, colour_of, name_of, tidied
from abi.report.tables import counts_words, figure, in_order, with_interval

Record = Mapping[str, Any]
LESS, MORE = "less is better", "more is better"


@dataclass(frozen=True)
class Metric:
    """A metric that is drawn: its key, name with unit, which way is better, whether the original set a threshold."""

    key: str
    words: str
    better: str


METRICS = (
    Metric("js_nats", "JS divergence to the reference (nats)", LESS),
    Metric("top5", "top-5 overlap with the reference (share of 5)", MORE),
    Metric("bits_per_byte", "held-out domain text (bits per byte)", LESS),
)


def drawings(claim: str, study: str, judged: Record) -> list[Drawing]:
    """Return one figure per metric of a study's arms: those above, else every metric it has, on its first scope."""
    arms = {arm: judged["arms"][arm] for arm in in_order(judged.get("arms", {}))}
    scopes = list(
        dict.fromkeys(key for scoped in arms.values() for key, value in scoped.items() if isinstance(value, Mapping))
    )
    scope = "domain" if "domain" in scopes or not scopes else scopes[0]
    found = {arm: scoped.get(scope, {}) for arm, scoped in arms.items()}
    there = list(dict.fromkeys(metric for figures in found.values() for metric in figures))
    metrics = [metric for metric in METRICS if metric.key in there] or [
        Metric(key, f"{key} ({scope})", "") for key in there
    ]
    return [
        _drawing(
            claim,
            study,
            judged,
            metric,
            {arm: figures[metric.key] for arm, figures in found.items() if metric.key in figures},
        )
        for metric in metrics
    ]


def _drawing(claim: str, study: str, judged: Record, metric: Metric, arms: Mapping[str, Record]) -> Drawing:
    threshold = judged.get("published_criteria", {}).get("thresholds", {}).get(metric.key)
    seeds = sorted({seed for entry in arms.values() for seed in entry["per_seed"]}, key=lambda s: (len(s), s))
    rows = tuple(
        (arm, e["mean"], e["lower"], e["upper"], *(e["per_seed"].get(seed) for seed in seeds))
        for arm, e in arms.items()
    )
    draws = max((judged["arms"][arm].get("draws", 1) for arm in arms), default=1)
    caption = f"{claim}, {study}: {metric.words}{metric.better and f', {metric.better}'}. {counts_words(judged)}"
    caption += f"; each figure the mean over {draws} draws or budgets" if draws > 1 else ""
    caption += f". Dashed: published threshold {figure(threshold)}." if threshold is not None else "."
    return Drawing(
        name=name_of("arms", claim, study, metric.key),
        caption=caption,
        words="; ".join(f"{arm} {with_interval(entry)}" for arm, entry in arms.items()),
        columns=("arm", "mean", "lower", "upper", *(f"seed {seed}" for seed in seeds)),
        rows=rows,
        draw=lambda panel: _draw(panel, metric, arms, threshold),
        size=(3.65, 0.62 + 0.19 * len(arms)),
    )


def _draw(panel: Any, metric: Metric, arms: Mapping[str, Record], threshold: float | None) -> None:
    axes = tidied(panel.add_subplot())
    if threshold is not None:
        axes.axvline(threshold, color=GREY, linewidth=0.9, linestyle="--")
    for place, (arm, entry) in enumerate(arms.items()):
        colour, seeds = colour_of(arm, place), list(entry["per_seed"].values())
        axes.plot(seeds, [place + 0.24] * len(seeds), "o", color=colour, markersize=2.4, alpha=0.6, markeredgewidth=0)
        if entry["lower"] is not None:
            axes.plot([entry["lower"], entry["upper"]], [place - 0.1] * 2, color=colour, linewidth=1.4)
        axes.plot([entry["mean"]], [place - 0.1], "D", color=colour, markersize=3.6, markeredgewidth=0)
    axes.set_yticks(range(len(arms)), list(arms))
    for label in axes.get_yticklabels():
        label.set_color(colour_of(label.get_text(), len(arms)))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(metric.words)
