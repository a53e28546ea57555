"""A registered scaling law: ordinary least squares, withheld where it has too little to stand on.

Source: protocol section 6 (scaling law); the formula is the original's (C7), registered before the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT, ORACLE
from abi.judge.fits import Curve, Law, Series, TableShown
from abi.judge.intervals import Array, quantile
from abi.judge.kinds import Findings, OfStudies, StudiesGiven
from abi.judge.results import ClaimFacts, StudyResult
from abi.judge.tables import thresholds_met
from abi.plan.specs.judge import JudgeStudy

if TYPE_CHECKING:
    import pandas as pd

FORMULA = "log10(floor_steps + 1) = alpha + beta log10(d_model) + gamma log10(margin + 1e-9)"
NAMES = ("alpha", "beta", "gamma")
MIN_FREEDOM = 5
FLOOR = (
    "The floor is the least budget that covers nine tenths of the way from the JS of no step to that of two oracles; "
    "none means that no budget does. Beside it the least budget that meets all four published thresholds."
)
MARGIN, BUDGET = "margin", "budget-"
"""The arm that holds the oracle's margin, and how the arms of the budgets begin."""
CURVE = "budgets"


@dataclass(frozen=True)
class Point:
    """One backbone and domain: its width, how clear the oracle's top five are, the first budget that does, if any."""

    name: str
    width: int
    margin: float
    floor: float | None


@dataclass(frozen=True)
class Course:
    """What a point's floor rests on, JS with a second oracle that never teaches, in nats: at every budget, and of the
    oracle that teaches.

    Args: published: the first budget that meets the published thresholds, if any.
    """

    budgets: Sequence[int]
    js: Sequence[float]
    between_oracles: float
    published: float | None

    def floor(self, share: float) -> float | None:
        """Return the first budget that covers a share of the way to the noise floor; 0 where there is no way to go."""
        start = self.js[0]
        way = share * (start - self.between_oracles)
        return next((float(n) for n, js in zip(self.budgets, self.js, strict=True) if start - js >= way), None)


def studies(claim: ClaimFacts, rounds: int) -> list[str]:
    """Return the points of a law: every update with every text."""
    return [f"{update}-{text}" for update in claim.updates for text in claim.texts]


def judge(given: StudiesGiven) -> Findings:
    """Return the verdict on the registered fit, its points, and agreement by budget."""
    widths = [given.spec.widths[update] for update in given.claim.updates for _ in given.claim.texts]
    found = [measured(given, name, width) for name, width in zip(given.studies, widths, strict=True)]
    levels = given.criteria.level, given.strict
    return _findings([point for point, _ in found], [course for _, course in found], levels)


def again(stored: StudyResult, spec: JudgeStudy, strict: float) -> Findings:
    """Return the law of a stored result and what it says: floors by its curves, fitted again.

    Margins, the JS of two oracles and the floors of the published thresholds rest on metrics that are not stored.
    """
    told = {str(row[0]): row for table in stored.tables if table.id == "points" for row in table.rows}
    lines = {line.name: line.y for curve in stored.curves if curve.id == CURVE for line in curve.series}
    widths = [spec.widths[update] for update in stored.claim.updates for _ in stored.claim.texts]
    points, courses = [], []
    for name, width in zip(studies(stored.claim, spec.rounds), widths, strict=True):
        margin, _, published, _, between = (None if cell is None else float(str(cell)) for cell in told[name][2:7])
        course = Course(spec.budgets, [y or 0.0 for y in lines[name]], between or 0.0, published)
        points.append(Point(name, width, margin or 0.0, course.floor(spec.protocol.criteria.floor)))
        courses.append(course)
    return _findings(points, courses, (spec.protocol.criteria.level, strict))


def _findings(points: Sequence[Point], courses: Sequence[Course], levels: tuple[float, float]) -> Findings:
    """Return what some points give, by what their floors rest on. Args: levels: the usual and the strict one."""
    level, strict = levels
    law = fit_law(points, level)
    verdict, reason = judge_law(law)
    margin = "median top-5 margin of the oracle"
    table = TableShown(
        id="points",
        title="Points of the law",
        columns=[
            *("point", "d_model", margin, "floor (steps)", "floor by the published thresholds (steps)"),
            *("JS at the first budget (nats)", "JS of two oracles (nats)", "JS at the last budget (nats)"),
        ],
        rows=[
            [p.name, p.width, p.margin, p.floor, c.published, c.js[0], c.between_oracles, c.js[-1]]
            for p, c in zip(points, courses, strict=True)
        ],
        caption=FLOOR,
    )
    curve = Curve(
        id=CURVE,
        title="Agreement with a second oracle by budget",
        x_label="calibration steps",
        y_label="JS in nats (less is better)",
        caption="Held-out domain text; one run per point, its rate constant.",
        log_x=False,
        series=[
            Series(name=p.name, x=[float(n) for n in c.budgets], y=list(c.js))
            for p, c in zip(points, courses, strict=True)
        ],
    )
    return Findings(verdict, reason, judge_law(fit_law(points, strict))[0], law=law, tables=[table], curves=[curve])


def measured(given: StudiesGiven, study: str, width: int) -> tuple[Point, Course]:
    """Return a point of the law, and what its floor rests on: agreement on held-out text with a second oracle.

    Args: width: of the updated backbone.
    """
    means = arm_means(given.evidence, study, given.criteria.min_positions)
    reached = {n: means[f"{BUDGET}{n}"] for n in given.spec.budgets}
    passed = [n for n, found in reached.items() if meets(found, given.thresholds)]
    by_budget = [found["js_nats"] for found in reached.values()]
    course = Course(given.spec.budgets, by_budget, means[ORACLE]["js_nats"], min(passed, default=None))
    return Point(study, width, means[MARGIN]["top5_margin"], course.floor(given.criteria.floor)), course


