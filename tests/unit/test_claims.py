import json
import re
from copy import deepcopy

import pandas as pd
import pytest
from evidence_rows import CRITERIA, PROTOCOL, RECONSTRUCTION, THRESHOLDS, TRANSFER, rows, source_alone
from pydantic import ValidationError

from abi.base.errors import EvidenceError, TamperError
from abi.base.regimes import KINDS
from abi.judge.fits import Fit, Share
from abi.judge.kinds.transfer import judge_reconstruction, judge_transfer, transfer_plan
from abi.judge.reasons import share_words
from abi.judge.results import Rung, headline, judge_rungs, level_of_one
from abi.judge.rows import validate
from abi.judge.tables import fit_tables, published_criteria
from abi.judge.verdict import case_of
from abi.plan.specs.judge import Criteria, Protocol

PARTS = {"js_nats", "top1", "top5", "entropy_diff_nats"}


JUDGED = {}


def judge(levels=None, *, regime="oracle-kd", level=None, **options):
    """Return the verdict of made-up evidence; the same question is judged once."""
    question = repr((levels, regime, level, options))
    if question not in JUDGED:
        evidence = validate(rows({**TRANSFER, **(levels or {})}, **options))
        JUDGED[question] = judge_transfer(
            evidence, regime=regime, fit="kd", criteria=CRITERIA, frozen=True, level=level
        )
    return JUDGED[question]


def reconstruct(levels=None, **options):
    evidence = validate(rows({**RECONSTRUCTION, **(levels or {})}, **options))
    return judge_reconstruction(evidence, fit="kd", criteria=CRITERIA, frozen=True)


def holding(record):
    return [item.id for item in record.refutations if item.holds]


def only(metric, scope, **arms):
    return {(arm.replace("_", "-"), metric, scope): level for arm, level in arms.items()}


def test_a_net_as_good_as_the_right_one_is_supported():
    record = judge()
    assert record.verdict == "SUPPORTED"
    assert all(test.passed for test in record.tests if test.required)
    assert holding(record) == []
    assert record.reason.startswith("every required test holds")


def test_a_net_no_better_than_a_random_one_is_refuted_by_a():
    record = judge({"transferred": 0.5})
    assert record.verdict == "REFUTED"
    assert "a" in holding(record)
    assert record.reason.startswith("(a) a.retention.js_nats")


def test_where_no_net_matters_it_is_refuted_by_b():
    record = judge({"transferred": 0.9, "home": 0.9, "random": 0.9, "permuted": 0.9})
    assert (record.verdict, holding(record)) == ("REFUTED", ["b"])
    assert abs(record.share.estimate) < 0.05


def test_a_net_short_of_parity_is_refuted_by_c_in_oracle_kd_only():
    levels = {"transferred": 0.6, "home": 0.6, "random": 0.3, "permuted": 0.3, "linear": 0.2}
    assert holding(judge(levels)) == ["c"]
    few_shot = judge(levels, regime="few-shot")
    assert few_shot.verdict == "SUPPORTED"
    assert [(t.required, t.passed) for t in few_shot.tests if t.id.startswith("3.")] == [(False, False)]


def test_what_a_source_teaches_is_reported_where_it_teaches_and_decides_nothing():
    taught = {"direct": 0.5, "carried": 0.55, "source-taught": 0.7, "permuted-taught": 0.6, "wrong-domain-taught": 0.8}
    record, plain = judge(taught, regime="few-shot"), judge({"direct": 0.5}, regime="few-shot")
    found = {test.id: test for test in record.tests if test.id.startswith("r.taught.bits_per_byte.")}
    ahead = {
        "direct": True,
        "carried": True,
        "transferred": False,
        "permuted-taught": True,
        "wrong-domain-taught": False,
    }
    assert {id.rpartition(".")[2]: test.interval.lower > 0 for id, test in found.items()} == ahead
    assert not any(test.required for test in found.values())
    assert [t.id for t in record.tests if "taught" not in t.id] == [t.id for t in plain.tests]
    assert record.verdict == plain.verdict


def test_a_net_that_does_not_help_in_bits_per_byte_is_refuted_by_d():
    record = judge(shifts=only("bits_per_byte", "domain", transferred=-0.1))
    assert (record.verdict, holding(record)) == ("REFUTED", ["d"])


def test_a_net_that_harms_general_text_is_refuted_by_e():
    record = judge(shifts=only("bits_per_byte", "general", transferred=1.5))
    assert (record.verdict, holding(record)) == ("REFUTED", ["e"])
    harm = next(test for test in record.tests if test.id == "6.harm.oracle")
    assert harm.limit == pytest.approx(-0.01 * 2.2, rel=0.01)


