"""Published laws and ladders (calibration budget, width, noise): points, fits and orders, recomputed."""

import math
import statistics

from abi.audit.record.arithmetic import least_squares, per_cent, predict, r_squared, show
from abi.audit.record.checks import POSITIONS, THRESHOLDS, Checks
from abi.audit.record.data import CONTRADICTED, VACUOUS
from abi.base.files import Json

HEADLINE_R2 = 0.97  # README, CLAIMS
FIT_TOLERANCE = 1e-3  # the margins that enter are printed to six decimals
LEAVES = ("d_model", "floor_steps", "margin_median")
"""What is stored of a point of the law."""


def judge_scaling(c: Checks) -> None:
    """Judge calibration_scaling: floors from their curves, points, the stored fit, the headline R2."""
    c.flags("new_data", n=POSITIONS)
    for curve in c.each("new_data/*"):
        _floor(curve)
    origin = {f"gpt2-medium/{name}": f"exp11_source/{name}" for name in c.get("exp11_source")}
    origin |= {name: f"new_data/{name}" for name in c.get("new_data")}
    points = c.get("all_data_points")
    for i, point in enumerate(points):
        c.copies({f"all_data_points/{i}/{leaf}": f"{origin[point['label']]}/{leaf}" for leaf in LEAVES})
    c.total("total_runtime_s", "new_data/*/runtime_s", by="the four run times")
    fit, used = c.under("scaling_law_fit"), [f"/all_data_points/{i}/{x}" for i in range(len(points)) for x in LEAVES]
    fit.equal("n_points", len(points), by="the number of points")
    _stored_fit(fit, points, used)
    _headline(fit, points, used)


def _floor(c: Checks) -> None:
    first = next((point["steps"] for point in c.get("budget_curve") if point["pass"]), None)
    c.equal("floor_steps", first, "budget_curve/*/steps", by="the first budget that passes")


def design(points: list[dict[str, Json]]) -> tuple[list[list[float]], list[float]]:
    """Return the rows [1, log10 d_model, log10 margin] and the responses log10(floor + 1), as the script fits them."""
    rows = [[1.0, math.log10(p["d_model"]), math.log10(p["margin_median"] + 1e-9)] for p in points]
    return rows, [math.log10(p["floor_steps"] + 1) for p in points]


def _stored_fit(c: Checks, points: list[dict[str, Json]], used: list[str]) -> None:
    x, y = design(points)
    errors = []
    for i, point in enumerate(points):
        coefficients = least_squares(x[:i] + x[i + 1 :], y[:i] + y[i + 1 :])
        errors.append(abs(10 ** predict(x[i], coefficients) - 1 - point["floor_steps"]))
    expected = dict(zip(("alpha", "beta", "gamma"), least_squares(x, y), strict=True))
    expected |= {"r2": r_squared(x, y), "loocv_mae_steps": statistics.fmean(errors)}
    for name, value in expected.items():
        good = abs(c.number(name) - value) <= FIT_TOLERANCE * max(abs(value), 0.1)
        sentence = f"{name} {c.shown(name)} [is|is not] that of the least-squares fit to the {len(points)} points"
        c.holds(name, good, f"{sentence}{'' if good else f' ({value:.4g})'}.", name, *used)


def _headline(c: Checks, points: list[dict[str, Json]], used: list[str]) -> None:
    new = [point for point in points if point["source"] != "exp11"]
    x, y = design(new)
    floors = [point["floor_steps"] for point in new]
    fits = (
        r_squared([[1.0, 1 / point["margin_median"]] for point in new], floors),
        r_squared([[row[0], row[2]] for row in x], y),
        r_squared(x, y),
    )
    if round(c.number("r2"), 2) != HEADLINE_R2:
        reason = (
            f"README and CLAIMS say R2 = 0.97; the fit stored in the file has R2 = {c.shown('r2')} on its "
            f"{len(points)} points, and only fits to {len(new)} of them, whose floors take {len(set(floors))} "
            f"values, come near ({', '.join(f'{value:.3f}' for value in fits)})."
        )
        c.add(CONTRADICTED, "r2", reason, "r2", *used, main=True)
    values = {point["floor_steps"] for point in points}
    freedom = len(points) - 3
    if freedom < 5:
        reason = (
            f"the law fits 3 parameters to {len(points)} points whose response takes {len(values)} values "
            f"({freedom} residual degrees of freedom); its leave-one-out error is {c.shown('loocv_mae_steps')} steps, "
            f"for floors of {', '.join(map(str, sorted(values)))}."
        )
        c.add(VACUOUS, "", reason, "n_points", "loocv_mae_steps", *used)
    if c.number("gamma") > 0:
        law = "documents state floor ~ 1/margin; in the stored fit the floor rises with the margin"
        c.add(CONTRADICTED, "gamma", f"{law} (gamma = +{c.shown('gamma')}).", "gamma")


