"""Claims made of several studies: what an update and an atlas are asked, one verdict of all, the original's figures."""

import functools
import itertools
import json
import math
import random

import numpy as np
import pandas as pd
import pytest
from evidence_rows import CRITERIA, NUMBERS, ROOT, THRESHOLDS, rows
from scipy import stats

from abi.base.errors import EvidenceError
from abi.base.names import VERDICTS
from abi.judge.fits import Ratio, ends_of
from abi.judge.kinds import StudiesGiven, atlas, scaling_law
from abi.judge.kinds import update as updates
from abi.judge.kinds.atlas import atlas_plan, atlas_roles, locality
from abi.judge.kinds.scaling_law import arm_means, meets
from abi.judge.kinds.update import (
    Efficacies,
    dose_table,
    doses_of,
    efficacies,
    efficacy_table,
    largest_table,
    round_curves,
    update_checks,
    update_plan,
)
from abi.judge.results import ClaimFacts, StudyResult, level_of_one, of_doses, of_several
from abi.judge.rows import validate
from abi.judge.studies import check, judge_studies, perplexities
from abi.judge.tables import fit_tables
from abi.judge.verdict import judge
from abi.plan.specs.judge import JudgeStudy
from abi.plan.specs.studies import UpdateSection

RECORD = ROOT / "config/record/published_results"
ZERO_SHOT = {
    "raw": 0.0, "oracle": 1.0, "zero-shot": 0.95, "zero-shot-free": 0.5, "random": 0.1, "zero-shot-off": 0.4,
    "random-net": 0.45, "oracle-off": 0.5, "random-off": 0.0, "before": 0.9,
}  # fmt: skip
ATLAS = {
    "raw": 0.0, "oracle": 1.0, "shared": 0.3, "chart": 0.9, "random": 0.4, "permuted": 0.35, "linear": 0.5, "linear-narrow": 0.45,
    "chart-of-b": 0.2, "chart-of-c": 0.3,
    "random-of-b": 0.1, "random-of-c": 0.1,
}  # fmt: skip


def claim_of(kind, **facts):
    about = {"id": "c", "title": "t", "statement": "s", "record": {"result_file": "c.json"}}
    return ClaimFacts.model_validate({**about, "kind": kind, **facts})


SUCCESSION_CLAIM = claim_of("succession", update="u", texts=["a"])
UPDATE_CLAIM = claim_of("update", updates=["u", "v", "w"], texts=["a"])
ATLAS_CLAIM = claim_of("atlas", texts=["a", "b", "c"])
ROLES = atlas_roles(["b", "c"])


def evidence(levels, study="round1-a", **options):
    """Rows of one study, of held-out domain text alone; `raw` and `oracle` carry the study too."""
    options = {"n_seeds": 3, **options}
    frame = rows(levels, **options)
    frame = frame[frame["scope"] == "domain"].assign(fit=study)
    share = frame["metric"].isin(("top1", "top5"))
    return validate(frame.assign(value=frame["value"].where(~share, frame["value"].clip(upper=1.0))))


def update(levels=None, level=None, **options):
    given = evidence({**ZERO_SHOT, **(levels or {})}, **options)
    return judge(fit_tables(given, fit="round1-a", criteria=CRITERIA), update_plan(CRITERIA), CRITERIA, level)


def chart(levels=None, **options):
    given = evidence({**ATLAS, **(levels or {})}, "a", **options)
    return judge(fit_tables(given, fit="a", criteria=CRITERIA), atlas_plan(CRITERIA, ROLES), CRITERIA)


def given(frame, claim, studies, strict, **options):
    """What a claim of several studies is judged from; of its spec the protocol alone, and what a law reads."""
    spec = JudgeStudy.model_construct(protocol=NUMBERS, **options)
    return StudiesGiven(spec, claim, frame, studies, perplexities(frame, CRITERIA.min_positions), strict)


def judged(frame, claim, studies, strict):
    return judge_studies(given(frame, claim, studies, strict))


def holding(record):
    return [item.id for item in record.refutations if item.holds]


def only(metric, **arms):
    return {(arm.replace("_", "-"), metric, "domain"): level for arm, level in arms.items()}


# an update


def test_a_module_as_good_as_the_oracle_and_better_than_free_and_random_is_supported():
    record = update()
    assert (record.verdict, holding(record)) == ("SUPPORTED", [])
    assert record.gap_closure.pieces[0][0] < 0.95 < record.gap_closure.pieces[0][1]
    assert {test.metric for test in record.tests} == {"bits_per_byte"}


def test_a_third_of_the_way_is_refuted_by_u():
    record = update({"zero-shot": 1 / 3, "zero-shot-free": 0.1, "random": 0.0, "random-net": 0.0})
    assert (record.verdict, holding(record)) == ("REFUTED", ["u"])
    assert record.reason.startswith("(u) u.efficacy.bits_per_byte: zero-shot - 0.5 oracle - 0.5 raw = -")