@pytest.mark.parametrize("metric", ["js_nats", "bits_per_byte"])
def test_without_room_it_is_vacuous(metric):
    record = judge(shifts=only(metric, "domain", oracle=-0.1))
    assert record.verdict == "VACUOUS"
    assert "general text" not in record.reason
    assert metric in record.reason


def test_room_below_a_hundredth_is_vacuous_though_shown():
    record = judge(shifts=only("bits_per_byte", "domain", oracle=0.04), noise=0.005)
    room = next(test for test in record.tests if test.id == "0.room.bits_per_byte")
    assert (record.verdict, room.passed) == ("VACUOUS", True)


def test_no_gap_closure_is_given_without_room():
    assert judge(shifts=only("bits_per_byte", "domain", oracle=-0.1)).gap_closure is None


def test_gap_closure_and_share_contain_the_truth():
    record = judge()
    (low, high), share = record.gap_closure.pieces[0], record.share
    assert low < 0.95 < high
    assert share.placebo == "random"
    assert share.pieces[0][0] < 0.45 / 0.95 < share.pieces[0][1]


def test_inconclusive_names_the_first_failed_test_and_the_gap_it_could_resolve():
    record = judge({"linear": 0.95})
    assert record.verdict == "INCONCLUSIVE"
    assert record.reason.startswith("test 4.attribution.js_nats.linear: transferred - linear = ")
    gap = record.resolvable_gap
    assert gap.gap == pytest.approx(8 * gap.standard_error)


def test_a_refuted_secondary_metric_prevents_support():
    record = judge(shifts=only("top1", "domain", transferred=0.5))
    assert record.verdict == "INCONCLUSIVE"
    assert "but top1 is refuted by (a)" in record.reason
    assert {m for m, part in record.secondary.items() if part.refuted} == {"top1"}


@pytest.mark.parametrize(
    ("levels", "options", "verdict"),
    [
        ({}, {}, "SUPPORTED"),
        ({"transferred": 0.5}, {}, "REFUTED"),
        ({"linear": 0.95}, {}, "INCONCLUSIVE"),
        ({}, {"shifts": only("js_nats", "domain", oracle=-0.1)}, "VACUOUS"),
        ({}, {"regime": "general-only"}, "SUPPORTED"),
    ],
)
def test_every_verdict_says_how_much_of_the_gain_is_the_nets_own(levels, options, verdict):
    record = judge(levels, **options)
    share = record.share
    low, high = share.pieces[0]
    assert record.verdict == verdict
    whose = f"in {record.primary_metric} against {share.placebo}, the best of 2 placebos"
    assert record.reason.endswith(f"; share {share.estimate:.3g} [{low:.3g}, {high:.3g}] {whose}")


@pytest.mark.parametrize("regime", ["oracle-kd", "general-only"])
@pytest.mark.parametrize(
    ("levels", "verdict"), [({}, "SUPPORTED"), ({"linear": 0.95}, "INCONCLUSIVE"), ({"random": 0.95}, "REFUTED")]
)
def test_a_verdict_says_what_general_text_costs_against_the_plain_backbone(regime, levels, verdict):
    record = judge(levels, regime=regime)
    assert record.verdict == verdict
    beside = next(test for test in record.tests if test.id == "6.harm.raw")
    low, high = -beside.interval.upper, -beside.interval.lower
    told = f"general text against the plain backbone: {-beside.mean:+.3g} [{low:+.3g}, {high:+.3g}] bits per byte"
    assert told in record.reason
    assert low < 0.095 < high  # levels .95 of a tenth of a bit per byte


def test_a_refuted_verdict_names_every_way_in_which_it_is_refuted():
    record = judge({"transferred": 0.5}, shifts=only("bits_per_byte", "domain", transferred=-0.6))
    assert holding(record) == ["a", "b", "c", "d"]
    assert re.findall(r"\(([a-e])\) (\w)\.", record.reason) == [(way, way) for way in holding(record)]
    assert record.decided_by.startswith("a.retention.js_nats.")


def test_a_reason_names_the_placebo_that_refutes_and_not_the_first():
    record = judge(shifts=only("top1", "domain", transferred=0.5, random=0.0))
    assert "but top1 is refuted by (a): a.retention.top1.permuted: " in record.reason