def arm_means(evidence: pd.DataFrame, study: str, min_positions: int) -> dict[str, dict[str, float]]:
    """Return arm -> metric -> mean over groups and seeds of a study, documents averaged within their group first.

    Raises: EvidenceError: it has no rows.
    """
    rows = evidence[(evidence["fit"] == study) & (evidence["n_positions"] >= min_positions)]
    if rows.empty:
        raise EvidenceError(f"evidence: study {study!r} has no rows; rerun the evaluation")
    found: dict[str, dict[str, float]] = {}
    of_groups = rows.groupby(["arm", "metric", "seed", "group"], as_index=False)["value"].mean()
    for (arm, metric), values in of_groups.groupby(["arm", "metric"])["value"]:
        found.setdefault(str(arm), {})[str(metric)] = float(values.mean())
    return found


def meets(means: Mapping[str, float], thresholds: Mapping[str, float]) -> bool:
    """Return whether all four published thresholds are met: two of them below, two at or above."""
    return all(thresholds_met({metric: means[metric] for metric in AGREEMENT}, thresholds).values())


def design(points: Sequence[Point]) -> tuple[Array, Array]:
    """Return the rows `[n, 3]` and responses `[n]` of the registered formula; every point needs a floor."""
    rows = [[1.0, np.log10(p.width), np.log10(p.margin + 1e-9)] for p in points]
    return np.array(rows), np.log10(np.array([float(p.floor or 0) for p in points]) + 1)


def fit_law(points: Sequence[Point], level: float) -> Law:
    """Return the registered fit to the points that have a floor, with everything that must stand beside it.

    R2 is withheld with fewer than 5 residual degrees of freedom or fewer than 3 distinct responses.

    Args: level: of the interval.
    """
    used = [point for point in points if point.floor is not None]
    floors = {point.floor for point in used}
    freedom = len(used) - len(NAMES)
    law = Law(
        formula=FORMULA,
        n_points=len(points),
        n_used=len(used),
        residual_freedom=freedom,
        distinct_responses=len(floors),
        coefficients=None,
        r2=None,
        r2_withheld=withheld(freedom, len(floors)),
        loo_mae_steps=None,
        loo_mae_steps_of_the_mean=None,
        gamma_interval=None,
    )
    if freedom < 1 or len(floors) < 2:
        return law
    x, y = design(used)
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    if rank < len(NAMES):
        return law.model_copy(update={"r2_withheld": "width and margin do not vary apart"})
    residuals, gamma = y - x @ solution, float(solution[2])
    variance = float((residuals**2).sum() / freedom) * np.linalg.inv(x.T @ x)[2, 2]
    half = quantile(level, freedom) * float(np.sqrt(max(variance, 0.0)))
    found: dict[str, object] = {
        "coefficients": dict(zip(NAMES, map(float, solution), strict=True)),
        "gamma_interval": [gamma - half, gamma + half],
    }
    if law.r2_withheld is None:
        found["r2"] = float(1 - (residuals**2).sum() / ((y - y.mean()) ** 2).sum())
    if freedom > 1:
        found |= {"loo_mae_steps": leave_one_out(x, y), "loo_mae_steps_of_the_mean": leave_one_out(x[:, :1], y)}
    return Law.model_validate({**dict(law), **found})


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


def judge_law(law: Law) -> tuple[str, str]:
    """Return verdict and reason of "calibration gets cheaper as the margin grows, and width and margin predict it".

    SUPPORTED: the fit may be given, the margin's exponent is negative (its interval below 0), and left-out points are
    predicted better than by their mean. REFUTED: the exponent's interval lies above 0. That points are predicted no
    better than by their mean refutes nothing: it has no interval, and laws that hold are often so with a dozen points.
    VACUOUS: no two points differ, or none has a floor.
    """
    if law.distinct_responses < 2:
        counted = f"{law.n_used} of {law.n_points} points have a floor, and it is one and the same"
        none = f"none of {law.n_points} points comes near the noise floor at any budget"
        return "VACUOUS", f"nothing to fit: {counted if law.n_used else none}"
    interval, error, of_the_mean = law.gamma_interval, law.loo_mae_steps, law.loo_mae_steps_of_the_mean
    if law.coefficients is None or interval is None or error is None or of_the_mean is None:
        why = law.r2_withheld or "too few points"
        counted = f"{law.n_used} of {law.n_points} points have a floor"
        return "INCONCLUSIVE", f"the law cannot be fitted, {counted}: {why}"
    words = (
        f"exponent of the margin {law.coefficients['gamma']:.3g} [{interval[0]:.3g}, {interval[1]:.3g}], "
        f"leave-one-out error {error:.3g} steps ({of_the_mean:.3g} if the mean of the other points is the forecast), "
        f"{law.n_used} of {law.n_points} points, {law.distinct_responses} distinct responses"
    )
    if interval[0] > 0:
        return "REFUTED", f"calibration gets dearer, not cheaper, as the margin grows: {words}"
    if law.r2_withheld:
        return "INCONCLUSIVE", f"{words}; no R2: {law.r2_withheld}"
    if error >= of_the_mean:
        return "INCONCLUSIVE", f"left-out points are predicted no better than by their mean: {words}"
    if interval[1] < 0:
        return "SUPPORTED", f"{words}; R2 {law.r2:.3g}"
    return "INCONCLUSIVE", f"the sign of the margin's exponent is not shown: {words}; R2 {law.r2:.3g}"


JUDGED = (OfStudies("scaling_law", studies, judge, again),)