def test_half_of_the_way_is_neither():
    record = update({"zero-shot": 0.5, "zero-shot-free": 0.1, "random": 0.0})
    assert record.verdict == "INCONCLUSIVE"
    assert record.reason.startswith("test u.efficacy.bits_per_byte")


def test_a_module_as_good_without_the_term_is_not_supported():
    record = update({"zero-shot": 0.8, "zero-shot-free": 0.8})
    assert record.verdict == "INCONCLUSIVE"
    assert record.reason.startswith("test 4.attribution.bits_per_byte.zero-shot-free")


@pytest.mark.parametrize("better", ["zero-shot-free", "random", "random-net"])
def test_a_module_worse_than_a_control_is_refuted_by_g(better):
    record = update({"zero-shot": 0.75, better: 1.0 if better == "random-net" else 0.85})
    assert (record.verdict, holding(record)) == ("REFUTED", ["g"])
    item = next(item for item in record.refutations if item.id == "g")
    assert item.level == pytest.approx(1 - 0.05 / 3)
    assert [c.id.rpartition(".")[2] for c in item.contrasts if c.holds] == [better]


def test_a_module_that_helps_nothing_is_refuted():
    assert {"u", "d"} <= set(holding(update({"zero-shot": -0.2})))


@pytest.mark.parametrize("oracle", [-0.1, 0.0])
def test_an_update_without_room_is_vacuous(oracle):
    record = update({"oracle": oracle}, noise=0.005)
    assert record.verdict == "VACUOUS"
    assert "bits_per_byte" in record.reason
    assert record.gap_closures == {}


def test_a_hundredth_of_room_is_vacuous_though_shown():
    record = update({"oracle": 0.04, "zero-shot": 0.04}, noise=0.002)
    assert record.tests[0].passed
    assert record.verdict == "VACUOUS"


def test_the_interface_alone_the_drift_and_the_dose_without_the_term_are_reported_and_decide_nothing():
    record = update({"zero-shot-off": 0.95, "before": 1.2, "zero-shot-free": 0.4})
    beside = {t.id: t for t in record.tests if not t.required}
    assert set(beside) == {"u.drift.before", "u.net.zero-shot-off", "u.without.bits_per_byte"}
    assert not any(test.passed for test in beside.values())
    assert record.verdict == "SUPPORTED"


def test_two_seeds_give_no_verdict_and_three_may():
    assert update(n_seeds=2).verdict == "INCONCLUSIVE"
    assert "30 groups and 3 seeds are needed" in update(n_seeds=2).reason
    assert update(n_groups=29).verdict == "INCONCLUSIVE"


def test_a_missing_control_gives_no_verdict():
    levels = {arm: level for arm, level in ZERO_SHOT.items() if arm != "zero-shot-free"}
    with pytest.raises(EvidenceError, match="arm 'zero-shot-free' has no rows of bits_per_byte on domain"):
        judged(evidence(levels), UPDATE_CLAIM, ["round1-a"], 0.95)


# an atlas


def test_a_chart_better_than_all_others_is_supported():
    record = chart()
    assert (record.verdict, holding(record)) == ("SUPPORTED", [])
    required = {t.id.rpartition(".")[2] for t in record.tests if t.required and t.id.startswith("4.")}
    assert required == {"random", "permuted", "linear", "chart-of-b", "chart-of-c"}


@pytest.mark.parametrize("other", ["random", "permuted", "linear", "chart-of-b", "chart-of-c"])
def test_a_chart_worse_than_another_is_refuted_by_g(other):
    record = chart({other: 1.1})
    assert (record.verdict, holding(record)) == ("REFUTED", ["g"])
    assert other in record.reason


@pytest.mark.parametrize("metric", ["js_nats", "bits_per_byte"])
def test_a_chart_must_be_better_in_both_measures(metric):
    assert chart(shifts=only(metric, chart_of_b=0.9)).verdict == "INCONCLUSIVE"
    assert chart(shifts=only(metric, chart_of_b=1.2)).verdict == "REFUTED"


@pytest.mark.parametrize("metric", ["js_nats", "bits_per_byte"])
def test_an_atlas_without_room_in_either_measure_is_vacuous(metric):
    assert chart(shifts=only(metric, oracle=-0.1)).verdict == "VACUOUS"


def test_refutation_counts_its_ten_contrasts():
    item = next(item for item in chart().refutations if item.id == "g")
    assert len(item.contrasts) == 10
    assert item.level == pytest.approx(1 - 0.05 / 10)


# one verdict of several studies