def test_what_gains_nothing_has_no_share():
    record = judge({"transferred": -0.4})
    assert (record.share.estimate, record.share.pieces, record.share.bounded) == (None, [], False)
    whose = "in js_nats against random, the best of 2 placebos"
    assert record.reason.endswith(f"; no share {whose}, since there is no gain to divide by")


def test_a_share_whose_set_has_no_ends_is_not_told_as_a_bare_number():
    share = Share(estimate=-4.78, pieces=[[None, -0.97], [5.26, None]], bounded=False, level=0.95, placebo="random")
    told = "no share in js_nats against random, since no gain is shown that it could be a part of"
    assert (share_words(share, "js_nats", 1), share.shown) == (told, None)
    assert share.model_copy(update={"bounded": True}).shown == -4.78


def test_a_control_that_is_better_but_refutes_nothing_is_not_told_as_a_lack_of_power():
    record = judge({"transferred": 0.95, "home": 0.95, "linear": 0.99, "random": 0.5, "permuted": 0.5}, noise=0.005)
    assert (record.verdict, record.decided_by) == ("INCONCLUSIVE", "4.attribution.js_nats.linear")
    why = record.reason.partition("; general text")[0]
    assert why.endswith("(js_nats on domain, sign turned) lies below its limit, which refutes nothing by itself")


def test_what_is_vacuous_stays_so_at_a_stricter_level():
    """A wider interval can undo "no room is shown", which would leave the stricter level the milder one."""
    evidence = validate(rows(TRANSFER, shifts=only("js_nats", "domain", oracle=-0.1)))
    tables = fit_tables(evidence, fit="kd", criteria=CRITERIA)
    case = case_of(tables, transfer_plan("oracle-kd", CRITERIA, tables.arms), CRITERIA)
    usual = case.word(CRITERIA.level).verdict
    assert usual == "VACUOUS"
    assert case.strictly(usual, 1 - 1e-12) == "VACUOUS" != case.word(1 - 1e-12).verdict


def test_a_share_below_a_tenth_is_no_support_though_the_net_is_better():
    levels = {"transferred": 0.95, "home": 0.95, "random": 0.88, "permuted": 0.5}
    record = judge(levels, noise=0.005)
    lead = next(test for test in record.tests if test.id == "4.attribution.js_nats.random")
    assert (lead.passed, lead.required) == (True, False)
    assert (record.verdict, holding(record)) == ("REFUTED", ["b"])
    general = judge(levels, noise=0.005, regime="general-only")
    assert (general.verdict, holding(general)) == ("REFUTED", ["b"])


def test_inconclusive_names_the_share_where_it_is_what_fails():
    record = judge({"transferred": 0.95, "home": 0.95, "random": 0.855, "permuted": 0.5}, noise=0.005)
    assert record.verdict == "INCONCLUSIVE"
    assert record.reason.startswith("test 4.share.js_nats.random: 0.9 transferred - random + 0.1 raw = ")
    assert f"could have resolved a gap {record.resolvable_gap.contrast} of" in record.reason
    assert record.resolvable_gap.contrast in ("home - random", "home - permuted")


def test_inconclusive_says_why_what_lies_below_its_limit_refutes_nothing():
    """A refutation by one of two placebos asks for a higher level than the test whose interval is shown."""
    record = judge({"transferred": 0.702}, noise=0.02, regime="few-shot")
    test = next(test for test in record.tests if test.id == record.decided_by)
    [refuting] = [
        found for way in record.refutations if way.id == "a" for found in way.contrasts if found.mean == test.mean
    ]
    wide = refuting.interval
    assert (record.verdict, test.id) == ("INCONCLUSIVE", "2.retention.js_nats.random")
    assert test.interval.upper < 0 < wide.upper
    told = (
        f"nor below it at 0.975, the level of (a) for each of 2 contrasts: [{wide.lower:.3g}, {wide.upper:.3g}]; this"
    )
    assert told in record.reason
    assert "nor below" not in judge({"transferred": 0.72}, noise=0.05, regime="few-shot").reason


def test_an_arm_that_reads_other_windows_is_reported_and_decides_nothing():
    evidence, alone = rows(), judge()
    for without, groups in ([], None), (["domain003.0", "domain003.1"], 31):
        both = validate(pd.concat([evidence, source_alone(evidence, without=without)], ignore_index=True))
        record = judge_transfer(both, regime="oracle-kd", fit="kd", criteria=CRITERIA, frozen=True)
        figure = record.arms["source-alone"].domain["bits_per_byte"]
        assert record.tests == alone.tests
        assert (figure.n_groups, figure.lower < 0.9 * 2.6 < figure.upper) == (groups, True)
        assert ("source-alone" in record.gap_closures) == (groups is None)
        assert Fit.model_validate(record.plain()) == record


