import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from abi.base.files import ROOT
from abi.cli.main import main
from abi.judge.results import read_result
from abi.plan.config import load
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import replicates
from abi.report.replicates import (
    Figures,
    Replicated,
    ahead_of_placebos,
    counted,
    in_a_sentence,
    led_when_rebuilt,
    table,
)

REFERENCE = ROOT / "results" / "reference" / "tiny"
FILE = "t5_to_gpt2_general_only.json"


def test_a_replicate_differs_from_its_scale_in_pretraining_seeds_alone():
    names = replicates("tiny")
    assert len(names) >= 3
    own = Workflow(load("tiny"))
    seeds = set()
    for name in names:
        other = Workflow(load(name))
        for backbone in own.scale.backbones:
            one, two = own.backbone_spec(backbone), other.backbone_spec(backbone)
            seeds |= {one["build"]["pretraining"].pop("seed"), two["build"]["pretraining"].pop("seed")}
            assert one == two
        assert other.of("t5_to_gpt2").calibration_spec("1-5") == own.of("t5_to_gpt2").calibration_spec("1-5")
        assert other.module_spec("python", "standard", "source", "1-5") == own.module_spec(
            "python", "standard", "source", "1-5"
        )
    assert len(seeds) == (1 + len(names)) * len(own.scale.backbones)


