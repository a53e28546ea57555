"""`abi verify` on results whose truth is known: what a file says about itself, and the command."""

import copy
import json
import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from evidence_rows import ROOT
from made_results import (
    CLAIM,
    FILE,
    HEAVY,
    WORKFLOW,
    build,
    edit,
    kinds,
    numbers,
    put,
    reference,
    regenerate_summary,
    run,
    spine,
)
from sweeps import first

from abi.audit.results import rejudge
from abi.audit.results import verify as results
from abi.audit.results.checkout import AGAIN
from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.relations import check_result
from abi.base.errors import DataError
from abi.base.typed import seal_of
from abi.cli import main
from abi.cli import verify as verifying
from abi.judge import intervals as equivalence
from abi.judge.fits import Ratio
from abi.judge.published import figures_of
from abi.judge.results import result_of


def verify(claims=(), **options):
    return results.verify(claims, render=verifying.pages, **options)


# honest results


def test_an_honest_run_has_no_finding(here):
    found = verify()
    assert found.findings == []
    assert found.code() == 0
    assert {file.result.verdict for file in found.scales[0].results.values()} == {"SUPPORTED"}
    assert found.text().endswith("results: intact; 2 result files")


def of_version(document, version, *, told=None):
    """Make a result or a page one of another version of the protocol. Args: told: what the file itself says then."""
    spec = document["provenance"]["spec"]
    spec["protocol"] = version if isinstance(spec["protocol"], int) else {**spec["protocol"], "protocol": version}
    if "protocol" in document:
        document["protocol"] = version if told is None else told


def test_results_of_another_version_are_said_to_be_so_and_not_tampered(here):
    for path in Path("results/tiny").glob("*.json"):
        edit(path, lambda document: of_version(document, 1))
    for path in Path("results/tiny").glob("*.json"):
        regenerate_summary(path)
    for found in (verify(), verify(recompute=True)):
        told = [f for f in found.findings if f.leaf.endswith("protocol") and "judged by version" in f.sentence]
        assert {f.file for f in told} >= {FILE, "results/tiny/summary.json"}
        assert {f.sentence for f in told} == {
            "was judged by version 1 of the protocol, and version 2 is in force: its figures are not checked; rebuild it "
            "with `snakemake`, or check it with the code that made it"
        }
        assert (found.code(), {f.kind for f in found.findings} - {"NOTE"}) == (0, {"STALE"})


@pytest.mark.parametrize("spec", [1, 2])
def test_a_result_that_names_two_versions_is_tampered(here, spec):
    edit(FILE, lambda document: of_version(document, spec, told=3 - spec))
    regenerate_summary(FILE)
    assert ("TAMPERED", "protocol") in [(f.kind, f.leaf) for f in verify().findings]


@pytest.mark.parametrize(
    ("levels", "groups", "word"),
    first(
        1,
        [
            ({"transferred": 0.55, "candidate": 0.5}, 32, "REFUTED"),
            ({"home": 0.5, "random": 0.49, "permuted": 0.49, "transferred": 0.9}, 32, "INCONCLUSIVE"),
            ({"oracle": 0.0, "reference": 0.0}, 32, "VACUOUS"),
            ({}, 20, "INCONCLUSIVE"),
        ],
    ),
)
def test_every_verdict_word_follows_from_its_own_file(tmp_path, monkeypatch, levels, groups, word):
    build(tmp_path, [CLAIM], groups=groups, levels=levels)
    monkeypatch.chdir(tmp_path)
    found = verify()
    assert found.findings == []
    assert found.scales[0].results[CLAIM].result.verdict == word


def test_no_results_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = verify()
    assert (found.code(), found.findings) == (0, [])
    assert found.text().startswith("results: none")
    assert "\n" not in found.text()


# altered results


