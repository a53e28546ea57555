"""`abi report --against`: the page of two runs says what `abi verify --against` says, and shows both sides."""

import json
import random
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from report_facts import plain, typed
from test_report_page import read

from abi.audit.results.agreement import agreed
from abi.audit.results.reading import ResultFile
from abi.base.files import ROOT
from abi.cli.main import main
from abi.report.against import Pair, TwoRuns, drawings, page
from abi.report.blocks import html
from abi.report.figures import svg_of
from abi.report.render import figure

REFERENCE = ROOT / "results/reference/tiny"
MOVED, FEW, LAW, LADDER = FILES = (
    "cross_family_nib_results.json",
    "gpt2_to_qwen_few_shot.json",
    "calibration_scaling_law_b_results.json",
    "reproduce_abi_results.json",
)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two equal runs of some claims: results/tiny, and other/."""
    monkeypatch.chdir(tmp_path)
    for place in ("results/tiny", "other"):
        Path(place).mkdir(parents=True)
        for name in FILES:
            shutil.copy(REFERENCE / name, place)


def edit(path, change):
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    document.pop("seal")
    change(document)
    Path(path).write_text(json.dumps(document), encoding="utf-8")


def report(*arguments):
    """Return the exit code of `abi report --against other`, and the page."""
    code = main(["report", "--against", "other", *arguments])
    return code, Path("results/tiny/against.html").read_text(encoding="utf-8")


def words(text):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text.replace("<wbr>", ""))).split())


def section(text, anchor):
    return text.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


def is_whole(text):
    """Check what every page must be: well formed, alone, and told to who does not see it."""
    found = read(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert not re.search(r"<script|<iframe|<object|<embed|<img|@import|url\((?!#)|\son\w+=", text)
    drawn = [attrs for tag, attrs in found.tags if tag == "svg"]
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert text.count("<desc>") == len(drawn) > 0
    assert ".csv" not in text  # there are no files beside it


def test_equal_runs_are_identical_on_a_page_that_needs_nobody(runs, capsys):
    code, text = report()
    assert (code, capsys.readouterr().out) == (0, "results/tiny/against.html: reproduced: 4 IDENTICAL\n")
    is_whole(text)
    told = words(section(text, "summary"))
    assert "IDENTICAL Reproduced: 4 claims, 4 IDENTICAL ." in told
    assert "Both were made alike" in told
    assert "compared with nothing" not in told
    assert {f"claim-{claim}" for claim in ("gpt2_to_qwen", "gpt2_to_qwen_few_shot", "reproduce")} <= set(read(text).ids)


def test_a_run_is_not_compared_with_itself(runs, capsys):
    assert main(["report", "--against", "results"]) == 2
    assert "results/tiny: is the run itself; name `reference` or" in capsys.readouterr().err
    assert not Path("results/tiny/against.html").exists()


def test_a_run_that_differs_is_told_claim_by_claim(runs):
    arm = plain()["gpt2_to_qwen"]["fits"]["kd"]["arms"]["raw"]["domain"]["js_nats"]["mean"]

    def change(document):
        document |= {"verdict": "VACUOUS"}
        document["fits"]["kd"]["arms"]["raw"]["domain"]["js_nats"]["mean"] = 1.25 * arm
        document["provenance"]["versions"]["torch"] = "9.9"
        document["provenance"]["hardware"]["cpu"] = "Another <processor>"

    edit(f"other/{MOVED}", change)
    edit(f"other/{FEW}", lambda document: document["rates"].update(seed=7))
    Path(f"other/{LAW}").unlink()
    Path(f"results/tiny/{LADDER}").unlink()
    code, text = report()
    assert code == 1 == main(["verify", "--brief", "--against", "other"])
    is_whole(text)
    summary = words(section(text, "summary"))
    assert "DIFFERENT Not reproduced: 2 claims, 1 EQUIVALENT and 1 DIFFERENT ." in summary
    assert "Only here, so compared with nothing: calibration_scaling ." in summary
    assert "Only there, so compared with nothing: reproduce ." in summary
    assert re.search(r"processor .* here, (.*, )?Another <processor>", summary)
    assert re.search(r"torch \S+ here, (\S+, )?9\.9", summary)
    assert "numpy" not in summary  # which is the same
    card = words(section(text, "claim-gpt2_to_qwen"))
    assert "Verdict: REFUTED here, VACUOUS there" in card
    assert "( fits/kd/arms/raw/domain/js_nats )" in card
    assert f"{figure(arm)} / {figure(1.25 * arm)} [ 20 % ]" in card
    assert "At most 5 % of the largest figure in a column is allowed" in card


def test_the_tolerance_that_is_given_is_used_and_told(runs):
    leaf = ("fits", "kd", "arms", "raw", "domain", "js_nats", "mean")
    mean = plain()["gpt2_to_qwen"]
    for key in leaf:
        mean = mean[key]
    edit(f"other/{MOVED}", lambda d: d["fits"]["kd"]["arms"]["raw"]["domain"]["js_nats"].update(mean=1.1 * mean))
    assert report()[0] == 1
    code, text = report("--tolerance", "0.2")
    assert code == 0
    assert "more than 20 % of the largest" in words(section(text, "summary"))


def changed(document):
    """A document whose every figure of a fit is a little off, as another processor leaves it."""
    off = random.Random(1)
    kept = {"level", "n_groups", "n_seeds", "counts"}

    def moved(node, key=""):
        if isinstance(node, dict):
            return {name: value if name in kept else moved(value, name) for name, value in node.items()}
        if isinstance(node, list):
            return [moved(value) for value in node]
        return node * off.uniform(0.99, 1.01) if isinstance(node, float) else node

    return {**document, "fits": moved(document["fits"])} if "fits" in document else document


def paired(document, tolerance=0.05):
    """Return both sides of a claim whose figures are a little off there."""
    here, there = (ResultFile(Path("x"), one, typed(one)) for one in (document, changed(document)))
    return Pair(here.result, there.result, agreed(here, there, tolerance))


def test_a_figure_shows_every_contrast_that_a_verdict_asks_for_in_both_runs():
    pair = paired(plain()["gpt2_to_qwen"])
    rows = [row for drawing in drawings(pair) for row in drawing.rows]
    asked = [
        (x, y) for x, y in zip(*(run.fits["kd"].tests for run in (pair.here, pair.there)), strict=True) if x.required
    ]
    means = [(x.mean, x.interval.lower, x.interval.upper, y.mean, y.interval.lower, y.interval.upper) for x, y in asked]
    assert sorted(row[1:7] for row in rows) == sorted(means)
    for drawing in drawings(pair):
        svg = svg_of(drawing)
        for name, here, _, _, there, *_ in drawing.rows:
            assert f">{name}</text>" in svg
            assert f"{name}: here {figure(here)} [" in svg
            assert f"there {figure(there)} [" in svg
        marks = dict(re.findall(r'class="(here|there) mark" d="([^"]*)"', svg))
        assert [marks[side].count("M") for side in ("here", "there")] == [len(drawing.rows)] * 2
        assert set(re.sub(r"[-\d. M]", "", marks["here"])).isdisjoint("hv")  # another shape, not only another colour


def test_the_page_of_a_whole_run_whose_every_figure_is_off_is_small():
    pairs = [paired(document) for document in plain().values()]
    made = page(TwoRuns("here", "there", pairs, [], [], 0.05))
    text = html(made, {drawing.name: svg_of(drawing) for drawing in made.drawings()})
    is_whole(text)
    assert len(text.encode()) < 1e6


@pytest.mark.parametrize(
    ("damage", "sentence", "code"),
    [
        (lambda: shutil.rmtree("other"), "other/tiny: holds no result file to compare results/tiny with", 2),
        (lambda: edit_all(lambda d: d.update(scale="smoke")), "other: holds results of scale smoke, not of tiny", 2),
        (lambda: Path(f"other/{MOVED}").write_text("{"), f"other/{MOVED}: ", 2),
        (lambda: edit(f"other/{MOVED}", lambda d: d.pop("verdict")), f"other/{MOVED}: leaf verdict: ", 1),
        (lambda: edit(f"results/tiny/{MOVED}", lambda d: d.update(verdict="VACUOUS")), f"results/tiny/{MOVED}: ", 1),
        (lambda: keep(f"other/{LAW}", f"results/tiny/{MOVED}"), "other: holds no claim that results/tiny holds", 2),
        (lambda: shutil.rmtree("results"), "results/tiny: holds no result file", 2),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(runs, damage, sentence, code, capsys):
    damage()
    assert main(["report", "--against", "other"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"abi: {sentence}")
    assert told.err.count("\n") == 1
    assert not Path("results/tiny/against.html").exists()


def edit_all(change):
    for name in FILES:
        edit(f"other/{name}", change)


def keep(*paths):
    """Delete the other files of both runs."""
    for path in [*Path("results/tiny").iterdir(), *Path("other").iterdir()]:
        if path.as_posix() not in paths:
            path.unlink()
