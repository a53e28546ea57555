import re

import pytest
from report_facts import plain, typed, whole

from abi.base.catalogue import ARMS
from abi.base.errors import DataError
from abi.base.tables import csv_text
from abi.judge.fits import Figure
from abi.plan.measured import REFERENCE, read_measured
from abi.report import quoted
from abi.report.effort import effort_of_targets
from abi.report.quoted import Part, refreshed, verdict_table, why
from abi.report.render import Table, figure, markdown, terminal
from abi.report.study_words import share_words, with_interval
from abi.report.verdicts import claims_table, summary_pages
from abi.report.words import in_order


def document(**changes):
    """Return a small result of one fit as JSON values."""
    found = plain()["t5_to_gpt2"]
    claim = {**found["claim"], "id": "a_to_b", "title": "A to B", "statement": "It moves.", "variants": []}
    judged = {
        **found["fits"]["kd"],
        "verdict": "REFUTED",
        "reason": "(b) no share",
        "share": {"placebo": "random", "estimate": 0.0123, "pieces": [[-0.1, 0.1]], "bounded": True, "level": 0.95},
        "counts": {
            **found["fits"]["kd"]["counts"],
            "groups": {"domain": 40},
            "documents": {"domain": 80},
            "seeds": [1, 2, 3],
        },
    }
    judged["published_criteria"] = {
        **judged["published_criteria"],
        "sentence": "published criteria met by: transferred yes; control arms 3 of 6",
    }
    record = {"nib.top5": {**found["record"]["nib.top5"], "value": 0.87}}
    fits = {"kd": judged}
    return {
        **found,
        "claim": claim,
        "verdict": "REFUTED",
        "reason": "(b) no share",
        "fits": fits,
        "record": record,
        **changes,
    }


@pytest.fixture
def result():
    return typed(document())


def interval(lower, upper):
    return Figure(mean=0.2, lower=lower, upper=upper, per_seed={}, msd=None, mss=None, mse=None)


def test_figures_have_three_significant_digits():
    assert (figure(0.123456), figure(None)) == ("0.123", "-")


def test_a_table_is_the_same_in_markdown_and_on_a_terminal():
    table = Table(["arm", "JS"], [["raw", 0.123456], ["a|b <c>", None], ["yes?", True], ["many", 12345]])
    assert markdown(table).splitlines() == [
        "| arm | JS |",
        "| --- | --- |",
        "| raw | 0.123 |",
        "| a/b &lt;c> | - |",
        "| yes? | yes |",
        "| many | 12345 |",
    ]
    assert terminal(table)[1] == "  raw      0.123"
    assert csv_text(table.heads, table.rows[1:3]) == "arm,JS\na|b <c>,\nyes?,True\n"
    assert table.numeric == [False, False]
    assert Table(["x", "y"], [["-", "0.2 [0.1, 0.3]"]]).numeric == [True, True]
    assert Table(["x", "y"], [["-", 1]]).filled().heads == ["y"]


def test_an_interval_stands_beside_its_mean_where_there_is_one():
    assert with_interval(interval(0.1, 0.3)) == "0.2 [0.1, 0.3]"
    assert with_interval(interval(None, None)) == "0.2"


def test_arms_stand_in_the_order_of_the_catalogue_and_unknown_ones_last():
    assert in_order(["zebra", *reversed(ARMS), "apple"]) == [*ARMS, "apple", "zebra"]


def test_a_claims_row_says_published_criteria_verdict_and_why(result):
    [row] = claims_table([result]).rows
    named = dict(zip(claims_table([result]).heads, row, strict=True))
    assert named["published"] == "top-5 0.87"
    assert named["published criteria here"] == "transferred yes; control arms 3 of 6"
    assert (named["verdict"], named["why"]) == ("REFUTED", "(b) no share")


def test_a_meaningless_scale_is_marked_everywhere():
    result = typed(document(meaningless=True))
    assert "meaningless" in claims_table([result]).rows[0][4]
    assert "verdicts are no evidence" in summary_pages([result], "0 of 1")[".md"]


def test_the_terminal_text_is_ascii_and_says_in_sentences_what_came_out(result):
    text = summary_pages(
        [result], "0 of 1 claims are SUPPORTED; 0 with the wider intervals that a count of 1 needs (level 0.99)"
    )[".txt"]
    assert text.isascii()
    assert text.splitlines() == [
        "a_to_b: REFUTED",
        "    A to B. Published: top-5 0.87.",
        "    (b) no share.",
        "",
        "0 of 1 claims are SUPPORTED.",
    ]


