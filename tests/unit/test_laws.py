"""The registered scaling law: recovery, what is withheld, leave-one-out, verdicts, the published fit."""

import json
import math

import numpy as np
import pytest
from evidence_rows import ROOT

from abi.audit.record.arithmetic import least_squares, r_squared
from abi.judge.kinds.scaling_law import Point, design, fit_law, judge_law, leave_one_out

PUBLISHED = ROOT / "config/record/published_results/calibration_scaling_law_b_results.json"
LEVEL = 0.95
WIDTHS, MARGINS = (128, 256, 512), (1e-3, 4e-3, 2e-2)


def floor_of(width, margin, alpha=1.0, beta=0.4, gamma=-0.5):
    return 10 ** (alpha + beta * math.log10(width) + gamma * math.log10(margin + 1e-9)) - 1


def points(noise=0.0, seed=0, **law):
    """Nine points of a known law, every width with every margin."""
    draw = np.random.default_rng(seed).normal(0, noise, 9) if noise else np.zeros(9)
    grid = [(width, margin) for width in WIDTHS for margin in MARGINS]
    floors = [(floor_of(w, m, **law) + 1) * 10 ** float(e) - 1 for (w, m), e in zip(grid, draw, strict=True)]
    return [Point(f"p{i}", w, m, f) for i, ((w, m), f) in enumerate(zip(grid, floors, strict=True))]


def with_floors(*floors):
    return [Point(f"p{i}", w, m, floor) for i, ((w, m), floor) in enumerate(
        zip([(w, m) for w in WIDTHS for m in MARGINS], floors, strict=False))]  # fmt: skip


def test_a_known_law_is_recovered_and_supported():
    law = fit_law(points(), LEVEL)
    assert law.coefficients == pytest.approx({"alpha": 1.0, "beta": 0.4, "gamma": -0.5}, abs=1e-9)
    assert law.r2 == pytest.approx(1.0)
    assert law.loo_mae_steps == pytest.approx(0.0, abs=1e-6)
    assert (law.n_points, law.n_used, law.residual_freedom, law.distinct_responses) == (9, 9, 6, 9)
    assert judge_law(law)[0] == "SUPPORTED"


def test_the_interval_of_the_exponent_covers_the_truth_as_often_as_it_says():
    inside = [low <= -0.5 <= high for low, high in (fit_law(points(0.1, s), LEVEL).gamma_interval for s in range(400))]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_the_interval_is_that_of_ordinary_least_squares():
    from scipy import stats

    given = points(0.1)
    x, y = design(given)
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    error = math.sqrt(residuals @ residuals / 6 * np.linalg.inv(x.T @ x)[2, 2])
    low, high = fit_law(given, LEVEL).gamma_interval
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 6) * error)


def test_a_stricter_level_widens_the_interval_and_can_only_take_support_away():
    given = points(0.1)
    usual, strict = fit_law(given, LEVEL), fit_law(given, 1 - 1e-8)
    assert strict.gamma_interval[0] < usual.gamma_interval[0] < usual.gamma_interval[1]
    assert (judge_law(usual)[0], judge_law(strict)[0]) == ("SUPPORTED", "INCONCLUSIVE")


def test_a_floor_that_rises_with_the_margin_refutes():
    verdict, reason = judge_law(fit_law(points(gamma=0.5), LEVEL))
    assert verdict == "REFUTED"
    assert reason.startswith("calibration gets dearer, not cheaper, as the margin grows: exponent of the margin 0.5 [")


@pytest.mark.parametrize("gamma", [-0.2, -1.0, -4.0])
def test_a_law_that_holds_is_hardly_ever_refuted_however_noisy_its_points(gamma):
    told = [judge_law(fit_law(points(0.4, seed, gamma=gamma), LEVEL))[0] for seed in range(400)]
    assert told.count("REFUTED") <= 0.05 * len(told)


@pytest.mark.parametrize("gamma", [-0.2, -1.0, -4.0])
def test_a_law_that_holds_often_predicts_no_better_than_the_mean(gamma):
    laws = [fit_law(points(0.4, seed, gamma=gamma), LEVEL) for seed in range(400)]
    assert sum(law.loo_mae_steps >= law.loo_mae_steps_of_the_mean for law in laws) > 0.2 * len(laws)


def test_a_law_that_predicts_no_better_than_the_mean_is_not_supported():
    law = fit_law(with_floors(25, 400, 50, 400, 25, 50, 100, 25, 400), LEVEL)
    assert law.gamma_interval[0] <= 0
    assert law.loo_mae_steps >= law.loo_mae_steps_of_the_mean
    verdict, reason = judge_law(law)
    assert verdict == "INCONCLUSIVE"
    assert reason.startswith("left-out points are predicted no better than by their mean")


