import pytest
from report_facts import plain, typed

from abi.report.figures import svg_of
from abi.report.ngrams import AHEAD, NOT_YET, Rival, measured, shown
from abi.report.transfers import COLUMNS, advice, best_placebo, by_pair, drawing, lead, page, rows, rungs

FILES = {
    "oracle-kd": "gpt2_to_gpt2_medium",
    "few-shot": "gpt2_to_gpt2_medium_few_shot",
    "general-only": "gpt2_to_gpt2_medium_general_only",
    "zero-text": "gpt2_to_gpt2_medium_zero_text",
}


def closure(value, width=0.02, *, bounded=True):
    pieces = [[value - width, value + width]] if bounded else [[None, value], [value + 1, None]]
    return {"estimate": value, "pieces": pieces, "bounded": bounded, "level": 0.95}


def contrast(test, against, mean, width=0.001):
    interval = {**test["interval"], "mean": mean, "lower": mean - width, "upper": mean + width}
    about = {"id": f"4.attribution.bits_per_byte.{against}", "metric": "bits_per_byte", "mean": mean}
    return {**test, **about, "interval": interval}


def document(regime, closures, *, leads=(0.004, 0.006), verdict="INCONCLUSIVE", variants=()):
    """Return a result of the reference with other gap closures, leads over the placebos and variants, as JSON values."""
    found = plain()[FILES[regime]]
    fit, spec = found["claim"]["fit"], found["provenance"]["spec"]
    own, test = found["fits"][fit], next(t for t in found["fits"][fit]["tests"] if t["interval"])
    judged = {
        **own,
        "verdict": verdict,
        "gap_closures": {arm: closure(value) for arm, value in closures.items()},
        "tests": [
            contrast(test, "random", leads[0]),
            contrast(test, "permuted", leads[1]),
            contrast(test, "linear", -1.0),
        ],
    }
    fits = [fit, *variants, *(("closed-form",) if regime in ("oracle-kd", "general-only") else ())]
    training = [{"fit": fit, "arm": arm, "steps": 300, "n_trainable": 1, "elapsed_s": 2.5} for arm in closures]
    changes = {name: {"text": "written"} if name.endswith("-written") else {"steps": 30} for name in variants}
    if spec["budget"] is not None:  # nothing is fitted in zero-text
        spec = {**spec, "budget": {**spec["budget"], "variants": changes}}
    return {
        **found,
        "claim": {**found["claim"], "variants": list(variants)},
        "verdict": verdict,
        "fits": dict.fromkeys(fits, judged),
        "training": training,
        "provenance": {**found["provenance"], "spec": spec},
    }


def result(regime, closures, **changes):
    return typed(document(regime, closures, **changes))


def advised(found):
    return advice([found])["gpt2_to_gpt2_medium"]


GENERAL = {"transferred": 0.3, "random": 0.25, "permuted": 0.27, "linear": 0.2}
FEW = {"transferred": 0.3, "random": 0.31, "permuted": 0.2, "native": 0.5, "direct": 0.45}


def test_rows_hold_every_fit_and_arm_with_bounds_seconds_and_parent_claim():
    found = rows([result("general-only", GENERAL, variants=["matched-short"])])
    assert {(row.fit, row.arm) for row in found} == {
        (fit, arm) for fit in ("matched", "matched-short", "closed-form") for arm in GENERAL
    }
    [row] = [row for row in found if (row.fit, row.arm) == ("matched", "transferred")]
    assert row.claim == "gpt2_to_gpt2_medium"
    assert [row.gap_closure, row.lower, row.upper] == pytest.approx([0.3, 0.28, 0.32])
    assert row.seconds == 2.5
    assert row._fields == (*COLUMNS, "decides")
    assert [row.fit for row in found if row.decides] == ["matched"] * len(GENERAL)


def test_an_unbounded_set_has_no_ends():
    found = document("few-shot", FEW)
    found["fits"]["ce"]["gap_closures"]["direct"] = closure(0.4, bounded=False)
    [row] = [row for row in rows([typed(found)]) if row.arm == "direct"]
    assert (row.lower, row.upper) == (None, None)


def test_the_best_placebo_is_the_one_with_most_gap_closed_and_the_lead_is_the_smallest_contrast():
    judged = result("general-only", GENERAL).deciding
    assert best_placebo(judged) == "permuted"
    assert lead(judged).id.endswith("random")


def test_regimes_of_a_pair_stand_together():
    pairs = by_pair([result("oracle-kd", FEW), result("few-shot", FEW), result("general-only", GENERAL)])
    assert list(pairs) == ["gpt2_to_gpt2_medium"]
    assert list(pairs["gpt2_to_gpt2_medium"]) == ["oracle-kd", "few-shot", "general-only"]


@pytest.mark.parametrize(
    ("leads", "words"),
    [
        ((0.004, 0.006), "0.30 of the oracle's gain, more than its best placebo's 0.27"),
        ((-0.004, 0.006), "less than its best placebo's 0.27"),
        ((0.0004, 0.006), "not shown to be more than its best placebo's 0.27"),
    ],
)
def test_advice_follows_the_interval_of_the_lead(leads, words):
    assert words in advised(result("general-only", GENERAL, leads=leads))


