import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_facts import SPEC

from abi.audit.results import adopted
from abi.audit.results.places import folders
from abi.base.errors import DataError
from abi.base.manifests.pages import InstrumentManifest
from abi.judge.simulation import FAST, FULL, Cell, measure_cell, run
from abi.report.instrument_page import coverage_by_seeds, limit_words, render, verdict_rows

ROOT = Path(__file__).parents[2]
CRITERIA = SPEC.criteria
REFERENCE = ROOT / "docs" / "instrument.json"


@pytest.fixture(scope="module")
def reference():
    return InstrumentManifest.read(REFERENCE).figures


@pytest.fixture(scope="module")
def fast():
    return run(CRITERIA, replace(FAST, tables=40, rerun=40, studies=10, power=5, n_seeds=(3, 5)), seed=1)


def test_the_committed_run_is_a_full_one_of_the_protocol_in_force(reference):
    settings, points = reference.settings, [[point.seeds, point.standard_errors] for point in CRITERIA.resolvable]
    assert settings.effort == json.loads(json.dumps(FULL.__dict__))
    assert settings.criteria == {**CRITERIA.plain(), "resolvable": points}
    assert REFERENCE.stat().st_size < 300_000


def test_todays_intervals_give_the_first_figure_of_the_committed_run(reference):
    first = reference.coverage.first.cells[0]
    cell = Cell(**first.model_dump(exclude={"tables", "coverage"}))
    assert measure_cell(cell, FULL, 0.95, np.random.default_rng(reference.settings.seed)) == first


def chances(reference, *, room=4.0, harm_margin=None):
    """Number of seeds -> chance of SUPPORTED, with harm far away where no margin is given."""
    return {
        r.n_seeds: r.rates["SUPPORTED"]
        for r in reference.conditions
        if r.room == room
        and (r.harm_margin_se > 20 if harm_margin is None else r.harm_margin_se == pytest.approx(harm_margin))
    }


def test_the_proposals_say_of_room_what_was_simulated(reference):
    assert max(chances(reference, room=1.5).values()) < 0.8
    two = chances(reference, room=2)
    assert two[10] < 0.8 < min(two[3], two[5])
    assert min(min(chances(reference, room=room).values()) for room in (3, 4)) > 0.8
    assert chances(reference, room=5)[10] < 0.8


def test_the_proposals_say_of_harm_what_was_simulated(reference):
    assert max(chances(reference, harm_margin=2).values()) < 0.8 < min(chances(reference, harm_margin=6).values())


def test_the_page_names_every_limit_on_a_verdict_that_is_missed(reference):
    missed = [study for study in reference.studies if study.faults]
    assert [(s.kind, s.regime, s.n_seeds, f"{s.seed_share:.0%}") for s in missed] == [
        ("share of the best", "general-only", 3, "58%"),
        ("share of the best", "general-only", 3, "85%"),
        ("home", "oracle-kd", 10, "69%"),
    ]
    assert [round(study.rates["SUPPORTED"], 2) for study in missed] == [0.03, 0.04, 0.76]


def test_the_proposals_say_of_coverage_what_was_simulated(reference):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in coverage_by_seeds(reference).splitlines()[2:]
    ]
    assert {row[0]: int(row[4]) > 0 for row in rows} == {"3": True, "5": False, "10": False}
    assert {row[5] for row in rows} == {"0"}


def test_the_committed_run_is_not_taken_for_the_result_of_a_claim():
    assert ROOT / "results" / "reference" not in folders(ROOT / "results")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((0.0, 0.0), "never"),
        ((0.0, 0.025), "at most 2.5 %"),
        ((0.8, 1.0), "at least 80 %"),
        ((0.93, 0.97), "93 % to 97 %"),
    ],
)
def test_a_limit_in_words(limits, words):
    assert limit_words(*limits) == words


def test_every_limit_of_the_rule_has_a_row_and_a_broken_one_is_marked(fast):
    assert all(row[-2] == "inside" or row[-2].startswith("**outside**") for row in verdict_rows(fast, (3, 5)))
    assert len(verdict_rows(fast, (3, 5))) == 11
    studies = [study.model_copy(update={"rates": {**study.rates, "SUPPORTED": 0.5}}) for study in fast.studies]
    broken = fast.model_copy(update={"studies": studies})
    assert [row[-2][:11] for row in verdict_rows(broken, (3, 5))][:2] == ["**outside**"] * 2


def test_a_limit_asked_with_five_seeds_alone_is_not_told_of_three(fast):
    assert verdict_rows(fast, (3, 5))[-1][2:4] != ["-", "-"]
    assert verdict_rows(fast, (3, 5))[-1][2] == "-"


def test_every_table_of_the_page_has_rows_of_one_width(fast):
    for section in render(fast).split("## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, section


def test_a_run_is_adopted_only_if_it_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adopted, "SIMULATED", tmp_path / "docs" / "instrument.json")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "instrument.json").write_text("{}")
    with pytest.raises(DataError):
        adopted.adopt("instrument")
    assert not (tmp_path / "docs").exists()
    (tmp_path / "results" / "instrument.json").write_bytes(REFERENCE.read_bytes())
    adopted.adopt("instrument")
    assert (tmp_path / "docs" / "instrument.json").read_bytes() == REFERENCE.read_bytes()
