"""A run that is adopted as the committed one: whole, listed, and with the code that made it."""

import csv
import shutil
from pathlib import Path

import pytest
from made_results import FILE, build, edit, put

from abi.audit.results import adopted
from abi.audit.results.adopted import ALL, CODE, COLUMNS, rules_changed
from abi.audit.results.carried import differences, read_carried, stands_for
from abi.audit.results.places import altered
from abi.audit.results.verify import verify
from abi.base.files import ROOT
from abi.base.names import HOME, HOME_IDENTITY, RANDOM
from abi.judge.results import read_result
from abi.plan.measured import committed
from abi.report.words import plain_words

FOLDER = Path("results/reference/tiny")
BEHIND = {"build_text", "build_backbone", "train_modules", "fit_alignment", "calibrate_arms"}
BEHIND |= {"choose_rates", "train_lora", "evaluate_arms", "measure_overlap", "judge_claim"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in the working directory, and a place for what is committed."""
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adopted, "REFERENCE", FOLDER.parent)
    monkeypatch.setattr(adopted, "adopt_jobs", lambda scale, keep: None)
    return tmp_path


def test_what_is_adopted_is_listed_with_the_code_of_every_rule_behind_it(run):
    assert rules_changed("tiny") is None
    adopted.adopt("tiny")
    assert altered(FOLDER) == []
    assert verify().code() == 0
    assert {row["rule"] for row in csv.DictReader((FOLDER / CODE).read_text().splitlines())} == BEHIND
    assert rules_changed("tiny") == []


@pytest.mark.parametrize(
    ("edited", "named"),
    [
        ("# a comment\ndef judge_claim(", []),
        ("OTHER = 1\n\n\ndef judge_claim(", []),  # which the rule does not reach
        ("def judge_claim(other: int, ", ["judge_claim"]),
    ],
)
def test_an_edit_of_the_engine_names_the_rules_whose_committed_figures_are_of_other_code(run, edited, named):
    adopted.adopt("tiny")
    shutil.copytree(ROOT / "abi", run / "abi", ignore=shutil.ignore_patterns("__pycache__"))
    path = run / "abi" / "judge" / "judgement.py"
    parts = path.read_text(encoding="utf-8").split("def judge_claim(")
    assert len(parts) == 2
    path.write_text(edited.join(parts), encoding="utf-8")
    assert rules_changed("tiny", run) == named


def test_results_that_a_run_does_not_have_stay_where_that_is_asked(run):
    FOLDER.mkdir(parents=True)
    shutil.copy(FILE, FOLDER / "other.json")
    (FOLDER / CODE).write_text(f"{','.join(COLUMNS)}\nold_rule,0,abi/__init__.py,{ALL}\n", encoding="utf-8")
    adopted.adopt("tiny", keep=True)
    assert altered(FOLDER) == []
    rows = {row.rule: row.results.split() for row in adopted.codes_of("tiny")}
    assert rows.pop("old_rule") == ["other.json"]
    assert set(rows) == BEHIND
    assert all(Path(FILE).name in names and "other.json" not in names for names in rows.values())
    assert rules_changed("tiny") == ["old_rule"]
    adopted.adopt("tiny")
    assert not (FOLDER / "other.json").exists()
    assert rules_changed("tiny") == []


@pytest.fixture
def later(run, tmp_path_factory):
    """A committed run, two runs of it, and how to let the second one's code stand for the first's."""
    adopted.adopt("tiny")
    folder = tmp_path_factory.mktemp("later") / "results" / "tiny"
    shutil.copytree("results/tiny", folder)
    for path in folder.glob("*_results.json"):
        edit(path, put("provenance/code", "f" * 20))
    return folder, lambda: adopted.carry("tiny", Path("results/tiny"), folder)


def test_code_that_gives_the_same_figures_stands_for_the_one_that_made_the_run(later, monkeypatch):
    _, carry = later
    digest = adopted.code_digest
    monkeypatch.setattr(
        adopted, "code_digest", lambda *files, root: "f" * 20 if "judge" in files[0] else digest(*files)
    )
    assert rules_changed("tiny") == ["judge_claim"]
    assert carry() == 1
    assert rules_changed("tiny") == []
    assert altered(FOLDER) == []
    [row] = read_carried(FOLDER)
    assert (row.rule, row.after) == ("judge_claim", "f" * 20)
    assert stands_for(*row[:3], [row, row._replace(before=row.after, after="e" * 20)]) == {
        row.before,
        row.after,
        "e" * 20,
    }
    monkeypatch.setattr(
        adopted, "code_digest", lambda *files, root: "0" * 20 if "judge" in files[0] else digest(*files)
    )
    assert rules_changed("tiny") == ["judge_claim"]
    adopted.adopt("tiny")
    assert read_carried(FOLDER) == []


def test_no_code_stands_for_another_where_a_figure_or_a_tensor_differs(later, refuses):
    folder, carry = later
    edit(folder / Path(FILE).name, put("fits/kd/tests/0/interval/lower", 0.123))
    with refuses("1 differences, so no code is carried on; .*/fits/kd/tests/0/interval/lower: .* before, 0.123 after"):
        carry()
    shutil.copy(FILE, folder)
    edit(folder / Path(FILE).name, put("fits/kd/reason", "the same figures in other words"))
    assert not any(differences(Path("results/tiny"), folder))
    evidence = next(folder.glob("evidence/*/*.json"))
    edit(
        evidence,
        lambda found: found["provenance"]["outputs"].update(dict.fromkeys(found["provenance"]["outputs"], "a" * 64)),
    )
    with refuses("differences, so no code is carried on; .*: not the same file"):
        carry()
    edit(
        evidence,
        lambda found: found["provenance"].update(
            outputs={f"{name}x": sha256 for name, sha256 in found["provenance"]["outputs"].items()}
        ),
    )
    with refuses("differences, so no code is carried on; .*: only in one of the runs"):
        carry()
    evidence.unlink()
    with refuses("1 differences, so no code is carried on; .*: only in one of the runs"):
        carry()
    assert read_carried(FOLDER) == []


def test_a_result_of_other_figures_is_left_out_where_it_was_adopted_anew(later, monkeypatch, refuses):
    folder, _ = later
    edit(folder / Path(FILE).name, put("fits/kd/tests/0/interval/lower", 0.123))
    name = Path(FILE).name
    with refuses(f"{name}: is by the code before, which gives other figures; build it by the code after and adopt it"):
        adopted.carry("tiny", Path("results/tiny"), folder, [name])
    assert read_carried(FOLDER) == []
    rows = [row._replace(code="f" * 20, results=name) for row in adopted.codes_of("tiny")]
    others = [row._replace(results="other.json") for row in adopted.codes_of("tiny")]
    monkeypatch.setattr(adopted, "codes_of", lambda _: [*rows, *others])
    assert adopted.carry("tiny", Path("results/tiny"), folder, [name]) == 1
    assert [row.compared.endswith(f"of {folder.name} but {name}") for row in read_carried(FOLDER)] == [True]


def test_a_result_that_is_not_committed_hinders_no_carrying(later):
    folder, _ = later
    for run in (Path("results/tiny"), folder):
        (run / "other.json").write_text((run / Path(FILE).name).read_text())
    edit(folder / "other.json", put("fits/kd/tests/0/interval/lower", 0.123))
    assert adopted.carry("tiny", Path("results/tiny"), folder, ["other.json"]) == 1


def test_a_run_of_several_codes_carries_none_on(later, refuses):
    folder, carry = later
    records = sorted(folder.glob("calibration/*/*.json"))
    shutil.copytree(records[0].parent, records[0].parent.with_name("other"))
    shutil.copytree(
        Path("results/tiny", records[0].parent.relative_to(folder)),
        records[0].parent.relative_to(folder.parents[1]).with_name("other"),
    )
    edit(records[0].parent.with_name("other") / records[0].name, put("provenance/code", "0" * 20))
    with refuses("calibrate_arms: its jobs were run by different codes; build the run whole by one"):
        carry()


def test_a_run_that_is_not_of_the_code_of_now_is_not_adopted(run, refuses):
    edit(FILE, put("provenance/code", "0" * 20))
    with refuses("stale, code that made .* changed; a run is adopted whole: `abi run --mend --scale tiny` first"):
        adopted.adopt("tiny")
    assert not FOLDER.exists()


def test_a_table_of_codes_that_is_none_is_refused(tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(adopted, "REFERENCE", tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / CODE).write_text("rule,code\njudge_claim,0\n", encoding="utf-8")
    with refuses("is no table of rule, code, files, results; write it again with `abi docs --adopt tiny`"):
        rules_changed("tiny")


def test_the_committed_run_is_of_the_code_of_this_checkout():
    # After an edit of the engine: `make reproduce-all`, then `abi docs --adopt tiny`, on one machine.
    assert rules_changed("tiny") == []


def test_the_lead_of_the_positive_control_is_its_rotation():
    """What docs/protocol.md, proposal (g), says of the committed run."""
    found = [read_result(path) for path in committed("tiny")]
    fits = [one.deciding for one in found if one.claim.kind == "transfer" and one.claim.regime == "oracle-kd"]
    assert len(fits) == 6
    lost = []
    for fit in fits:
        home, bare, random = (fit.arms[arm].of("domain")["js_nats"].mean for arm in (HOME, HOME_IDENTITY, RANDOM))
        lost.append((bare - home) / (random - home))
    assert sum(share > 0.9 for share in lost) == 5
    assert min(lost) > 7 / 8 - 0.01


def test_a_statement_that_is_refuted_alone_is_not_told_as_what_decides():
    """An experiment asks every statement at a level that allows for all of them."""
    found = [one for one in map(read_result, committed("tiny")) if one.claim.kind == "experiment"]
    for result in found:
        words = plain_words(result)
        if result.verdict != "REFUTED" and "refuted" in words:
            assert "if asked alone" in words
    alone = [one for one in found if "only if asked alone" in plain_words(one)]
    assert [one.verdict for one in alone] == ["INCONCLUSIVE"] * 2
