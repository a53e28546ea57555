"""Where alignment carries a net: each word of the registered rule is reached, and by the level of one of K."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from evidence_rows import CRITERIA, TRANSFER, rows
from hypothesis import given
from hypothesis import strategies as st
from made_results import CLAIM, RUNGS, WORKFLOW
from scipy import stats

from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.relations import check_result
from abi.base.errors import EvidenceError
from abi.base.job import Job, code_of
from abi.judge.kinds.dose import Dose, at, curve, dose_of, judge, rank_correlation, rungs_table, trend, word_of
from abi.judge.kinds.transfer import judge_transfer
from abi.judge.results import AlignmentFacts, LadderResult, level_of_one, read_result
from abi.plan.specs.judge import JudgeLadder
from abi.steps import judge_ladder

LEVEL, COSINE = CRITERIA.level, 0.9
NEAR, FAR = 0.93, 0.6


@functools.cache
def fit(levels=(), **given):
    evidence = rows(TRANSFER | dict(levels), **given)
    return judge_transfer(evidence, regime="oracle-kd", fit="kd", criteria=CRITERIA, frozen=True)


def dose(cosine, name="rung", *, residual=0.4, levels=(), **given):
    facts = {"rotation": "aligned", "n_rows": 1000.0, "effective_rank": 20.0, "cosine_before": 0.0}
    aligned = AlignmentFacts(cosine_held_out=cosine, residual=residual, **facts)
    return Dose(name, f"a -> {name}", aligned, fit(tuple(dict(levels).items()), **given))


MOVED = {"transferred": 0.9}
NO_MORE = {"transferred": 0.4}
A_LITTLE = {"transferred": 0.52}
"""Ahead of both placebos by less than a tenth of its gain."""


def test_a_net_that_is_worth_more_supports_however_poor_others_are():
    verdict, reason = word_of([dose(FAR, "far", levels=NO_MORE), dose(NEAR, "near", levels=MOVED)], COSINE, LEVEL)
    assert verdict == "SUPPORTED"
    assert reason.startswith("at 1 of 2 rungs (near) the held-out cosine is 0.9 or more, and there the moved")
    assert "near: transferred - random" in reason


@pytest.mark.parametrize(
    ("levels", "words"),
    [(NO_MORE, "at near the moved net is worth no more than a placebo: transferred - random in js_nats"),
     (A_LITTLE, "at near too little of the gain is the moved net's own: 0.9 transferred - random + 0.1 raw")],
)  # fmt: skip
def test_a_net_that_is_worth_no_more_or_less_than_a_tenth_refutes(levels, words):
    near = dose(NEAR, "near", levels=levels, noise=0.005)
    verdict, reason = word_of([dose(0.95, "other", levels=MOVED), near], COSINE, LEVEL)
    assert verdict == "REFUTED"
    assert words in reason


def test_a_lead_that_is_not_shown_is_inconclusive():
    verdict, reason = word_of([dose(NEAR, "near", levels={"transferred": 0.55}, noise=0.3)], COSINE, LEVEL)
    assert verdict == "INCONCLUSIVE"
    assert "is not shown to be worth more than a placebo at near: transferred - " in reason


def test_a_lead_in_bits_per_byte_that_is_not_shown_is_inconclusive_too():
    near = dose(NEAR, "near", levels=MOVED)
    tests = list(near.fit.tests)
    place = tests.index(near.lead("bits_per_byte", "random"))
    interval = tests[place].interval
    tests[place] = tests[place].model_copy(
        update={"interval": interval.model_copy(update={"mean": 0.5 * interval.half})}
    )
    told = Dose("near", near.pair, near.aligned, near.fit.model_copy(update={"tests": tests}))
    assert word_of([told], COSINE, LEVEL)[0] == "INCONCLUSIVE"


def test_a_rung_that_is_too_small_is_inconclusive():
    verdict, reason = word_of([dose(NEAR, "near", levels=MOVED, n_groups=12)], COSINE, LEVEL)
    assert verdict == "INCONCLUSIVE"
    assert "near is too small for an interval: 12 groups" in reason


@pytest.mark.parametrize(
    "given", [{"cosine": 0.89}, {"cosine": NEAR, "levels": {"oracle": 0.0}}], ids=["too poor", "nothing to transfer"]
)
def test_without_a_rung_to_ask_it_is_vacuous(given):
    verdict, reason = word_of([dose(FAR, "far"), dose(name="top", **given)], COSINE, LEVEL)
    assert verdict == "VACUOUS"
    assert "top comes nearest" in reason


@pytest.mark.parametrize(("level", "verdict"), [(LEVEL, "INCONCLUSIVE"), (level_of_one(LEVEL, 0.25), "REFUTED")])
def test_one_of_k_contrasts_refutes_at_the_level_of_one_of_k(level, verdict):
    """One of four leads has its upper bound just below 0 at 95 %: it refutes only where a quarter of the rest is asked."""
    near = dose(NEAR, "near", levels=MOVED)
    tests = list(near.fit.tests)
    i = tests.index(near.lead("js_nats", "permuted"))
    stored = tests[i].interval
    mean = -1.02 * stored.half
    tests[i] = tests[i].model_copy(update={"interval": stored.model_copy(update={"mean": mean})})
    edited = Dose(near.name, near.pair, near.aligned, near.fit.model_copy(update={"tests": tests}))
    assert at(tests[i], LEVEL).upper < 0 < at(tests[i], level_of_one(LEVEL, 4)).upper
    assert word_of([edited], COSINE, level)[0] == verdict


@pytest.mark.parametrize(("part", "verdict"), [(1.0, "SUPPORTED"), (0.25, "REFUTED")])
def test_one_of_k_shares_refutes_at_the_level_of_one_of_k(part, verdict):
    near = dose(NEAR, "near", levels=MOVED)
    ways = list(near.fit.refutations)
    [i] = [i for i, way in enumerate(ways) if way.id == "b"]
    first, *others = ways[i].contrasts
    stored = at(first, LEVEL)
    below = first.interval.model_copy(update={"mean": -1.02 * stored.half})
    ways[i] = ways[i].model_copy(update={"contrasts": [first.model_copy(update={"interval": below}), *others]})
    edited = Dose(near.name, near.pair, near.aligned, near.fit.model_copy(update={"refutations": ways}))
    assert others
    assert at(edited.shares()[0], LEVEL).upper < 0 < at(edited.shares()[0], level_of_one(LEVEL, len(others) + 1)).upper
    assert word_of([edited], COSINE, level_of_one(LEVEL, part))[0] == verdict


def test_an_interval_at_the_stored_level_is_the_stored_one():
    for lead in dose(NEAR, levels=MOVED).leads():
        again = at(lead, LEVEL)
        assert (again.lower, again.upper) == pytest.approx((lead.interval.lower, lead.interval.upper), abs=1e-12)


def test_the_table_names_what_is_asked_and_a_useless_alignment():
    doses = [dose(0.5, "poor", residual=1.1, levels=NO_MORE), dose(NEAR, "near", levels=MOVED)]
    table = rungs_table(doses, COSINE)
    poor, near = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert poor["asked"] == "no; the alignment predicts no better than the mean"
    assert near["asked"] == "yes"
    leads = [doses[1].lead("js_nats", placebo).mean for placebo in ("random", "permuted")]
    assert near["C - P, JS in nats"] == min(leads) < max(leads)
    assert near["C - P, JS in nats"] > 0 > poor["C - P, JS in nats"]
    assert near["share"] == doses[1].fit.share.estimate
    drawn = curve(doses, "bits_per_byte")
    assert [series.name for series in drawn.series] == ["random", "permuted"]
    assert all(series.x == [0.5, NEAR] for series in drawn.series)
    assert drawn.series[0].y == [d.lead("bits_per_byte", "random").mean for d in doses]


def test_a_rank_correlation_needs_five_rungs():
    doses = [dose(c, levels=MOVED if c > 0.7 else NO_MORE) for c in (0.5, 0.6, 0.8, 0.9)]
    assert [row[2] for row in trend(doses).rows] == [None, None]
    x = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert rank_correlation(x, [1.0, 3.0, 2.0, 5.0, 9.0]) == pytest.approx(0.9)
    assert rank_correlation(x, [1.0] * 5) is None


@given(st.lists(st.tuples(*[st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.5])] * 2), min_size=5, max_size=12))
def test_a_rank_correlation_is_that_of_scipy_ties_and_all(pairs):
    x, y = map(list, zip(*pairs, strict=True))
    found = rank_correlation(x, y)
    if min(len(set(x)), len(set(y))) > 1:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert found is None


# the result file, from made results of rungs


@pytest.fixture
def judged(made_regimes, tmp_path, monkeypatch):
    """A result of three rungs, in a folder with theirs. Their alignments are made up: the cosine is .9."""
    shutil.copytree(made_regimes / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    rungs = [CLAIM, *RUNGS[:2]]
    spec = WORKFLOW.of("alignment_dose").verdict_spec()
    spec["claim"]["rungs"] = rungs
    paths = WORKFLOW.result_files(rungs)
    job = Job("judge_ladder", JudgeLadder.model_validate(spec), code_of("judge_ladder", {}), paths, 1)
    judge_ladder.run(job, {"rungs": paths}, {"result": WORKFLOW.result_file("alignment_dose")})
    return WORKFLOW.result_file("alignment_dose"), rungs


def faults(document, beside):
    checks = Checks("alignment_dose.json")
    file = ResultFile(Path("alignment_dose.json"), document, LadderResult.model_validate(document))
    check_result(checks, file, beside, lambda _: {})
    return [finding.leaf for finding in checks.found]


def test_a_result_follows_from_its_rungs_and_every_edit_is_named(judged):
    path, rungs = judged
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    files = {name: Path(WORKFLOW.result_file(name)) for name in rungs}
    beside = {name: ResultFile(p, json.loads(p.read_text()), read_result(p)) for name, p in files.items()}
    assert read_result(path).verdict == "SUPPORTED"
    assert [curve["id"] for curve in document["curves"]] == ["dose-js-nats", "dose-bits-per-byte"]
    assert faults(document, beside) == []
    for key, value in (("verdict", "REFUTED"), ("reason", "because"), ("verdict_at_strict_level", "VACUOUS")):
        assert key in faults({**document, key: value}, beside)
    forged = json.loads(json.dumps(document))
    forged["tables"][0]["rows"][0][5] = 0.5
    assert any(leaf.startswith("tables") for leaf in faults(forged, beside))
    assert any(leaf.startswith("curves") for leaf in faults({**document, "curves": []}, beside))


def test_the_strict_word_is_that_at_the_level_of_one_of_all_claims(judged):
    _, rungs = judged
    results = {name: read_result(WORKFLOW.result_file(name)) for name in rungs}
    spec = JudgeLadder.model_validate(WORKFLOW.of("alignment_dose").verdict_spec())
    words = [judge(spec.model_copy(update={"n_claims": n}), results) for n in (1, 10**12)]
    assert [found.verdict for found in words] == ["SUPPORTED"] * 2
    assert [found.verdict_at_strict_level for found in words] == ["SUPPORTED", "INCONCLUSIVE"]


def test_a_rung_without_an_alignment_is_named(judged):
    result = read_result(WORKFLOW.result_file(CLAIM)).model_copy(update={"alignments": []})
    with pytest.raises(EvidenceError, match=f"rung {CLAIM}: is no transfer that was moved by an alignment"):
        dose_of(result)
