"""Metrics that experiments alone have, against scipy and plain loops; noise that costs what it should."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from abi.arms import experiment_scores
from abi.arms.diagnostics import OF_POSITIONS, Disturbed, Pair, diagnosed, null_space
from abi.arms.experiment_scores import ScoredExperiment
from abi.arms.metrics import Key, distribution, js_nats
from abi.base.diagnostics import DIAGNOSTICS
from abi.models.module import AbiModule, ModuleConfig
from abi.plan.specs.experiments import ArmOfExperiment
from abi.steps import evaluate_experiment


def pair(n=6, v=130, d=5, windows=2):
    rng = torch.Generator().manual_seed(0)
    reference, arm, plain = (torch.randn(n, v, generator=rng) for _ in range(3))
    weight, error = torch.randn(v, d, generator=rng), torch.randn(n, d, generator=rng)
    return Pair(
        distribution(reference), distribution(arm), reference, arm, plain, error, weight.T @ weight, windows
    ), weight


def tops(logits, k):
    return [set(np.argsort(-row)[:k]) for row in logits.numpy()]


def test_every_diagnostic_has_its_metric():
    assert set(OF_POSITIONS) == set(DIAGNOSTICS)


def test_rank_distances_are_those_of_scipy():
    given, _ = pair()
    for name, k, statistic in (("spearman_distance", 100, stats.spearmanr), ("kendall_distance", 20, stats.kendalltau)):
        for i, found in enumerate(OF_POSITIONS[name](given).tolist()):
            ids = np.argsort(-given.reference_logits[i].numpy())[:k]
            rows = (given.reference_logits[i].numpy()[ids], given.arm_logits[i].numpy()[ids])
            assert found == pytest.approx(1 - statistic(*rows)[0], abs=1e-6)


def test_sets_of_likely_tokens_are_compared_as_sets():
    given, _ = pair()
    five, mine, ten, plain = (
        tops(given.reference_logits, 5), tops(given.arm_logits, 5), tops(given.arm_logits, 10), tops(given.plain_logits, 5),
    )  # fmt: skip
    wanted = {
        "same_five": [float(a == b) for a, b in zip(five, mine, strict=True)],
        "in_ten": [len(a & b) / 5 for a, b in zip(five, ten, strict=True)],
        "five_kept": [len(a & b) / 5 for a, b in zip(plain, mine, strict=True)],
    }
    for name, values in wanted.items():
        assert OF_POSITIONS[name](given).tolist() == pytest.approx(values)


def test_js_counts_where_the_reference_is_surest_in_its_window_and_near_identity_by_its_threshold():
    given, _ = pair()
    easy, js = OF_POSITIONS["js_easy_nats"](given), js_nats(given.reference, given.arm)
    for window in (slice(0, 3), slice(3, 6)):
        sure = given.reference.entropy[window] <= given.reference.entropy[window].median()
        assert torch.equal(~easy[window].isnan(), sure)
        assert torch.equal(easy[window][sure], js[window][sure])
    assert OF_POSITIONS["near_identical"](given).tolist() == (js < 0.001).float().tolist()


def test_what_a_head_makes_of_an_error_is_one_in_the_mean_of_directions():
    given, weight = pair()
    found = OF_POSITIONS["head_gain"](given)
    for value, error in zip(found, given.error, strict=True):
        isotropic = weight.square().sum() / weight.shape[1] * error.square().sum()
        assert float(value) == pytest.approx(float((weight @ error).square().sum() / isotropic), rel=1e-5)
    assert float(OF_POSITIONS["head_gain"](pair(n=4000, windows=1)[0]).mean()) == pytest.approx(1.0, abs=0.05)


@pytest.fixture
def wide():
    return AbiModule(ModuleConfig(8, (1, 2), 14), 4).requires_grad_(False)


def test_noise_in_what_nothing_reads_changes_no_logit_and_noise_elsewhere_does(make_states, head, wide):
    states, index = make_states(), slice(0, 12)
    plain = head.logits(states.final(index) + wide.correction(states, index))
    null, other = (
        head.logits(states.final(index) + Disturbed(wide, head, where, 1.0, 1).correction(states, index))
        for where in ("null", "abi")
    )
    assert float((null - plain).abs().max()) < 1e-4 < 0.1 < float((other - plain).abs().max())
    assert null_space(wide.proj_out.weight).trace() == pytest.approx(6.0, abs=1e-3)


def test_noise_of_a_state_gives_logits_of_the_size_asked_for_and_is_the_same_at_every_reading(make_states, head):
    states, noisy = make_states(n=300), Disturbed(None, head, "state", 0.34, 2)
    whole = noisy.correction(states, slice(0, 300))
    logits = head.scale * whole.flatten(0, 1) @ head.weight.T
    assert float(logits.square().mean().sqrt()) == pytest.approx(0.34, rel=0.05)
    assert torch.equal(noisy.correction(states, slice(7, 9)), whole[7:9])


def test_windows_are_scored_alike_whatever_is_read_at_once(make_states, head, wide):
    states, reference = make_states(), AbiModule(ModuleConfig(8, (2,), 6), 1).requires_grad_(False)
    arms = {Key("", "raw"): None, Key("", "wide"): wide, Key("", "other"): reference, Key("", "reference"): reference}
    asked = {"in_ten": ["raw", "wide"], "js_easy_nats": ["wide"], "head_gain": ["wide"]}
    one, three = (list(diagnosed(arms, reference, states, head, asked, windows_per_batch=size)) for size in (1, 3))
    assert {(s.key.arm, s.metric) for s in one} == {
        ("raw", "in_ten"), ("wide", "in_ten"), ("wide", "js_easy_nats"), ("wide", "head_gain"),
    }  # fmt: skip
    for a, b in zip(one, three, strict=True):
        assert (a.key, a.metric) == (b.key, b.metric)
        torch.testing.assert_close(a.values, b.values, atol=1e-6, rtol=1e-5)


def scored(**arms):
    """An experiment of some arms, without its inputs."""
    made = ScoredExperiment.__new__(ScoredExperiment)
    made.spec = SimpleNamespace(arms={name: ArmOfExperiment(**arm) for name, arm in arms.items()}, windows_per_batch=4)
    made.inputs = {"test_domain_small": "states", "head_small": "head"}
    return made


def test_an_arm_is_read_with_its_net_switched_off_and_stays_as_it_is(make_states, wide):
    of = scored(off={"recipe": "transferred", "start": "calibrated", "net": "off"})
    assert not of.is_fitted("off")
    off = of.read("off", 1, {"calibrated": wide}, wide, make_states())
    assert off.domain is None
    assert wide.domain is not None
    assert torch.equal(off.proj_out.weight, wide.proj_out.weight)


def test_another_backbone_keeps_of_its_own_likeliest_tokens_what_noise_leaves(make_states, head, monkeypatch):
    states = make_states()
    monkeypatch.setattr(experiment_scores, "read_head", lambda *_: head)
    of = scored(
        calm={"recipe": "raw", "noise": "state", "size": 0.0, "backbone": "small"},
        noisy={"recipe": "raw", "noise": "state", "size": 5.0, "backbone": "small"},
        own={"recipe": "raw", "noise": "state", "size": 5.0},
    )
    of._states = {"test_domain_small": states}
    asked = {"five_kept": ["calm", "noisy", "own"]}
    found = {one.key.arm: one.values for one in of.of_other_backbones(of.spec.arms, 1, states, asked, "domain")}
    assert set(found) == {"calm", "noisy"}
    assert found["calm"].tolist() == [1.0] * len(states)
    assert 0 < float(found["noisy"].mean()) < 0.9


def test_a_backbone_that_reads_other_tokens_is_compared_with_none(make_states, head, monkeypatch, refuses):
    monkeypatch.setattr(experiment_scores, "read_head", lambda *_: head)
    of = scored(noisy={"recipe": "raw", "noise": "state", "size": 0.3, "backbone": "small"})
    of._states = {"test_domain_small": make_states(seed=3)}
    with refuses("small reads other tokens than .* does; compare backbones of one tokenizer"):
        list(of.of_other_backbones(of.spec.arms, 1, make_states(), {"five_kept": ["noisy"]}, "domain"))


class Deep:
    """A backbone of eight blocks, which refuses to run on while states of a batch before the last are held."""

    def __init__(self):
        self.number, self.gave = torch.float32, []

    def run_in(self, number):
        self.number = number
        return self

    def hidden_states(self, tokens, window):
        assert not any(held() is not None for batch in self.gave[:-1] for held in batch)
        x = tokens[:, 1:, None].float().expand(-1, -1, 8)
        hidden = tuple((x * 0.37 + depth).to(self.number) for depth in range(9))
        self.gave.append([weakref.ref(state) for state in hidden])
        return hidden


def test_in_another_format_only_stored_taps_of_a_window_are_kept(make_states, wide, monkeypatch):
    states, spec = make_states(n=6), SimpleNamespace(window=SimpleNamespace(length=7, prefix=0, skip=1))
    monkeypatch.setattr(evaluate_experiment, "backbone_of", lambda _, number: Deep().run_in(number))
    found = evaluate_experiment.run_in(spec, None, "bf16", states, batch=2)
    whole = slice(None)
    expected = [hidden.float() for hidden in Deep().run_in(torch.bfloat16).hidden_states(states.tokens(whole), None)]
    assert torch.equal(found.taps([0, 1, 2], whole), torch.stack(expected[:3], dim=2))
    assert found.manifest.dtype == "bfloat16"
    of = scored(half={"recipe": "oracle", "precision": "bf16"})
    of._ran, of.run = {}, lambda *_: found
    form = of.read("half", 1, {}, wide, states)
    taps = torch.stack([expected[tap] for tap in wide.config.taps], dim=2)
    assert torch.equal(form.correction(states, whole), expected[2] + wide(taps) - states.final(whole))


@pytest.mark.parametrize(("stored", "ran"), [(torch.float32, ["bf16"]), (torch.bfloat16, ["fp32", "bf16"])])
def test_a_format_is_compared_with_fp32_whatever_states_are_stored_in(stored, ran, make_states, head, wide):
    full, of, asked = make_states(), scored(half={"recipe": "oracle", "precision": "bf16"}), []
    whole, numbers = [full.taps([tap], slice(None)).squeeze(2) for tap in range(3)], evaluate_experiment.NUMBERS

    def run(precision, states):
        asked.append(precision)
        return states.rerun({tap: found.to(numbers[precision]) for tap, found in enumerate(whole)})

    of.run, of._ran, of.module, of.head = run, {}, lambda *_: wide, lambda _: head
    of._states = {"test_python": full.rerun({tap: found.to(stored) for tap, found in enumerate(whole)})}
    of.spec = SimpleNamespace(
        arms=of.spec.arms, studies={"formats": SimpleNamespace(text="python", arms=["half"])}, scopes=["domain"],
        with_teacher=True, diagnostics={}, code=None, windows_per_batch=4, texts=["python"],
    )  # fmt: skip
    of.first = "python"
    scores, scopes = of.scored("python", 1, {})
    assert asked == ran
    assert torch.equal(scopes["domain"].final(slice(None)), whole[2])
    [js] = [one.values for one in scores if (one.key.arm, one.metric) == ("half", "teacher_js_nats")]
    assert (js > 0).all()
