import pytest

from abi.report.documents import between
from abi.report.tables import claim_rows, figure, markdown, readme_table, share_words, terminal, with_interval


@pytest.fixture
def result():
    judged = {
        "verdict": "REFUTED", "reason": "(b) no share", "fit": "kd", "level": 0.95, "refutations": [], "secondary": {},
        "tests": [{"id": "0.room", "contrast": "oracle - raw", "metric": "js_nats", "mean": 0.12345,
                   "interval": {"lower": 0.1, "upper": 0.15}, "passed": True}],
        "share": {"placebo": "random", "estimate": 0.0123, "pieces": [[-0.1, 0.1]], "bounded": True},
        "gap_closure": None, "gap_closures": {}, "counts": {"groups": {"domain": 40}, "documents": {"domain": 80}, "seeds": [1, 2, 3]},
        "arms": {"raw": {"draws": 1, "domain": {"js_nats": {"mean": 0.2, "lower": 0.19, "upper": 0.21, "per_seed": {}}}}},
        "published_criteria": {"sentence": "published criteria met by: transferred yes; control arms 3 of 6", "arms": {}},
    }  # fmt: skip
    return {
        "claim": {"id": "a_to_b", "title": "A to B", "statement": "It moves.", "fit": "kd", "kind": "transfer"},
        "scale": "tiny", "meaningless": False, "protocol": 1, "verdict": "REFUTED", "reason": "(b) no share",
        "fits": {"kd": judged}, "perplexity": {"-": {"raw": {"domain": 200.0}}}, "record": {"nib.top5": {"value": 0.87}},
    }  # fmt: skip


def test_figures_have_three_significant_digits():
    assert (figure(0.123456), figure(None)) == ("0.123", "-")


def test_an_interval_stands_beside_its_mean_where_there_is_one():
    assert with_interval({"mean": 0.2, "lower": 0.1, "upper": 0.3}) == "0.2 [0.1, 0.3]"
    assert with_interval({"mean": 0.2, "lower": None, "upper": None}) == "0.2"


def test_a_claims_row_says_published_criteria_verdict_and_why(result):
    [row] = claim_rows([result])
    assert row["published"] == "top-5 0.87"
    assert row["published criteria here"] == "transferred yes; control arms 3 of 6"
    assert (row["verdict"], row["why"]) == ("REFUTED", "(b) no share")


def test_a_meaningless_scale_is_marked_everywhere(result):
    result["meaningless"] = True
    assert "meaningless" in claim_rows([result])[0]["verdict"]
    assert "too small to say anything" in markdown([result], "0 of 1")


def test_the_terminal_text_is_ascii(result):
    assert terminal([result], "0 of 1 claims SUPPORTED").isascii()


def test_the_readme_table_states_share_and_units(result):
    table = readme_table([result])
    assert "0.0123 [-0.1, 0.1] (against random)" in table
    assert "40 groups, 80 documents, 3 seeds" in table
    assert share_words({**result["fits"]["kd"], "share": None}) == "-"


def test_only_what_stands_between_the_markers_is_replaced():
    text = "a\n<!-- x:begin (by y) -->\nold\n<!-- x:end -->\nb\n"
    assert between(text, "x", "new\n") == "a\n<!-- x:begin (by y) -->\nnew\n<!-- x:end -->\nb\n"
