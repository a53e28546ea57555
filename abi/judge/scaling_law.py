"""A registered scaling law: ordinary least squares, withheld where it has too little to stand on (numpy and scipy only).

Source: protocol section 6 (scaling law); the formula is the original's (EXPERIMENTS C7), registered before the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from abi.judge.intervals import Array, quantile

FORMULA = "log10(floor_steps + 1) = alpha + beta log10(d_model) + gamma log10(margin + 1e-9)"
NAMES = ("alpha", "beta", "gamma")
MIN_FREEDOM = 5
Record = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One backbone and domain: its width, how clear the oracle's top five are, and the first budget that passes (None: none)."""

    name: str
    width: int
    margin: float
    floor: int | None


def design(points: Sequence[Point]) -> tuple[Array, Array]:
    """Return the rows `[n, 3]` and responses `[n]` of the registered formula; every point needs a floor."""
    rows = [[1.0, np.log10(p.width), np.log10(p.margin + 1e-9)] for p in points]
    return np.array(rows), np.log10(np.array([float(p.floor or 0) for p in points]) + 1)


def fit_law(points: Sequence[Point], level: float = 0.95) -> Record:
    """Return the registered fit to the points that have a floor, with everything that must stand beside it.

    R2 is withheld with fewer than 5 residual degrees of freedom or fewer than 3 distinct responses. Args: level: of the interval.
    """
    used = [point for point in points if point.floor is not None]
    floors = {point.floor for point in used}
    freedom = len(used) - len(NAMES)
    record: Record = {
        "formula": FORMULA, "n_points": len(points), "n_used": len(used), "residual_freedom": freedom,
        "distinct_responses": len(floors), "coefficients": None, "r2": None, "r2_withheld": withheld(freedom, len(floors)),
        "loo_mae_steps": None, "loo_mae_steps_of_the_mean": None, "gamma_interval": None,
    }  # fmt: skip
    if freedom < 1 or len(floors) < 2:
        return record
    x, y = design(used)
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    if rank < len(NAMES):
        return record | {"r2_withheld": "width and margin do not vary apart"}
    residuals = y - x @ solution
    record["coefficients"] = dict(zip(NAMES, map(float, solution), strict=True))
    if record["r2_withheld"] is None:
        record["r2"] = float(1 - (residuals**2).sum() / ((y - y.mean()) ** 2).sum())
    variance = float((residuals**2).sum() / freedom) * np.linalg.inv(x.T @ x)[2, 2]
    half = quantile(level, freedom) * float(np.sqrt(max(variance, 0.0)))
    record["gamma_interval"] = [float(solution[2]) - half, float(solution[2]) + half]
    if freedom > 1:
        record["loo_mae_steps"] = leave_one_out(x, y)
        record["loo_mae_steps_of_the_mean"] = leave_one_out(x[:, :1], y)
    return record


def withheld(freedom: int, distinct: int) -> str | None:
    """Return why no R2 can be given, or None."""
    if freedom < MIN_FREEDOM:
        return f"{max(freedom, 0)} residual degrees of freedom; {MIN_FREEDOM} are needed"
    if distinct < 3:
        return f"the response takes {distinct} value{'s' if distinct != 1 else ''}; 3 are needed"
    return None


def leave_one_out(x: Array, y: Array) -> float:
    """Return the mean absolute error in steps when every point is predicted from the others."""
    errors = []
    for i in range(len(y)):
        kept = np.arange(len(y)) != i
        solution = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0]
        errors.append(abs(float(10 ** (x[i] @ solution) - 10 ** y[i])))
    return float(np.mean(errors))


def judge_law(law: Record) -> tuple[str, str]:
    """Return verdict and reason of the law "calibration gets cheaper as the margin grows, and width and margin predict it".

    SUPPORTED: the fit may be given, the margin's exponent is negative (its interval below 0), and left-out points are predicted
    better than by their mean. REFUTED: the exponent's interval lies above 0, or left-out points are predicted worse than by
    their mean where the fit may be given. VACUOUS: no two points differ, or none has a floor.
    """
    if law["distinct_responses"] < 2:
        if not law["n_used"]:
            return (
                "VACUOUS",
                f"nothing to fit: none of {law['n_points']} points meets the published thresholds at any budget",
            )
        return (
            "VACUOUS",
            f"nothing to fit: {law['n_used']} of {law['n_points']} points have a floor, and it is one and the same",
        )
    interval, errors = law["gamma_interval"], (law["loo_mae_steps"], law["loo_mae_steps_of_the_mean"])
    if interval is None or errors[0] is None or errors[1] is None:
        return "INCONCLUSIVE", f"the law cannot be fitted: {law['r2_withheld'] or 'too few points'}"
    words = (
        f"exponent of the margin {law['coefficients']['gamma']:.3g} [{interval[0]:.3g}, {interval[1]:.3g}], leave-one-out error "
        f"{errors[0]:.3g} steps, of their mean {errors[1]:.3g}, {law['n_used']} of {law['n_points']} points, "
        f"{law['distinct_responses']} distinct responses"
    )
    if interval[0] > 0:
        return "REFUTED", f"calibration gets dearer, not cheaper, as the margin grows: {words}"
    if law["r2_withheld"]:
        return "INCONCLUSIVE", f"{words}; no R2: {law['r2_withheld']}"
    if errors[0] >= errors[1]:
        return "REFUTED", f"left-out points are predicted no better than by their mean: {words}"
    if interval[1] < 0:
        return "SUPPORTED", f"{words}; R2 {law['r2']:.3g}"
    return "INCONCLUSIVE", f"the sign of the margin's exponent is not shown: {words}; R2 {law['r2']:.3g}"