def test_too_few_groups_or_seeds_give_no_interval_and_no_verdict():
    for small in (judge(n_groups=29), judge(n_seeds=2), judge(n_seeds=1)):
        assert small.verdict == "INCONCLUSIVE"
        assert "30 groups and 3 seeds are needed" in small.reason
        assert {test.interval for test in small.tests} == {None}


def test_three_seeds_may_refute():
    assert judge({"transferred": 0.4}, n_seeds=3).verdict == "REFUTED"


def test_general_only_is_judged_in_bits_per_byte():
    record = judge(regime="general-only", shifts=only("js_nats", "domain", transferred=0.1))
    assert (record.verdict, record.primary_metric) == ("SUPPORTED", "bits_per_byte")
    assert {test.metric for test in record.tests if test.required} == {"bits_per_byte"}
    assert not any(test.id[0] in "123" for test in record.tests)


def test_general_only_is_refuted_by_any_placebo_or_control():
    record = judge({"bias": 1.1}, regime="general-only")
    assert holding(record) == ["g"]
    assert record.refutations[0].level == pytest.approx(1 - 0.05 / 5)


def test_general_only_needs_no_home():
    levels = {arm: level for arm, level in TRANSFER.items() if arm != "home"}
    evidence = validate(rows(levels))
    record = judge_transfer(evidence, regime="general-only", fit="kd", criteria=CRITERIA, frozen=True)
    assert record.verdict == "SUPPORTED"
    with pytest.raises(EvidenceError, match="'home' has no rows"):
        judge_transfer(evidence, regime="oracle-kd", fit="kd", criteria=CRITERIA, frozen=True)


def test_a_regime_that_does_not_exist_is_named():
    with pytest.raises(EvidenceError, match="regime 'zero-shot' is none of oracle-kd"):
        judge(regime="zero-shot")


def test_some_of_two_placebos_is_tested_at_half_the_error():
    levels = {item.id: item.level for item in judge().refutations}
    assert levels == pytest.approx({"a": 0.975, "b": 0.975, "c": 0.95, "d": 0.95, "e": 0.95})


def test_a_changed_frozen_part_gives_no_verdict():
    with pytest.raises(TamperError, match="test 7 fails"):
        judge_transfer(validate(rows()), regime="oracle-kd", fit="kd", criteria=CRITERIA, frozen=False)
    with pytest.raises(TamperError, match="test 7 fails"):
        judge_reconstruction(validate(rows(RECONSTRUCTION)), fit="kd", criteria=CRITERIA, frozen=False)


def test_reconstruction_by_the_whole_module_is_supported():
    record = reconstruct()
    assert record.verdict == "SUPPORTED"
    assert not any(test.id.startswith("3.") for test in record.tests)


def test_in_a_reconstruction_sensitivity_and_retention_are_one_test():
    tests = {test.id: test for test in reconstruct().tests}
    assert tests["2.retention.js_nats.random"].contrast == "0.5 candidate - 0.5 random"
    assert 2 * tests["2.retention.js_nats.random"].mean == pytest.approx(tests["1.sensitivity.js_nats.random"].mean)


def test_reconstruction_by_any_net_is_refuted_by_b():
    assert holding(reconstruct({"random": 0.95})) == ["b"]


def test_reconstruction_beaten_by_a_linear_map_is_not_supported():
    record = reconstruct({"linear": 0.97})
    assert record.verdict == "INCONCLUSIVE"
    assert "4.attribution.js_nats.linear" in record.reason


def test_the_record_is_read_as_it_was_written():
    record = judge(draws={"random": 3, "permuted": 3})
    assert Fit.model_validate(json.loads(json.dumps(record.plain(), allow_nan=False))) == record
    assert set(record.plain()) == set(Fit.model_fields) - {"published_criteria"}
    assert record.arms["random"].draws == 3
    assert set(record.arms["raw"].plain()) == {"draws", "domain", "general", "on_training_text"}
    assert set(record.secondary) == PARTS - {"js_nats"}
    assert record.counts.groups == {"domain": 32, "general": 32, "on_training_text": 32}


def test_arms_are_reported_in_natural_signs():
    js = judge().arms["raw"].domain["js_nats"]
    assert js.lower < js.mean < js.upper
    assert js.mean == pytest.approx(0.30, abs=0.01)
    assert set(js.per_seed) == set("01234")


