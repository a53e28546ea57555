"""Compiled loops against the same in double precision, and against the torch code that they stand for."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abi.models import kernels

WIDTHS = [1, 5, 63, 64, 65, 128, 1000, 4096, 50257]


def logits_of(width, rows=7, scale=4.0, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale


def close(found, wanted, **options):
    torch.testing.assert_close(found.double(), wanted, **{"rtol": 2e-6, "atol": 2e-6} | options)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.7])
def test_distributions_and_what_is_known_of_them(width, temperature):
    logits = logits_of(width)
    found = kernels.softened(logits.clone(), temperature=temperature)
    tempered = logits.double() / temperature
    below = tempered - tempered.amax(-1, keepdim=True)
    close(found.p, torch.softmax(tempered, -1))
    assert torch.equal(found.peak, logits.amax(-1))
    close(found.log_total, torch.logsumexp(below, -1))
    close(found.mean, (torch.softmax(tempered, -1) * below).sum(-1), rtol=1e-5)


def test_what_lies_far_below_is_raised_to_a_number_whose_square_is_normal():
    p = kernels.softened(torch.tensor([[0.0, -1e4, -math.inf]])).p
    close(p, torch.tensor([[1.0, 2.0**-62, 2.0**-62]], dtype=torch.float64), atol=0.0)
    assert float(p[0, 1] ** 2) > torch.finfo(torch.float32).tiny


def test_a_sum_over_a_large_vocabulary_is_as_exact_as_a_short_one():
    logits = logits_of(262_144, rows=2)
    exact = logits.double()
    close(kernels.log_totals(logits), torch.logsumexp(exact, -1), atol=0.0, rtol=2e-7)
    p = torch.softmax(logits, -1)
    wanted = (2 * p.double() * (2 * p.double()).log2()).sum(-1)
    close(kernels.entropies_of_sums(p, p), wanted, atol=0.0, rtol=4e-7)


@pytest.mark.parametrize("width", WIDTHS)
def test_totals_and_losses(width):
    logits, targets = logits_of(width), torch.arange(7) % width
    close(kernels.log_totals(logits), torch.logsumexp(logits.double(), -1))
    wanted = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    before = logits.clone()
    close(kernels.cross_entropies(logits, targets, learns=False), wanted, atol=4e-6)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_gradient_of_a_loss_takes_the_place_of_the_logits(width):
    logits, targets = logits_of(width), torch.arange(7) % width
    exact = logits.double().requires_grad_()
    torch.nn.functional.cross_entropy(exact, targets, reduction="sum").backward()
    kernels.cross_entropies(logits, targets, learns=True)
    close(logits, exact.grad)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("weight", [0.0, 0.9, 1.0])
def test_what_is_distilled_has_the_loss_and_the_gradient_of_its_formula(width, temperature, weight):
    logits, asked, targets = logits_of(width), logits_of(width, seed=1), torch.arange(7) % width
    taught = kernels.softened(asked.clone(), temperature=temperature)
    exact = logits.double().requires_grad_()
    of_teacher, of_student = (torch.log_softmax(x.double() / temperature, -1) for x in (asked, exact))
    kl = (of_teacher.exp() * (of_teacher - of_student)).sum(-1)
    ce = torch.nn.functional.cross_entropy(exact, targets, reduction="none")
    wanted = (1 - weight) * ce + weight * temperature**2 * kl
    wanted.sum().backward()
    options = {"temperature": temperature, "weight": weight}
    found = kernels.distilled(logits, targets, taught.p, taught.mean - taught.log_total, **options)
    close(found, wanted.detach(), atol=2e-5)
    close(logits, exact.grad, atol=4e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_entropies_of_sums(width):
    p, q = (torch.softmax(logits_of(width, seed=seed), -1) for seed in (1, 2))
    twice = p.double() + q.double()
    close(kernels.entropies_of_sums(p, q), (twice * twice.log2()).sum(-1), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(64, 700), st.integers(1, 64), st.integers(1, 12), st.integers(0, 2**31 - 1))
def test_of_equal_logits_the_smaller_id_comes_first(width, k, values, seed):
    logits = torch.from_numpy(np.random.default_rng(seed).integers(0, values, (3, width)).astype(np.float32))
    wanted = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(kernels.top_ids(logits, k), wanted)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 70, 149])
def test_a_logit_that_is_no_number_makes_its_row_none_and_no_other(bad, place):
    logits = logits_of(150)
    logits[3, place] = bad
    others = [row for row in range(7) if row != 3]
    for found in (
        kernels.softened(logits.clone()).mean,
        kernels.log_totals(logits),
        kernels.cross_entropies(logits.clone(), torch.arange(7), learns=True),
    ):
        assert not torch.isfinite(found[3])
        assert bool(torch.isfinite(found[others]).all())


def test_a_row_without_any_finite_logit_has_no_total():
    assert bool(torch.isnan(kernels.log_totals(torch.full((1, 80), -math.inf))).all())


@pytest.mark.parametrize(("rows", "n"), [(37, 2), (37, 3), (2, 3), (0, 2)])
def test_threads_share_the_rows_and_change_no_bit(threads, monkeypatch, rows, n):
    logits = logits_of(700, rows=rows)
    threads(1)
    wanted = kernels.softened(logits.clone())
    top = kernels.top_ids(logits, 5)
    threads(n)
    monkeypatch.setattr(kernels, "SHARED", 0)
    parts = []
    pool = kernels._pool(n)
    monkeypatch.setattr(pool, "map", lambda of, given: [of(part) for part in given if not parts.append(part)])
    assert all(map(torch.equal, kernels.softened(logits.clone()), wanted))
    assert torch.equal(kernels.top_ids(logits, 5), top)
    assert len(parts) == 2 * min(rows, n)


@pytest.mark.parametrize("target", [-100, -1, 50])
def test_a_target_that_is_no_token_is_refused(target):
    logits = logits_of(50, rows=2)
    with pytest.raises(IndexError, match="of 50 logits"):
        kernels.cross_entropies(logits, torch.tensor([0, target]), learns=True)
    assert torch.equal(logits, logits_of(50, rows=2))


def test_of_no_rows_there_is_nothing():
    assert len(kernels.log_totals(torch.empty(0, 10))) == 0
    assert len(kernels.cross_entropies(torch.empty(0, 10), torch.empty(0, dtype=torch.long), learns=True)) == 0


def test_other_tensors_are_left_to_torch():
    logits = logits_of(64)
    assert kernels.take(logits, logits)
    assert not kernels.take(logits, logits[:1])  # which torch would repeat, or refuse
    for other in (logits.double(), logits.bfloat16(), logits.T, logits[0], torch.empty(2, 2, device="meta")):
        assert not kernels.take(other)


def test_where_a_gradient_is_to_flow_torch_computes():
    logits = logits_of(64).requires_grad_()
    assert not kernels.take(logits)
    with torch.no_grad():
        assert kernels.take(logits)


@pytest.mark.parametrize("cut", [0, 40])
def test_a_damaged_cache_is_compiled_anew(tmp_path, cut):
    """An emptied index was an EOFError in every process until somebody deleted it."""
    code = "import torch; from abi.models.kernels import log_totals; print(log_totals(torch.zeros(1, 2)).item())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def told():
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    first = told()
    kept = [path for path in tmp_path.rglob("*") if path.suffix in {".nbi", ".nbc"}]
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(path.read_bytes()[:cut])
    assert told().stdout == first.stdout