@pytest.mark.parametrize("n", [1, 2, 3])
def test_supported_never_stands_beside_a_study_that_is_not(n):
    for words in itertools.product(itertools.product(VERDICTS, (False, True)), repeat=n):
        plain = [word for word, _ in words]
        found = of_several(plain, any(refuted for _, refuted in words))
        expected = "REFUTED" if any(refuted for _, refuted in words) else None
        for same in ("SUPPORTED", "VACUOUS"):
            expected = expected or (same if plain == [same] * n else None)
        assert found == (expected or "INCONCLUSIVE")


def several(*levels, claim=None, strict=None, **options):
    studies = [f"round{i}-a" for i in range(1, len(levels) + 1)]
    frames = [evidence({**ZERO_SHOT, **own}, study, seed=i, **options)
              for i, (study, own) in enumerate(zip(studies, levels, strict=True))]  # fmt: skip
    strict = level_of_one(CRITERIA.level, 13) if strict is None else strict
    return judged(pd.concat(frames), claim or UPDATE_CLAIM, studies, strict)


def test_all_studies_supported_is_supported():
    found = several({}, {}, {})
    assert (found.verdict, found.reason) == ("SUPPORTED", "all 3 studies are SUPPORTED")
    assert list(found.fits) == ["round1-a", "round2-a", "round3-a"]


def test_one_study_that_is_refuted_refutes_the_claim():
    found = several({}, {"zero-shot": 0.2, "zero-shot-free": 0.0, "random": 0.0}, {})
    assert (found.verdict, found.verdict_at_strict_level) == ("REFUTED", "REFUTED")
    assert found.reason.startswith("2 of 3 studies are SUPPORTED; round2-a: (u) u.efficacy")
    assert "at 0.983333" in found.reason


def test_a_refutation_that_does_not_hold_at_the_level_of_one_of_k_leaves_it_open():
    levels, seed = {"zero-shot": 0.47, "zero-shot-free": 0.0, "random": 0.0}, 0
    while not update(levels, 0.95, seed=seed).verdict == "REFUTED" != update(levels, 0.975, seed=seed).verdict:
        seed += 1
    frame = pd.concat([evidence({**ZERO_SHOT, **levels}, seed=seed), evidence(ZERO_SHOT, "round2-a", seed=1)])
    two = judged(frame, UPDATE_CLAIM, ["round1-a", "round2-a"], 0.99)
    assert two.fits["round1-a"].verdict == "REFUTED"
    assert two.verdict == "INCONCLUSIVE"
    assert "(u)" not in two.reason  # what it says at a level at which it does not decide
    assert "at 0.975" in two.reason


def test_one_open_study_leaves_the_claim_open_and_is_named():
    found = several({}, {"zero-shot": 0.8, "zero-shot-free": 0.8})
    assert found.verdict == "INCONCLUSIVE"
    assert found.reason.startswith("1 of 2 studies are SUPPORTED; round2-a: test 4.attribution")


def test_a_strict_level_can_only_take_support_away():
    weak = {"zero-shot": 0.7, "zero-shot-free": 0.0, "random": 0.0}
    found = several(weak, weak, noise=0.05, strict=1 - 1e-8)
    assert (found.verdict, found.verdict_at_strict_level) == ("SUPPORTED", "INCONCLUSIVE")


def test_published_criteria_stand_beside_every_study():
    met = several({}, {}).fits["round1-a"].published_criteria
    assert met.sentence == "published criteria met by: zero-shot yes; control arms 0 of 4"
    assert met.controls == ["raw", "random", "random-net", "zero-shot-off"]


def test_studies_are_named_by_round_and_text_by_text_or_by_update_and_text():
    assert updates.studies(claim_of("succession", texts=["a", "b"]), 2) == [
        "round1-a",
        "round1-b",
        "round2-a",
        "round2-b",
    ]
    assert updates.studies(UPDATE_CLAIM, 1) == ["u-a", "v-a", "w-a"]
    assert atlas.studies(ATLAS_CLAIM, 1) == ["a", "b", "c"]
    law = claim_of("scaling_law", updates=["u", "v"], texts=["a", "b"])
    assert scaling_law.studies(law, 1) == ["u-a", "u-b", "v-a", "v-b"]


# doses


def naive_word(rows_of_dose, keeps=0.9, half=0.5):
    """The rule of one dose written once more, from rows alone: tables of bits per byte, turned, and their intervals."""
    own = rows_of_dose[rows_of_dose["metric"] == "bits_per_byte"]
    table = {
        arm: -part.pivot_table(index="group", columns="seed", values="value").to_numpy()
        for arm, part in own.groupby("arm")
    }

    def ends(x, level=0.95):
        (d, s), m = x.shape, x.mean()
        r, c = x.mean(1), x.mean(0)
        msd, mss = s * r.var(ddof=1), d * c.var(ddof=1)
        mse = ((x - r[:, None] - c[None, :] + m) ** 2).sum() / ((d - 1) * (s - 1))
        t = [stats.t.ppf((1 + level) / 2, n - 1) for n in (d, s)]
        h = math.sqrt((t[0] ** 2 * msd + t[1] ** 2 * max(mss - mse, 0)) / (d * s))
        return m - h, m + h

    raw, oracle, moved, free = (table[arm] for arm in ("raw", "oracle", "zero-shot", "zero-shot-free"))
    others = [table[arm] for arm in ("zero-shot-free", "random", "random-net")]
    way, kept = oracle - raw, moved - raw - half * (oracle - raw)
    if ends(way)[1] <= 0.01 * -raw.mean() or ends((free - raw) - keeps * way)[0] > 0:
        return "VACUOUS"
    if ends(kept)[1] < 0 or ends(moved - raw)[1] <= 0 or any(ends(moved - q, 1 - 0.05 / 3)[1] <= 0 for q in others):
        return "REFUTED"
    needed = [way, kept, moved - raw, *(moved - q for q in others)]
    return "SUPPORTED" if all(ends(x)[0] > 0 for x in needed) else "INCONCLUSIVE"


