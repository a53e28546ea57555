"""The published record and its judgement: states on hand-made records, the findings it must name, and tampering."""

import ast
import copy
import sys
from pathlib import Path

import pytest

from abi.audit.record.arithmetic import agrees, binomial_quantile, follows, least_squares, r_squared, whole_count
from abi.audit.record.checks import Checks
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, NO_EVIDENCE, STATES, VACUOUS
from abi.audit.record.documents import judge_document, judge_documents, module_parameters
from abi.audit.record.judgement import FILES, items_of, judge, judge_file, load
from abi.audit.record.page import to_markdown, to_text
from abi.audit.record.reconstruction import FILE, original_lines
from abi.base.errors import ConfigError, DataError
from abi.judge.published import Entry, Record, figures_of

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("abi.base.errors", "abi.base.files", "abi.base.files", "abi.judge.published")
RECORD = ROOT / "config" / "record"
COUNTS = {MATCH: 784, CONTRADICTED: 95, NO_EVIDENCE: 43, INCONSISTENT: 17, VACUOUS: 20}
BLOCK = {"mean_js": 0.05, "mean_top1": 0.8, "mean_top5": 0.9, "mean_entropy_diff": 0.2, "pass": True}
ENTRY = {
    "claim": "c",
    "kind": "figure",
    "metric": "m",
    "value": 0.87,
    "threshold": 0.86,
    "comparator": ">=",
    "holds": True,
    "source_doc": "README",
    "result_file": "mini.json",
    "json_path": "a/top5",
    "json_value": 0.8701,
    "agrees": False,
    "note": None,
}


@pytest.fixture(scope="module")
def published():
    return load(RECORD)


@pytest.fixture(scope="module")
def judgement(published):
    return judge(published)


def mini(**changes):
    entry = Entry(**ENTRY | changes)
    files = {"mini.json": {"a": {"top5": 0.8701}, "none": None}}
    return judge_document(Record(Path("."), {"e": entry}, {}, {}, files, {}), "e", entry)


def states(items, *ids):
    return {item.state for item in items if item.id.split("#")[-1] in ids}


# arithmetic


@pytest.mark.parametrize(
    ("stated", "found", "same"),
    [
        (0.87, 0.8701, True),
        (0.97, 0.0341, False),
        (65, 65.3, True),
        (22.0, 22.013, True),
        (25, 24, False),
        (True, 1, False),
        ([1], [1], True),
    ],
)
def test_a_document_agrees_when_the_file_rounds_to_it(stated, found, same):
    assert agrees(stated, found) is same


def test_a_figure_follows_within_what_printed_digits_allow():
    assert follows(304.26, lambda r, z, o: 100 * (r - z) / (r - o), (35.22, 25.61, 32.06))
    assert not follows(314.26, lambda r, z, o: 100 * (r - z) / (r - o), (35.22, 25.61, 32.06))


def test_shares_are_whole_counts():
    assert whole_count(0.8508, 295)
    assert not whole_count(0.8509, 295)


def test_least_squares_recovers_a_known_law():
    rows = [[1.0, x, x * x] for x in (0.0, 1.0, 2.0, 4.0)]
    y = [2 + 3 * x - 0.5 * x * x for x in (0.0, 1.0, 2.0, 4.0)]
    assert least_squares(rows, y) == pytest.approx([2, 3, -0.5])
    assert r_squared(rows, y) == pytest.approx(1)


def test_binomial_quantile_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for n, p, level in ((60, 0.15, 0.025), (180, 0.15, 0.975), (180, 1 / 12, 0.025)):
        assert binomial_quantile(n, p, level) == stats.binom.ppf(level, n, p)


def test_module_parameters_of_known_modules():
    assert module_parameters(1024, 256, 1024) == 1_050_881
    assert module_parameters(6144, 4096, 1024, taps=6) == 163_627_009


# documents: truth by construction


def test_document_that_rounds_its_file_matches():
    assert mini().state == MATCH


def test_agreement_noted_by_hand_is_not_trusted():
    assert mini(agrees=True, value=0.89).state == CONTRADICTED


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"value": 0.97}, CONTRADICTED),
        ({"value": 0.85, "holds": True}, INCONSISTENT),
        ({"json_value": 0.8711}, INCONSISTENT),
        ({"json_path": "none", "json_value": None}, CONTRADICTED),
        ({"result_file": None, "json_path": None, "json_value": None}, NO_EVIDENCE),
        ({"json_path": "gone", "json_value": None}, NO_EVIDENCE),
        ({"result_file": None, "json_path": None, "json_value": 0.871}, NO_EVIDENCE),
        ({"result_file": None, "json_path": None, "json_value": 0.5}, CONTRADICTED),
        ({"result_file": None, "json_path": None, "json_value": "no result file"}, NO_EVIDENCE),
        ({"result_file": None, "json_path": None, "json_value": 0.8, "source_doc": "PROOF vs README"}, CONTRADICTED),
    ],
)
def test_state_of_a_hand_made_document(changes, state):
    assert mini(**changes).state == state