@pytest.mark.parametrize(
    ("leaf", "value", "named"),
    [
        ("verdict", "REFUTED", "verdict"),
        ("fits/kd/verdict", "INCONCLUSIVE", "fits/kd/verdict"),
        ("reason", "because", "reason"),
        ("fits/kd/tests/0/passed", False, "fits/kd/tests/0/passed"),
        ("fits/kd/tests/0/interval/lower", 0.5, "fits/kd/tests/0/interval/lower"),
        ("fits/kd/arms/raw/domain/js_nats/mean", 0.31, "fits/kd/arms/raw/domain/js_nats/mean"),
        ("fits/kd/arms/raw/domain/js_nats/per_seed/1", 0.31, "fits/kd/arms/raw/domain/js_nats/mean"),
        (
            "fits/kd/arms/source-alone/general/bits_per_byte/n_groups",
            30,
            "fits/kd/arms/source-alone/general/bits_per_byte/lower",
        ),
        (
            "fits/kd/arms/source-alone/general/bits_per_byte/n_groups",
            32,
            "fits/kd/arms/source-alone/general/bits_per_byte/n_groups",
        ),
        ("fits/kd/arms/home/general/bits_per_byte/n_groups", 31, "fits/kd/arms/home/general/bits_per_byte/n_groups"),
        ("fits/kd/refutations/0/holds", True, "fits/kd/refutations/0/holds"),
        ("fits/kd/published_criteria/arms/raw/means/top1", 0.9, "fits/kd/published_criteria/arms/raw/met/top1"),
        ("fits/kd/counts/groups/domain", 31, "fits/kd/tests/0/interval/n_groups"),
        ("nib_official/pass", True, "nib_official/pass"),
        ("nib_combined/ci_95_low", 0.1, "nib_combined/ci_95_low"),
        ("overall_pass", False, "overall_pass"),
        ("record/nib.js/value", 0.2, "record/nib.js/value"),
        ("ppl_raw", 1.5, "ppl_raw"),
        ("scale", "paper", "scale"),
        ("verdict", "PROVEN", "verdict"),
        ("extra", 1, "extra"),
    ],
)
def test_an_edit_is_found_and_named_without_recomputation(here, leaf, value, named):
    edit(FILE, put(leaf, value))
    regenerate_summary(FILE)
    found = verify()
    assert found.code() == 1
    assert named in [f.leaf for f in found.findings if f.file == FILE]


def test_a_sentence_of_other_code_is_old_and_its_figures_are_checked_all_the_same(here):
    reworded("in other words")
    assert {(f.kind, f.leaf) for f in verify([CLAIM]).findings if f.file == FILE} == {("STALE", "")}
    edit(FILE, put("verdict", "REFUTED"))
    assert ("TAMPERED", "verdict") in [(f.kind, f.leaf) for f in verify([CLAIM]).findings]


def reworded(reason):
    """Make the result one of other code that gave another reason."""
    for leaf, said in (("reason", reason), ("fits/kd/reason", reason), ("provenance/code", "0" * 20)):
        edit(FILE, put(leaf, said))
    regenerate_summary(FILE)


def test_a_figure_that_the_words_of_other_code_say_and_ours_do_not_is_named(here):
    own = json.loads(Path(FILE).read_text(encoding="utf-8"))["reason"]
    reworded(own.replace("every required test holds", "all required tests hold"))
    assert {f.kind for f in verify([CLAIM]).findings if f.file == FILE} == {"STALE"}
    figure = re.search(r"0\.\d+", own)[0]
    reworded(own.replace(figure, "0.987"))
    assert ("TAMPERED", "fits/kd/reason") in [(f.kind, f.leaf) for f in verify([CLAIM]).findings]


def test_a_reason_that_is_not_that_of_its_fit_is_named_whatever_code_wrote_it(here):
    reworded("in other words")
    edit(FILE, put("reason", "in quite other words"))
    told = [(f.kind, f.leaf, f.sentence) for f in verify([CLAIM]).findings]
    assert ("TAMPERED", "reason", "is not that of fits/kd") in told


