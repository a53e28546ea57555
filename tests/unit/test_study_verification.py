"""A result made of several studies is judged again from its own figures, leaf by leaf (reference results, no torch)."""

import copy
import json
from pathlib import Path

import pytest
from made_results import put

from abi.audit.record.arithmetic import lookup
from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.relations import check_result
from abi.base.errors import DataError
from abi.judge.published import figures_of
from abi.judge.results import result_of

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "tiny"
UPDATE, SUCCESSION, ATLAS, LAW = (
    json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))
    for name in (
        "scale_validation_results", "succession_results_v2", "multi_domain_atlas_results", "calibration_scaling_law_b_results",
    )
)  # fmt: skip


def found(result):
    """Return the leaves that the checks of a result file name; "" for one that breaks its schema."""
    try:
        file = ResultFile(Path("r.json"), result, result_of(result, "r.json"))
    except DataError:
        return {""}
    checks = Checks("r.json")
    check_result(checks, file, {}, figures_of)
    return {finding.leaf for finding in checks.found}


def changed(result, leaf, value):
    """Return a copy with one leaf changed: to a value, or by a function of it."""
    made = copy.deepcopy(result)
    made.pop("seal", None)  # a careful forger writes none
    put(leaf, value(lookup(made, leaf)) if callable(value) else value)(made)
    return made


@pytest.mark.parametrize("result", [UPDATE, SUCCESSION, ATLAS, LAW], ids=["update", "succession", "atlas", "law"])
def test_an_honest_result_has_no_finding(result):
    assert found(result) == set()


STUDY = next(iter(UPDATE["fits"]))
ROUND = f"fits/{STUDY}"


def another(word):
    """A verdict word that is not the one that stands there."""
    return next(w for w in ("SUPPORTED", "REFUTED", "INCONCLUSIVE") if w != word)


def opposite(flag):
    return not flag


@pytest.mark.parametrize(
    ("result", "leaf", "value", "named"),
    [
        (UPDATE, "verdict", another, "verdict"),
        (UPDATE, "reason", "because", "reason"),
        (SUCCESSION, "reason", "all 7 studies are SUPPORTED", "reason"),
        (UPDATE, f"{ROUND}/verdict", another, f"{ROUND}/verdict"),
        (UPDATE, f"{ROUND}/tests/1/interval/lower", -0.5, f"{ROUND}/tests/1/interval/lower"),
        (UPDATE, f"{ROUND}/tests/1/limit", -1.0, f"{ROUND}/tests/1/limit"),
        (UPDATE, f"{ROUND}/tests/1/contrast", "zero-shot - 0.1 oracle - 0.9 raw", f"{ROUND}/tests/1/contrast"),
        (UPDATE, f"{ROUND}/tests/3/required", False, f"{ROUND}/tests/3/required"),
        (UPDATE, f"{ROUND}/refutations/1/holds", opposite, f"{ROUND}/refutations/1/holds"),
        (UPDATE, f"{ROUND}/gap_closure/estimate", 0.99, f"{ROUND}/gap_closure/estimate"),
        (UPDATE, f"{ROUND}/arms/oracle/domain/bits_per_byte/mean", lambda m: m * 1.2, f"{ROUND}/arms/oracle/domain/bits_per_byte/mean"),
        (UPDATE, f"{ROUND}/published_criteria/arms/raw/passed", opposite, f"{ROUND}/published_criteria/arms/raw/passed"),
        (UPDATE, "checks/0/value", 0.0, "checks/0/value"),
        (UPDATE, "checks/0/passed", opposite, "checks/0/passed"),
        (UPDATE, "verdict_at_strict_level", "VACUOUS", "verdict_at_strict_level"),
        (UPDATE, f"perplexity/{STUDY}/zero-shot", lambda p: p * 1.01, "tables/2/rows/0/4"),
        (UPDATE, "tables/2/rows/0/1", 0.99, "tables/2/rows/0/1"),
        (UPDATE, "tables/0/rows/0/5", 0.99, "tables/0/rows/0/5"),
        (UPDATE, "tables/1/rows/0/3", 900, "tables/1/rows/0/3"),
        (UPDATE, "tables/3/rows/1/2", 0.5, "checks/3/value"),
        (SUCCESSION, "curves/0/series/1/y/2", lambda y: y * 1.01, "curves/0/series/1/y/2"),
        (ATLAS, "matrices/0/values/0/1", lambda y: y * 1.01, "matrices/0/values/0/1"),
        (ATLAS, "tables/0/rows/0/1", 3.0, "tables/0/rows/0/1"),
        (ATLAS, "verdict_at_strict_level", another, "verdict_at_strict_level"),
        (LAW, "verdict", another, "verdict"),
        (LAW, "verdict_at_strict_level", another, "verdict_at_strict_level"),
        (LAW, "law/n_used", 3, "law/n_used"),
        (LAW, "tables/0/rows/0/1", 128, "tables/0/rows/0/1"),
        (LAW, "tables/0/rows/0/3", 100, "tables/0/rows/0/3"),
        (LAW, "curves/0/series/0/y/0", lambda y: y * 1.01, "tables/0/rows/0/5"),
        (ATLAS, "fits/markdown/verdict", another, "fits/markdown/verdict"),
        (ATLAS, "verdict", another, "verdict"),
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
    calm.pop("seal", None)
    for study in list(calm["fits"])[1:]:
        del calm["fits"][study]
    assert "verdict" in found(calm | {"verdict": "REFUTED"})


@pytest.mark.parametrize("gone", ["arms", "counts", "tests", "published_criteria"])
def test_a_study_without_a_part_is_one_sentence(gone):
    made = copy.deepcopy(UPDATE)
    made.pop("seal", None)
    del made["fits"][STUDY][gone]
    assert "" in found(made)
