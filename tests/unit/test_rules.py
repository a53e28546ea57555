import numpy as np
import pytest
from evidence_rows import CRITERIA
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT
from abi.base.regimes import MOVED, REGRESSED
from abi.judge.contrasts import Contrast, FromTables, Measure, decide
from abi.judge.kinds.atlas import atlas_plan, atlas_roles
from abi.judge.kinds.transfer import reconstruction_plan
from abi.judge.kinds.update import update_plan
from abi.judge.protocol import BPB, GENERAL, transfer_plan
from abi.judge.simulation import Design, simulate

JS = Measure("js_nats", "domain")
PLACEBOS, CONTROLS = ("random", "permuted"), ("linear", "bias", "no-domain")


def bounds(x, alpha):
    d, s = x.shape
    rest = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    mse = (rest**2).sum() / ((d - 1) * (s - 1))
    msd, mss = s * x.mean(1).var(ddof=1), d * x.mean(0).var(ddof=1)
    t = stats.t.isf(alpha / 2, [d - 1, s - 1])
    half = np.sqrt((t[0] ** 2 * msd + t[1] ** 2 * max(mss - mse, 0)) / (d * s))
    return x.mean() - half, x.mean() + half


def lower(x, alpha=0.05):
    return bounds(x, alpha)[0]


def upper(x, alpha=0.05):
    return bounds(x, alpha)[1]


def owned(a, p):
    """(C - P) - .1 (C - R)."""
    c = a["transferred"]
    return (c - a[p]) - 0.1 * (c - a["raw"])


def refuted_in(a, parity):
    r, f, u, c = (a[name] for name in ("raw", "oracle", "home", "transferred"))
    sensitive = all(lower(u - a[p]) > 0 for p in PLACEBOS)
    by_a = sensitive and any(upper(c - (u + a[p]) / 2, 0.025) < 0 for p in PLACEBOS)
    by_b = any(upper(owned(a, p), 0.025) < 0 for p in PLACEBOS)
    return by_a or by_b or (parity and upper(c - 0.8 * f - 0.2 * r) < 0)


def attributed(a):
    own = all(lower(owned(a, p)) > 0 for p in PLACEBOS)
    return own and all(lower(a["transferred"] - a[q]) > 0 for q in CONTROLS)


def naive_verdict(tables, regime):
    """Protocol sections 3 and 4 once more, line by line and without the project's code."""
    js, bpb, general = tables[JS], tables[BPB], tables[GENERAL]
    limit = 0.01 * abs(bpb["raw"].mean())
    if upper(js["oracle"] - js["raw"]) <= 0 or upper(bpb["oracle"] - bpb["raw"]) <= limit:
        return "VACUOUS"
    harm, allowed = general["oracle"] - general["transferred"], 0.01 * abs(general["raw"].mean())
    room, benefit = bpb["oracle"] - bpb["raw"], bpb["transferred"] - bpb["raw"]
    bad_text = upper(benefit) <= 0 or lower(harm) > allowed
    good_text = lower(room) > 0 and attributed(bpb) and lower(benefit) > 0 and upper(harm) < allowed
    if regime == "general-only":
        beaten = any(upper(bpb["transferred"] - bpb[q], 0.05 / 5) <= 0 for q in PLACEBOS + CONTROLS)
        any_net = any(upper(owned(bpb, p), 0.025) < 0 for p in PLACEBOS)
        return "REFUTED" if beaten or any_net or bad_text else "SUPPORTED" if good_text else "INCONCLUSIVE"
    parity = regime == "oracle-kd"
    if refuted_in(js, parity) or bad_text:
        return "REFUTED"
    c, u, f, r = (js[name] for name in ("transferred", "home", "oracle", "raw"))
    good_net = all(lower(u - js[p]) > 0 and lower(c - (u + js[p]) / 2) > 0 for p in PLACEBOS)
    good = good_text and good_net and lower(f - r) > 0 and attributed(js)
    good = good and (not parity or lower(c - 0.8 * f - 0.2 * r) > 0)
    secondary = any(refuted_in(tables[Measure(metric, "domain")], parity) for metric in AGREEMENT[1:])
    return "SUPPORTED" if good and not secondary else "INCONCLUSIVE"


@pytest.mark.parametrize("regime", ["oracle-kd", "few-shot", "general-only"])
def test_the_rule_equals_the_protocol_read_line_by_line(regime):
    rng, seen = np.random.default_rng(3), set()
    kinds = [("home", 6.0, 4.0), ("random", 6.0, 4.0), ("half", 3.0, 4.0), ("no net", 3.0, 4.0), ("home", 1.5, 0.1)]
    kinds += [("share", 8.0, 10.0), ("home", 12.0, 12.0), ("share of the best", 8.0, 8.0)]
    lost = [*[(BPB, 0.0)] * 8, (BPB, 0.05), (GENERAL, 0.03), (GENERAL, 0.08)]
    for (kind, gap, room), (measure, loss) in zip([*kinds, *[("home", 8.0, 4.0)] * 3], lost, strict=True):
        tables = simulate(Design(kind, gap, room=room, n_groups=30, harm_se=1.0), 12, rng)
        tables[measure]["transferred"][...] -= loss
        found = decide(FromTables(tables), transfer_plan(regime, CRITERIA), level=0.95).verdict
        for i in range(12):
            one = {m: {arm: table[i] for arm, table in arms.items()} for m, arms in tables.items()}
            assert found[i] == naive_verdict(one, regime)
            assert found[i] == decide(FromTables(one), transfer_plan(regime, CRITERIA), level=0.95).verdict
        seen |= set(found)
    assert seen == {"SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS"}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.1, 10))
