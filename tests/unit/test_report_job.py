"""The jobs that write the report and the cards, from result files on disk."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from report_facts import SPEC, results, unknown, whole

from abi.audit.results.places import result_paths
from abi.base.digest import code_digest
from abi.base.files import ROOT as CHECKOUT
from abi.base.files import sha256_file
from abi.base.job import Job
from abi.base.manifests.pages import ReportManifest
from abi.base.names import ASIDE
from abi.plan.config import load
from abi.plan.specs.report import WriteCards
from abi.plan.workflow import Workflow
from abi.report.cards import card
from abi.steps import write_cards, write_report

WORKFLOW = Workflow(load("tiny"))
CARDS = WriteCards.model_validate(WORKFLOW.card_spec())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference as results/tiny of another folder, with the report and the cards written."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        shutil.copytree(CHECKOUT / "results/reference/tiny", place / "results/tiny")
        paths = [path for path in WORKFLOW.page_files("summary") if Path(path).exists()]
        summary = "results/tiny/summary.json"
        made = results()[0].provenance.model_dump(mode="json")
        found = {"sentence": "0 of 3", "n": 3, "supported": [], "level": 0.99, "stay_supported": []}
        text = {"format": "abi/summary@1", "verdicts": {}, "headline": found, "provenance": made}
        Path(summary).write_text(json.dumps(text), encoding="utf-8")
        benchmark = Path("results/tiny/benchmarks/calibrate_arms/t5_to_gpt2/1-3.tsv")
        benchmark.parent.mkdir(parents=True)
        benchmark.write_text("s\th:m:s\tmax_rss\tcpu_time\n90.0\t0:01:30\t612.0\t84.0\n", encoding="utf-8")
        job = Job("write_report", SPEC, "c", [*paths, summary], 1)
        names = {"html": "report.html", "markdown": "report.md", "record": "report.json", "figures": "figures"}
        outputs = {key: f"results/tiny/{name}" for key, name in names.items()}
        Path(outputs["figures"]).mkdir()
        Path(outputs["figures"], "old.svg").write_text("", encoding="utf-8")
        committed = WORKFLOW.committed_beside()
        write_report.run(job, {"results": paths, "summary": summary, "committed": committed}, outputs)
        paths = [path for path in WORKFLOW.card_inputs() if Path(path).exists()]
        job = Job("write_cards", CARDS, "c", paths, 1)
        write_cards.run(job, paths, ["results/tiny/cards/t5_to_gpt2.md", "results/tiny/cards/gpt2_to_qwen.md"])
    return place / "results/tiny"


def test_the_page_of_the_whole_reference_tells_every_claim_its_verdict_and_every_figure(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    ladder = text[text.index('id="ladder"') :]
    for result in whole():
        assert f"claim-{result.claim.id}" in text
        assert result.claim.id in ladder
    assert len(set(re.findall(r'<figure id="figure-([^"]+)"', text))) > 20
    assert "<script" not in text
    assert len(text.encode()) < 3e6


def test_every_figure_of_the_page_is_a_file_with_its_numbers(folder):
    listed = ReportManifest.read(folder / "report.json").figures
    shown = re.findall(r'<figure id="figure-([^"]+)"', (folder / "report.html").read_text(encoding="utf-8"))
    assert [entry.name for entry in listed] == shown
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{n}.{kind}" for n in shown for kind in ("svg", "csv")
    }
    for entry in listed:
        written = [sha256_file(folder / "figures" / f"{entry.name}.{kind}") for kind in ("svg", "csv")]
        assert written == [entry.svg, entry.csv]


def test_the_report_knows_what_it_was_made_of(folder):
    found = ReportManifest.read(folder / "report.json")
    assert found.verdicts == {result.claim.id: result.verdict for result in whole()}
    assert "results/tiny/summary.json" in found.provenance.inputs


def test_benchmarks_of_the_run_are_in_the_matrix(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    row = next(row for row in re.findall(r"<tr>.*?</tr>", text) if "scale=tiny -- t5_to_gpt2<" in row)
    assert [cell for cell in re.findall(r"<td[^>]*>([^<]+)</td>", row)] == ["1", "1.5", "1.4", "612"]


@pytest.mark.parametrize(
    ("edited", "rules"), [("page.css", ["write_report", "write_cards", "summarise"]), ("unread.txt", [])]
)
def test_an_edit_of_a_template_makes_the_pages_again_and_no_verdict(tmp_path, edited, rules):
    shutil.copytree(CHECKOUT / "abi", tmp_path / "a/abi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with open(tmp_path / "b/abi/report/templates" / edited, "a", encoding="utf-8") as page:
        page.write("p { color: red }\n")
    steps = ("write_report", "write_cards", "judge_claim", "summarise")
    digests = [{s: code_digest(f"abi/steps/{s}.py", root=tmp_path / name) for s in steps} for name in ("a", "b")]
    assert [step for step in steps if digests[0][step] != digests[1][step]] == rules


def test_the_report_is_no_result_and_no_claim_may_take_its_name(folder):
    assert "report.json" in ASIDE
    assert len(result_paths(folder)) == len(whole())


def test_a_card_says_what_its_modules_are_worth_in_every_regime(folder):
    text = (folder / "cards/gpt2_to_qwen.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert (front["library_name"], front["base_model"]) == ("abi", "results/tiny/backbones/qwen")
    assert "domain-module" in front["tags"]
    for result in (r for r in whole() if "gpt2_to_qwen" in r.claim.id):
        assert f"| {result.claim.regime} | **{result.verdict}** |" in text
        placed = result.claim.regime == "zero-text"
        place = "modules/gpt2/python/portable/portable" if placed else f"calibration/{result.claim.id}"
        assert f"`results/tiny/{place}/`" in text
        assert any(file.startswith(f"results/tiny/{place}/") for file in result.provenance.inputs)
    assert "| random |" in text


def test_a_card_names_the_hub_where_its_backbone_comes_from_there():
    [result] = [r for r in whole() if r.claim.id == "t5_to_gpt2"]
    hubs = {"gpt2_medium": {"id": "somebody/gpt2-medium", "revision": "0" * 40, "licence": "mit"}}
    text = card([result], WriteCards.model_validate({"scale": "paper", "results": "results/paper", "hubs": hubs}))
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "somebody/gpt2-medium"
    assert "\nlicense: mit\n" in text
    assert "license" not in card([result], CARDS).partition("\n# ")[0]
    assert "are no evidence" in card([result.model_copy(update={"meaningless": True})], CARDS)


def test_every_claim_that_leaves_modules_has_a_card_and_brings_its_regimes():
    claims = [name for name, claim in WORKFLOW.config.claims.items() if claim.kind != "near_transfer"]
    assert set(WORKFLOW.carded()) == {name for name in claims if WORKFLOW.claim(name).of is None}
    assert set(WORKFLOW.card_inputs()) == set(WORKFLOW.result_files(claims))


@pytest.mark.parametrize("part", ["tables", "checks", "curves", "matrices"])
def test_the_generic_parts_are_held_to_their_form(part, refuses):
    assert getattr(unknown(), part)
    with refuses(f"{part}.0.*delete the file"):
        unknown(**{part: [{"id": "x"}]})