def test_a_page_is_compared_line_by_line_though_a_result_is_of_other_code(here):
    reworded("in other words")
    results = verify().scales[0].results
    for page in ("summary", "headline"):
        told = json.loads(Path(f"results/tiny/{page}.json").read_text(encoding="utf-8"))
        listed = [results[name].result for name in told["verdicts"]]
        for ending, text in verifying.pages(listed, told["headline"]["sentence"]).items():
            Path(f"results/tiny/{page}{ending}").write_text(text, encoding="utf-8")
    assert [f for f in verify().findings if f.kind != "STALE"] == []
    path = Path("results/tiny/summary.txt")
    path.write_text(path.read_text(encoding="utf-8").replace("SUPPORTED", "REFUTED", 1), encoding="utf-8")
    assert (str(path), "TAMPERED") in [(f.file, f.kind) for f in verify().findings]


def test_results_that_count_other_numbers_of_claims_are_told_apart(here):
    others = [path for path in Path("results/tiny").glob("*.json") if "summary" not in path.name and str(path) != FILE]
    for n, path in enumerate(others):
        shutil.copy(path, path.with_name(f"copy{n}.json"))
    edit(FILE, put("provenance/spec/n_claims", 1))
    told = [f for f in verify().findings if f.leaf == "provenance/spec/n_claims" and f.kind == "STALE"]
    assert told


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ("format", []),
        ("format", {}),
        ("fits/kd/arms/raw/domain/js_nats/per_seed/1", 1e308),
        ("provenance/spec/n_claims", None),
    ],
)
def test_what_is_damaged_beyond_sense_is_a_finding_and_no_traceback(here, leaf, value):
    edit(FILE, put(leaf, value))
    assert [f.kind for f in verify().findings if f.file == FILE and f.kind in ("TAMPERED", "UNREADABLE")]


def test_a_share_of_what_is_no_gain_is_named(tmp_path, monkeypatch):
    build(tmp_path, [CLAIM], levels={"transferred": -0.3})
    monkeypatch.chdir(tmp_path)
    fit = json.loads(Path(FILE).read_text(encoding="utf-8"))["fits"]["kd"]
    assert (fit["share"]["estimate"], fit["share"]["pieces"]) == (None, [])
    own = {
        arm: -figures["domain"]["js_nats"]["mean"]
        for arm, figures in fit["arms"].items()
        if "js_nats" in figures["domain"]
    }
    lead, gain = own["transferred"] - own[fit["share"]["placebo"]], own["transferred"] - own["raw"]
    forged = {"estimate": lead / gain, "pieces": [[lead / gain - 0.1, lead / gain + 0.1]], "bounded": True}
    edit(FILE, put("fits/kd/share", {**fit["share"], **forged}))
    assert "fits/kd/share/bounded" in [f.leaf for f in verify([CLAIM]).findings]


def test_a_deleted_test_is_named(here):
    edit(FILE, lambda document: document["fits"]["kd"]["tests"].pop(2))
    assert "fits/kd/tests" in [f.leaf for f in verify().findings]


@pytest.mark.parametrize("leaf", ["fits/kd/tests", "nib_official", "fits/kd/counts", "fits/kd/arms/raw/domain"])
def test_a_missing_part_is_named_without_a_traceback(here, leaf):
    edit(FILE, put(leaf, {}))
    assert [f for f in verify().findings if f.file == FILE]


def test_an_altered_input_is_named_by_its_hash(here):
    path = Path(WORKFLOW.of(CLAIM).verdict_input()["calibration"][0])
    edit(path, put("arms/0/final_loss", 0.1))
    found = verify([CLAIM])
    assert found.code() == 1
    assert str(path) in [f.file for f in found.findings]


