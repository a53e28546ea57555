"""Arms as dots and intervals: every seed a dot, mean and interval above it, the published threshold a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from abi.judge.fits import Figure, Fit, Scope
from abi.report.figures.canvas import GREY, Drawing, colour_of, name_of, tidied
from abi.report.render import figure
from abi.report.words import counts_words, in_order, with_interval

LESS, MORE = "less is better", "more is better"


@dataclass(frozen=True)
class Measure:
    """A metric that is drawn: its key, name with unit, and which way is better."""

    key: str
    words: str
    better: str


MEASURES = (
    Measure("js_nats", "JS divergence to the reference (nats)", LESS),
    Measure("top5", "top-5 overlap with the reference (share of 5)", MORE),
    Measure("bits_per_byte", "held-out domain text (bits per byte)", LESS),
)


def drawings(claim: str, study: str, fit: Fit) -> list[Drawing]:
    """Return one figure per metric of a study's arms: those above, else every metric it has, on its first scope."""
    arms = {arm: fit.arms[arm] for arm in in_order(fit.arms)}
    scope = next((scope for scope in get_args(Scope) if any(found.of(scope) for found in arms.values())), "domain")
    figures = {arm: found.of(scope) for arm, found in arms.items()}
    there = list(dict.fromkeys(metric for found in figures.values() for metric in found))
    measures = [measure for measure in MEASURES if measure.key in there]
    return [
        _drawing(
            claim, study, fit, measure, {a: found[measure.key] for a, found in figures.items() if measure.key in found}
        )
        for measure in measures or [Measure(key, f"{key} ({scope})", "") for key in there]
    ]


def _drawing(claim: str, study: str, fit: Fit, measure: Measure, arms: Mapping[str, Figure]) -> Drawing:
    thresholds = fit.published_criteria.thresholds if fit.published_criteria else None
    threshold: float | None = getattr(thresholds, measure.key, None)
    seeds = sorted({seed for found in arms.values() for seed in found.per_seed}, key=lambda s: (len(s), s))
    draws = max((fit.arms[arm].draws for arm in arms), default=1)
    caption = f"{claim}, {study}: {measure.words}{measure.better and f', {measure.better}'}. {counts_words(fit)}"
    caption += f"; each figure the mean over {draws} draws or budgets" if draws > 1 else ""
    caption += f". Dashed: published threshold {figure(threshold)}." if threshold is not None else "."
    return Drawing(
        name=name_of("arms", claim, study, measure.key),
        caption=caption,
        words="; ".join(f"{arm} {with_interval(found)}" for arm, found in arms.items()),
        columns=("arm", "mean", "lower", "upper", *(f"seed {seed}" for seed in seeds)),
        rows=tuple(
            (arm, found.mean, found.lower, found.upper, *(found.per_seed.get(seed) for seed in seeds))
            for arm, found in arms.items()
        ),
        draw=lambda panel: _draw(panel, measure, arms, threshold),
        size=(3.65, 0.62 + 0.19 * len(arms)),
    )


def _draw(panel: Any, measure: Measure, arms: Mapping[str, Figure], threshold: float | None) -> None:
    axes = tidied(panel.add_subplot())
    if threshold is not None:
        axes.axvline(threshold, color=GREY, linewidth=0.9, linestyle="--")
    for place, (arm, found) in enumerate(arms.items()):
        colour, seeds = colour_of(arm, place), list(found.per_seed.values())
        axes.plot(seeds, [place + 0.24] * len(seeds), "o", color=colour, markersize=2.4, alpha=0.6, markeredgewidth=0)
        if found.lower is not None:
            axes.plot([found.lower, found.upper], [place - 0.1] * 2, color=colour, linewidth=1.4)
        axes.plot([found.mean], [place - 0.1], "D", color=colour, markersize=3.6, markeredgewidth=0)
    axes.set_yticks(range(len(arms)), list(arms))
    for label in axes.get_yticklabels():
        label.set_color(colour_of(label.get_text(), len(arms)))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(measure.words)
