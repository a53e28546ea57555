import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from abi.base.errors import EvidenceError
from abi.judge.intervals import Components, components, interval, ratio_set, resolvable_gap

POINTS = ((3, 12.0), (5, 8.0), (10, 6.0))
seeds = st.integers(0, 2**32 - 1)
relaxed = settings(deadline=None, max_examples=50)


def table(seed, n_groups=40, n_seeds=5, seed_sd=0.5):
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 1, (n_groups, 1)) + rng.normal(0, seed_sd, (1, n_seeds))
    return effects + rng.normal(0, 1, (n_groups, n_seeds))


def naive_half(x, level):
    """The formula of protocol section 4, in loops."""
    n_groups, n_seeds = len(x), len(x[0])
    m = sum(sum(row) for row in x) / (n_groups * n_seeds)
    r = [sum(row) / n_seeds for row in x]
    c = [sum(x[d][s] for d in range(n_groups)) / n_groups for s in range(n_seeds)]
    msd = n_seeds * sum((v - m) ** 2 for v in r) / (n_groups - 1)
    mss = n_groups * sum((v - m) ** 2 for v in c) / (n_seeds - 1)
    rest = sum((x[d][s] - r[d] - c[s] + m) ** 2 for d in range(n_groups) for s in range(n_seeds))
    mse = rest / ((n_groups - 1) * (n_seeds - 1))
    t_groups, t_seeds = (stats.t.ppf(0.5 + level / 2, n - 1) for n in (n_groups, n_seeds))
    return ((t_groups**2 * msd + t_seeds**2 * max(mss - mse, 0)) / (n_groups * n_seeds)) ** 0.5


def pieces(found):
    """The set of ratios with its infinite ends as numbers."""
    return [(-np.inf if low is None else low, np.inf if high is None else high) for low, high in found.pieces]


def bounds(x, level=0.95):
    found = interval(x, level=level, min_groups=30, min_seeds=3)
    return np.array([found.mean, found.lower, found.upper])


@pytest.mark.parametrize("shape", [(30, 3), (60, 5), (200, 10)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.975])
@pytest.mark.parametrize("seed_sd", [0.0, 0.5])
def test_half_width_equals_the_formula_in_loops(shape, level, seed_sd):
    x = table(1, *shape, seed_sd=seed_sd)
    assert interval(x, level=level, min_groups=30, min_seeds=3).half == pytest.approx(naive_half(x, level), rel=1e-12)


def test_without_seed_and_residual_effects_it_is_the_t_interval_of_the_groups():
    groups = np.random.default_rng(0).normal(size=50)
    x = np.repeat(groups[:, None], 4, axis=1)
    low, high = stats.t.interval(0.95, 49, groups.mean(), stats.sem(groups))
    assert bounds(x)[1:] == pytest.approx([low, high])


def test_interval_names_its_units():
    found = interval(table(0), level=0.95, min_groups=30, min_seeds=3)
    assert (found.n_groups, found.n_seeds, found.level) == (40, 5, 0.95)
    assert found.upper - found.mean == pytest.approx(found.half)


@pytest.mark.parametrize("shape", [(29, 5), (40, 2), (40, 1), (1, 5)])
def test_a_small_table_has_no_interval(shape):
    assert interval(np.zeros(shape), level=0.95, min_groups=30, min_seeds=3) is None


@pytest.mark.parametrize("seed_sd", [0.0, 0.5])
def test_one_table_is_figured_to_the_last_bit_as_many_are(seed_sd):
    one = components(table(2, seed_sd=seed_sd))
    many = Components(*map(np.atleast_1d, one[:4]), one.n_groups, one.n_seeds)
    assert [one.half(0.95), one.standard_error()] == [many.half(0.95)[0], many.standard_error()[0]]
    assert isinstance(one.half(0.95), float)


def test_many_tables_at_once_equal_one_by_one():
    x = np.stack([table(i) for i in range(6)]).reshape(2, 3, 40, 5)
    halves = components(x).half(0.95)
    assert halves == pytest.approx(np.array([[components(t).half(0.95) for t in row] for row in x]), rel=1e-12)