def test_a_figure_that_was_changed_and_not_sealed_anew_is_named(here):
    """Nothing else in the file follows from how a training ended."""
    document = json.loads(Path(FILE).read_text(encoding="utf-8"))
    document["training"][0]["final_loss"] = 0.123
    Path(FILE).write_text(json.dumps(document), encoding="utf-8")
    assert ("TAMPERED", FILE, "seal") in [(f.kind, f.file, f.leaf) for f in verify([CLAIM]).findings]


def test_a_claim_that_came_or_went_since_makes_a_page_old_and_nothing_tampered(here):
    page = "results/tiny/summary.json"

    def without(document):
        del document["verdicts"][CLAIM]
        document["provenance"]["inputs"] = {k: v for k, v in document["provenance"]["inputs"].items() if k != FILE}

    whole = Path(page).read_bytes()
    edit(page, without)
    told = {f.kind: f.sentence for f in verify().findings if f.file == page and f.leaf == "verdicts"}
    assert told == {"STALE": f"was written before there was a result of {CLAIM}; {AGAIN}"}
    Path(page).write_bytes(whole)
    Path(FILE).unlink()
    found = verify()
    told = {f.kind: f.sentence for f in found.findings if f.file == page and f.leaf == "verdicts"}
    assert told == {"STALE": f"counts {CLAIM}, of which there is no result any more; {AGAIN}"}
    assert found.code() == 0


def test_a_verdict_that_a_page_leaves_out_is_named(here):
    edit("results/tiny/summary.json", lambda d: d["verdicts"].pop(CLAIM))
    assert [f.kind for f in verify().findings if f.leaf.startswith("verdicts")] == ["TAMPERED"]


def test_an_altered_summary_is_named(here):
    edit("results/tiny/summary.json", put("headline/n", 3))
    assert "headline/n" in [f.leaf for f in verify().findings]


@pytest.mark.parametrize("name", ["summary.md", "summary.txt"])
def test_an_altered_line_of_the_summary_is_named(here, name):
    path = Path("results/tiny", name)
    path.write_text(path.read_text(encoding="utf-8").replace("SUPPORTED", "REFUTED", 1), encoding="utf-8")
    found = verify()
    assert [(f.file, f.kind) for f in found.findings] == [(str(path), "TAMPERED")]


@pytest.mark.parametrize("name", ["msd", "mss", "mse"])
def test_an_interval_follows_from_its_own_mean_squares(here, name):
    document = json.loads(Path(FILE).read_text(encoding="utf-8"))
    fit = document["fits"]["kd"]
    figures = [metric for arm in fit["arms"].values() for metric in arm["domain"].values()]
    size = {"n_groups": 32, "n_seeds": 5, "level": 0.95}
    intervals = [test["interval"] for test in fit["tests"]]
    for stored in [*intervals, *({**f, **size, "half": f["upper"] - f["mean"]} for f in figures)]:
        squares = (np.float64(stored[key]) for key in ("msd", "mss", "mse"))
        parts = equivalence.Components(np.float64(stored["mean"]), *squares, stored["n_groups"], stored["n_seeds"])
        assert stored["half"] == pytest.approx(float(parts.half(stored["level"])), rel=1e-12)
    wanted = fit["tests"][2]["interval"]
    edit(FILE, put(f"fits/kd/tests/2/interval/{name}", wanted[name] * 1.01))
    assert any(f.leaf.startswith("fits/kd/") for f in verify().findings)


def test_altered_mean_squares_of_seeds_are_named_without_recomputation(here):
    edit(FILE, put("fits/kd/arms/random/domain/js_nats/mss", 0.5))
    edit(FILE, put("fits/kd/tests/0/interval/mss", 0.5))
    leaves = [f.leaf for f in verify().findings]
    assert "fits/kd/arms/random/domain/js_nats/mss" in leaves
    assert "fits/kd/tests/0/interval/mss" in leaves