def naive_claim(words, refuted_at_one_of_k):
    """The rule of a ladder written once more. Args: words: of the doses; the other: whether each refutes so."""
    threatened = [i for i, word in enumerate(words) if word != "VACUOUS"]
    if len(threatened) < 2:
        return "VACUOUS"
    if any(refuted_at_one_of_k[i] for i in threatened):
        return "REFUTED"
    return "SUPPORTED" if all(words[i] == "SUPPORTED" for i in threatened) else "INCONCLUSIVE"


def test_a_dose_is_judged_as_a_naive_reading_of_the_rule_has_it():
    draw, seen = random.Random(1), []
    for i in range(24):
        level = draw.uniform(0.3, 1.05)
        own = {
            "zero-shot": level,
            "zero-shot-free": draw.choice([level - 0.2, level, 0.97]),
            "noise": draw.choice([0.01, 0.2]),
        }
        own |= {"oracle": draw.choice([1.0, 1.0, 1.0, 0.0]), "random-net": draw.choice([0.1, 0.1, level])}
        noise = own.pop("noise")
        frame = evidence({**ZERO_SHOT, **own}, seed=i, noise=noise)
        seen.append(
            judge(fit_tables(frame, fit="round1-a", criteria=CRITERIA), update_plan(CRITERIA), CRITERIA).verdict
        )
        assert seen[-1] == naive_word(frame), (i, own)
    assert set(seen) == {"SUPPORTED", "REFUTED", "VACUOUS", "INCONCLUSIVE"}


def test_a_ladder_is_judged_as_a_naive_reading_of_the_rule_has_it():
    seen = set()
    for n in (1, 2, 3, 4):
        for words in itertools.product(VERDICTS, repeat=n):
            for at_one_of_k in itertools.product((False, True), repeat=n):
                refuted = any(at and word != "VACUOUS" for word, at in zip(words, at_one_of_k, strict=True))
                seen.add(of_doses(words, refuted))
                assert of_doses(words, refuted) == naive_claim(words, at_one_of_k)
    assert seen == {"SUPPORTED", "REFUTED", "VACUOUS", "INCONCLUSIVE"}


UNTHREATENED = {"zero-shot-free": 0.97}


@pytest.mark.parametrize(
    ("levels", "word", "reason"),
    [
        (({}, {}, UNTHREATENED), "SUPPORTED", "2 of 3 studies are SUPPORTED and 1 VACUOUS"),
        (({}, UNTHREATENED, UNTHREATENED), "VACUOUS", "1 of 3 studies are SUPPORTED and 2 VACUOUS; round2-a: nothing threatened the module: "),
        (({"oracle": 0.0}, {"oracle": 0.0}), "VACUOUS", "0 of 2 studies are SUPPORTED and 2 VACUOUS; round1-a: nothing to transfer: "),
        ((UNTHREATENED, {}, {"zero-shot": 0.2, "zero-shot-free": 0.0}), "REFUTED", "1 of 3 studies are SUPPORTED and 1 VACUOUS; round3-a: (u) "),
        ((UNTHREATENED, {}, {"zero-shot": 0.5, "zero-shot-free": 0.0}), "INCONCLUSIVE", "1 of 3 studies are SUPPORTED and 1 VACUOUS; round3-a: test u.efficacy"),
    ],
)  # fmt: skip
def test_a_ladder_counts_the_doses_that_threatened_the_module(levels, word, reason):
    found = several(*({"random": 0.0} | own for own in levels), noise=0.005)
    assert found.verdict == word
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(("kept", "word"), [(0.85, "SUPPORTED"), (0.9, "SUPPORTED"), (0.95, "VACUOUS")])
def test_a_dose_is_vacuous_above_nine_tenths_without_the_term(kept, word):
    record = update({"zero-shot": 1.05, "zero-shot-free": kept}, noise=0.005)
    assert record.verdict == word


