import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from abi.arms.alignment import conjugated, fit_procrustes, paired_positions, ridge_solve
from abi.base.errors import AlignmentError
from abi.models.module import AbiModule, ModuleConfig


def rotation(width, seed=0):
    return ortho_group.rvs(width, random_state=seed)


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("width", [2, 16, 40])
def test_a_known_rotation_is_recovered(width, noise):
    r = torch.from_numpy(rotation(width)).float()
    target = rows(2000, width)
    fit = fit_procrustes(target, target @ r + 3.0 + noise * rows(2000, width, 1))
    torch.testing.assert_close(fit.rotation, r, rtol=0, atol=1e-5 + noise / 10)
    assert fit.figures.cosine_held_out > 1 - 1e-6 - 4 * noise**2
    assert fit.figures.residual == pytest.approx(noise, abs=0.01)


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_what_is_fitted_is_orthogonal(width, seed):
    r = fit_procrustes(rows(100, width, seed), rows(100, width, seed + 1)).rotation
    torch.testing.assert_close(r @ r.T, torch.eye(width), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_a_naive_svd(seed):
    target, source = rows(500, 7, seed), rows(500, 7, seed + 9) @ rows(7, 7, seed + 50) + 2
    fit = fit_procrustes(target, source)
    x, y = target.double().numpy(), source.double().numpy()
    mean_x, mean_y = x[:400].mean(0), y[:400].mean(0)
    u, values, v = np.linalg.svd((x[:400] - mean_x).T @ (y[:400] - mean_y))
    np.testing.assert_allclose(fit.rotation.numpy(), u @ v, atol=1e-6)
    moved, wanted = (x[400:] - mean_x) @ u @ v, y[400:] - mean_y
    cosines = (moved * wanted).sum(1) / np.linalg.norm(moved, axis=1) / np.linalg.norm(wanted, axis=1)
    assert fit.figures.cosine_held_out == pytest.approx(cosines.mean())
    shares = values / values.sum()
    assert fit.figures.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_no_other_rotation_fits_better():
    target, source = rows(300, 5), rows(300, 5, 1)
    best = fit_procrustes(target, source).figures.residual
    x, y = (a[:240].double().numpy() - a[:240].double().numpy().mean(0) for a in (target, source))
    others = [np.linalg.norm(x @ rotation(5, seed) - y) / np.linalg.norm(y) for seed in range(200)]
    assert best <= min(others)


def test_permuted_rows_leave_no_held_out_cosine():
    target = rows(6000, 16)
    order = torch.randperm(6000, generator=torch.Generator().manual_seed(2))
    fit = fit_procrustes(target, (target @ torch.from_numpy(rotation(16)).float())[order])
    assert abs(fit.figures.cosine_held_out) < 0.03


def test_low_rank_rows_are_warned_about(caplog):
    low = rows(500, 2) @ rows(2, 16, 1)
    with caplog.at_level(logging.WARNING, "abi"):
        fit = fit_procrustes(low, low)
    assert fit.figures.effective_rank < 3
    assert "effective rank" in caplog.text
    caplog.clear()
    fit_procrustes(rows(500, 16), rows(500, 16))
    assert not caplog.text


def test_rows_of_another_width_or_number_are_refused(refuses):
    for other in (rows(100, 5), rows(99, 4)):
        with refuses("target rows are .*; use equal d_abi", AlignmentError):
            fit_procrustes(rows(100, 4), other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("row", [0, -1], ids=["fitted", "held-out"])
@pytest.mark.parametrize("side", ["target", "source"])
def test_a_row_that_is_not_finite_is_refused_and_its_side_named(side, row, value, refuses):
    both = {"target": rows(100, 4), "source": rows(100, 4, 1)}
    both[side][row, 2] = value
    with refuses(f"{side} rows hold NaN or infinity", AlignmentError):
        fit_procrustes(**both)


def test_too_few_rows_are_refused(refuses):
    with refuses("8 rows are too few for 5 dimensions; pair at least 10", AlignmentError):
        fit_procrustes(rows(10, 5), rows(10, 5))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_never_vary_are_refused(refuses):
    with refuses("alignment", AlignmentError):
        fit_procrustes(rows(100, 4), torch.ones(100, 4))


def net_of(seed=0):
    module = AbiModule(ModuleConfig(8, (2,), 8), seed).requires_grad_(False)
    module.domain.net[2].bias.copy_(torch.randn(8, generator=torch.Generator().manual_seed(1)))
    return module


def folded_error(published):
    """Relative error of a net with folded weights against the conjugated net, both without the norm."""
    module, r, x = net_of(), torch.from_numpy(rotation(8)).float(), rows(200, 8)
    wanted = module.domain.net(x @ r) @ r.T
    module.load_state_dict(conjugated(dict(module.state_dict()), r, published=published))
    return float((module.domain.net(x) - wanted).norm() / wanted.norm())


def test_folded_weights_are_the_conjugated_net():
    assert folded_error(published=False) < 1e-5


def test_the_published_folding_is_another_net():
    assert folded_error(published=True) > 0.5


@pytest.mark.parametrize("published", [False, True])
def test_folding_touches_the_two_matrices_and_one_bias_alone(published):
    before = dict(net_of().state_dict())
    after = conjugated(before, torch.from_numpy(rotation(8)).float(), published=published)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"domain.net.0.weight", "domain.net.2.weight"} | (set() if published else {"domain.net.2.bias"})


def test_the_published_folding_is_that_of_the_inverse_rotation():
    weights, r = dict(net_of().state_dict()), torch.from_numpy(rotation(8)).float()
    inverse = conjugated(weights, r.T)
    published = conjugated(weights, r, published=True)
    assert torch.equal(published["domain.net.0.weight"], inverse["domain.net.0.weight"])
    assert torch.equal(published["domain.net.2.bias"], weights["domain.net.2.bias"])


def ridge(x, y, penalty):
    x, y = x.double(), y.double()
    return ridge_solve(x.T @ x, x.T @ y, penalty)


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize(("n", "a", "d"), [(50, 4, 3), (9000, 6, 2), (3, 5, 1)])
def test_ridge_is_least_squares_of_the_augmented_system(penalty, n, a, d):
    x, y = rows(n, a), rows(n, d, 1)
    big = x.double().numpy()
    ballast = np.sqrt(penalty * (big**2).sum(0).mean()) * np.eye(a)
    wanted = np.linalg.lstsq(np.vstack([big, ballast]), np.vstack([y.double().numpy(), np.zeros((a, d))]))[0]
    np.testing.assert_allclose(ridge(x, y, penalty).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_ridge_recovers_a_linear_map():
    x, w = rows(1000, 6), rows(6, 3, 1)
    torch.testing.assert_close(ridge(x, x @ w, 1e-9), w, rtol=1e-5, atol=1e-5)


def test_moments_may_be_added_up_in_parts():
    x, y = rows(100, 4).double(), rows(100, 2, 1).double()
    whole = ridge_solve(x.T @ x, x.T @ y, 1e-3)
    parts = ridge_solve(
        sum(a.T @ a for a in x.split(30)), sum(a.T @ b for a, b in zip(x.split(30), y.split(30), strict=True)), 1e-3
    )
    torch.testing.assert_close(whole, parts)


def test_paired_positions_have_read_the_same_text():
    target, source = np.array([0, 2, 3, 7, 9]), np.array([1, 2, 7, 8, 9, 11])
    at_target, at_source = paired_positions(target, source)
    assert (at_target.tolist(), at_source.tolist()) == ([1, 3, 4], [1, 2, 4])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1), st.lists(st.integers(0, 30), min_size=1))
def test_every_shared_end_is_paired_once(target, source):
    target, source = np.sort(target), np.sort(source)
    at_target, at_source = paired_positions(target, source)
    assert np.array_equal(target[at_target], source[at_source])
    assert target[at_target].tolist() == sorted(set(target) & set(source))


def test_texts_without_a_shared_end_have_no_pairs():
    at_target, at_source = paired_positions(np.array([1, 3]), np.array([2, 4]))
    assert len(at_target) == len(at_source) == 0


def test_a_position_in_the_middle_of_a_character_is_not_paired():
    assert paired_positions(np.array([1, 1, 2, 3]), np.array([1, 2, 3]))[0].tolist() == [0, 2, 3]
