"""Figures of arms: every seed a dot, mean and interval below it, the published threshold a line.

A report has more than a hundred of them, so they come from a template, which makes them small and lets them follow
the reader's light or dark mode.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, get_args

from abi.base.catalogue import ARMS, PURPOSES
from abi.judge.fits import Figure, Fit, Scope
from abi.report.figures import Drawing, name_of
from abi.report.render import figure
from abi.report.study_words import counts_words, with_interval
from abi.report.templates import fill
from abi.report.words import in_order

MEASURES = {
    "js_nats": ("JS divergence to the reference (nats)", ", less is better"),
    "top5": ("top-5 overlap with the reference (share of 5)", ", more is better"),
    "bits_per_byte": ("held-out domain text (bits per byte)", ", less is better"),
}
"""Metric that is drawn -> its name with unit, and which way is better."""
WIDTH, LINE, TOP, FOOT, LETTER = 360.0, 17.0, 8.0, 36.0, 6.4
"""Of the figure, in its units: width, height of a line, of what is above and below the lines, width of a letter."""
IN_THE_DARK = {
    "claimed": "#ff9d66",
    "bound": "#e6e9ed",
    "control": "#7ab8ff",
    "placebo": "#a4adb8",
    "smaller": "#e8b54a",
    "instead": "#5fd0a8",
    "recipe": "#e6a3cb",
}
"""Purpose -> its colour on a dark page."""
Tick = tuple[float, str]
"""Where a tick of an axis stands, and its text."""


class Line(NamedTuple):
    """An arm in the figure: its purpose, height, and where its marks stand."""

    arm: str
    purpose: str
    y: float
    mean: float
    interval: tuple[float, float] | None
    seeds: list[float]


def arms(claim: str, study: str, fit: Fit) -> list[Drawing]:
    """Return one figure per metric of a study's arms: those above, else every metric it has, on its first scope."""
    scopes = get_args(Scope)
    scope = next((scope for scope in scopes if any(found.of(scope) for found in fit.arms.values())), scopes[0])
    there = dict.fromkeys(metric for arm in in_order(fit.arms) for metric in fit.arms[arm].of(scope))
    measures = [metric for metric in MEASURES if metric in there] or list(there)
    return [_of(metric, scope, claim, study, fit) for metric in measures]


def of_metric(claim: str, study: str, fit: Fit, metric: str) -> list[Drawing]:
    """Return the figure of one metric of a study's arms, on the first scope that has it; none where none has."""
    scopes = [scope for scope in get_args(Scope) if any(metric in found.of(scope) for found in fit.arms.values())]
    return [_of(metric, scope, claim, study, fit) for scope in scopes[:1]]


def _of(metric: str, scope: str, claim: str, study: str, fit: Fit) -> Drawing:
    """Return the figure of a metric that some arms of a study have on a scope of text."""
    figures = {arm: fit.arms[arm].of(scope) for arm in in_order(fit.arms)}
    shown = {arm: found[metric] for arm, found in figures.items() if metric in found}
    label, better = MEASURES.get(metric, (f"{metric} ({scope})", ""))
    thresholds = fit.published_criteria.thresholds if fit.published_criteria else None
    threshold: float | None = getattr(thresholds, metric, None)
    draws = max(fit.arms[arm].draws for arm in shown)
    caption = f"{claim}, {study}: {label}{better}. {counts_words(fit)}"
    caption += f"; each figure the mean over {draws} draws or budgets" if draws > 1 else ""
    caption += f". Dashed: published threshold {figure(threshold)}." if threshold is not None else "."
    return _dots(name_of("arms", claim, study, metric), caption, label, shown, threshold)


def _dots(name: str, caption: str, label: str, arms: Mapping[str, Figure], threshold: float | None) -> Drawing:
    words = "; ".join(f"{arm} {with_interval(found)}" for arm, found in arms.items())
    seeds = sorted({seed for found in arms.values() for seed in found.per_seed}, key=lambda s: (len(s), s))

    def svg() -> str:
        return _svg(name, label, arms, threshold, {"caption": caption, "words": words})

    return Drawing(
        name=name,
        caption=caption,
        words=words,
        columns=("arm", "mean", "lower", "upper", *(f"seed {seed}" for seed in seeds)),
        rows=[
            (arm, found.mean, found.lower, found.upper, *(found.per_seed.get(seed) for seed in seeds))
            for arm, found in arms.items()
        ],
        svg=svg,
    )


def _svg(name: str, label: str, arms: Mapping[str, Figure], threshold: float | None, told: Mapping[str, str]) -> str:
    """Return the figure as SVG. Args: told: caption and words."""
    ends = (12 + LETTER * max(map(len, arms)), WIDTH - 12)
    values = [value for found in arms.values() for value in (found.mean, *found.per_seed.values())]
    values += [end for found in arms.values() for end in (found.lower, found.upper) if end is not None]
    values += [] if threshold is None else [threshold]
    x, ticks = axis(values, ends)
    lines = [
        Line(
            arm=arm,
            purpose=ARMS[arm].purpose.name if arm in ARMS else "bound",
            y=TOP + LINE * (place + 0.7),
            mean=x(found.mean),
            interval=None if found.lower is None or found.upper is None else (x(found.lower), x(found.upper)),
            seeds=[x(value) for value in found.per_seed.values()],
        )
        for place, (arm, found) in enumerate(arms.items())
    ]
    bottom = TOP + LINE * len(arms)
    places = {"width": WIDTH, "height": bottom + FOOT, "top": TOP, "bottom": bottom, "middle": sum(ends) / 2}
    room = {name: round(place) for name, place in places.items()}
    dashed = None if threshold is None else x(threshold)
    looks = [(purpose.name, purpose.colour, IN_THE_DARK[purpose.name]) for purpose in PURPOSES]
    given = {"label": label, "lines": lines, "ticks": ticks, "dashed": dashed, "looks": looks, **room, **told}
    return fill("dots.svg.j2", id=name, **given)


def axis(values: Sequence[float], ends: tuple[float, float]) -> tuple[Callable[[float], float], list[Tick]]:
    """Return what says where a value stands on an axis that holds all of `values`, and some four ticks.

    Args: ends: where the axis begins and ends.
    """
    from matplotlib.ticker import MaxNLocator

    least, most = min(values), max(values)
    room = 0.04 * (most - least) or abs(most) or 1.0

    def x(value: float) -> float:
        return round(ends[0] + (value - least + room) / (most - least + 2 * room) * (ends[1] - ends[0]))

    found = [round(float(value), 12) for value in MaxNLocator(4).tick_values(least, most) if least <= value <= most]
    return x, [(x(value), f"{value:g}") for value in found]