def test_a_fact_found_by_reading_code_says_so():
    item = mini(
        kind="definition",
        value=True,
        json_value=False,
        result_file=None,
        json_path=None,
        note="N",
        threshold=None,
        holds=None,
    )
    assert (item.state, item.basis) == (CONTRADICTED, "by hand")
    assert "by hand" in item.reason
    assert "(N)" in item.reason


# files: truth by construction


def test_pass_flags_follow_from_figures():
    checks = Checks("c", "mini.json", {"good": BLOCK, "bad": BLOCK | {"mean_top5": 0.85}})
    checks.flags(n=20)
    assert [(item.state, item.id) for item in checks.items] == [
        (INCONSISTENT, "mini.json#bad/pass"),
        (MATCH, "mini.json#flags "),
    ]


def test_a_top1_share_that_is_no_count_is_named():
    checks = Checks("c", "mini.json", {"b": BLOCK | {"mean_top1": 0.81}})
    checks.flags(n=10)
    assert checks.items[0].id == "mini.json#b/mean_top1"


def test_what_no_share_or_divergence_can_be_is_named():
    checks = Checks(
        "c", "mini.json", {"mean_js": 0.7, "mean_top5": 1.2, "ppl": 0.9, "cos_sim": -1.5, "delta_ppl": -3.0}
    )
    checks.ranges()
    wrong = [item.id.split("#")[1] for item in checks.items if item.state == INCONSISTENT]
    assert wrong == ["mean_js", "mean_top5", "ppl", "cos_sim"]


def test_an_oracle_worse_than_the_module_makes_efficacy_vacuous(published):
    data = dict(published.files["cross_arch_t5_succession_results.json"])
    name = "cross_arch_t5_succession_results.json"
    assert VACUOUS in {item.state for item in judge_file(name, data)}
    sound = data | {"ppl_cold_start_oracle": 20.0, "transfer_efficacy_pct": 63.1}
    assert {item.state for item in judge_file(name, sound)} == {MATCH, NO_EVIDENCE}
    assert INCONSISTENT in states(judge_file(name, sound | {"transfer_efficacy_pct": 64.1}), "transfer_efficacy_pct")


def test_an_honest_claim_1_file_is_consistent(published):
    data = copy.deepcopy(published.files[FILE])
    data["registry"]["phase4_steps"] = 6000
    top5 = {"7777": 0.8644, "1111": 0.8746, "2222": 0.8651, "3333": 0.8712, "4444": 0.8678}
    for seed, value in top5.items():
        (data["nib_official"] if seed == "7777" else data["nib_extended"][seed]).update(mean_top5=value, mean_ent=0.2)
        data["nib_extended"].get(seed, data["nib_official"])["pass"] = True
    data["nib_combined"] |= {
        "per_rng_mean_top5": top5,
        "mean_top5": 0.8686,
        "n_positions": 1475,
        "std_top5": 0.0043,
        "se_top5": 0.0001,
    }
    data["nib_combined"] |= {"ci_95_low": 0.8633, "ci_95_high": 0.874, "ci_margin_vs_0860": 0.0033}
    data |= {"architecture_confirmed": True, "delta_top5_official_vs_45AP": 0.0041}
    bad = {item.id.split("#")[1] for item in judge_file(FILE, data) if item.state != MATCH}
    assert bad <= {"nib_combined/ci_95_low", "nib_combined/ci_95_high"}  # 1.96 se is no interval of five seeds
    assert any(
        item.id.endswith("#nib_combined/std_top5") for item in judge_file(FILE, published.files[FILE]) if item.main
    )


def test_the_stored_fit_is_refitted(published):
    name = "calibration_scaling_law_b_results.json"
    data = copy.deepcopy(published.files[name])
    assert states(judge_file(name, data), "scaling_law_fit/alpha") == {MATCH}
    data["scaling_law_fit"]["alpha"] = 8.7891
    assert states(judge_file(name, data), "scaling_law_fit/alpha") == {INCONSISTENT}


def test_a_file_without_a_figure_is_a_data_error(published):
    data = dict(published.files["cross_lineage_results.json"])
    del data["ppl_gpt2_native"]
    with pytest.raises(DataError, match=r"cross_lineage_results\.json"):
        judge_file("cross_lineage_results.json", data)


# the judgement of the shipped record


def test_counts_of_every_state(judgement):
    assert judgement.counts() == COUNTS
    assert sum(sum(judgement.counts(claim).values()) for claim in judgement.claims) == len(judgement.items)


def test_every_item_has_a_state_and_one_line_of_reason(judgement):
    for item in judgement.items:
        assert item.state in STATES
        assert item.reason.endswith(".")
        assert "\n" not in item.reason
    assert len({(item.id, item.claim) for item in judgement.items}) == len(judgement.items)