def test_agreement_verdicts_follow_shift_and_scale(seed, shift, scale):
    tables = dict(simulate(Design("half", 6.0, n_groups=30), 3, np.random.default_rng(seed)))
    moved = {**tables, JS: {arm: shift + scale * table for arm, table in tables[JS].items()}}
    plan = transfer_plan("oracle-kd", CRITERIA)
    assert (
        decide(FromTables(tables), plan, level=0.95).verdict == decide(FromTables(moved), plan, level=0.95).verdict
    ).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-1, 6))
def test_supported_and_refuted_never_coincide(seed, gap):
    tables = simulate(Design("home", gap, room=2.0, n_groups=30), 50, np.random.default_rng(seed))
    for regime in ("oracle-kd", "few-shot", "general-only"):
        own = decide(FromTables(tables), transfer_plan(regime, CRITERIA), level=0.95).own
        assert not (own.passed() & own.refuted()).any()


def test_every_contrast_adds_up_to_zero():
    plans = [transfer_plan(regime, CRITERIA) for regime in ("oracle-kd", "few-shot", "general-only")]
    for plan in [*plans, reconstruction_plan(CRITERIA)]:
        asked = [plan.own, *plan.secondary.values()]
        refuting = [c for questions in asked for item in questions.refutations for c in item.contrasts]
        for contrast in [*(c for questions in asked for c in questions.tests), *refuting, *plan.vacuous]:
            assert sum(contrast.weights.values()) == pytest.approx(0, abs=1e-12)


def test_a_contrast_is_written_as_a_formula():
    weights = {"transferred": 1.0, "home": -0.5, "random": -0.5}
    assert Contrast("x", JS, weights).words() == "transferred - 0.5 home - 0.5 random"


def test_roles_name_every_arm_once():
    assert MOVED.needed() == ("raw", "oracle", "home", "transferred", *PLACEBOS, *CONTROLS)
    assert REGRESSED.needed() == ("raw", "oracle", "candidate", "random", "linear", "before")


def test_a_tenth_is_a_share_and_refutes_whether_the_study_is_sensitive_or_not():
    tables = simulate(Design("home", 12.0, room=20.0, n_groups=30), 40, np.random.default_rng(4))
    sensitive = decide(FromTables(tables), transfer_plan("few-shot", CRITERIA), level=0.95)
    assert (sensitive.verdict == "REFUTED").all()
    assert {item.id: bool(item.holds.all()) for item in sensitive.own.refutations}["b"]
    assert all(o.holds.all() for o in sensitive.own.tests if o.contrast.id.startswith("1."))
    tables = {m: {**arms, "home": arms["random"]} for m, arms in tables.items()}
    blind = decide(FromTables(tables), transfer_plan("few-shot", CRITERIA), level=0.95)
    assert (blind.verdict == "REFUTED").all()
    assert {item.id: bool(item.applies.any()) for item in blind.own.refutations} == {
        "a": False, "b": True, "d": True, "e": True,
    }  # fmt: skip


def test_general_only_asks_for_a_tenth_in_bits_per_byte_alone():
    plan = transfer_plan("general-only", CRITERIA, ())
    assert [item.id for item in plan.own.refutations] == ["g", "b", "d", "e"]
    assert {c.measure.metric for item in plan.own.refutations for c in item.contrasts} == {"bits_per_byte"}
    shares = [test for test in plan.own.tests if test.id.startswith("4.share")]
    assert [test.weights for test in shares] == [{"transferred": 0.9, p: -1, "raw": 0.1} for p in PLACEBOS]
    assert all(not answers.refutations for answers in plan.secondary.values())


def test_without_a_share_a_study_asks_whether_it_is_better_at_all():
    """An update and an atlas ask no tenth."""
    for plan in (update_plan(CRITERIA), atlas_plan(CRITERIA, atlas_roles(["other"]))):
        attribution = [test for test in plan.own.tests if test.id.startswith("4.")]
        assert any(test.required for test in attribution)
        assert all(sorted(test.weights.values()) == [-1, 1] for test in attribution)
        assert {test.id.rpartition(".")[2] for test in attribution if not test.required} <= {"linear-narrow"}


def test_a_reconstruction_is_compared_with_itself_before_in_agreement_alone():
    required = {test.id: test.required for test in reconstruction_plan(CRITERIA).own.tests}
    before = {id: asked for id, asked in required.items() if id.endswith(".before")}
    assert before == {"4.attribution.js_nats.before": True, "4.attribution.bits_per_byte.before": False}
    assert required["4.attribution.bits_per_byte.linear"]
    assert required["4.share.js_nats.random"]


def test_a_reconstruction_says_nothing_about_parity_and_cannot_be_refuted_by_a():
    plan = reconstruction_plan(CRITERIA)
    assert not any(test.id.startswith("3.") for test in plan.own.tests)
    assert [item.id for item in plan.own.refutations] == ["a", "b", "d", "e"]


def test_a_regime_that_does_not_exist_is_refused():
    with pytest.raises(EvidenceError, match="'both' is none of"):
        transfer_plan("both", CRITERIA)