def test_the_resolvable_gap_follows_from_the_mean_squares(here):
    leaf = "fits/kd/resolvable_gap"
    gap = json.loads(Path(FILE).read_text(encoding="utf-8"))["fits"]["kd"]["resolvable_gap"]
    edit(FILE, put(leaf, gap | {"standard_error": 2 * gap["standard_error"], "gap": 2 * gap["gap"]}))
    assert f"{leaf}/standard_error" in [f.leaf for f in verify().findings]


@pytest.mark.parametrize(
    "leaf",
    [
        "claim/colour", "claim/record/url", "fits/kd/colour", "fits/kd/tests/0/p_value", "fits/kd/tests/0/interval/p",
        "fits/kd/counts/extra", "fits/kd/arms/raw/elsewhere", "fits/kd/published_criteria/arms/raw/means/bleu",
        "nib_official/extra", "nib_extended/1111/extra", "nib_combined/extra", "nib_l2/extra", "training/0/extra",
        "backbones/t5_large/extra", "backbones/t5_large/pretraining/extra", "record/nib.js/extra", "rows/extra",
        "rows/draws/bleu", "perplexity/kd/raw", "provenance/hardware/extra",
    ],
)  # fmt: skip
def test_a_key_that_no_program_writes_breaks_the_schema(here, leaf):
    edit(FILE, put(leaf, 1))
    found = [f for f in verify([CLAIM]).findings if "breaks its schema" in f.sentence]
    assert found
    assert found[0].leaf in leaf


def test_the_committed_reference_is_intact_and_holds_the_headline(monkeypatch):
    monkeypatch.chdir(ROOT)
    [reference] = [scale for scale in verify(scale="tiny").scales if scale.is_reference]
    found = {file.path.name for file in reference.results.values()}
    there = {path.name for path in (ROOT / "results/reference/tiny").glob("*.json")}
    assert found == there
    assert reference.code() == 0
    assert {Path(path).name for path in WORKFLOW.page_files("headline")} <= found


@pytest.mark.parametrize(("estimate", "n_found"), [(1.9425214558063945e-06, 0), (1.9426214558063945e-06, 1)])
def test_a_share_near_zero_is_compared_by_the_size_of_the_means(estimate, n_found):
    checks, mean = Checks("made.json"), 0.0961541
    stored = Ratio(estimate=estimate, level=0.95, pieces=[[-0.1, 0.1]], bounded=True)
    rejudge._check_ratio(checks, "share", stored, mean * 1.9425214557662515e-06, mean, 0.95)
    assert len(checks.found) == n_found


@pytest.mark.parametrize(("gain", "found"), [(-0.2, 0), (0.2, 1)])
def test_a_share_is_left_out_only_where_there_is_no_gain(gain, found):
    checks = Checks("made.json")
    silent = Ratio(estimate=None, level=0.95, pieces=[], bounded=False)
    rejudge._check_ratio(checks, "share", silent, -0.1, gain, 0.95)
    assert len(checks.found) == found


def fourth_digit_changed(value):
    """Return the number with a digit changed that a reader sees: the fourth, or the last of a short one."""
    size = 10 ** (math.floor(math.log10(abs(value))) - 3) if value else 1.0
    return value + 1 if isinstance(value, int) else value + size


def findings(document):
    """What the checks of a result file find in a document that was sealed anew, the schema's faults included."""
    document = document | {"seal": seal_of(document)}
    try:
        file = ResultFile(Path(FILE), document, result_of(document, FILE))
    except DataError as error:
        return [error]
    checks = Checks(FILE)
    check_result(checks, file, {}, figures_of)
    return checks.found


def test_most_visible_edits_are_found_without_recomputation(here, capsys):
    document = json.loads(Path(FILE).read_text(encoding="utf-8"))
    leaves = [(leaf, value) for leaf, value in numbers(document) if not leaf.startswith("provenance/")]
    tried, found = leaves[::101], 0
    for leaf, value in tried:
        changed = copy.copy(document)
        spine(changed, leaf, fourth_digit_changed(value))
        found += bool(findings(changed))
    with capsys.disabled():
        print(f"\nplain verify: tried {len(tried)}, found {found}")
    assert found > 0.9 * len(tried)


