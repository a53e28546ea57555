"""Curves that a transfer's result brings along: arms by windows of domain text (few-shot), by steps (general-only)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from abi.base.catalogue import (
    BIAS,
    DIRECT,
    LINEAR,
    LORA,
    MOVED,
    NATIVE,
    NO_DOMAIN,
    ORACLE,
    PERMUTED,
    RANDOM,
    RAW,
    REGIMES,
    TRANSFERRED,
)
from abi.base.names import CLOSED_FORM
from abi.judge.fits import Figure, Fit, IntervalFound
from abi.judge.protocol import BPB
from abi.judge.results import ClaimFacts
from abi.judge.shown import Curve, Series
from abi.judge.tables import fit_tables
from abi.plan.specs.judge import Criteria, JudgeClaim

if TYPE_CHECKING:
    import pandas as pd

DRAWN = (TRANSFERRED, RANDOM, PERMUTED, NATIVE, DIRECT, LORA, NO_DOMAIN, LINEAR, BIAS)


def curves_of(
    claim: ClaimFacts, evidence: pd.DataFrame, fits: Mapping[str, Fit], steps: Mapping[str, int], criteria: Criteria
) -> list[Curve]:
    """Return the curves of a transfer in its regime: a ladder of windows, or a ladder of steps.

    Args: steps: fit -> number of steps, of the fits that differ in nothing else; one fit makes no curve.
    """
    regime = REGIMES[str(claim.regime)]
    if not regime.closed_form:
        found = [windows_curve(evidence, str(claim.fit), criteria)]
    elif not regime.has_control and len(steps) > 1:
        found = [steps_curve(fits, steps), lead_curve(fits, steps)]
    else:
        found = []
    return [curve for curve in found if curve.series]


def steps_of(spec: JudgeClaim) -> dict[str, int]:
    """Return fit -> steps of the fits that differ in steps alone; the closed form has none."""
    found = {str(spec.claim.fit): spec.budget.steps_of("module")}
    for name in spec.claim.variants:
        change = spec.budget.variants[name]
        if change.model_fields_set == {"steps"} and change.steps is not None:
            found[name] = change.steps
    return {CLOSED_FORM: 0, **found} if len(found) > 1 else found


def windows_curve(evidence: pd.DataFrame, fit: str, criteria: Criteria) -> Curve:
    """Return bits per byte by number of domain windows; the draws of a few-shot fit are its budgets."""
    budgets = sorted(set(evidence.loc[(evidence["fit"] == fit), "draw"]))
    by_arm: dict[str, list[tuple[float, float]]] = {}
    plain: dict[str, float] = {}
    for budget in budgets:
        rows = evidence[(evidence["fit"] != fit) | (evidence["draw"] == budget)]
        tables = fit_tables(rows, fit=fit, criteria=criteria).tables[BPB]
        for arm in DRAWN:
            if arm in tables:
                by_arm.setdefault(arm, []).append((float(budget), float(tables[arm].mean())))
        plain = {arm: float(tables[arm].mean()) for arm in (RAW, ORACLE)}
    level = {arm: [(float(budget), value) for budget in budgets] for arm, value in plain.items()}
    return Curve(
        id="windows",
        title="Arms by windows of domain text",
        x_label="domain windows",
        y_label="bits per byte (less is better)",
        caption=(
            "Held-out domain text after a fit on so many domain windows; means over groups and seeds. "
            "The registered figure is the mean of the ladder."
        ),
        log_x=True,
        series=_series({**by_arm, **level}),
    )


def steps_curve(fits: Mapping[str, Fit], steps: Mapping[str, int]) -> Curve:
    """Return gap closure by number of steps; the closed form, which every fit starts from, stands at 0."""
    by_arm: dict[str, list[tuple[float, float]]] = {}
    for fit in sorted(steps, key=lambda fit: steps[fit]):
        for arm in DRAWN:
            found = fits[fit].gap_closures.get(arm)
            if found is not None and found.estimate is not None:
                by_arm.setdefault(arm, []).append((float(steps[fit]), found.estimate))
    return Curve(
        id="steps",
        title="Gap closure by steps",
        x_label="steps",
        y_label="gap closure",
        caption=(
            "Part of the oracle's gain in bits per byte on held-out domain text, after so many steps on general text "
            "alone; 0 is the closed form."
        ),
        log_x=False,
        series=_series(by_arm),
    )


def lead_curve(fits: Mapping[str, Fit], steps: Mapping[str, int]) -> Curve:
    """Return moved net minus placebo by number of steps, with intervals, for both placebos."""
    series = []
    for placebo in MOVED.placebos:
        asked = f"4.attribution.bits_per_byte.{placebo}"
        tests = {
            fit: next(t for t in fits[fit].tests if t.id == asked) for fit in sorted(steps, key=lambda f: steps[f])
        }
        found = [(float(steps[fit]), test.interval) for fit, test in tests.items() if test.interval is not None]
        if found:
            x, intervals = [steps for steps, _ in found], [interval for _, interval in found]
            series.append(lines(f"{MOVED.candidate} - {placebo}", x, intervals))
    return Curve(
        id="lead",
        title="Lead of the moved net by steps",
        x_label="steps",
        y_label="bits per byte",
        caption=(
            "The moved net's own part: moved net minus placebo in bits per byte (above 0: the moved net is better), "
            "95 % intervals; 0 steps is the closed form."
        ),
        log_x=False,
        series=series,
    )


def lines(name: str, x: Sequence[float], figures: Iterable[Figure | IntervalFound]) -> Series:
    """Return means, and the ends of intervals where every figure has one."""
    figures = list(figures)
    y, lower, upper = ([getattr(figure, key) for figure in figures] for key in ("mean", "lower", "upper"))
    if None in lower:
        return Series(name=name, x=list(x), y=y)
    return Series(name=name, x=list(x), y=y, lower=lower, upper=upper)


def _series(by_arm: Mapping[str, Sequence[tuple[float, float]]]) -> list[Series]:
    found = {arm: points for arm, points in by_arm.items() if points}
    return [Series(name=arm, x=[x for x, _ in points], y=[y for _, y in points]) for arm, points in found.items()]