def test_published_criteria_are_met_by_placebos_too():
    evidence = validate(rows({**TRANSFER, "random": 0.95}))
    tables, kind = fit_tables(evidence, fit="kd", criteria=CRITERIA), KINDS["transfer"]
    found = published_criteria(tables, THRESHOLDS, kind.claimed, kind.controls)
    assert found.sentence == "published criteria met by: transferred yes; control arms 1 of 6"
    assert found.arms["raw"].met.plain() == dict.fromkeys(PARTS, False)
    assert found.arms["raw"].means.top1 == pytest.approx(0.40, abs=0.02)


@pytest.mark.parametrize(("usual", "verdict"), [("VACUOUS", "INCONCLUSIVE"), ("REFUTED", "REFUTED")])
def test_a_rung_that_is_refuted_at_the_strict_level_alone_refutes_nothing(usual, verdict):
    words = ("SUPPORTED", "SUPPORTED"), (usual, "REFUTED")
    rungs = [
        Rung(id=f"rung{i}", verdict=own, verdict_at_strict_level=strict, reason="why", sha256="a" * 64)
        for i, (own, strict) in enumerate(words)
    ]
    assert judge_rungs(rungs)["verdict"] == judge_rungs(rungs)["verdict_at_strict_level"] == verdict


def test_a_rung_that_is_open_is_named_before_one_that_is_refuted_alone_or_vacuous():
    def named(*words):
        rungs = [
            Rung(id=word.lower(), verdict=word, verdict_at_strict_level="INCONCLUSIVE", reason="why", sha256="a" * 64)
            for word in words
        ]
        return judge_rungs(rungs)["reason"]

    assert named("VACUOUS", "REFUTED", "INCONCLUSIVE").endswith("; inconclusive is INCONCLUSIVE: why")
    assert named("VACUOUS", "REFUTED", "SUPPORTED").endswith("; refuted is REFUTED: why")
    assert named("VACUOUS", "SUPPORTED").endswith("; vacuous is VACUOUS: why")


def test_a_headline_says_how_many_stay_supported():
    verdicts = {"strong": "SUPPORTED", "weak": "SUPPORTED", "no": "REFUTED"}
    found = headline(verdicts, {**verdicts, "weak": "INCONCLUSIVE"}, CRITERIA.level, 3)
    assert (
        found.sentence
        == "2 of 3 claims are SUPPORTED; 1 with the wider intervals that a count of 3 needs (level 0.98333)"
    )
    assert found.level == level_of_one(CRITERIA.level, 3)


def test_a_marginal_claim_does_not_survive_a_long_headline():
    levels = {"transferred": 0.82}
    assert judge(levels).verdict == "SUPPORTED"
    assert judge(levels, level=level_of_one(CRITERIA.level, 1000)).verdict == "INCONCLUSIVE"


def test_a_stricter_level_widens_every_interval():
    usual, strict = judge(), judge(level=level_of_one(CRITERIA.level, 5))
    for a, b in zip(usual.tests + usual.vacuous, strict.tests + strict.vacuous, strict=True):
        assert a.interval.half < b.interval.half


def test_headline_of_different_claims_raises():
    with pytest.raises(EvidenceError, match="the same claims"):
        headline({"a": "SUPPORTED"}, {"b": "SUPPORTED"}, CRITERIA.level, 1)


def test_the_numbers_come_from_the_criteria():
    lenient = Criteria.model_validate({**PROTOCOL["criteria"], "parity": 0.1, "half": 0.05})
    levels = {"transferred": 0.62, "home": 0.97}
    evidence = validate(rows({**TRANSFER, **levels}))
    assert judge(levels).verdict == "REFUTED"
    found = judge_transfer(evidence, regime="oracle-kd", fit="kd", criteria=lenient, frozen=True)
    assert found.verdict == "SUPPORTED"


def test_criteria_refuse_missing_and_unknown_keys():
    given = dict(PROTOCOL["criteria"])
    given["levle"] = given.pop("level")
    with pytest.raises(ValidationError, match="levle"):
        Criteria.model_validate(given)
    with pytest.raises(ValidationError, match="primary_metric"):
        Criteria.model_validate({**PROTOCOL["criteria"], "primary_metric": "js"})


@pytest.mark.parametrize("where", [(), ("criteria",), ("published_criteria",)])
def test_the_protocol_is_closed_at_every_level(where):
    given = deepcopy(PROTOCOL)
    assert Protocol.model_validate(given).criteria == CRITERIA
    node = given[where[0]] if where else given
    node["extra"] = 1
    with pytest.raises(ValidationError, match="extra"):
        Protocol.model_validate(given)