# the command


def test_verify_of_results_imports_nothing_heavy(here):
    result = run("verify", flags=("-X", "importtime"), cwd=here)
    modules = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert result.returncode == 0
    assert not modules & HEAVY


def test_time_of_verify_with_results_as_information(here, capsys):
    started = time.perf_counter()
    assert run("verify", cwd=here).returncode == 0
    with capsys.disabled():
        print(f"\nabi verify with two results: {time.perf_counter() - started:.2f} s")


def test_output_is_ascii_and_the_record_comes_first(here):
    result = run("verify", cwd=here)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    assert result.stdout.index("record: intact") < result.stdout.index("results: intact")


def test_exit_codes(here, capsys):
    assert main.main(["verify"]) == 0
    edit(FILE, put("verdict", "REFUTED"))
    assert main.main(["verify"]) == 1
    Path(FILE).write_text('{"a": NaN}', encoding="utf-8")
    assert main.main(["verify"]) == 2
    out = capsys.readouterr().out
    assert f"{FILE}: is not readable JSON" in " ".join(out.split())
    assert main.main(["verify", "--scale", "huge"]) == 2


def test_unreadable_files_are_named_and_hide_nothing(here):
    Path(FILE).write_bytes(b"\xff\xfe")
    edit(WORKFLOW.result_file("t5_same_backbone"), put("verdict", "VACUOUS"))
    found = verify()
    assert found.code() == 2
    assert {f.kind for f in found.findings} >= {"UNREADABLE", "TAMPERED"}


@pytest.mark.parametrize("flags", [[], [CLAIM, "--recompute"], ["--against", "reference"]])
def test_json_is_one_document(here, capsys, flags):
    reference(here)
    assert main.main(["verify", "--json", *flags]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["results"]["code"] == 0
    assert data["results"]["scales"]["results/tiny"]["verdicts"][CLAIM] == "SUPPORTED"
    assert data["record"]["intact"] is True


def test_of_the_committed_run_only_what_is_compared_with_is_checked(here):
    """A run of two claims ends with this, beside a committed run of fifty."""
    reference(here)
    committed, other = Path("results/reference/tiny"), Path(WORKFLOW.result_file("t5_same_backbone"))
    other.unlink()
    found = verify(against="reference")
    assert [[*scale.results] for scale in found.scales] == [[CLAIM], [CLAIM]]
    assert "t5_same_backbone" in verify().scales[1].results
    edit(committed / Path(FILE).name, put("verdict", "VACUOUS"))
    assert "TAMPERED" in {finding.kind for finding in verify(against="reference").findings}


def test_damaged_evidence_is_a_finding_not_a_traceback(here, capsys):
    Path(WORKFLOW.of(CLAIM).verdict_input()["evidence"][0]).write_bytes(b"\x1f\x8b broken")
    assert main.main(["verify", "--recompute"]) == 1
    assert "cannot be judged again" in " ".join(capsys.readouterr().out.split())


def test_missing_evidence_is_a_note(here):
    Path(WORKFLOW.of(CLAIM).verdict_input()["evidence"][0]).unlink()
    found = verify([CLAIM], recompute=True)
    assert found.code() == 0
    assert any("is not recomputed" in f.sentence for f in kinds(found, "NOTE"))


@pytest.mark.parametrize(("name", "value"), [("msd", -1.0), ("mse", None), ("lower", None), ("upper", None)])
def test_a_figure_whose_interval_is_no_interval_is_named(here, name, value):
    leaf = "fits/kd/arms/random/domain/js_nats"
    edit(FILE, put(f"{leaf}/{name}", value))
    assert any(f.leaf.startswith(leaf) for f in verify().findings)