def test_a_scale_of_ones_own_that_cannot_be_read_hides_no_replicate(tmp_path, monkeypatch):
    names = replicates("tiny")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config" / "scales" / "mine.yaml").write_text("scale: [", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert replicates("tiny") == names


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The same result at `tiny` and in two replicates, of which one has another word."""
    monkeypatch.chdir(tmp_path)
    given = json.loads((REFERENCE / FILE).read_text())
    given.pop("seal", None)
    for name, verdict in (("tiny", "INCONCLUSIVE"), ("tiny_r1", "INCONCLUSIVE"), ("tiny_r2", "VACUOUS")):
        (tmp_path / "results" / name).mkdir(parents=True)
        content = {**given, "scale": name, "verdict": verdict}
        (tmp_path / "results" / name / FILE).write_text(json.dumps(content))


def test_the_same_word_is_counted_over_the_replicates_that_are_built(built, capsys):
    assert main(["replicates", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["claim"] == "t5_to_gpt2_general_only"
    assert row["same"] == 1
    assert set(row["rebuilt"]) == {"tiny_r1", "tiny_r2"}
    assert main(["replicates"]) == 0
    told = capsys.readouterr().out
    assert "INCONCLUSIVE 1, VACUOUS 1" in told
    assert "tiny_r3" in told


def test_what_was_not_built_here_is_read_from_the_committed_runs(built, capsys):
    """A fresh clone said that nothing was built."""
    committed = Path("results/reference/tiny_r3")
    committed.mkdir(parents=True)
    there = Path("results/tiny_r2", FILE)
    (committed / FILE).write_text(there.read_text().replace('"tiny_r2"', '"tiny_r3"'))
    there.unlink()
    Path("results/tiny").rename("results/reference/tiny")
    assert main(["replicates", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert {name: found["verdict"] for name, found in row["rebuilt"].items()} == {
        "tiny_r1": "INCONCLUSIVE",
        "tiny_r3": "VACUOUS",
    }


def test_a_checkout_without_results_is_told(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert main(["replicates"]) == 0
    nothing, where, *_ = capsys.readouterr().out.splitlines()
    assert nothing == "no claim is built here and in a replicate"
    assert where == "There is no folder results/ here: run abi where your results are."


def test_a_replicate_that_cannot_be_read_hides_nothing_of_the_claim(built, capsys):
    Path("results/tiny_r1", FILE).write_text("{}")
    Path("results/tiny_r2", FILE).unlink()
    Path("results/tiny_r2", FILE).symlink_to("nowhere")
    assert main(["show", "t5_to_gpt2_general_only"]) == 0
    told = capsys.readouterr().out
    assert "INCONCLUSIVE" in told
    assert f"results/tiny_r1/{FILE}" in told
    Path("results/tiny_r1", FILE).unlink()
    assert main(["replicates"]) == 0


def test_a_result_that_no_replicate_holds_is_not_read_and_a_damaged_one_hides_no_other(built, capsys):
    other = "cross_family_nib_results.json"
    Path("results/tiny", other).write_text("{}")
    assert main(["replicates"]) == 0
    Path("results/tiny_r2", other).write_text("{}")
    for options in ([], ["--json"]):
        assert main(["replicates", *options]) == 2
        said = capsys.readouterr()
        assert "t5_to_gpt2_general_only" in said.out
        [sentence] = said.err.splitlines()
        assert sentence.startswith(f"abi replicates: results/tiny_r2/{other}: ")


def test_a_result_of_another_scale_is_none_of_this_one(built, capsys):
    """It was counted as a replicate that agrees."""
    shutil.copy(Path("results/tiny", FILE), Path("results/tiny_r1", FILE))
    assert main(["replicates", "--json"]) == 2
    said = capsys.readouterr()
    [row] = json.loads(said.out)
    assert set(row["rebuilt"]) == {"tiny_r2"}
    assert f"results/tiny_r1/{FILE}: holds the result of t5_to_gpt2_general_only at scale tiny;" in said.err


def test_one_claim_says_what_came_of_it_elsewhere(built, capsys):
    assert main(["show", "t5_to_gpt2_general_only"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "on backbones from other pretraining seeds (tiny_r1, tiny_r2): INCONCLUSIVE 1, VACUOUS 1" in told


@pytest.mark.parametrize(("lower", "ahead"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_a_net_is_ahead_where_it_is_shown_to_beat_every_placebo(lower, ahead):
    fit = read_result(REFERENCE / "cross_arch_enc_dec_nib_results.json").deciding
    bounds = {"4.attribution.js_nats.permuted": lower, "4.attribution.js_nats.random": 0.001}
    tests = [
        test.model_copy(update={"interval": test.interval.model_copy(update={"lower": bounds[test.id]})})
        if test.id in bounds
        else test
        for test in fit.tests
    ]
    assert ahead_of_placebos(fit.model_copy(update={"tests": tests}), "js_nats") is ahead
    assert ahead_of_placebos(fit.model_copy(update={"tests": []}), "js_nats") is None


def test_the_table_has_the_words_of_all_and_the_spread_of_figures():
    own = Figures("REFUTED", 0.02, 0.8, True)
    rebuilt = {"r1": Figures("REFUTED", -0.01, 0.7, False), "r2": Figures("SUPPORTED", 0.3, 0.9, True)}
    rebuilt["r3"] = Figures("REFUTED", None, None, None)
    made = table([Replicated("one", own, rebuilt), Replicated("two", Figures("VACUOUS", None, None, None), rebuilt)])
    assert [*made.rows[0]] == [
        "`one`",
        "REFUTED",
        "REFUTED 2, SUPPORTED 1",
        "yes; 1 of 2",
        "0.02; -0.01 to 0.3",
        "0.8; 0.7 to 0.9",
    ]
    assert [*made.rows[1]][3:] == ["-", "-", "-"]
    vacuous = Replicated("three", own, {"r1": Figures("VACUOUS", None, None, None)})
    assert [*table([vacuous]).rows[0]][3:] == ["yes; -", "-", "-"]
    assert in_a_sentence(vacuous).endswith("(r1): VACUOUS 1")
    fewer = {"r1": rebuilt["r1"]}
    assert counted([Replicated("one", own, rebuilt), Replicated("two", own, fewer)]) == (
        "2 claims were built again on backbones that were pretrained from other seeds. The verdict is the same in "
        "every rebuilt pair for 1 of 2; in 2 of 3 for `one`. Where the moved net leads every placebo here, it also leads "
        "in 1 of 2 for `one`; in 0 of 1 for `two`."
    )
    assert counted([Replicated("two", own, fewer)]).startswith(
        "1 claim was built again on backbones that were pretrained from other seeds. The verdict is the same in every "
        "rebuilt pair."
    )
    behind = replace(own, ahead=False)
    assert counted([Replicated("one", behind, rebuilt)]).endswith(
        "in 2 of 3 for `one`. Where it is not shown to lead here, it leads in 1 of 2 for `one`."
    )
    assert in_a_sentence(Replicated("one", own, rebuilt)) == (
        "on backbones from other pretraining seeds (r1, r2, r3): REFUTED 2, SUPPORTED 1; the net is ahead of every "
        "placebo in 1 of 2; share -0.01 to 0.3; gap closure 0.7 to 0.9"
    )


def test_claims_of_one_count_stand_together_and_a_lead_has_its_size_where_it_is_there_in_every_pair():
    own = Figures("REFUTED", 0.0, 0.8, False)
    pairs = {"all": (True, True), "one": (True, False), "other": (False, True), "none": (False, False)}
    shares = (0.012, 0.192)
    rows = [
        Replicated(claim, own, {f"r{i}": Figures("REFUTED", shares[i], 0.7, ahead) for i, ahead in enumerate(found)})
        for claim, found in pairs.items()
    ]
    assert counted(rows).endswith(
        "it leads in 2 of 2 for `all`; in 1 of 2 for `one` and `other`; in 0 of 2 for `none`."
    )
    assert led_when_rebuilt(rows, pairs) == (
        "On backbones from other pretraining seeds it is shown to lead both in 2 of 2 for `all`; in 1 of 2 for `one` "
        "and `other`. In `all` its lead is 1.2 to 19 % of its gain."
    )
    assert led_when_rebuilt(rows, {"one"}).endswith("lead both in 1 of 2 for `one`.")
    assert led_when_rebuilt(rows, {"none"}) == ""
