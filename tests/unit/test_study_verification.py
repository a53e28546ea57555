"""A result made of several studies is checked leaf by leaf, by rules written a second time (reference results, no torch)."""

import copy
import json
from pathlib import Path

import pytest
from made_results import put

from abi.audit.results.findings import Checks, lookup
from abi.audit.results.questions import asked_of_study, study_roles
from abi.audit.results.several import check_study
from abi.judge import contrasts, protocol
from abi.plan.config import load

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "tiny"
UPDATE, SUCCESSION, ATLAS, LAW = (
    json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))
    for name in (
        "scale_validation_results", "succession_results_v2", "multi_domain_atlas_results", "calibration_scaling_law_b_results",
    )
)  # fmt: skip
CRITERIA = load("tiny").protocol["criteria"]


def found(result):
    checks = Checks("r.json")
    check_study(checks, result)
    return {finding.leaf for finding in checks.found}


def changed(result, leaf, value):
    """Return a copy with one leaf changed: to a value, or by a function of it."""
    made = copy.deepcopy(result)
    put(leaf, value(lookup(made, leaf)) if callable(value) else value)(made)
    return made


@pytest.mark.parametrize("result", [UPDATE, SUCCESSION, ATLAS, LAW], ids=["update", "succession", "atlas", "law"])
def test_an_honest_result_has_no_finding(result):
    assert found(result) == set()


@pytest.mark.parametrize("kind", ["update", "succession", "atlas"])
def test_the_questions_of_a_study_are_those_of_the_plans(kind):
    numbers = contrasts.Criteria.from_mapping(CRITERIA)
    texts = ["python", "prose", "sql"]
    roles = protocol.atlas_roles(["python", "sql"]) if kind == "atlas" else protocol.UPDATE
    plan = protocol.atlas_plan(numbers, roles) if kind == "atlas" else protocol.update_plan(numbers)
    mine = asked_of_study(kind, study_roles({"kind": kind, "texts": texts}, "prose"), CRITERIA)

    def plain(items):
        return [(q.id, q.words(), q.margin, q.required, q.closed) for q in items]

    assert plain(mine.tests) == plain(plan.own.tests)
    assert [(w.id, plain(w.questions)) for w in mine.ways] == [(r.id, plain(r.contrasts)) for r in plan.own.refutations]
    assert plain(mine.vacuous) == plain(plan.vacuous)
    assert not mine.secondary


ROUND = "fits/round1-python"


@pytest.mark.parametrize(
    ("result", "leaf", "value", "named"),
    [
        (UPDATE, "verdict", "REFUTED", "verdict"),
        (UPDATE, "reason", "because", "reason"),
        (SUCCESSION, "reason", "all 7 studies are SUPPORTED", "reason"),
        (UPDATE, f"{ROUND}/verdict", "INCONCLUSIVE", f"{ROUND}/verdict"),
        (UPDATE, f"{ROUND}/tests/1/interval/lower", -0.5, f"{ROUND}/tests/1/interval/lower"),
        (UPDATE, f"{ROUND}/tests/1/limit", -1.0, f"{ROUND}/tests/1/limit"),
        (UPDATE, f"{ROUND}/tests/1/contrast", "zero-shot - 0.1 oracle - 0.9 raw", f"{ROUND}/tests/1/contrast"),
        (UPDATE, f"{ROUND}/tests/3/required", False, f"{ROUND}/tests/3/required"),
        (UPDATE, f"{ROUND}/refutations/1/holds", True, f"{ROUND}/refutations/1/holds"),
        (UPDATE, f"{ROUND}/gap_closure/estimate", 0.99, f"{ROUND}/gap_closure/estimate"),
        (UPDATE, f"{ROUND}/arms/oracle/domain/bits_per_byte/mean", lambda m: m * 1.2, f"{ROUND}/arms/oracle/domain/bits_per_byte/mean"),
        (UPDATE, f"{ROUND}/published_criteria/arms/raw/passed", True, f"{ROUND}/published_criteria/arms/raw/passed"),
        (UPDATE, "checks/0/value", 0.0, "checks/0/passed"),
        (ATLAS, "fits/markdown/verdict", "SUPPORTED", "fits/markdown/verdict"),
        (ATLAS, "verdict", "SUPPORTED", "verdict"),
        (ATLAS, "fits/python/share/estimate", 0.9, "fits/python/share/estimate"),
        (ATLAS, "provenance/rule", "judge_claim", "provenance/rule"),
        (LAW, "scale", "paper", "scale"),
    ],
)  # fmt: skip
def test_every_altered_leaf_is_named(result, leaf, value, named):
    assert named in found(changed(result, leaf, value))


def test_no_refutation_of_the_whole_without_a_refuted_study():
    assert "verdict" in found(changed(UPDATE, "verdict", "VACUOUS"))
    words = {fit["verdict"] for fit in ATLAS["fits"].values()}
    assert "SUPPORTED" not in words or len(words) > 1
    calm = copy.deepcopy(SUCCESSION)
    for study in list(calm["fits"])[1:]:
        del calm["fits"][study]
    assert "verdict" in found(calm | {"verdict": "REFUTED"})


@pytest.mark.parametrize("gone", ["arms", "counts", "tests", "published_criteria"])
def test_a_study_without_a_part_is_one_sentence(gone):
    made = copy.deepcopy(UPDATE)
    del made["fits"]["round1-python"][gone]
    assert "" in found(made)
