"""Results of several regimes, variants and ladders: `abi verify`, `--recompute`, `--against`, the pages, `abi claims`."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
from made_results import (
    CLAIM,
    FEW_SHOT,
    GENERAL_ONLY,
    HEAVY,
    LADDER,
    RUNGS,
    WORKFLOW,
    edit,
    edit_reference,
    judge_ladder,
    kinds,
    put,
    reference,
    run,
    summarise,
)

from abi.audit.results import verify as results
from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile, checked
from abi.audit.results.relations import check_result
from abi.cli import main
from abi.cli import verify as verifying
from abi.judge.kinds.transfer import LEADS, steps_of
from abi.judge.published import figures_of
from abi.judge.results import KINDS, read_result
from abi.plan.specs.judge import JudgeClaim
from abi.report.known import known
from abi.report.render import figure

FILES = {name: WORKFLOW.result_file(name) for name in (FEW_SHOT, GENERAL_ONLY, LADDER)}


def document(claim):
    return json.loads(Path(FILES.get(claim) or WORKFLOW.result_file(claim)).read_text(encoding="utf-8"))


def verify(claims=(), **options):
    return results.verify(claims, render=verifying.pages, **options)


def leaves(file, found=None):
    return [f.leaf for f in (found or verify()).findings if f.file == file and f.kind == "TAMPERED"]


@pytest.fixture(scope="module")
def beside(made_regimes):
    """Claim id -> result file of the made run, read once."""
    paths = {name: made_regimes / WORKFLOW.result_file(name) for name in (FEW_SHOT, GENERAL_ONLY, *RUNGS, LADDER)}
    return {name: ResultFile(path, json.loads(path.read_text()), read_result(path)) for name, path in paths.items()}


def named_in(claim, document, beside):
    """Return the leaves that the schema and the checks of a result file name."""
    checks, path = Checks("file"), beside[claim].path
    result = checked(KINDS[document["format"]], document, path, checks.found)
    if result is not None:
        check_result(checks, ResultFile(path, document, result), beside, figures_of)
    return [finding.leaf for finding in checks.found]


def test_an_honest_run_of_all_regimes_is_recomputed_without_a_finding(regimes):
    found = verify([FEW_SHOT, GENERAL_ONLY, LADDER], recompute=True)
    assert found.findings == []
    assert set(found.scales[0].recomputed) == {FEW_SHOT, GENERAL_ONLY, LADDER}


def test_a_result_holds_every_fit_of_its_claim(regimes):
    assert list(document(FEW_SHOT)["fits"]) == ["ce"]
    general = document(GENERAL_ONLY)
    fits = {general["claim"]["fit"], *general["claim"]["variants"], "closed-form"}
    assert set(general["fits"]) == fits >= {"matched", "matched-short"}
    assert "home" not in general["fits"]["matched"]["arms"]
    assert document(FEW_SHOT)["fits"]["ce"]["arms"]["transferred"]["draws"] == 3
    assert {"transferred", "random", "bias"} <= set(general["fits"]["matched-short"]["gap_closures"])


def test_every_rung_of_a_ladder_is_compared_and_its_leads_are_differences_of_arms(regimes):
    windows, leads = document(FEW_SHOT)["curves"]
    rungs = document(FEW_SHOT)["provenance"]["spec"]["budget"]["windows"]
    means = {line["name"]: line["y"] for line in windows["series"]}
    assert [line["name"] for line in leads["series"]] == [f"{arm} - {other}" for arm, other in LEADS]
    for line in leads["series"]:
        arm, other = line["name"].split(" - ")
        assert line["x"] == rungs
        assert line["y"] == pytest.approx([b - a for a, b in zip(means[arm], means[other], strict=True)])
        assert all(low < y < high for low, y, high in zip(line["lower"], line["y"], line["upper"], strict=True))
    tests = {test["id"]: test["mean"] for test in document(FEW_SHOT)["fits"]["ce"]["tests"]}
    for line in leads["series"][3:]:  # the mean over the ladder is what the fit reports
        asked = f"r.taught.bits_per_byte.{line['name'].split(' - ')[1]}"
        assert tests[asked] == pytest.approx(sum(line["y"]) / len(line["y"]))


@pytest.mark.parametrize(
    ("claim", "leaf", "value", "named"),
    [
        (FEW_SHOT, "fits/ce/verdict", "REFUTED", "fits/ce/verdict"),
        (FEW_SHOT, "fits/ce/arms/native/domain/js_nats/mean", 0.31, "fits/ce/arms/native/domain/js_nats/mean"),
        (FEW_SHOT, "fits/ce/gap_closures/random/estimate", 0.9, "fits/ce/gap_closures/random/estimate"),
        (FEW_SHOT, "curves/0/series/0/y/1", 2.0, "curves/0/series/0/y"),
        (FEW_SHOT, "curves/1/series/6/y/2", 0.5, "curves/1/series/6/y"),
        (FEW_SHOT, "curves/1/series/2/x/0", 9.0, "curves/1/series/2/x"),
        (FEW_SHOT, "claim/sees", "everything", "claim/sees"),
        (FEW_SHOT, "claim/of", "gpt2_to_qwen", "claim/of"),
        (GENERAL_ONLY, "fits/matched-short/tests/0/passed", False, "fits/matched-short/tests/0/passed"),
        (GENERAL_ONLY, "fits/matched-long/fit", "matched", "fits/matched-long/fit"),
        (GENERAL_ONLY, "fits/closed-form/refutations/0/holds", True, "fits/closed-form/refutations/0/holds"),
        (GENERAL_ONLY, "verdict", "REFUTED", "verdict"),
        (GENERAL_ONLY, "claim/variants", [], "claim/variants"),
        (LADDER, "verdict", "REFUTED", "verdict"),
        (LADDER, "reason", "because", "reason"),
        (LADDER, "verdict_at_strict_level", "VACUOUS", "verdict_at_strict_level"),
        (LADDER, "rungs/1/verdict", "REFUTED", "rungs/1/verdict"),
        (LADDER, "rungs/0/reason", "because", "rungs/0/reason"),
        (LADDER, "rungs/2/sha256", "0" * 64, "rungs/2/sha256"),
        (LADDER, "claim/rungs", list(RUNGS[:2]), "claim/rungs"),
        (LADDER, "record/nib.js/value", 0.2, "record/nib.js/value"),
        (LADDER, "meaningless", True, "meaningless"),
        (LADDER, "extra", 1, "extra"),
    ],
)
def test_an_edit_is_found_and_named(beside, claim, leaf, value, named):
    assert named_in(claim, beside[claim].document, beside) == []
    changed = copy.deepcopy(beside[claim].document)
    put(leaf, value)(changed)
    assert any(found.startswith(named) for found in named_in(claim, changed, beside))


def test_a_fit_that_is_left_out_or_slipped_in_is_named(beside):
    general, few = (copy.deepcopy(beside[name].document) for name in (GENERAL_ONLY, FEW_SHOT))
    general["fits"].pop("matched-long")
    assert any(leaf.startswith("fits") for leaf in named_in(GENERAL_ONLY, general, beside))
    few["fits"]["other"] = few["fits"]["ce"]
    assert "fits/other/fit" in named_in(FEW_SHOT, few, beside)


def test_steps_of_a_variant_follow_from_the_budget(beside):
    result = beside[GENERAL_ONLY].document
    steps = {row["fit"]: row["steps"] for row in result["training"]}
    fits = ("matched", "matched-short", "matched-quarter", "closed-form")
    assert [steps[fit] for fit in fits] == [300, 30, 300, 0]
    of_steps_alone = steps_of(JudgeClaim.model_validate(result["provenance"]["spec"]))
    assert "matched-quarter" not in of_steps_alone
    assert of_steps_alone.items() <= steps.items()
    i = next(i for i, row in enumerate(result["training"]) if row["fit"] == "matched-short")
    changed = copy.deepcopy(result)
    changed["training"][i]["steps"] = 300
    assert named_in(GENERAL_ONLY, changed, beside) == [f"training/{i}/steps"]


def test_a_consistent_forgery_of_a_ladder_is_found(regimes):
    """The rung's words are forged in the ladder with all that follows: the rung's own file contradicts it."""
    forged = document(LADDER)
    for key in ("verdict", "verdict_at_strict_level"):
        forged["rungs"][0][key] = "VACUOUS"
    Path(FILES[LADDER]).write_text(json.dumps(forged), encoding="utf-8")
    assert {"rungs/0/verdict", "verdict"} <= set(leaves(FILES[LADDER]))
    assert verify([LADDER], recompute=True).code() == 1


def test_a_rung_rebuilt_alone_is_named_and_makes_the_ladder_stale(regimes, capsys):
    rung = WORKFLOW.result_file(RUNGS[0])
    edit(rung, put("provenance/elapsed_s", 99.0))
    found = verify()
    assert "rungs/0/sha256" in leaves(FILES[LADDER], found)
    assert main.main(["claims", "--json"]) == 0
    states = {row["id"]: row["state"] for row in json.loads(capsys.readouterr().out)["claims"]}
    assert states[LADDER] == "stale"
    judge_ladder(WORKFLOW, LADDER)
    summarise(WORKFLOW)
    assert verify().findings == []


def test_a_missing_rung_is_a_note(regimes):
    Path("results/tiny/summary.json").unlink()
    Path(WORKFLOW.result_file(RUNGS[1])).unlink()
    found = verify([LADDER])
    assert found.code() == 0
    assert [f.leaf for f in kinds(found, "NOTE")] == ["rungs/1"]


def test_runs_are_compared_without_the_hashes_of_rungs(regimes):
    folder = reference(regimes)
    edit_reference(folder / Path(FILES[LADDER]).name, put("rungs/0/sha256", "1" * 64))
    assert [f for f in verify(against="reference").findings if f.file == FILES[LADDER]] == []
    edit_reference(folder / Path(FILES[LADDER]).name, put("rungs/0/verdict", "REFUTED"))
    found = verify(against="reference")
    assert ("DIFFERS", "rungs/0/verdict") in [(f.kind, f.leaf) for f in found.findings if f.file == FILES[LADDER]]


def test_another_ladder_in_config_makes_it_stale_not_tampered(regimes):
    path = Path("config/claims.yaml")
    text = path.read_text(encoding="utf-8")
    rungs = f"rungs: [{', '.join(RUNGS)}]"
    assert rungs in text
    path.write_text(text.replace(rungs, f"rungs: [{', '.join(RUNGS[:2])}]"), encoding="utf-8")
    found = verify([LADDER], recompute=True)
    assert found.code() == 0
    assert FILES[LADDER] in {f.file for f in kinds(found, "STALE")}


def test_a_headline_counts_published_claims_alone(regimes):
    summary = json.loads(Path("results/tiny/summary.json").read_text(encoding="utf-8"))
    published = {CLAIM, "gpt2_to_gpt2_medium", LADDER}
    assert set(summary["verdicts"]) == {CLAIM, FEW_SHOT, GENERAL_ONLY, *RUNGS, LADDER}
    assert (summary["headline"]["n"], set(summary["headline"]["supported"])) == (3, published)
    assert summary["headline"]["level"] == pytest.approx(1 - 0.05 / len(WORKFLOW.config.published()))


@pytest.mark.parametrize(
    ("leaf", "value"), [("provenance/spec/counted", [CLAIM]), ("provenance/spec/n_claims", 1), ("headline/n", 7)]
)
def test_an_altered_count_is_named(regimes, leaf, value):
    edit("results/tiny/summary.json", put(leaf, value))
    assert any(found.startswith(leaf) for found in leaves("results/tiny/summary.json"))


def test_a_verdict_left_out_of_the_headline_is_named(here):
    path = "results/tiny/headline.json"
    edit(path, lambda page: page["verdicts"].pop(CLAIM))
    assert leaves(path) == [f"verdicts/{CLAIM}"]


def test_pages_group_regimes_under_their_claim_and_show_rungs(regimes):
    text = Path("results/tiny/summary.txt").read_text(encoding="utf-8")
    own = text[text.index(f"{CLAIM}: ") :].split("\n\n")[0]
    assert "    few-shot: " in own
    assert f"    rung {RUNGS[1]}: SUPPORTED" in text
    page = Path("results/tiny/summary.md").read_text(encoding="utf-8")
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    ids = [line.split("`")[1] for line in heads]
    assert ids[ids.index(CLAIM) + 1] == FEW_SHOT
    assert "### Ladder: SUPPORTED" in page
    assert "### Fit `matched-short` (a variant, other steps, less text or other text; decides nothing)" in page


def test_claims_lists_regimes_ladders_and_what_is_pending(regimes, capsys):
    assert main.main(["claims", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["claims"]}
    assert [rows[name]["state"] for name in (FEW_SHOT, GENERAL_ONLY, LADDER)] == ["fresh"] * 3
    assert (rows[FEW_SHOT]["of"], rows[FEW_SHOT]["regime"]) == (CLAIM, "few-shot")
    assert rows["t5_to_qwen2_7b"]["state"] == "pending"
    assert rows["t5_to_qwen2_7b"]["why"] == ["runs at scale paper only"]
    assert main.main(["claims"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "\n  _few_shot " in out


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (LADDER, ["all 3 rungs are SUPPORTED", f"{RUNGS[0]}: SUPPORTED", "rule judge_ladder"]),
        (FEW_SHOT, [f"another regime of {CLAIM}", "regime few-shot", "no oracle", "SUPPORTED"]),
        (GENERAL_ONLY, ["fit matched-short (a variant", "fit closed-form (fitted without"]),
        ("gpt2_to_qwen_few_shot", ["Never run", "-- gpt2_to_qwen_few_shot"]),
        ("t5_to_qwen2_7b", ["pending: runs at scale paper only", "scale=paper -- t5_to_qwen2_7b"]),
    ],
)
def test_show_knows_regimes_ladders_and_pending_claims(regimes, capsys, claim, words):
    assert main.main(["show", claim]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert all(word in " ".join(out.split()) for word in words)


def test_a_damaged_ladder_is_one_sentence(regimes, capsys):
    edit(FILES[LADDER], lambda document: document.pop("rungs"))
    assert main.main(["show", LADDER]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert "breaks its schema" in verify().findings[0].sentence


def test_verify_of_all_regimes_imports_nothing_heavy(regimes):
    result = run("verify", flags=("-X", "importtime"), cwd=regimes)
    assert result.returncode == 0
    assert not {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()} & HEAVY


def test_one_claim_brings_its_other_regimes(regimes):
    assert set(verify([CLAIM]).scales[0].results) == {CLAIM, FEW_SHOT}
    shutil.rmtree("results/tiny/evidence")
    assert verify().code() == 0


def test_the_first_lines_say_what_a_source_teaches_on_a_few_windows(beside):
    result = beside[FEW_SHOT].result
    words = " ".join(known([result]).split())
    leads = {test.id.rpartition(".")[2]: test.interval for test in result.deciding.tests if "taught.bits" in test.id}
    assert len(leads) == 5
    assert [arm for arm, lead in leads.items() if lead.lower <= 0] == ["transferred"]  # as the evidence was made
    assert (
        "**With a few windows of domain text, a source helps as a teacher.** Without that teacher the same interface and "
        "net (`carried`) are worse in 1 of 1" in words
    )
    said = ("carried", "direct", "permuted-taught", "wrong-domain-taught")
    assert [figure(leads[arm].mean) for arm in said] == re.findall(
        r"\((-?[\d.]+)", words.partition("With a few windows")[2]
    )[:4]
