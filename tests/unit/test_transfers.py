import csv
import io

import pytest

from abi.report.figures.closures import transfer_figure
from abi.report.transfers import COLUMNS, advice, best_placebo, by_pair, lead, markdown, rows


def closure(value, width=0.02, *, bounded=True):
    pieces = [[value - width, value + width]] if bounded else [[None, value], [value + 1, None]]
    return {"estimate": value, "pieces": pieces, "bounded": bounded, "level": 0.95}


def contrast(against, mean, width=0.001):
    return {
        "id": f"4.attribution.bits_per_byte.{against}", "metric": "bits_per_byte", "mean": mean,
        "interval": {"lower": mean - width, "upper": mean + width},
    }  # fmt: skip


def result(regime, closures, *, claim="gpt2_to_qwen", leads=(0.004, 0.006), verdict="INCONCLUSIVE", variants=()):
    fit = {"oracle-kd": "kd", "few-shot": "ce", "general-only": "matched"}[regime]
    about = {"id": claim if regime == "oracle-kd" else f"{claim}_{regime}", "regime": regime, "fit": fit}
    about |= {"source": "gpt2", "target": "qwen", "variants": list(variants)}
    about |= {} if regime == "oracle-kd" else {"of": claim}
    judged = {
        "verdict": verdict, "gap_closures": {arm: closure(value) for arm, value in closures.items()},
        "tests": [contrast("random", leads[0]), contrast("permuted", leads[1]), contrast("linear", -1.0)],
        "published_criteria": {"sentence": "published criteria met by: transferred no; control arms 0 of 6"},
    }  # fmt: skip
    fits = [fit, *variants, *(() if regime == "few-shot" else ("closed-form",))]
    training = [{"fit": fit, "arm": arm, "steps": 300, "elapsed_s": 2.5} for arm in closures]
    changes = {name: {"text": "written"} if name.endswith("-written") else {"steps": 30} for name in variants}
    return {
        "claim": about, "verdict": verdict, "fits": dict.fromkeys(fits, judged), "training": training,
        "provenance": {"spec": {"budget": {"variants": changes}}},
    }  # fmt: skip


GENERAL = {"transferred": 0.3, "random": 0.25, "permuted": 0.27, "linear": 0.2}
FEW = {"transferred": 0.3, "random": 0.31, "permuted": 0.2, "native": 0.5, "direct": 0.45}


def test_rows_hold_every_fit_and_arm_with_bounds_seconds_and_parent_claim():
    found = rows([result("general-only", GENERAL, variants=["matched-short"])])
    assert {(row["fit"], row["arm"]) for row in found} == {
        (fit, arm) for fit in ("matched", "matched-short", "closed-form") for arm in GENERAL
    }
    [row] = [row for row in found if (row["fit"], row["arm"]) == ("matched", "transferred")]
    assert row["claim"] == "gpt2_to_qwen"
    assert [row[key] for key in ("gap_closure", "lower", "upper")] == pytest.approx([0.3, 0.28, 0.32])
    assert row["seconds"] == 2.5
    assert set(row) == set(COLUMNS)


def test_an_unbounded_set_has_no_ends():
    record = result("few-shot", FEW)
    record["fits"]["ce"]["gap_closures"]["direct"] = closure(0.4, bounded=False)
    [row] = [row for row in rows([record]) if row["arm"] == "direct"]
    assert (row["lower"], row["upper"]) == (None, None)


def test_the_best_placebo_is_the_one_with_most_gap_closed_and_the_lead_is_the_smallest_contrast():
    judged = result("general-only", GENERAL)["fits"]["matched"]
    assert best_placebo(judged) == "permuted"
    assert lead(judged)["id"].endswith("random")


def test_regimes_of_a_pair_stand_together():
    pairs = by_pair([result("oracle-kd", FEW), result("few-shot", FEW), result("general-only", GENERAL)])
    assert list(pairs) == ["gpt2_to_qwen"]
    assert list(pairs["gpt2_to_qwen"]) == ["oracle-kd", "few-shot", "general-only"]


@pytest.mark.parametrize(
    ("leads", "words"),
    [
        ((0.004, 0.006), "0.30 of the oracle's gain, more than its best placebo's 0.27"),
        ((-0.004, 0.006), "less than its best placebo's 0.27"),
        ((0.0004, 0.006), "not shown to be more than its best placebo's 0.27"),
    ],
)
def test_advice_follows_the_interval_of_the_lead(leads, words):
    assert words in advice({"general-only": result("general-only", GENERAL, leads=leads)})


def test_advice_names_what_a_user_would_do_instead():
    assert "train a module there (0.45; transferred 0.30)" in advice({"few-shot": result("few-shot", FEW)})
    moved = {**FEW, "transferred": 0.6}
    assert "move it (0.60; direct 0.45)" in advice({"few-shot": result("few-shot", moved)})


def test_without_room_nothing_is_advised():
    record = result("general-only", {})
    assert "nothing is shown" in advice({"general-only": record})
    assert "| - |" in markdown([record])


def test_the_page_has_a_line_per_pair_and_regime_and_a_ladder_where_there_are_variants():
    page = markdown([result("oracle-kd", FEW), result("general-only", GENERAL, variants=["matched-short"])])
    assert "| `gpt2_to_qwen` | oracle-kd |" in page
    assert "permuted 0.270 [0.250, 0.290] (2.5 s)" in page
    assert "## Ladder of `gpt2_to_qwen`, general-only" in page
    assert "| matched-short |" in page


def test_the_table_and_the_figure_are_the_same_for_the_same_figures(tmp_path):
    found = rows([result("oracle-kd", FEW), result("general-only", GENERAL)])
    for name in ("a.svg", "b.svg"):
        transfer_figure(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = (tmp_path / "a.svg").read_text()
    assert "oracle-kd" in text
    assert "general-only" in text
    assert "few-shot" not in text
    out = io.StringIO()
    csv.DictWriter(out, COLUMNS).writerows(found)
    assert len(out.getvalue().splitlines()) == len(found)


def test_advice_without_domain_text_names_a_lesson_that_the_source_wrote_and_no_other_variant():
    plain = result("general-only", GENERAL, variants=["matched-short"])
    assert "writes" not in advice({"general-only": plain})
    both = result("general-only", GENERAL, variants=["matched-short", "matched-written"])
    both["fits"]["matched-written"] = {
        **both["fits"]["matched"], "gap_closures": {arm: closure(2 * value) for arm, value in GENERAL.items()},
    }  # fmt: skip
    assert advice({"general-only": both}) == (
        "without domain text, move it (0.30 of the oracle's gain, more than its best placebo's 0.27); "
        "on a lesson that its source writes (0.60 of the oracle's gain, more than its best placebo's 0.54)."
    )
