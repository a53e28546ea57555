"""`abi claims` and `abi show` on a made-up run."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from made_results import CLAIM, FILE, HEAVY, WORKFLOW, build, edit, put, reference, run

from abi.base.catalogue import ARMS
from abi.base.files import ROOT, sha256_file
from abi.cli import main, one_claim
from abi.judge.fits import Figure

OTHER = "t5_same_backbone"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return build(tmp_path_factory.mktemp("made"), [CLAIM])


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(capsys, *arguments):
    assert main.main(["claims", "--json", *arguments]) == 0
    return {row["id"]: row for row in json.loads(capsys.readouterr().out)["claims"]}


def output(capsys, *arguments, code=0):
    assert main.main(list(arguments)) == code
    return capsys.readouterr().out


def change_config(name, old, new):
    path = Path("config", name)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_claims_are_fresh_or_never_run(here, capsys):
    found = rows(capsys)
    assert (found[CLAIM]["verdict"], found[CLAIM]["state"]) == ("SUPPORTED", "fresh")
    assert (found[OTHER]["verdict"], found[OTHER]["state"]) == (None, "never run")
    assert "0.8699" in found[CLAIM]["published"]


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("protocol.yaml", "parity: 0.8", "parity: 0.7", "parity changed in config"),
        ("claims.yaml", "    title: T5 to GPT-2,", "    title: T5 and GPT-2,", "title changed in config"),
        (
            "claims.yaml",
            "few-shot: [lora]}\n    seeds: 5\n    closed_form_seeds: 10\n    record: {claim: t5_to",
            "few-shot: [lora]}\n    seeds: 3\n    closed_form_seeds: 10\n    record: {claim: t5_to",
            "other inputs",
        ),
    ],
)
def test_an_edit_of_the_configuration_makes_a_claim_stale(here, capsys, name, old, new, why):
    change_config(name, old, new)
    row = rows(capsys)[CLAIM]
    assert row["state"] == "stale"
    assert any(why in reason for reason in row["why"])


def test_an_edit_of_a_stage_before_the_verdict_makes_a_claim_stale(here, capsys):
    path = WORKFLOW.of(CLAIM).verdict_input()["source"][0]
    edit(path, put("provenance/spec/module/training/phases/0/lr", 0.5))
    edit(FILE, lambda d: d["provenance"]["inputs"].__setitem__(path, sha256_file(path)))
    assert any("lr of modules/" in reason for reason in rows(capsys)[CLAIM]["why"])


def test_an_edit_further_back_makes_a_claim_stale(here, capsys):
    """A verdict names its evidence and modules; states are two records back, and backbones three."""
    path = WORKFLOW.of(CLAIM).verdict_input()["source"][0]
    states = "results/tiny/states/t5_large/python.json"
    Path(states).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, states)
    edit(
        states,
        lambda d: d["provenance"].update(
            rule="write_states", spec=WORKFLOW.states_spec("t5_large", "python"), inputs={}
        ),
    )

    def asked():
        edit(path, lambda d: d["provenance"]["inputs"].__setitem__(states, sha256_file(states)))
        edit(FILE, lambda d: d["provenance"]["inputs"].__setitem__(path, sha256_file(path)))
        return " ".join(rows(capsys)[CLAIM]["why"])

    assert "max_windows" not in asked()
    edit(states, put("provenance/spec/max_windows/train", 7))
    assert "train of states/t5_large/python.json changed in config" in asked()
    edit(states, put("provenance/spec/max_windows/train", 8))
    assert "states/t5_large/python.json changed" in " ".join(rows(capsys)[CLAIM]["why"])
    Path(states).unlink()
    assert "states/t5_large/python.json is gone" in " ".join(rows(capsys)[CLAIM]["why"])


def test_other_code_makes_a_claim_stale(here, capsys):
    edit(FILE, put("provenance/code", "0" * 20))
    assert rows(capsys)[CLAIM]["why"] == ["code of the verdict changed"]


@pytest.mark.parametrize("gone", [True, False])
def test_a_changed_or_missing_input_makes_a_claim_stale(here, capsys, gone):
    path = Path(WORKFLOW.of(CLAIM).verdict_input()["evidence"][1])
    path.unlink() if gone else path.write_bytes(path.read_bytes() + b"\0")
    assert rows(capsys)[CLAIM]["why"] == [f"{path} {'is gone' if gone else 'changed'}"]


def test_an_unreadable_result_hides_no_other_claim(here, capsys):
    Path(FILE).write_text("{", encoding="utf-8")
    out = output(capsys, "claims", code=2)
    assert "unreadable" in out
    assert "never run" in out
    assert main.main(["show", CLAIM]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def damaged(name):
    result = json.loads(Path(FILE).read_text(encoding="utf-8"))
    if name == "twice":
        return Path(FILE).read_text(encoding="utf-8").replace("{", '{"verdict": "REFUTED",', 1)
    return "[" * 100_000 if name == "deep" else json.dumps(result | {"fits": {}})


@pytest.mark.parametrize("name", ["twice", "deep", "no fits"])
def test_a_damaged_result_is_shown_as_one_sentence(here, capsys, name):
    Path(FILE).write_text(damaged(name), encoding="utf-8")
    assert main.main(["show", CLAIM]) == (1 if name == "no fits" else 2)  # whole JSON, of which the seal says otherwise
    assert capsys.readouterr().err.count("\n") == 1
    assert main.main(["claims"]) == 2


def test_a_link_that_leads_nowhere_is_no_claim_that_was_never_run(here, capsys):
    Path(FILE).unlink()
    Path(FILE).symlink_to("nowhere.json")
    assert "unreadable" in output(capsys, "claims", code=2)
    assert main.main(["show", CLAIM]) == 2


@pytest.mark.parametrize(("key", "value"), [("claim/id", OTHER), ("scale", "tiny_r2")])
def test_a_result_of_another_claim_or_scale_is_not_shown_as_this_ones(here, capsys, key, value):
    edit(FILE, put(key, value))
    assert "holds the result of" in " ".join(output(capsys, "claims", code=2).split())
    assert main.main(["show", CLAIM]) == 2


@pytest.mark.parametrize("arguments", [["claims"], ["show", CLAIM], ["show", OTHER]])
def test_output_is_ascii_and_fits_100_columns(here, capsys, arguments):
    change_config("protocol.yaml", "parity: 0.8", "parity: 0.7")
    out = output(capsys, *arguments)
    assert out.isascii()
    assert max(len(line) for line in out.splitlines()) <= 100


@pytest.mark.parametrize("arguments", [["claims"], ["show", CLAIM]])
def test_nothing_heavy_is_imported(here, arguments):
    result = run(*arguments, flags=("-X", "importtime"), cwd=here)
    assert result.returncode == 0
    assert not {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()} & HEAVY


def test_show_says_everything_of_a_claim(here, capsys):
    out = output(capsys, "show", CLAIM)
    claim, result = WORKFLOW.claim(CLAIM), json.loads(Path(FILE).read_text(encoding="utf-8"))
    flat = " ".join(out.split())
    for words in (claim.title, claim.statement, result["reason"], "state: fresh", "0.8699", FILE):
        assert words in flat
    for test in result["fits"]["kd"]["tests"]:
        assert test["id"] in out
    for digest in result["provenance"]["inputs"].values():
        assert digest[:12] in out


def test_arms_stand_in_the_fixed_order(here, capsys):
    out = output(capsys, "show", CLAIM)
    lines = out[out.index("Arms on") : out.index("bits per byte (less")].splitlines()
    names = [line.split()[0] for line in lines if line.count("|") == 2]
    assert names == [arm for arm in ARMS if arm in names]
    assert {"raw", "oracle", "native", "transferred", "random"} <= set(names)


def drawn(**figures):
    return Figure(**figures, msd=None, mss=None, mse=None)


def test_a_plot_puts_seeds_mean_and_interval_where_they_are():
    arms = {
        "a": drawn(mean=0.5, lower=0.25, upper=0.75, per_seed={"1": 0.4, "2": 0.6}),
        "b": drawn(mean=0.5, lower=None, upper=None, per_seed={"1": 0.0, "2": 1.0}),
    }
    first, second, axis = one_claim.plot(arms)
    cells = first.split("|")[1]
    marks = {mark: cells.index(mark) / (one_claim.PLOT - 1) for mark in "(o)"}
    assert marks == pytest.approx({"(": 0.25, "o": 0.5, ")": 0.75}, abs=0.02)
    assert cells.count(".") == 2
    assert (second.split("|")[1][0], second.split("|")[1][-1]) == (".", ".")
    assert axis.split() == ["0", "1"]


def test_a_plot_of_equal_figures_is_no_division_by_zero():
    assert "o" in one_claim.plot({"a": drawn(mean=1.0, lower=1.0, upper=1.0, per_seed={"1": 1.0})})[0]


def test_json_holds_the_whole_result(here, capsys):
    data = json.loads(output(capsys, "show", CLAIM, "--json"))
    assert data["state"] == "fresh"
    assert data["result"] == json.loads(Path(FILE).read_text(encoding="utf-8"))


def test_never_run_says_what_builds_it(here, capsys):
    assert f"snakemake --config scale=tiny -- {OTHER}" in output(capsys, "show", OTHER)
    assert json.loads(output(capsys, "show", OTHER, "--json"))["result"] is None


def test_a_study_without_intervals_is_shown(tmp_path, monkeypatch, capsys):
    build(tmp_path, [CLAIM], groups=20)
    monkeypatch.chdir(tmp_path)
    out = output(capsys, "show", CLAIM)
    assert "too few for an interval" in out
    assert not re.search(r"  (yes|no)( \*)?$", out, re.MULTILINE)  # nothing was tested
    assert "Arms on held-out domain text" in out


def test_an_aggregate_names_everything_it_combines(here, capsys):
    assert "aggregate of gpt2_update, gpt2_to_gpt2_medium, pythia_to_gpt2" in output(capsys, "show", "reproduce")


def test_prose_is_as_wide_as_the_terminal(here):
    told = run("show", CLAIM, cwd=here, COLUMNS="80").stdout
    prose = told.partition("\nArms")[0].partition("\nTests")[0].splitlines()
    assert 60 < max(map(len, prose)) <= 80


def test_an_unknown_claim_names_the_closest(here, capsys):
    assert main.main(["show", "t5_to_gtp2"]) == 2
    err = capsys.readouterr().err
    assert "did you mean 't5_to_gpt2'" in err
    assert err.count("\n") == 1
    assert len(err) < 120  # it listed every claim


def test_an_unknown_scale_lists_the_valid_ones(here, capsys):
    assert main.main(["claims", "--scale", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err


def test_what_was_never_run_here_is_shown_as_it_was_committed(here, capsys):
    folder = reference(here)
    Path(FILE).unlink()
    row = rows(capsys)[CLAIM]
    assert (row["verdict"], row["state"], row["why"]) == ("SUPPORTED", "committed", [])
    assert "committed: never run here" in output(capsys, "claims")
    shown = output(capsys, "show", CLAIM)
    assert f"This is the committed run. Your own: snakemake --config scale=tiny -- {CLAIM}" in shown
    assert f"  {folder.relative_to(here) / Path(FILE).name}" in shown
    assert "SUPPORTED" in shown


def test_a_checkout_without_results_is_told(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    for command in (["claims"], ["show", CLAIM]):
        assert "There is no folder results/ here" in output(capsys, *command)


def test_the_checkout_is_used_where_the_folder_has_no_configuration(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert {row["state"] for row in rows(capsys).values()} <= {"committed", "fresh", "stale", "never run", "pending"}
    assert rows(capsys)[CLAIM]["verdict"]  # of the run that comes with it
    assert os.listdir(tmp_path) == []