@relaxed
@given(seeds, st.floats(-100, 100), st.floats(0.01, 100))
def test_interval_follows_shift_and_scale(seed, shift, scale):
    x = table(seed)
    assert bounds(shift + scale * x) == pytest.approx(shift + scale * bounds(x), rel=1e-6, abs=1e-6 * scale)


@relaxed
@given(seeds)
def test_interval_ignores_the_order_of_groups_and_seeds(seed):
    rng, x = np.random.default_rng(seed), table(seed)
    shuffled = x[rng.permutation(40)][:, rng.permutation(5)]
    assert bounds(shuffled) == pytest.approx(bounds(x), rel=1e-9, abs=1e-12)


@relaxed
@given(seeds)
def test_a_higher_level_contains_a_lower_one(seed):
    (_, low, high), (_, lower, higher) = bounds(table(seed), 0.9), bounds(table(seed), 0.99)
    assert lower < low < high < higher


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_raises(bad):
    x = table(0)
    x[3, 1] = bad
    with pytest.raises(EvidenceError, match="not finite"):
        interval(x, level=0.95, min_groups=30, min_seeds=3)


def test_a_level_of_one_raises():
    with pytest.raises(EvidenceError, match="level"):
        components(table(0)).half(1.0)


@relaxed
@given(seeds, st.floats(-2, 2))
def test_ratio_set_holds_exactly_the_ratios_whose_contrast_covers_zero(seed, ratio):
    rng = np.random.default_rng(seed)
    den = rng.uniform(-1, 3) + table(seed)
    num = ratio * den + 0.3 * table(seed + 1)
    found = ratio_set(num, den, level=0.95)
    for g in np.concatenate([rng.uniform(-5, 5, 60), [-1e6, 1e6, found.estimate]]):
        inside = any(low <= g <= high for low, high in pieces(found))
        edge = min(abs(g - end) for piece in pieces(found) for end in piece)
        if edge > 1e-6 * (1 + abs(g)):
            assert inside == (abs((num - g * den).mean()) <= naive_half((num - g * den).tolist(), 0.95))


@relaxed
@given(seeds)
def test_ratio_set_is_bounded_exactly_where_the_denominator_is_shown(seed):
    den = np.random.default_rng(seed).uniform(-1, 1) + table(seed)
    _, low, high = bounds(den)
    assert ratio_set(table(seed + 1), den, level=0.95).bounded == (low > 0 or high < 0)


def test_ratio_set_is_the_whole_line_where_nothing_is_known():
    assert ratio_set(table(1), table(2) - table(2).mean(), level=0.95).pieces == [[None, None]]


def test_ratio_set_is_a_line_with_a_hole_where_only_the_numerator_is_shown():
    found = ratio_set(5 + table(1), table(2) - table(2).mean(), level=0.95)
    (low, a), (b, high) = found.pieces
    assert (low, high) == (None, None)
    assert a < 0 < b
    assert not found.bounded


def test_ratio_of_equal_tables_is_one():
    found = ratio_set(10 + table(0), 10 + table(0), level=0.95)
    assert found.estimate == 1
    assert found.pieces[0] == pytest.approx((1, 1))


def test_ratio_of_different_shapes_raises():
    with pytest.raises(EvidenceError, match="one shape"):
        ratio_set(table(0), table(0, 41), level=0.95)


@pytest.mark.parametrize(("n_seeds", "times"), [(2, 12), (3, 12), (5, 8), (10, 6), (40, 6)])
def test_resolvable_gap_is_the_protocols_multiple(n_seeds, times):
    assert resolvable_gap(0.5, n_seeds, POINTS) == pytest.approx(0.5 * times)


def test_resolvable_gap_falls_with_seeds():
    gaps = [resolvable_gap(1.0, n, POINTS) for n in range(3, 11)]
    assert gaps == sorted(gaps, reverse=True)


def test_resolvable_gap_needs_two_seeds():
    with pytest.raises(EvidenceError, match="at least 2"):
        resolvable_gap(1.0, 1, POINTS)
