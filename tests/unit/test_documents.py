import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from report_facts import unknown
from sweeps import first

from abi.cli import config, main
from abi.cli.show import exit_code
from abi.judge.results import read_result
from abi.models.products import LEAST
from abi.plan.config import load
from abi.report.quoted import Part
from abi.report.replicates import figures_of

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"demo", "generate", "train", "distill", "transfer", "evaluate", "compare", "new-claim"}
"""Commands that test_api_examples.py, test_demo.py, test_cli_generate.py and test_new_claim.py run, with models."""
OWN = "first_to_second"
"""A claim that a page has a reader write; test_new_claim.py asks for it."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def abi(*arguments, folder=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "abi.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_generated_parts_of_documents_are_up_to_date():
    done = abi("docs", "--check")
    assert done.returncode == 0, done.stderr


def test_the_words_on_two_processors_are_counted_from_their_list():
    with (ROOT / "benchmarks/processors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    same, words = sum(row["intel_xeon"] == row["amd_epyc"] for row in rows), Counter(row["agreement"] for row in rows)
    for page in ("README.md", "docs/faq.md", "docs/reproducing.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert f"{same} of {len(rows)} verdicts" in text or f"Of {len(rows)} claims {same} kept" in text, page
    strict = words["DIFFERENT"] - (len(rows) - same)
    told = f"{words['EQUIVALENT']} were `EQUIVALENT`, {words['SAME VERDICT']} `SAME VERDICT`, and {strict} of the "
    assert f"{told}{words['DIFFERENT']} that were `DIFFERENT` differed at the strict level alone" in text
    later = Counter(row["amd_epyc_with_compiled_sums"] for row in rows)
    assert {*later} == {"EQUIVALENT", "SAME VERDICT"}
    told = f"{later['EQUIVALENT']} were `EQUIVALENT`, {later['SAME VERDICT']} `SAME VERDICT`."
    assert f"kept all {len(rows)} verdicts of the second, at both levels: {told}" in text
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results/reference/tiny").glob("*.json")
    ]
    now = {result["claim"]["id"]: result["verdict"] for result in results if "verdict" in result}
    other = {row["claim"] for row in rows if now[row["claim"]] != row["amd_epyc"]} - {"calibration_scaling"}
    assert len(other) == 7
    assert "seven verdicts are other words" in text
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(f"`{claim.removesuffix('_general_only')}`" in changes for claim in other)


def test_the_words_of_replicates_by_two_libraries_are_counted_from_their_list():
    with (ROOT / "benchmarks/replicates.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [read_result(path) for path in (ROOT / "results/reference").glob("tiny_r?/*.json")]
    now = {(result.claim.id, result.scale): (result.verdict, result.verdict_at_strict_level) for result in found}
    assert all(now[row["claim"], row["scale"]] == (row["onednn"], row["strict_onednn"]) for row in rows)
    text = " ".join((ROOT / "docs/reproducing.md").read_text(encoding="utf-8").split())
    other = sum(row["mkl"] != row["onednn"] for row in rows)
    assert f"So are {other} of {len(rows)} verdicts of the replicates" in text
    ahead = [figures_of(result).ahead for result in found if result.claim.id == "t5_to_gpt2"]
    assert "built again with oneDNN, one of the three replicates shows it" in text
    assert sorted(ahead) == [False, False, True]


def test_what_a_move_to_the_own_backbone_shows_is_told_from_its_results():
    real, small = (
        read_result(ROOT / f"results/reference/{scale}_to_itself.json") for scale in ("real/smollm2", "tiny/gpt2")
    )
    closed = {arm: 100 * found.estimate for arm, found in real.deciding.gap_closures.items()}
    bare = [closed[arm] for arm in ("transferred", "random", "no-domain")]
    (one, left), (other, less) = (
        (facts.cosine_held_out, 100 * facts.residual) for facts in (real.alignments[0], small.alignments[0])
    )
    text = " ".join((ROOT / "docs/pretrained.md").read_text(encoding="utf-8").split())
    assert f"close {min(bare):.0f} to {max(bare):.0f} % of the gap in bits per byte" in text
    assert closed["linear"] > 100
    assert (
        f"held-out cosine {one:.2f} against {other:.2f}, and {left:.0f} % of the variance is left against {less:.0f} %"
        in text
    )
    own = next(test for test in real.deciding.tests if test.id == "1.sensitivity.js_nats.random")
    assert not own.passed
    assert (real.verdict, small.verdict) == ("REFUTED", "SUPPORTED")


def test_the_words_of_comparisons_are_counted_from_their_list():
    with (ROOT / "benchmarks/compared.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    transfers = [claim for claim in load("tiny").claims.values() if claim.kind == "transfer"]
    same = sum(row["dag"] == row["compare"] for row in rows)
    text = " ".join((ROOT / "docs/library.md").read_text(encoding="utf-8").split())
    told = (
        f"for {len(rows)} of the {len(transfers)} of `tiny`, and gave the word of the claim for {same} of {len(rows)}"
    )
    assert told in text


def test_what_an_attached_module_costs_is_told_from_its_table():
    with (ROOT / "benchmarks/attached.csv").open(encoding="utf-8") as file:
        shares = {re.sub(r" of \d+ numbers.*", "", row["what"]): float(row["share"]) for row in csv.DictReader(file)}
    more = {what: f"{100 * (share - 1):.1f} %" for what, share in shares.items()}
    text = " ".join((ROOT / "docs/library.md").read_text(encoding="utf-8").split())
    assert f"Swapping takes {100 * shares['swap']:.3f} % of a pass" in text
    own = "where each row has its own"
    told = f"makes a pass {more['pass, module']} longer, {more['pass, each row its own module']} {own}, "
    assert told + f"LoRA of a like size {more['pass, LoRA']}" in text
    told = f"per generated token it is {more['16 tokens, module']}, {more['16 tokens, each row its own module']} {own} "
    told += f"and {more['16 tokens, LoRA']} for LoRA, and "
    assert told + f"{more['16 tokens, n-gram model']} for an n-gram model" in text


def test_what_onednn_gains_is_told_from_its_table():
    with (ROOT / "benchmarks/products.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["product"] == "forward"]
    large = [row for row in rows if int(row["rows"]) * int(row["in"]) * int(row["out"]) >= LEAST]
    ratios = [float(row["ratio"]) for row in large]
    text = " ".join((ROOT / "docs/speed.md").read_text(encoding="utf-8").split())
    assert f"take {min(ratios):.1f} to {max(ratios):.1f} times as long with MKL as with oneDNN" in text
    assert any(float(row["ratio"]) < 1 for row in rows if row not in large)


def commands(page):
    """Return the commands of a page's indented blocks, without their remarks."""
    lines = re.findall(r"(?m)^    ((?:make|snakemake|abi) .*)$", page.read_text(encoding="utf-8"))
    return [shlex.split(line.partition("#")[0]) for line in lines]


