import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abi.arms.forms import LogitBias, Readout
from abi.arms.metrics import agreement, distribution, evaluate, js_nats, loss_nats, scored, top_ids
from abi.models import kernels
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig

INF, NAN = math.inf, math.nan


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def computed_by(request, monkeypatch):
    """What is compiled, and the torch code that cards take."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "take", lambda *_: False)


def logits_of(n, v, dtype=torch.float32, seed=0):
    return (3 * torch.randn(n, v, generator=torch.Generator().manual_seed(seed))).to(dtype)


def softmax(logits):
    x = logits.double().numpy()
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def xlogy(x, y):
    return np.where(x > 0, x * np.log(np.where(x > 0, y, 1)), 0)


def entropy(p):
    return -xlogy(p, p).sum(-1)


def ranked(logits, k):
    """Token ids by falling logit, equal logits by rising id."""
    return [sorted(range(len(row)), key=lambda i: (-row[i], i))[:k] for row in logits.double().tolist()]


def reference(a, b):
    p, q = softmax(a), softmax(b)
    m = (p + q) / 2
    tops = list(zip(ranked(a, 5), ranked(b, 5), strict=True))
    return {
        "js_nats": (xlogy(p, p) + xlogy(q, q)).sum(-1) / 2 - xlogy(m, m).sum(-1),
        "top1": np.array([float(x[0] == y[0]) for x, y in tops]),
        "top5": np.array([len(set(x) & set(y)) / len(x) for x, y in tops]),
        "entropy_diff_nats": np.abs(entropy(p) - entropy(q)),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("n", "v"), [(1, 6), (7, 3), (5, 1), (33, 50), (9, 2000), (3, 30000)])
def test_the_four_metrics_equal_a_float64_reference(n, v, dtype):
    a, b = logits_of(n, v, dtype), logits_of(n, v, dtype, 1)
    found, wanted = agreement(distribution(a), distribution(b)), reference(a, b)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name].numpy(), wanted[name], rtol=1e-5, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("distance", [0.01, 0.1, 0.5])
def test_near_distributions_have_the_js_of_the_reference(distance):
    a = logits_of(50, 2000)
    b = a + distance * logits_of(50, 2000, seed=1)
    np.testing.assert_allclose(js_nats(distribution(a), distribution(b)).numpy(), reference(a, b)["js_nats"], atol=2e-6)


PAIRS = st.integers(0, 10**6).map(lambda seed: (logits_of(4, 20, seed=seed), logits_of(4, 20, seed=seed + 1)))


@settings(max_examples=40)
@given(PAIRS, st.sampled_from([-64.0, 8.0, 1024.0]))
def test_shifted_logits_are_the_same_distribution(pair, shift):
    a, b = ((x * 64).round() / 64 for x in pair)
    plain, moved = (agreement(distribution(a + s), distribution(b - s)) for s in (0.0, shift))
    for name in plain:
        torch.testing.assert_close(moved[name], plain[name], rtol=1e-4, atol=1e-5)


@settings(max_examples=40)
@given(PAIRS)
def test_all_four_are_symmetric_and_in_their_range(pair):
    a, b = map(distribution, pair)
    there, back = agreement(a, b), agreement(b, a)
    assert all(torch.equal(there[name], back[name]) for name in there)
    assert ((there["js_nats"] >= 0) & (there["js_nats"] <= math.log(2))).all()
    assert ((there["top5"] >= 0) & (there["top5"] <= 1)).all()
    assert (there["entropy_diff_nats"] <= math.log(20)).all()


@pytest.mark.parametrize("v", [3, 50, 30000])
def test_identical_distributions_agree_wholly(v):
    found = agreement(distribution(logits_of(20, v)), distribution(logits_of(20, v)))
    assert found["js_nats"].min() >= 0
    assert found["js_nats"].max() < 2e-6
    assert (found["top1"] == 1).all()
    assert (found["top5"] == 1).all()
    assert (found["entropy_diff_nats"] == 0).all()


def test_distributions_without_a_common_token_are_ln_2_apart():
    a = torch.tensor([[0.0, 0.0, -INF, -INF]])
    assert js_nats(distribution(a), distribution(a.flip(-1))).item() == pytest.approx(math.log(2))


def test_masked_logits_are_probability_zero():
    a, b = logits_of(9, 40), logits_of(9, 40, seed=1)
    a[:, 30:], b[:, 25:] = -INF, -INF
    wanted = reference(a, b)
    for name, value in agreement(distribution(a), distribution(b)).items():
        np.testing.assert_allclose(value.numpy(), wanted[name], rtol=1e-5, atol=5e-6, err_msg=name)


def test_a_certain_distribution_has_no_entropy():
    one = torch.full((1, 9), -INF)
    one[0, 4] = 0
    assert distribution(one).entropy.item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_logit_that_is_no_number_is_refused(bad, place, refuses):
    logits = logits_of(4, 20)
    logits[2, place] = bad
    with refuses("logits are NaN or infinite"):
        distribution(logits)


def test_a_row_without_any_token_is_refused(refuses):
    with refuses("logits are NaN or infinite"):
        distribution(torch.full((2, 6), -INF))


@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("v", [4, 5, 6, 30, 3000])
def test_equal_logits_are_ranked_by_token_id(levels, v):
    logits = torch.randint(levels, (40, v), generator=torch.Generator().manual_seed(v)).float()
    assert top_ids(logits, 5).tolist() == ranked(logits, 5)


@pytest.mark.parametrize("v", [4095, 4096, 4097, 5000])
@pytest.mark.parametrize("values", [9, 10**6])
def test_the_top_of_a_long_row_which_is_searched_in_blocks_is_that_of_a_sort(v, values):
    logits = torch.randint(values, (6, v), generator=torch.Generator().manual_seed(v)).float()
    logits[0, :-3] = -INF
    assert top_ids(logits, 5).tolist() == ranked(logits, 5)


def test_a_tie_at_the_border_is_broken_by_token_id():
    logits = torch.tensor([[1.0, 5, 5, 5, 5, 1, 1, 0.0], [0, 1, 1, 5, 5, 5, 5, 1.0]])
    assert [sorted(row) for row in top_ids(logits, 5).tolist()] == [[0, 1, 2, 3, 4], [1, 3, 4, 5, 6]]


@pytest.mark.parametrize("v", [8, 100, 20000])
def test_a_tie_of_the_fifth_and_sixth_alone_is_broken_by_token_id(v):
    logits = torch.zeros(20, v)
    logits[:, -4:] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert top_ids(logits, 5).tolist() == [[v - 4, v - 3, v - 2, v - 1, 0]] * 20


def test_ties_of_minus_infinity_and_of_signed_zeros_are_broken_too():
    logits = torch.tensor([[-INF, 1.0, -INF, -INF, 2.0, -INF], [-0.0, 0.0, -0.0, 0.0, -1.0, 0.0]])
    assert top_ids(logits, 5).tolist() == [[4, 1, 0, 2, 3], [0, 1, 2, 3, 5]]


def test_the_loss_is_the_negative_log_probability_of_the_target():
    logits, targets = logits_of(30, 12), torch.randint(12, (30,))
    wanted = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    torch.testing.assert_close(loss_nats(distribution(logits), targets).double(), wanted, rtol=1e-5, atol=1e-6)


def test_logits_of_which_fp32_knows_no_exponential_are_scored_too():
    a, b = 60 * logits_of(9, 400), 60 * logits_of(9, 400, seed=1)
    for name, value in agreement(distribution(a), distribution(b)).items():
        np.testing.assert_allclose(value.numpy(), reference(a, b)[name], rtol=1e-5, atol=5e-6, err_msg=name)
    least = a.argmin(-1)
    wanted = torch.nn.functional.cross_entropy(a.double(), least, reduction="none")
    torch.testing.assert_close(loss_nats(distribution(a), least).double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture
def arms():
    module = AbiModule(ModuleConfig(8, (0, 2), 6), seed=1).requires_grad_(False)
    other = AbiModule(ModuleConfig(8, (2,), 5), seed=2).requires_grad_(False)
    bias = LogitBias(11).requires_grad_(False)
    bias.logit_bias.copy_(torch.linspace(-1, 1, 11))
    return {"raw": None, "module": module, "other": other, "bias": bias}


def logits_by_hand(model, states, head, window, position):
    final = states.final(slice(None))[window, position]
    if isinstance(model, AbiModule):
        final = final + model(states.taps(model.config.taps, slice(None)))[window, position]
    logits = 0.5 * head.weight @ final + head.bias
    return logits + model.logit_bias if isinstance(model, LogitBias) else logits


@pytest.mark.parametrize("batch", [1, 5, 8, 50])
def test_evaluation_equals_a_naive_loop(make_states, head, arms, batch):
    states = make_states(n=7)
    found = {
        (arm, metric): values
        for arm, metric, values in evaluate(
            arms, states, head, reference=arms["other"], teacher=arms["module"], windows_per_batch=batch
        )
    }
    for arm, model in arms.items():
        for window in range(7):
            rows = {
                key: torch.stack([logits_by_hand(m, states, head, window, t) for t in range(1, 6)])
                for key, m in {"own": model, "reference": arms["other"], "teacher": arms["module"]}.items()
            }
            wanted = {name: value.mean() for name, value in reference(rows["reference"], rows["own"]).items()}
            wanted["teacher_js_nats"] = reference(rows["teacher"], rows["own"])["js_nats"].mean()
            wanted["loss_nats"] = torch.nn.functional.cross_entropy(
                rows["own"].double(), states.targets(slice(None))[window, 1:]
            ).item()
            assert {m for a, m in found if a == arm} == set(wanted)
            for name, value in wanted.items():
                assert found[arm, name][window].item() == pytest.approx(value, abs=5e-6), (arm, name)


def test_without_agreement_only_the_loss_is_there(make_states, head, arms):
    states = make_states()
    both = [
        dict(((a, m), v) for a, m, v in evaluate(arms, states, head, reference=None, teacher=None, agree=agree))
        for agree in (True, False)
    ]
    assert set(both[1]) == {(arm, "loss_nats") for arm in arms}
    assert all(torch.allclose(both[0][key], both[1][key], atol=1e-9) for key in both[1])


def test_the_raw_backbone_agrees_with_itself(make_states, head, arms):
    found = {(a, m): v for a, m, v in evaluate(arms, make_states(), head, reference=None, teacher=None)}
    assert found["raw", "js_nats"].max() < 1e-6
    assert (found["raw", "top5"] == 1).all()
    assert found["module", "js_nats"].min() > 0.01


@pytest.mark.parametrize("agree", [True, False])
def test_a_module_gone_wrong_is_refused_and_not_scored(make_states, head, arms, agree, refuses):
    arms["module"].proj_out.weight[0, 0] = NAN
    with refuses("cannot be scored as agreement"):
        list(evaluate(arms, make_states(), head, reference=arms["other"], teacher=arms["other"], agree=agree))


@pytest.mark.parametrize("d_abi", [3, 8, 13])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_logits_are_those_of_the_corrected_states_however_they_are_formed(make_states, head, d_abi, scale):
    states, head = make_states(), Head(head.weight, scale, head.bias)
    module = AbiModule(ModuleConfig(8, (0, 2), d_abi), seed=1).requires_grad_(False)
    final = states.final(slice(2, 5)).flatten(0, 1)
    plain, before = head.logits(final), head.logits(final)
    readout = Readout(module, head)
    read = readout.read(states, slice(2, 5)).flatten(0, 1)
    assert read.shape[1] == min(d_abi, 8)
    wanted = head.logits(final + module(states.taps((0, 2), slice(2, 5))).flatten(0, 1))
    torch.testing.assert_close(readout.logits(plain, read), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(plain, before)


def test_scored_positions_are_those_after_the_skipped(make_states):
    states = make_states(skip=4)
    final = states.final(slice(2, 5))
    assert torch.equal(scored(final, states), final[:, 4:].flatten(0, 1))
    assert scored(None, states) is None