def section(steps, rate, text="general"):
    phases = {"batch": 8, "phases": [{"steps": steps, "lr": rate}]}
    about = {"backbone": "b", "text": text, "holds": ["a"], "module": "standard", "rounds": 3, "trains": "all"}
    return UpdateSection.model_validate({**about, "stability": 1.0, "training": phases})


def laddered(*levels):
    """Doses u, v on general text and w on sql, measured on text a, with what the tables say of them."""
    sections = {"u": section(100, 1e-3), "v": section(100, 1e-2), "w": section(25, 1e-3, "sql")}
    names = updates.studies(UPDATE_CLAIM, 1)
    frame = pd.concat(
        [
            evidence({**ZERO_SHOT, **own}, name, seed=i, noise=0.005)
            for i, (name, own) in enumerate(zip(names, levels, strict=True))
        ]
    )
    fits = judged(frame, UPDATE_CLAIM, names, 0.99).fits
    doses = doses_of(UPDATE_CLAIM, JudgeStudy.model_construct(updates=sections, rounds=1))
    return fits, doses, dose_table(doses, fits).rows, largest_table(doses, fits).rows


def test_the_table_of_doses_says_how_strong_each_was_and_what_was_kept():
    fits, _, rows, _ = laddered({}, {"zero-shot-free": 0.3}, {"zero-shot": 0.3, "zero-shot-free": 0.1})
    assert [row[:5] for row in rows] == [
        ["u-a", "general", 100, 1e-2 / 10, "a"], ["v-a", "general", 100, 1e-2, "a"], ["w-a", "sql", 25, 1e-3, "a"],
    ]  # fmt: skip
    closures = [fits[row[0]].gap_closures for row in rows]
    assert [row[5:7] for row in rows] == [[c["zero-shot"].estimate, c["zero-shot-free"].estimate] for c in closures]
    assert [row[7] for row in rows] == ["yes", "yes", "no"]
    assert [row[8:] for row in rows] == [["no", "SUPPORTED"], ["no", "SUPPORTED"], ["no", "REFUTED"]]


def test_the_largest_dose_survived_is_named_for_every_text_with_the_term_and_without():
    *_, rows = laddered({"zero-shot-free": 0.7}, {"zero-shot-free": 0.3}, {"zero-shot": 0.3, "zero-shot-free": 0.1})
    assert rows == [
        ["general", "a", "v-a", 100, 1e-2, "u-a", 100, 1e-3],
        ["sql", "a", None, None, None, None, None, None],
    ]


def test_every_round_of_a_succession_is_a_dose_of_its_steps_so_far():
    spec = JudgeStudy.model_construct(updates={"u": section(100, 1e-3)}, rounds=3)
    found = doses_of(SUCCESSION_CLAIM, spec)
    assert [(dose.study, dose.steps) for dose in found] == [("round1-a", 100), ("round2-a", 200), ("round3-a", 300)]


# the original's efficacies

PPL = {
    "raw": 40.0, "zero-shot": 25.0, "zero-shot-off": 50.0, "oracle": 20.0, "oracle-off": 32.0, "oracle-before": 30.0,
    "random": 80.0, "random-off": 64.0, "before": 22.0, "before-off": 44.0, "zero-shot-free": 28.0,
}  # fmt: skip


def test_efficacies_are_the_closed_forms_of_the_record():
    found = efficacies(PPL, Ratio(estimate=0.7, pieces=[], bounded=False, level=0.95))
    e1, e2, e3, e4, e5 = (40 - 25) / (40 - 30), 0.5 / 0.375, 0.5 / 0.75, (64 - 25) / (64 - 20), 1.25
    assert found == pytest.approx(Efficacies(0.7, e1, e2, e3, e4, e5))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"oracle-before": 40.0}, "e1"), ({"oracle-before": 50.0}, "e1"), ({"oracle-off": 20.0}, "e2"), ({"random": 20.0}, "e3"),
     ({"random-off": 15.0}, "e4")],
)  # fmt: skip
def test_an_efficacy_without_a_positive_denominator_is_none(change, name):
    found = efficacies({**PPL, **change}, None)
    none = {key for key, value in found._asdict().items() if value is None}
    assert none == {name, "protocol"}


def test_the_published_t5_efficacy_is_e1_of_its_published_perplexities():
    told = json.loads((RECORD / "cross_arch_t5_succession_results.json").read_text(encoding="utf-8"))
    ppl = {
        **PPL, "raw": told["ppl_py_raw_post_update"], "zero-shot": told["ppl_py_zero_shot"],
        "oracle-before": told["ppl_cold_start_oracle"],
    }  # fmt: skip
    assert 100 * efficacies(ppl, None).e1 == pytest.approx(told["transfer_efficacy_pct"], abs=0.5)
    assert told["transfer_efficacy_pct"] == 304.26