def abi_commands():
    """Return the commands of abi that need nothing; `pin` needs a hub (tests/hub), those of `ELSEWHERE` models."""
    found = [
        c
        for page in PAGES
        for c in commands(page)
        if c[0] == "abi" and c[1] not in {"pin", *ELSEWHERE} and OWN not in c
    ]
    return list({" ".join(c): c for c in found}.values())


def test_make_words_of_the_documents_are_targets_of_the_makefile():
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))
    words = {command[1] for page in PAGES for command in commands(page) if command[0] == "make"}
    assert words - {"t5_to_gpt2"} <= targets


def snakemake_commands():
    """Return the Snakemake commands of all pages: those that name targets alone as one, which plans them together."""
    found = [c for page in PAGES for c in commands(page) if c[0] == "snakemake" and "slurm" not in " ".join(c)]
    asked = {" ".join(words): words for c in found if (words := [word for word in c[1:] if word != "-n"])}.values()
    targets = {word for words in asked if not any(word.startswith("-") for word in words) for word in words}
    return [["snakemake", *sorted(targets)], *(["snakemake", *words] for words in asked if not targets >= {*words})]


@pytest.mark.workflow
@pytest.mark.parametrize("command", first(1, snakemake_commands()), ids=" ".join)
def test_snakemake_commands_of_the_documents_plan(command):
    dry = [] if any(word.startswith("--list") for word in command) else ["-n"]
    done = subprocess.run([sys.executable, "-m", *command, *dry], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_quick_part_leaves_out_what_is_marked_as_long():
    [line] = re.findall(r"(?m)^quick:.*\n\t(.*)$", (ROOT / "Makefile").read_text())
    assert '-m "not slow and not long and not workflow" tests/unit' in line


@pytest.mark.parametrize("command", first(4, abi_commands()), ids=" ".join)
def test_abi_commands_of_the_documents_run(command, tmp_path, monkeypatch, capsys):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if "--against" in command:  # which needs two runs
        shutil.copytree(ROOT / "results/reference/tiny", "results/reference/tiny")
        for place in ("results/tiny", "../other/results/tiny"):
            Path(place).mkdir(parents=True)
            shutil.copy("results/reference/tiny/cross_arch_enc_dec_nib_results.json", place)
    # Nothing was run in an empty folder: the original's rule is not met, and every output is missing.
    unmet = "--exit-rule" in command or (command[1] == "status" and "--mend" not in command)
    lacking = "--deep" in command or command[1] == "crate"  # these are about a run, and there is none
    lacking |= command[1] == "plan" and "paper" in command  # which was never pinned here
    assert main.main(command[1:]) == (2 if lacking else 1 if unmet else 0), capsys.readouterr().err


def test_links_of_the_documents_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_anchors_of_links_are_headings():
    for page in PAGES:
        for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            target = page.parent / link if link else page
            heads = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in anchors, f"{page.name}: {link}#{anchor}"


def test_every_page_stands_in_the_map_of_documents():
    there = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name}" not in there]
    assert missing == ["README.md"]