def test_the_terminal_text_names_no_test_and_no_metric():
    text = summary_pages(whole(), "6 of 18 claims SUPPORTED")[".txt"]
    assert "The moved net keeps less than 50 % of what a net of the target's own adds over a random net." in text
    assert not re.search(r"\b[a-g]\.[a-z]+\.|_nats|bits_per", text)
    assert max(map(len, text.splitlines())) <= 110


def test_the_readme_table_states_share_and_units(result):
    row = verdict_table([result]).splitlines()[-1]
    assert "0.0123 [-0.1, 0.1] (against random)" in row
    assert "40 groups, 80 documents, 3 seeds" in row
    assert share_words(result.deciding.model_copy(update={"share": None})) == "-"
    unbounded = result.deciding.share.model_copy(update={"bounded": False})
    words = share_words(result.deciding.model_copy(update={"share": unbounded}))
    assert words == "no gain in js_nats is shown"


def test_no_number_is_missing_in_the_reasons_of_the_readme():
    results = whole()
    ladders = [result for result in results if result.claim.kind in {"ladder", "aggregate"}]
    assert [why(ladder).count(rung.id) for ladder in ladders for rung in ladder.rungs] == [1] * 6
    assert not [line for line in verdict_table(results).splitlines() if "than - " in line or "least - " in line]


def test_a_reason_is_told_with_the_numbers_that_the_result_was_judged_by():
    found = plain()["gpt2_to_gpt2_medium"]
    protocol = found["provenance"]["spec"]["protocol"]
    changed = {**protocol, "criteria": {**protocol["criteria"], "half": 0.25}}
    spec = {**found["provenance"]["spec"], "protocol": changed}
    assert "less than 0.25 of" in why(typed({**found, "provenance": {**found["provenance"], "spec": spec}}))


def test_a_run_whose_code_was_not_recorded_is_not_said_to_be_carried_over(monkeypatch):
    monkeypatch.setattr(quoted, "codes_changed", lambda scale: None)
    said = quoted.code_words().splitlines()
    assert said
    assert all(line.endswith("which code made it was not recorded.") for line in said)


TEXT = "a\n<!-- x:begin (by y) -->\nold 1.5\n<!-- x:end -->\nb\n<!-- z:begin -->\n2\n<!-- z:end -->\n"
PARTS = [Part("PAGE.md", "x", "new 1.5\n"), Part("PAGE.md", "z", "2\n")]
DUE = TEXT.replace("old", "new")


def test_only_what_stands_between_the_markers_is_replaced():
    assert refreshed(TEXT, PARTS) == DUE
    assert refreshed(DUE, PARTS) == DUE


def test_a_missing_number_is_seen():
    assert refreshed(DUE.replace("1.5", ""), PARTS) == DUE
    assert refreshed(DUE.replace("new 1.5\n", ""), PARTS) == DUE


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("<!-- x:begin (by y) -->\n", ""),
        lambda text: text.replace("<!-- x:end -->\n", ""),
        lambda text: text.partition("<!-- x:begin")[0] + text.partition("<!-- x:end -->\n")[2],
        lambda text: text.replace("<!-- x:begin (by y) -->", "<!-- x:begin (by y) -"),
        lambda text: text + "<!-- x:begin -->\n<!-- x:end -->\n",
        lambda text: text.replace("x:begin (by y)", "x:BEGIN").replace("x:end", "x:begin").replace("x:BEGIN", "x:end"),
        lambda text: text.replace("z:begin", "zz:begin"),
        lambda text: text + "<!-- other:begin -->\n",
    ],
)
def test_a_missing_or_damaged_marker_is_one_sentence_that_names_the_document(damage, refuses):
    assert damage(DUE) != DUE
    with refuses("PAGE.md: .*(must stand there once each|nothing writes the part)", DataError):
        refreshed(damage(DUE), PARTS)


def test_what_a_claim_took_is_that_of_its_batches_and_of_its_verdict():
    [result] = [one for one in whole() if one.claim.id == "t5_to_gpt2"]
    jobs = read_measured(REFERENCE / "tiny" / "jobs.csv")
    [row] = effort_of_targets([result], jobs, "tiny").rows
    named = [job for job in jobs if job.wildcards.startswith(("t5_to_gpt2.", "cross_arch_enc_dec_nib_results"))]
    rates = [job for job in jobs if job.wildcards == "t5_to_gpt2"]
    assert row[2] == len(named) + len(rates) == 9
    assert row[3] == pytest.approx(sum(job.seconds for job in [*named, *rates]) / 60)