def test_the_published_gpt2_efficacy_is_e2_of_its_published_perplexities():
    told = json.loads((RECORD / "scale_validation_results.json").read_text(encoding="utf-8"))[2]["metrics"]
    ppl = {
        **PPL, "zero-shot-off": told["ppl_updated_base"], "zero-shot": told["ppl_updated_with"],
        "oracle-off": told["ppl_native_base"], "oracle": told["ppl_native_with"],
    }  # fmt: skip
    assert 100 * efficacies(ppl, None).e2 == pytest.approx(told["transfer_efficacy_pct"], abs=0.1)
    assert told["transfer_efficacy_pct"] == 65.3


def test_the_published_transfers_are_e4_of_their_published_perplexities():
    pre, moved, native = 20.58, 8.77, 7.15
    found = efficacies({**PPL, "random-off": pre, "zero-shot": moved, "oracle": native}, None).e4
    assert 100 * found == pytest.approx(87.96, abs=0.1)


def test_perplexity_is_that_of_the_mean_loss_over_long_documents_and_seeds():
    frame = evidence({"raw": 0.0, "oracle": 1.0})
    loss = frame[frame.metric == "bits_per_byte"].assign(metric="loss_nats")
    short = loss.assign(document=lambda f: f["document"] + "s", n_positions=3, value=9.0)
    found = perplexities(pd.concat([frame, loss, short]), 64)
    wanted = math.exp(loss[loss["arm"] == "raw"].value.mean())
    assert found["round1-a"]["raw"] == pytest.approx(wanted)
    assert set(found) == {"round1-a"}


def test_the_table_of_efficacies_has_the_protocols_interval_and_the_records_beside_it():
    fits = several({}).fits
    [row] = efficacy_table(fits, {"round1-a": PPL}).rows
    closure = fits["round1-a"].gap_closures["zero-shot"]
    assert row[:4] == ["round1-a", closure.estimate, closure.pieces[0][0], closure.pieces[0][1]]
    assert row[4:] == [*efficacies(PPL, None)[1:]]
    [empty] = efficacy_table(several({"oracle": 0.0}, noise=0.005).fits, {"round1-a": PPL}).rows
    assert empty[1:4] == [None, None, None]


@pytest.mark.parametrize(
    ("closure", "ends"),
    [(None, (None, None)), ({"bounded": False, "pieces": [[None, 1.0]]}, (None, None)),
     ({"bounded": True, "pieces": [[0.1, 0.2]]}, (0.1, 0.2))],
)  # fmt: skip
def test_only_a_bounded_set_has_ends(closure, ends):
    assert ends_of(closure and Ratio(estimate=0.15, level=0.95, **closure)) == ends


# the original's pass rules


def checks(claim, ppl, ratio=None):
    return {item.id: item for item in update_checks(claim, list(ppl), ppl, ratio)}


def test_the_rule_of_the_t5_update_is_e1():
    found = checks(UPDATE_CLAIM, {"round1-a": PPL})
    assert {name: (item.value, item.threshold, item.passed) for name, item in found.items()} == {"E1": (1.5, 0.5, True)}
    assert not checks(UPDATE_CLAIM, {"round1-a": {**PPL, "zero-shot": 36.0}})["E1"].passed
    assert not checks(UPDATE_CLAIM, {"round1-a": {**PPL, "oracle-before": 45.0}})["E1"].passed


def test_the_rules_of_an_update_with_generated_text_are_the_five_tiers():
    found = checks(UPDATE_CLAIM, {"round1-a": PPL}, 2.9)
    values = {name: item.value for name, item in found.items()}
    assert values == {"S1": 0.5, "S2": 0.5, "S3": pytest.approx(0.5 / 0.375), "S4": 2.9, "S5": None}
    limits = {name: item.threshold for name, item in found.items()}
    assert limits == {"S1": 0.03, "S2": 0.03, "S3": 0.5, "S4": 3.0, "S5": None}
    assert all(item.passed for item in found.values())


@pytest.mark.parametrize(
    ("change", "ratio", "failed"),
    [
        ({"before": 43.9}, 1.0, {"S1", "S5"}), ({"zero-shot": 49.9}, 1.0, {"S2", "S3", "S5"}),
        ({"zero-shot": 45.0}, 1.0, {"S3", "S5"}), ({}, 3.0, {"S4"}),
    ],
)  # fmt: skip
def test_a_tier_fails_where_its_figure_does_and_the_fifth_with_the_first_three(change, ratio, failed):
    found = checks(UPDATE_CLAIM, {"round1-a": {**PPL, **change}}, ratio)
    assert {name for name, item in found.items() if not item.passed} == failed