@pytest.mark.parametrize("start", ["**How 304 % comes about.**", "**How the published .97"])
def test_figures_of_the_record_that_a_page_quotes_stand_in_the_record(start):
    text = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    part = text[text.index(start) :].split("\n\n")[0]
    record = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w])", part)
    assert len(figures) >= 4
    assert [figure for figure in figures if figure not in record] == []
    assert "304.26" in record
    assert "171 %" in record


@pytest.mark.parametrize(("passed", "code"), [([True, True], 0), ([True, False], 1), ([], 1)])
def test_the_exit_rule_of_the_original_is_an_option(passed, code):
    assert "abi show reproduce --exit-rule" in (ROOT / "docs" / "updates.md").read_text(encoding="utf-8")
    rules = [{"id": "R1", "words": "w", "value": 1.0, "threshold": 1.0, "passed": one} for one in passed]
    assert exit_code(unknown(checks=rules)) == code
    assert exit_code(None) == 1


DUE = "# Page\n<!-- x:begin (by us) -->\nkeeps 1.5 of 2\n<!-- x:end -->\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (DUE, 0, ""),
        (DUE.replace("1.5", ""), 1, "PAGE.md: out of date; run `make docs`"),
        (DUE.replace("keeps 1.5 of 2\n", ""), 1, "PAGE.md: out of date"),
        (DUE.replace("<!-- x:end -->\n", ""), 2, "PAGE.md: the markers x:begin and x:end must stand there"),
        ("# Page\n", 2, "PAGE.md: the markers x:begin and x:end must stand there"),
    ],
)
def test_a_document_that_lacks_a_number_or_a_marker_is_not_up_to_date(text, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.setattr(config, "generated_parts", lambda: [Part("PAGE.md", "x", "keeps 1.5 of 2\n")])
    monkeypatch.setattr(config, "schema_files", dict)
    monkeypatch.setattr(config, "generated_files", dict)
    (tmp_path / "PAGE.md").write_text(text, encoding="utf-8")
    assert main.main(["docs", "--check"]) == code
    assert words in capsys.readouterr().err
    assert (tmp_path / "PAGE.md").read_text(encoding="utf-8") == text
    if code == 1:
        assert main.main(["docs"]) == 0
        assert (tmp_path / "PAGE.md").read_text(encoding="utf-8") == DUE


def test_an_edited_picture_is_not_up_to_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.setattr(config, "generated_parts", list)
    monkeypatch.setattr(config, "schema_files", dict)
    monkeypatch.setattr(config, "generated_files", lambda: {"claims.svg": "<svg/>"})
    assert main.main(["docs"]) == 0
    assert main.main(["docs", "--check"]) == 0
    (tmp_path / "claims.svg").write_text("<svg><text>SUPPORTED</text></svg>", encoding="utf-8")
    assert main.main(["docs", "--check"]) == 1
    assert "claims.svg: out of date" in capsys.readouterr().err


def test_every_promise_of_the_security_page_names_a_test_that_there_is():
    promises = re.findall(r"\| `(test_\w+\.py)::(test_\w+)` \|", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(promises) > 20
    for file, name in promises:
        [path] = (ROOT / "tests").rglob(file)
        assert f"\ndef {name}(" in path.read_text(encoding="utf-8"), f"{file}::{name}"