def test_an_exponent_of_either_sign_is_inconclusive():
    law = fit_law(points(0.05, beta=1.5, gamma=0.0), LEVEL)
    assert law.gamma_interval[0] < 0 < law.gamma_interval[1]
    verdict, reason = judge_law(law)
    assert verdict == "INCONCLUSIVE"
    assert reason.startswith("the sign of the margin's exponent is not shown")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (points(0.05)[:7], "4 residual degrees of freedom; 5 are needed"),
        (points(0.05)[:4], "1 residual degrees of freedom; 5 are needed"),
        (points(0.05)[:2], "0 residual degrees of freedom; 5 are needed"),
        (with_floors(25, 50, 25, 50, 25, 50, 25, 50, 25), "the response takes 2 values; 3 are needed"),
        (with_floors(*[25] * 9), "the response takes 1 value; 3 are needed"),
    ],
)
def test_no_r2_is_given_on_too_little(given, words):
    law = fit_law(given, LEVEL)
    assert (law.r2, law.r2_withheld) == (None, words)
    assert judge_law(law)[0] != "SUPPORTED"


def test_the_least_that_is_enough_gets_an_r2():
    law = fit_law(points(0.05)[:8], LEVEL)
    assert (law.residual_freedom, law.r2_withheld) == (5, None)
    x, y = design(points(0.05)[:8])
    assert law.r2 == pytest.approx(r_squared(x.tolist(), y.tolist()))


def test_points_without_a_floor_are_counted_and_not_fitted():
    given = [*points(0.05)[:8], Point("never", 512, 1e-4, None)]
    law = fit_law(given, LEVEL)
    assert (law.n_points, law.n_used, law.residual_freedom) == (9, 8, 5)
    assert law.coefficients == fit_law(given[:8], LEVEL).coefficients


def test_residual_degrees_of_freedom_are_of_the_points_with_a_floor():
    """Of twelve registered points three are too few to fit, and the reason says both numbers."""
    law = fit_law([*points(0.05)[:3], *(Point(f"never{i}", 512, 1e-4, None) for i in range(9))], LEVEL)
    assert (law.n_points, law.n_used, law.residual_freedom, law.coefficients) == (12, 3, 0, None)
    words = "the law cannot be fitted, 3 of 12 points have a floor: 0 residual degrees of freedom; 5 are needed"
    assert judge_law(law) == ("INCONCLUSIVE", words)


def test_leave_one_out_is_that_of_a_naive_loop():
    given = points(0.1)
    errors, of_mean = [], []
    for left in given:
        x, y = design([point for point in given if point is not left])
        row = design([left])[0][0]
        told = sum(a * b for a, b in zip(row, least_squares(x.tolist(), y.tolist()), strict=True))
        errors.append(abs(10**told - 1 - left.floor))
        of_mean.append(abs(10 ** float(y.mean()) - 1 - left.floor))
    law = fit_law(given, LEVEL)
    assert law.loo_mae_steps == pytest.approx(np.mean(errors))
    assert law.loo_mae_steps_of_the_mean == pytest.approx(np.mean(of_mean))


@pytest.mark.parametrize(
    ("floors", "words"),
    [
        ([50] * 9, "9 of 9 points have a floor, and it is one and the same"),
        ([0] * 9, "9 of 9 points have a floor, and it is one and the same"),
        ([None] * 9, "none of 9 points comes near the noise floor at any budget"),
        ([100, *[None] * 8], "1 of 9 points have a floor, and it is one and the same"),
    ],
)
def test_without_two_different_floors_it_is_vacuous(floors, words):
    verdict, reason = judge_law(fit_law(with_floors(*floors), LEVEL))
    assert verdict == "VACUOUS"
    assert reason == f"nothing to fit: {words}"


def test_width_and_margin_that_do_not_vary_apart_are_not_fitted():
    given = [Point(f"p{i}", 2**i, 1e-3 * 2**i - 1e-9, 25 * (i + 1)) for i in range(1, 10)]
    law = fit_law(given, LEVEL)
    assert (law.coefficients, law.r2_withheld) == (None, "width and margin do not vary apart")
    words = "the law cannot be fitted, 9 of 9 points have a floor: width and margin do not vary apart"
    assert judge_law(law) == ("INCONCLUSIVE", words)


@pytest.fixture(scope="module")
def published():
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


def test_the_published_points_give_the_published_fit(published):
    given = [
        Point(p["label"], p["d_model"], p["margin_median"], p["floor_steps"]) for p in published["all_data_points"]
    ]
    law, told = fit_law(given, LEVEL), published["scaling_law_fit"]
    x, y = design(given)
    mine = [law.coefficients[name] for name in ("alpha", "beta", "gamma")]
    assert mine == pytest.approx(least_squares(x.tolist(), y.tolist()))
    assert mine == pytest.approx([told["alpha"], told["beta"], told["gamma"]], abs=2e-2)
    assert law.coefficients["gamma"] > 0
    assert r_squared(x.tolist(), y.tolist()) == pytest.approx(told["r2"], abs=1e-4) == pytest.approx(0.0341, abs=1e-4)
    assert leave_one_out(x, y) == pytest.approx(told["loocv_mae_steps"], rel=1e-2)


def test_the_published_points_would_get_no_r2_and_no_support(published):
    given = [
        Point(p["label"], p["d_model"], p["margin_median"], p["floor_steps"]) for p in published["all_data_points"]
    ]
    law = fit_law(given, LEVEL)
    assert law.r2_withheld == "4 residual degrees of freedom; 5 are needed"
    verdict, reason = judge_law(law)
    assert verdict == "INCONCLUSIVE"
    assert reason.endswith("no R2: 4 residual degrees of freedom; 5 are needed")