def test_the_rules_of_the_succession_are_ten():
    claim = claim_of("succession", texts=["python", "markdown"])
    ppl = {f"round{n}-{text}": PPL for n in (1, 2, 3) for text in claim.texts}
    found = checks(claim, ppl | {"round3-markdown": {**PPL, "zero-shot": 40.0}})
    assert len(found) == 10
    assert [name for name, item in found.items() if not item.passed] == ["efficacy-markdown"]
    assert found["efficacy-markdown"].value == pytest.approx(0.2 / 0.75)
    assert found["efficacy-python"].value == pytest.approx(0.5 / 0.75)
    assert (found["start"].value, found["all-rounds"].value) == pytest.approx((0.5, 0.2))
    worse = checks(claim, ppl | {"round2-python": {**PPL, "zero-shot": 49.0}})
    assert [name for name, item in worse.items() if not item.passed] == ["round2-python", "all-rounds"]


@pytest.mark.parametrize(
    ("value", "above", "passed"), [(0.5, False, True), (0.5, True, False), (0.51, True, True), (None, False, False)]
)
def test_a_rule_is_at_least_or_above(value, above, passed):
    assert check("x", "w", value, 0.5, above=above).passed is passed


def test_curves_of_a_succession_have_a_line_per_arm_and_a_point_per_round():
    claim = claim_of("succession", texts=["a"])
    found = several({}, {"zero-shot": 0.7}, claim=claim).fits
    [curve] = round_curves(claim, found)
    line = next(line for line in curve.series if line.name == "zero-shot")
    assert line.x == [1.0, 2.0]
    assert line.y == [found[f"round{n}-a"].arms["zero-shot"].domain["bits_per_byte"].mean for n in (1, 2)]
    assert all(low < mean < high for low, mean, high in zip(line.lower, line.y, line.upper, strict=True))


# parts of an atlas


def test_locality_is_the_mean_off_over_the_mean_on_the_diagonal():
    assert locality([[1.0, 4.0], [6.0, 3.0]]) == pytest.approx(5.0 / 2.0)
    assert locality([[1.0]]) is None
    assert locality([[0.0, 1.0], [1.0, 0.0]]) is None


def test_the_published_locality_is_that_of_the_published_matrix():
    told = json.loads((RECORD / "multi_domain_atlas_results.json").read_text(encoding="utf-8"))
    matrix = told["interference_matrix"]
    ratio = locality([[matrix[a][b] for b in matrix] for a in matrix])
    assert ratio == pytest.approx(25.437, rel=5e-3)


@functools.cache
def whole_atlas(mixture=()):
    frames = []
    for i, text in enumerate("abc"):
        levels = {
            "raw": 0.0,
            "oracle": 1.0,
            "shared": 0.3,
            "chart": 0.9 - i / 100,
            "random": 0.4,
            "permuted": 0.3,
            "linear": 0.5,
            "linear-narrow": 0.45,
        }
        for other in "abc".replace(text, ""):
            levels |= {f"chart-of-{other}": 0.2, f"random-of-{other}": 0.35}
        if text in mixture:
            levels |= {f"mix-{w}": w / 100 for w in (0, 25, 50, 75, 100)}
        frames.append(evidence(levels, text, seed=i, noise=0.005))
    claim = claim_of("atlas", texts=["a", "b", "c"], mixture=list(mixture))
    return atlas.judge(given(pd.concat(frames), claim, list("abc"), 0.99))


def test_matrices_hold_every_chart_on_every_domain():
    found = whole_atlas()
    assert found.verdict == "SUPPORTED"
    charts, fresh, _ = found.matrices
    for i, chart_of in enumerate("abc"):
        for j, domain in enumerate("abc"):
            arm = "chart" if i == j else f"chart-of-{chart_of}"
            figure = found.fits[domain].arms[arm].domain["js_nats"].mean
            assert charts.values[i][j] == figure
    assert fresh.id == "random-charts"
    ratios = {row[0]: row[1] for row in found.tables[0].rows}
    assert ratios["charts of the shared module"] == pytest.approx(locality(charts.values))
    assert ratios["charts of the shared module"] > 2 > ratios["charts of a random net, the control"] > 1


def test_a_mixture_runs_from_the_other_chart_to_its_own():
    found = whole_atlas(("a", "b"))
    [curve] = found.curves
    assert [line.name for line in curve.series] == ["on a", "on b"]
    assert all(line.x == [0.0, 0.25, 0.5, 0.75, 1.0] for line in curve.series)
    wanted = [found.fits["a"].arms[f"mix-{w}"].domain["bits_per_byte"].mean for w in (0, 25, 50, 75, 100)]
    assert curve.series[0].y == wanted == sorted(wanted, reverse=True)
    assert whole_atlas().curves == []


def test_an_atlas_says_which_domain_meets_the_published_thresholds():
    found = whole_atlas()
    for item in found.checks:
        met = found.fits[item.id.removeprefix("nib-")].published_criteria.arms["chart"]
        assert (item.value, item.passed) == (met.means.top5, met.passed)
    assert len(found.checks) == 3


# parts of a scaling law


