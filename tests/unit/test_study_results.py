"""`abi verify` on results of claims made of several studies and of the aggregate, whose truth is known."""

import json
import shutil
from pathlib import Path

import pytest
from made_results import WORKFLOW, digit_changed, edit, kinds, numbers, put, regenerate_summary
from made_studies import (
    AGGREGATE,
    ATLAS,
    LAW,
    SUCCESSION,
    UPDATE,
    build_studies,
    evidence,
    make_study,
    write_evidence,
)
from sweeps import first

from abi.audit.record.arithmetic import lookup
from abi.audit.results import staleness
from abi.audit.results.verify import verify
from abi.base.files import sha256_file
from abi.judge.kinds import aggregate as reproduction
from abi.judge.kinds.update import efficacies
from abi.judge.results import AlignmentFacts, ClaimFacts, Result, StudyResult, read_result
from abi.plan.config import load
from abi.plan.workflow import Workflow

FILES = {claim: WORKFLOW.result_file(claim) for claim in (UPDATE, ATLAS, LAW, SUCCESSION, AGGREGATE)}
STUDIES = (UPDATE, ATLAS, LAW, SUCCESSION)


@pytest.fixture(scope="module")
def made_studies(tmp_path_factory):
    return build_studies(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def made_aggregate(tmp_path_factory):
    return build_studies(tmp_path_factory.mktemp("aggregate"), (UPDATE, AGGREGATE))


@pytest.fixture
def here(made_studies, tmp_path, monkeypatch):
    """A private copy of the results of four claims, as the working directory."""
    shutil.copytree(made_studies, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def aggregate(made_aggregate, tmp_path, monkeypatch):
    """The same of the aggregate and its rungs."""
    shutil.copytree(made_aggregate, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(claim):
    return json.loads(Path(FILES[claim]).read_text(encoding="utf-8"))


def provenance(claim):
    return read_result(FILES[claim]).provenance


def leaves(found, claim, *wanted):
    return [f.leaf for f in kinds(found, *(wanted or ("TAMPERED",))) if f.file == FILES[claim]]


# honest results


def test_an_honest_run_passes_and_is_recomputed_bit_for_bit(here):
    found = verify(recompute=True)
    assert found.findings == []
    [scale] = found.scales
    assert set(scale.recomputed) == set(STUDIES)
    assert {claim: scale.results[claim].result.verdict for claim in (UPDATE, ATLAS, SUCCESSION)} == dict.fromkeys(
        (UPDATE, ATLAS, SUCCESSION), "SUPPORTED"
    )


@pytest.mark.parametrize(
    ("levels", "groups", "word"),
    first(
        1,
        [
            ({"zero-shot": 0.2, "zero-shot-free": 0.1}, 32, "REFUTED"),
            ({"zero-shot": 0.8, "zero-shot-free": 0.8}, 32, "INCONCLUSIVE"),
            ({"oracle": 0.0}, 32, "VACUOUS"),
            ({"zero-shot-free": 0.97}, 32, "VACUOUS"),
            ({}, 20, "INCONCLUSIVE"),
        ],
    ),
)
def test_every_verdict_word_of_a_study_follows_from_its_own_file(here, levels, groups, word):
    make_study(UPDATE, levels, groups)
    regenerate_summary(FILES[UPDATE])
    found = verify([UPDATE])
    assert document(UPDATE)["verdict"] == word
    assert leaves(found, UPDATE) == []


def test_the_summary_shows_the_perplexities_of_a_study(here):
    shown = Path("results/tiny/summary.md").read_text(encoding="utf-8")
    assert f"{document(UPDATE)['perplexity']['gpt2_medium_general-python']['zero-shot-free']:.3g}" in shown


# altered results


@pytest.mark.parametrize(
    ("claim", "leaf", "value"),
    [
        (UPDATE, "fits/gpt2_medium_general-python/verdict", "REFUTED"),
        (UPDATE, "fits/gpt2_medium_general-python/tests/0/passed", False),
        (UPDATE, "fits/gpt2_medium_general-python/refutations/0/holds", True),
        (UPDATE, "fits/gpt2_medium_general-python/fit", "gpt2_medium_sql-python"),
        (UPDATE, "fits/gpt2_medium_general-python/arms/raw/domain/bits_per_byte/mean", 2.61),
        (UPDATE, "verdict", "REFUTED"),
        (SUCCESSION, "verdict", "INCONCLUSIVE"),
        (SUCCESSION, "checks/1/passed", False),
        (ATLAS, "fits/sql/tests/3/passed", False),
        (ATLAS, "scale", "paper"),
        (LAW, "claim/texts", ["python"]),
        (UPDATE, "tables/0/rows/1/9", "VACUOUS"),
        (UPDATE, "tables/1/rows/0/3", 900),
        (LAW, "tables/0/rows/0/3", 4),
        (ATLAS, "protocol", 1),
    ],
)
def test_an_edit_is_found_without_recomputation(here, claim, leaf, value):
    edit(FILES[claim], put(leaf, value))
    regenerate_summary(FILES[claim])
    found = verify()
    assert found.code() == 1
    assert any(name == leaf or name.startswith(f"{leaf}/") for name in leaves(found, claim))


def test_a_refuted_study_and_a_claim_that_rests_on_it_are_found_where_the_figures_say_otherwise(here):
    edit(FILES[SUCCESSION], put("fits/round2-python/verdict", "REFUTED"))
    edit(FILES[SUCCESSION], put("verdict", "REFUTED"))
    regenerate_summary(FILES[SUCCESSION])
    found = leaves(verify(), SUCCESSION)
    assert {"verdict", "fits/round2-python/verdict"} <= set(found)


EDITS = [
    (UPDATE, "verdict", "INCONCLUSIVE"), (UPDATE, "verdict_at_strict_level", "REFUTED"), (UPDATE, "reason", "because"),
    (UPDATE, "fits/gpt2_medium_general-python/reason", "because"), (UPDATE, "tables/2/rows/0/1", 0.1), (UPDATE, "tables/0/caption", "x"),
    (UPDATE, "tables/0/rows/1/2", 900), (UPDATE, "tables/0/rows/2/8", "yes"), (UPDATE, "tables/1/rows/0/2", "u-python"),
    (ATLAS, "matrices/0/values/0/1", 0.01), (ATLAS, "tables/0/rows/0/1", 30.0), (ATLAS, "checks/0/passed", False),
    (ATLAS, "fits/sql/published_criteria/arms/chart/passed", True), (SUCCESSION, "curves/0/series/1/y/2", 2.0),
    (LAW, "verdict", "SUPPORTED"), (LAW, "reason", "a law"), (LAW, "law/n_used", 3), (LAW, "law/r2_withheld", None),
    (LAW, "tables/0/rows/4/3", 25), (LAW, "curves/0/series/0/y/0", 0.9), (UPDATE, "perplexity/gpt2_medium_general-python/raw", 2.0),
    (UPDATE, "rows/evidence/bits_per_byte/n", 1), (UPDATE, "tables/4/rows/0/3", 9.0), (UPDATE, "checks/3/value", 0.1),
]  # fmt: skip


@pytest.mark.parametrize("claim", first(1, STUDIES))
def test_every_edit_and_one_digit_of_a_leaf_is_found_and_named_by_recomputation(here, claim):
    stored, edits = document(claim), {leaf: value for of, leaf, value in EDITS if of == claim}
    assert all(lookup(stored, leaf) != value for leaf, value in edits.items())
    every = [
        (leaf, value) for leaf, value in numbers(stored) if not leaf.startswith(("provenance/", "protocol", "record/"))
    ]
    changed = {leaf: digit_changed(value) for leaf, value in every[:: max(1, len(every) // 40)]} | edits

    def change(document):
        for leaf, value in changed.items():
            put(leaf, value)(document)

    edit(FILES[claim], change)
    regenerate_summary(FILES[claim])
    found = verify([claim], recompute=True)
    assert found.code() == 1
    assert changed.keys() <= set(leaves(found, claim))


def test_a_digit_of_the_evidence_is_found_although_the_hashes_were_regenerated(here):
    frame = evidence(UPDATE)
    line = frame.index[(frame["arm"] == "zero-shot") & (frame["seed"] == 2) & (frame["metric"] == "bits_per_byte")][3]
    frame.loc[line, "value"] *= 1.001
    write_evidence(UPDATE, frame)
    inputs = WORKFLOW.of(UPDATE).verdict_input()
    assert leaves(verify(), UPDATE) == []
    assert {f.file for f in verify().findings} >= set(inputs["evidence"])
    for path in [*inputs["evidence"], *inputs["manifests"]]:
        digest = sha256_file(path)
        edit(FILES[UPDATE], lambda d, p=path, h=digest: d["provenance"]["inputs"].__setitem__(p, h))
    regenerate_summary(FILES[UPDATE])
    assert verify().code() == 0
    found = leaves(verify([UPDATE], recompute=True), UPDATE)
    assert "fits/gpt2_medium_general-python/arms/zero-shot/domain/bits_per_byte/per_seed/2" in found


def test_a_figure_of_an_update_is_found_although_the_hash_was_regenerated(here):
    path = WORKFLOW.of(UPDATE).verdict_input()["updates"][0]
    edit(path, put("members/1/figures/general_loss_after", 1.0))
    assert path in [f.file for f in verify().findings]
    edit(FILES[UPDATE], lambda d: d["provenance"]["inputs"].__setitem__(path, sha256_file(path)))
    regenerate_summary(FILES[UPDATE])
    tables = document(UPDATE)["tables"]
    i = next(i for i, table in enumerate(tables) if table["id"] == "updates")
    assert f"tables/{i}/rows/1/4" in leaves(verify([UPDATE], recompute=True), UPDATE)


def test_a_study_taken_out_is_found_by_recomputation(here):
    edit(FILES[UPDATE], lambda d: d["fits"].pop("gpt2_medium_general-python"))
    regenerate_summary(FILES[UPDATE])
    assert any(leaf.startswith("fits") for leaf in leaves(verify([UPDATE], recompute=True), UPDATE))


# stale results


def config_edit(name, old, new):
    path = Path("config", name)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new", "stale"),
    [
        ("protocol.yaml", "half: 0.5", "half: 0.6", {UPDATE, ATLAS, LAW, SUCCESSION}),
        ("scales/tiny.yaml", "budgets: {steps: [0, 4, 6,", "budgets: {steps: [0, 6,", {LAW}),
        ("protocol.yaml", "floor: 0.9", "floor: 0.8", {UPDATE, ATLAS, LAW, SUCCESSION}),
        ("claims.yaml", "mixture: [python, general]", "mixture: [python, sql]", {ATLAS}),
        ("scales/tiny.yaml", "    rounds: 3", "    rounds: 2", {UPDATE, SUCCESSION, LAW}),
        ("scales/tiny.yaml", "windows_per_batch: 4", "windows_per_batch: 5", {UPDATE, ATLAS, LAW, SUCCESSION}),
    ],
)
def test_an_edit_of_the_configuration_makes_what_rests_on_it_stale(here, name, old, new, stale):
    config_edit(name, old, new)
    now = Workflow(load("tiny", Path()))
    assert {claim for claim in STUDIES if list(staleness.stale(now, claim, provenance(claim)))} == stale


def test_a_stale_result_is_said_to_be_so_and_not_tampered(here):
    config_edit("scales/tiny.yaml", "budgets: {steps: [0, 4, 6,", "budgets: {steps: [0, 6,")
    found = verify([LAW], recompute=True)
    assert found.code() == 0
    assert leaves(found, LAW, "STALE")


# the aggregate


@pytest.mark.long
def test_an_honest_aggregate_passes_and_is_recomputed_bit_for_bit(aggregate):
    assert verify().findings == []
    found = verify([AGGREGATE], recompute=True)
    assert found.findings == []
    assert AGGREGATE in found.scales[0].recomputed


def test_the_rules_of_the_aggregate_are_their_closed_forms(aggregate):
    stored = document(AGGREGATE)
    results = {r: read_result(WORKFLOW.result_file(r)) for r in stored["claim"]["rungs"]}
    found = {item["id"]: item for item in stored["checks"]}
    e2 = efficacies(results[UPDATE].perplexity["gpt2_medium_general-python"], None).e2
    assert (found["R1"]["value"], found["R2"]["value"]) == (e2, e2)
    for name, claim in (("R3", "gpt2_to_gpt2_medium"), ("R4", "pythia_to_gpt2")):
        assert found[name]["value"] == reproduction.e4(results[claim])
        multiple = 0.9 * results[claim].d_abi ** 0.5
        assert f"cosine {multiple:.3g} times" in found[name]["words"]
    assert {name: item["threshold"] for name, item in found.items()} == {"R1": 0.5, "R2": 0.35, "R3": 0.7, "R4": 0.7}


def transfer(start=20.0, end=10.0, moved=12.0, cosine=0.6):
    ppl = {"-": {"untrained": {"domain": start}, "oracle": {"domain": end}}, "kd": {"transferred": {"domain": moved}}}
    aligned = [
        AlignmentFacts.model_construct(rotation=rotation, cosine_held_out=found)
        for rotation, found in (("aligned", cosine), ("own", 0.0))
    ]
    claim = ClaimFacts.model_construct(fit="kd")
    return Result.model_construct(perplexity=ppl, claim=claim, d_abi=256, alignments=aligned)


UPDATED = {
    "raw": 40.0, "zero-shot": 25.0, "zero-shot-off": 50.0, "oracle": 20.0, "oracle-off": 40.0, "oracle-before": 30.0,
    "random": 80.0, "random-off": 64.0, "zero-shot-free": 28.0,
}  # fmt: skip


def rules(cosine=0.6, moved=12.0, **ppl):
    names = reproduction.RULED.values()
    update = StudyResult.model_construct(fits={"s": None}, perplexity={"r": {}, "s": {**UPDATED, **ppl}})
    results = {reproduction.UPDATE: update} | {name: transfer(moved=moved, cosine=cosine) for name in names}
    return {item.id: item for item in reproduction.checks_of(results)}


def test_r1_to_r4_are_the_originals_figures_and_thresholds():
    found = rules()
    assert [found[f"R{i}"].value for i in (1, 2, 3, 4)] == pytest.approx([1.0, 1.0, 0.8, 0.8])
    assert all(item.passed for item in found.values())
    assert "alignment cosine 9.6 times" in found["R3"].words


@pytest.mark.parametrize(
    ("options", "failed"),
    [
        ({"zero-shot": 40.0}, {"R1", "R2"}), ({"zero-shot": 39.0, "zero-shot-free": 41.0}, {"R1"}),
        ({"zero-shot": 42.0, "zero-shot-free": 45.0}, {"R1", "R2"}), ({"zero-shot": 30.0, "zero-shot-free": 29.0}, {"R2"}),
        ({"zero-shot": 30.0, "zero-shot-free": 30.0}, {"R2"}), ({"moved": 13.1}, {"R3", "R4"}),
        ({"cosine": 0.49}, {"R3", "R4"}), ({"cosine": -0.6}, set()), ({"oracle-off": 20.0}, {"R1", "R2"}),
    ],
)  # fmt: skip
def test_a_rule_fails_where_its_figure_or_its_condition_does(options, failed):
    assert {name for name, item in rules(**options).items() if not item.passed} == failed


def test_e4_is_the_way_from_the_untrained_interface_and_none_without_one():
    assert reproduction.e4(transfer(moved=8.0)) == pytest.approx(1.2)
    assert reproduction.e4(transfer(start=9.0)) is None
    assert rules(moved=12.0)["R3"].value is not None


def test_an_altered_rule_of_the_aggregate_is_found(aggregate):
    edits = {
        "checks/0/value": 0.1, "checks/1/passed": False, "checks/2/words": "E4", "checks/3/threshold": 0.1,
        "rungs/0/verdict": "REFUTED",
    }  # fmt: skip
    for leaf, value in edits.items():
        assert lookup(document(AGGREGATE), leaf) != value
        edit(FILES[AGGREGATE], put(leaf, value))
    regenerate_summary(FILES[AGGREGATE])
    assert edits.keys() <= set(leaves(verify([AGGREGATE]), AGGREGATE))


def test_the_aggregate_is_supported_only_if_every_rung_is(aggregate):
    words = {rung["id"]: rung["verdict"] for rung in document(AGGREGATE)["rungs"]}
    assert document(AGGREGATE)["verdict"] == ("SUPPORTED" if set(words.values()) == {"SUPPORTED"} else "INCONCLUSIVE")
    edit(FILES[AGGREGATE], put("verdict", "REFUTED"))
    regenerate_summary(FILES[AGGREGATE])
    assert "verdict" in leaves(verify(), AGGREGATE)
