"""Curves that a transfer's result brings along: arms by windows of domain text (few-shot), by steps (general-only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from abi.judge.contrasts import Criteria
from abi.judge.protocol import BPB
from abi.judge.tables import study

Record = dict[str, Any]
SHOWN = ("transferred", "random", "permuted", "native", "direct", "lora", "no-domain", "linear", "bias")


def curves_of(claim: Mapping[str, Any], evidence: pd.DataFrame, fits: Mapping[str, Record], steps: Mapping[str, int],
              criteria: Criteria) -> list[Record]:  # fmt: skip
    """Return the curves of a transfer in its regime: a ladder of windows, or a ladder of steps.

    Args: steps: fit -> number of steps, of the fits that differ in nothing else; one fit makes no curve.
    """
    if claim["regime"] == "few-shot":
        return [windows_curve(evidence, claim["fit"], criteria)]
    if claim["regime"] == "general-only" and len(steps) > 1:
        return [steps_curve(fits, steps), lead_curve(fits, steps)]
    return []


def windows_curve(evidence: pd.DataFrame, fit: str, criteria: Criteria) -> Record:
    """Return bits per byte by number of domain windows; the draws of a few-shot fit are its budgets."""
    budgets = sorted(set(evidence.loc[(evidence["fit"] == fit), "draw"]))
    by_arm: dict[str, list[tuple[float, float]]] = {}
    plain: dict[str, float] = {}
    for budget in budgets:
        rows = evidence[(evidence["fit"] != fit) | (evidence["draw"] == budget)]
        tables = study(rows, fit=fit, criteria=criteria).tables[BPB]
        for arm in SHOWN:
            if arm in tables:
                by_arm.setdefault(arm, []).append((float(budget), float(tables[arm].mean())))
        plain = {arm: float(tables[arm].mean()) for arm in ("raw", "oracle")}
    series: list[Record] = [_series(arm, points) for arm, points in by_arm.items()]
    series += [_series(arm, [(float(budget), value) for budget in budgets]) for arm, value in plain.items()]
    caption = "Held-out domain text after a fit on so many domain windows; means over groups and seeds. The registered figure is the mean of the ladder."
    return _curve(
        "windows", "Arms by windows of domain text", "domain windows", "bits per byte (less is better)", caption, series
    )


def steps_curve(fits: Mapping[str, Record], steps: Mapping[str, int]) -> Record:
    """Return gap closure by number of steps; the closed form, which every fit starts from, stands at 0."""
    by_arm: dict[str, list[tuple[float, float]]] = {}
    for fit in sorted(steps, key=lambda fit: steps[fit]):
        for arm in SHOWN:
            found = fits[fit]["gap_closures"].get(arm)
            if found and found["estimate"] is not None:
                by_arm.setdefault(arm, []).append((float(steps[fit]), found["estimate"]))
    series = [_series(arm, points) for arm, points in by_arm.items()]
    caption = "Part of the oracle's gain in bits per byte on held-out domain text, after so many steps on general text alone; 0 is the closed form."
    return _curve("steps", "Gap closure by steps", "steps", "gap closure", caption, series, log_x=False)


def lead_curve(fits: Mapping[str, Record], steps: Mapping[str, int]) -> Record:
    """Return moved net minus placebo by number of steps, with intervals, for both placebos."""
    series = []
    for placebo in ("random", "permuted"):
        points = []
        for fit in sorted(steps, key=lambda fit: steps[fit]):
            test = next(t for t in fits[fit]["tests"] if t["id"] == f"4.attribution.bits_per_byte.{placebo}")
            if test["interval"] is not None:
                points.append((float(steps[fit]), test["interval"]))
        if points:
            made = {
                "name": f"transferred - {placebo}",
                "x": [x for x, _ in points],
                "y": [i["mean"] for _, i in points],
            }
            series.append({**made, "lower": [i["lower"] for _, i in points], "upper": [i["upper"] for _, i in points]})
    caption = "The moved net's own part: moved net minus placebo in bits per byte (above 0: the moved net is better), 95 % intervals; 0 steps is the closed form."
    return _curve("lead", "Lead of the moved net by steps", "steps", "bits per byte", caption, series, log_x=False)


def _series(name: str, points: Sequence[tuple[float, float]]) -> Record:
    return {"name": name, "x": [x for x, _ in points], "y": [y for _, y in points]}


def _curve(
    id: str, title: str, x_label: str, y_label: str, caption: str, series: list[Record], *, log_x: bool = True
) -> Record:
    about = {"id": id, "title": title, "x_label": x_label, "y_label": y_label, "caption": caption}
    return {**about, "log_x": log_x, "series": [s for s in series if s["x"]]}