def judge_budget_floor(c: Checks) -> None:
    """Judge the budget floors: first pass on each curve, margins, the block called correlation."""
    c.flags("domains", n=POSITIONS)
    c.thresholds("nib_thresholds")
    for domain in c.each("domains/*"):
        points = range(len(domain.get("budget_curve")))
        _floor(domain)
        domain.copies({f"budget_curve/{i}/r_squared": "r_squared" for i in points})
        domain.copies({f"budget_curve/{i}/steps": f"/budget_schedule/{i}" for i in points})
        domain.copies({"margin_mean": "margin_stats/mean"})
        domain.ordered("margin_stats", "p10", "p25", "median", "mean")
    c.ordered("budget_schedule")
    floors = {name: domain["floor_steps"] for name, domain in c.get("domains").items()}
    zero = [name for name, floor in floors.items() if floor == 0]
    c.equal("correlation/floor_zero_domains", zero, by="the domains whose floor is 0")
    top5 = f"domains/sql/budget_curve/{len(c.get('domains/sql/budget_curve')) - 1}/top5"
    c.copies({"correlation/sql_top5_at_9600": top5, "correlation/sql_margin_mean": "domains/sql/margin_mean"})
    if not any(floors.values()):
        never = f"every recorded floor is 0 ({', '.join(zero)}) or was never reached"
        c.add(VACUOUS, "correlation", f"{never}: nothing varies, so nothing can correlate.", "domains/*/floor_steps")


def judge_width(c: Checks) -> None:
    """Judge the width sweep: efficacy E5, and whether width orders anything."""
    c.flags(n=POSITIONS)
    for width in c.each("*"):
        width.follows("ppl_efficacy_pct", per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
        width.equal("d_abi", int(width.root), by="the width in its key")
        width.equal("L2/n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    values = c.numbers("*/L2/mean_top5_overlap")
    if values not in (sorted(values), sorted(values, reverse=True)):
        figures = ", ".join(f"{show(value)} at {width}" for width, value in zip(c.data, values, strict=True))
        reason = f"top-5 is not ordered by width ({figures}; one seed each): no effect of width can be read."
        c.add(VACUOUS, "order", reason, "*/L2/mean_top5_overlap")


def judge_analytical(c: Checks) -> None:
    """Judge the closed-form calibration: efficacy E5, and what it says against the documents."""
    c.flags(n=POSITIONS)
    for fit in c.each("*"):
        fit.follows("efficacy", per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
    solved, stepped = "analytical/L2/mean_top5_overlap", "sgd_800_scratch/L2/mean_top5_overlap"
    none, steps = "analytical/sgd_steps", "sgd_800_scratch/sgd_steps"
    if c.get("analytical/L2/l2_pass") is True and c.number(none) == 0:
        reason = (
            "SKEPTICS says Procrustes alone does not pass; the least-squares solve with no gradient step passes "
            f"here with top-5 {c.shown(solved)}, above the {c.shown(stepped)} of {c.shown(steps)} steps."
        )
        c.add(CONTRADICTED, "analytical", reason, solved, stepped, none, steps, main=True)


def judge_geometry(c: Checks) -> None:
    """Judge the noise diagnostic: fragility from its curve, quantiles in order; no module takes part."""
    grid = c.get("config/sigma_grid")
    models = [name for name, block in c.data.items() if isinstance(block, dict) and "perturbation_curve" in block]
    for name in models:
        model = c.under(name)
        curve = model.get("perturbation_curve")
        model.ordered("perturbation_curve", falling=True)
        c.equal("config/sigma_grid", [float(sigma) for sigma in curve], by=f"the grid of {name}'s curve")
        above = max(i for i, value in enumerate(curve.values()) if value >= THRESHOLDS["top5"])
        ends = [f"perturbation_curve/{key}" for key in list(curve)[above : above + 2]]
        low, high = grid[above], grid[above + 1]

        def crossing(a: float, b: float, low: float = low, high: float = high) -> float:
            return low + (high - low) * (a - THRESHOLDS["top5"]) / (a - b)

        model.follows("fragility_sigma_at_0.86", crossing, *ends, by="interpolation of its curve at 0.86")
        for stem in ("entropy", "top1_prob", "top5_margin"):
            c.ordered(name, *(f"{stem}_{quantile}" for quantile in ("p10", "p25", "median", "p75", "p90")))
    reason = (
        f"noise is added to the logits of {len(models)} plain models and no ABI module takes part: it says "
        "nothing about one."
    )
    c.add(VACUOUS, "content", reason, *(f"{name}/fragility_sigma_at_0.86" for name in models))