def test_advice_names_what_a_user_would_do_instead():
    assert "train a module there (0.45; transferred 0.30)" in advised(result("few-shot", FEW))
    moved = {**FEW, "transferred": 0.6}
    assert "move it (0.60; direct 0.45)" in advised(result("few-shot", moved))


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (None, "without any text, place a portable module (0.30"),
        ((-0.2, -0.1), "mix in an n-gram model of the source's text (1.40 of the oracle's gain) rather than place a"),
        ((-0.2, 0.1), "without any text, place a portable module (0.30"),
    ],
)
def test_an_n_gram_model_is_advised_where_it_is_shown_to_be_better_than_a_portable_module(ahead, words):
    found = document("zero-text", GENERAL | ({} if ahead is None else {"n-gram": 1.4}))
    fit = found["fits"]["portable"]
    if ahead is not None:
        told = contrast(fit["tests"][0], "n-gram", sum(ahead) / 2, (ahead[1] - ahead[0]) / 2) | {"id": AHEAD}
        fit["tests"] = [*fit["tests"], told]
        fit["arms"]["n-gram"] = fit["arms"]["raw"]
    judged = typed(found)
    assert words in advised(judged)
    assert [(row.closure_ngram, row.harm_ngram) for row in measured([judged])] == ([(1.4, 0.0)] if ahead else [])
    rival = Rival(measured([judged]))
    assert ahead is None or rival.words == (", but an n-gram model does better" if ahead[1] < 0 else "")


def test_without_room_nothing_is_advised():
    record = result("general-only", {})
    assert "nothing is shown" in advised(record)
    assert "| - |" in page([record])


def test_rungs_stand_one_by_one_with_arms_and_leads():
    found = document("few-shot", FEW)
    about = {key: found["curves"][0][key] for key in ("title", "x_label", "y_label", "caption", "log_x")}
    ends = {"lower": [-0.3, 0.1], "upper": [-0.1, 0.3]}
    series = (
        [{"name": "direct", "x": [8.0, 32.0], "y": [3.0, 2.5]}],
        [{"name": "transferred - direct", "x": [8.0, 32.0], "y": [-0.2, 0.2], **ends}],
    )
    ids = ("windows", "windows-lead")
    found["curves"] = [{**about, "id": id, "series": lines} for id, lines in zip(ids, series, strict=True)]
    [(name, table)] = rungs([typed(found), result("general-only", GENERAL)]).items()
    assert name == "`gpt2_to_gpt2_medium`, few-shot"
    assert table.heads == ["bits per byte", "8 windows", "32 windows"]
    assert table.rows == [
        ["direct", "3.0000", "2.5000"],
        ["transferred - direct", "-0.2000 [-0.3000, -0.1000]", "0.2000 [0.1000, 0.3000]"],
    ]
    assert "## Rungs of `gpt2_to_gpt2_medium`, few-shot" in page([typed(found)])
    assert "Rungs of" not in page([result("general-only", GENERAL)])


def test_the_page_has_a_line_per_pair_and_regime_and_a_ladder_where_there_are_variants():
    text = page([result("oracle-kd", FEW), result("general-only", GENERAL, variants=["matched-short"])])
    assert "| `gpt2_to_gpt2_medium` | oracle-kd |" in text
    assert "permuted 0.270 [0.250, 0.290] (2.5 s)" in text
    assert "## Ladder of `gpt2_to_gpt2_medium`, general-only" in text
    assert "| matched-short |" in text


def test_an_alignment_that_predicts_no_better_than_the_mean_is_said_so():
    facts = {"n_rows": 9.0, "effective_rank": 3.0, "cosine_before": 0.0, "cosine_held_out": 0.5}
    made = [{**facts, "rotation": "aligned", "residual": 1.0}, {**facts, "rotation": "home", "residual": 0.9}]
    text = page([typed(document("oracle-kd", FEW) | {"alignments": made})])
    [bad, good] = [line for line in text.splitlines() if "| 0.500 |" in line or "| 0.5 |" in line]
    assert "the source's module" in bad
    assert "no better than the mean" in bad
    assert "no better than the mean" not in good


def test_the_figure_is_the_same_for_the_same_figures_and_shows_the_regimes_there_are():
    results = [result("oracle-kd", FEW), result("general-only", GENERAL)]
    text = svg_of(drawing(results))
    assert text == svg_of(drawing(results))
    assert "oracle-kd" in text
    assert "general-only" in text
    assert "few-shot" not in text
    assert drawing(results).rows == [row[:-1] for row in rows(results) if row.decides]


def test_advice_without_domain_text_names_a_lesson_that_the_source_wrote_and_no_other_variant():
    plain = result("general-only", GENERAL, variants=["matched-short"])
    assert "writes" not in advised(plain)
    both = document("general-only", GENERAL, variants=["matched-short", "matched-written"])
    twice = {arm: closure(2 * value) for arm, value in GENERAL.items()}
    both["fits"]["matched-written"] = {**both["fits"]["matched"], "gap_closures": twice}
    assert advised(typed(both)) == (
        "without domain text, it is not shown that moving is worth it (moved 0.30 of the oracle's gain, more than its "
        "best placebo's 0.27: INCONCLUSIVE); "
        "on a lesson that its source writes (0.60 of the oracle's gain, more than its best placebo's 0.54); "
        "where it can be run, the source with its own module does better, on average, in `general-only`."
    )


def test_a_run_without_the_n_gram_arm_shows_a_sentence_and_no_empty_table():
    assert shown([]) == NOT_YET