def law_rows(study, levels, margin):
    frame = evidence({"raw": 0.0, "oracle": 1.0, **levels}, study, noise=0.001)
    # the oracle is measured like any arm, against a second one
    frame = frame[(frame["arm"] != "oracle") | (frame["metric"] == "bits_per_byte")]
    frame = frame.replace({"arm": {"second": "oracle", "oracle": "reference"}})
    one = frame[(frame.metric == "top5") & (frame["arm"] == "raw")]
    return pd.concat([frame, one.assign(arm="margin", metric="top5_margin", value=margin)])


def naive_floor(budgets, js, between, share):
    """The rule of the floor written once more, as a loop."""
    for budget, reached in zip(budgets, js, strict=True):
        if js[0] - between <= 0 or (js[0] - reached) / (js[0] - between) >= share:
            return budget
    return None


def courses(n=300):
    draw = np.random.default_rng(7)
    for _ in range(n):
        js = draw.uniform(0.05, 0.5, 6)
        yield scaling_law.Course([0, 4, 8, 16, 32, 64], list(js), float(draw.uniform(0.01, 0.5)), None)


def test_a_floor_is_that_of_a_naive_loop():
    seen = set()
    for course in courses():
        for share in (0.5, 0.9, 0.99):
            floor = course.floor(share)
            assert floor == naive_floor(course.budgets, course.js, course.between_oracles, share)
            seen.add(floor)
    assert seen == {None, 0, 4, 8, 16, 32, 64}


def test_a_floor_never_falls_as_more_of_the_way_is_asked():
    for course in courses():
        floors = [course.floor(share / 20) for share in range(1, 20)]
        known = [math.inf if floor is None else floor for floor in floors]
        assert known == sorted(known)


def test_a_module_as_near_as_two_oracles_needs_no_step():
    assert scaling_law.Course([0, 4], [0.1, 0.05], 0.1, None).floor(0.9) == 0
    assert scaling_law.Course([0, 4], [0.1, 0.05], 0.2, None).floor(0.9) == 0
    assert scaling_law.Course([0, 4], [0.2, 0.2], 0.1, None).floor(0.9) is None


def test_a_law_finds_floors_by_both_rules_and_judges_a_stored_file_by_its_own_curves():
    claim = claim_of("scaling_law", updates=["u", "v"], texts=["a", "b"])
    ways = {"u-a": (0.2, 0.95, 0.97), "u-b": (0.2, 0.5, 0.95), "v-a": (0.95, 0.2, 0.95), "v-b": (0.1, 0.2, 0.3)}
    frames = [
        law_rows(
            study,
            {"second": 0.7, **{f"budget-{n}": level for n, level in zip((0, 25, 50), levels, strict=True)}},
            0.01,
        )
        for study, levels in ways.items()
    ]
    read = {"widths": {"u": 64, "v": 128}, "budgets": [0, 25, 50], "rounds": 1}
    of = given(pd.concat(frames), claim, list(ways), 0.99, **read)
    parts = scaling_law.judge(of)
    rows = {row[0]: row for row in parts.tables[0].rows}
    assert {name: row[4] for name, row in rows.items()} == {"u-a": 25, "u-b": 50, "v-a": 0, "v-b": None}
    assert {name: row[3] for name, row in rows.items()} == {"u-a": 25, "u-b": 50, "v-a": 0, "v-b": None}
    assert [row[1] for row in parts.tables[0].rows] == [64, 64, 128, 128]
    assert (parts.law.n_points, parts.law.n_used) == (4, 3)
    assert parts.verdict == parts.verdict_at_strict_level == "INCONCLUSIVE"
    [curve] = parts.curves
    assert all(line.x == [0.0, 25.0, 50.0] for line in curve.series)
    assert [[line.y[0], line.y[-1]] for line in curve.series] == [[row[5], row[7]] for row in rows.values()]
    stored = StudyResult.model_construct(claim=claim, tables=parts.tables, curves=parts.curves)
    again = scaling_law.again(stored, of.spec, 0.99)
    assert (again.law, again.tables, again.curves) == (parts.law, parts.tables, parts.curves)
    curve.series[0].y[1] = curve.series[0].y[0]
    assert scaling_law.again(stored, of.spec, 0.99).tables[0].rows[0][3] == 50


@pytest.mark.parametrize(
    ("change", "met"),
    [({}, True), ({"js_nats": 0.10}, False), ({"entropy_diff_nats": 0.35}, False), ({"top1": 0.6799}, False), ({"top5": 0.8599}, False)],
)  # fmt: skip
def test_thresholds_are_met_below_or_at_least_as_the_original_has_it(change, met):
    assert meets({"js_nats": 0.09, "top1": 0.68, "top5": 0.86, "entropy_diff_nats": 0.34} | change, THRESHOLDS) is met


def test_a_study_without_rows_is_named():
    with pytest.raises(EvidenceError, match="study 'round2-a' has no rows"):
        arm_means(evidence(ZERO_SHOT), "round2-a", 64)