def test_every_document_and_every_file_is_judged(published, judgement):
    assert {item.id for item in judgement.items if item.kind == "document"} == set(published.entries)
    assert {item.id.split("#")[0] for item in judgement.items if "#" in item.id} == set(published.files) == set(FILES)


@pytest.mark.parametrize(
    ("claim", "state", "words"),
    [
        ("pythia_to_gpt2", CONTRADICTED, ("91.1", "88.2", "87.96", "91.59", "exchanged")),
        ("calibration_scaling", CONTRADICTED, ("0.97", "0.0341")),
        ("succession", CONTRADICTED, ("validated", "PARTIAL", "9 of 10")),
        ("t5_same_backbone", CONTRADICTED, ("architecture_confirmed", "false")),
        ("t5_same_backbone", INCONSISTENT, ("25 'positions'", "chunks", "1475")),
        ("t5_same_backbone", INCONSISTENT, ("standard deviation 0.0316", "five seeds")),
        ("t5_same_backbone", INCONSISTENT, ("interval [0.8425, 0.8673]", "five seeds")),
        (
            "record",
            NO_EVIDENCE,
            ("no result file", "gpt2_to_qwen.procrustes_cos_after", "reproduce_abi.R1.efficacy_pct"),
        ),
        ("t5_same_backbone", VACUOUS, ("'25 checks'", "24 comparisons", "31 lines", "architecture_confirmed")),
        ("nib_full", VACUOUS, ("L4c cannot fail",)),
        ("t5_update", VACUOUS, ("304.26", "32.06", "171 %")),
        ("procrustes_full_nib", INCONSISTENT, ("180 trials", "6.67", "fails")),
    ],
)
def test_must_name(judgement, claim, state, words):
    main = [item.reason for item in judgement.items if item.main and (item.claim, item.state) == (claim, state)]
    assert any(all(word in reason for word in words) for reason in main), main


def test_only_these_five_differ_from_the_column_filled_in_by_hand(published, judgement):
    ours = {item.id: item.state == MATCH for item in judgement.items if item.kind == "document"}
    differ = {name for name, entry in published.entries.items() if ours[name] != entry.agrees}
    pending = {f"exp_{name}.status" for name in ("qwen_1p5b", "deepseek_1p3b", "qwen_7b")}
    assert differ == pending | {"t5_same_backbone.kl_vs_corrmse_top5_gap", "t5_same_backbone.kl_loss_reduction_pct"}


def test_the_originals_31_lines(judgement):
    lines = [item for item in judgement.items if item.kind == "verifier"]
    assert [item.id for item in lines] == [*(f"line {i}" for i in range(1, 32)), "line 31+"]
    assert [item.state for item in lines] == [MATCH] * 28 + [VACUOUS] * 4
    assert all("cannot fail" in item.reason for item in lines[28:31])


def test_the_originals_lines_ignore_what_they_do_not_read(published):
    data = copy.deepcopy(published.files[FILE])
    before = [item.state for item in original_lines(data)]
    data |= {"architecture_confirmed": True, "elapsed_min": 1.0, "model": "other"}
    data["nib_extended"]["1111"]["mean_js"] = 0.5
    data["nib_combined"]["se_top5"] = 0.9
    assert [item.state for item in original_lines(data)] == before
    data["nib_official"]["mean_top5"] = 0.86
    assert [item.state for item in original_lines(data)] != before


def test_figures_of_a_claim(published):
    figures = figures_of("calibration_scaling", RECORD)
    assert figures["r2"].value == 0.97
    assert figures["r2"].file_value == 0.0341
    item = items_of(published, judge_documents(published), "calibration_scaling")["r2"]
    assert item.state == CONTRADICTED
    assert "0.0341" in item.reason
    assert figures["r2"].document.startswith("README")


def test_an_unknown_claim_lists_the_valid_ones():
    with pytest.raises(ConfigError, match=r"did you mean 't5_to_gpt2'\?.*gpt2_to_qwen"):
        figures_of("t5_to_gtp2", RECORD)


def test_text_and_page_are_ascii_and_narrow(judgement):
    text = to_text(judgement)
    assert text.isascii()
    assert to_markdown(judgement).isascii()
    assert [line for line in text.splitlines()[:-1] if len(line) > 80] == []


def test_page_holds_every_item(judgement):
    page = to_markdown(judgement)
    assert sum(line.startswith("| `") for line in page.splitlines()) == len(judgement.items)


def test_package_imports_only_the_standard_library():
    paths = list((ROOT / "abi" / "audit" / "record").glob("*.py"))
    assert len(paths) > 8
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert (
                    top in sys.stdlib_module_names or name == "abi" or name.startswith(("abi.audit.record", *LIGHT))
                ), (path, name)
