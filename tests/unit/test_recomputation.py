"""`abi verify --recompute` and `--against`: forgeries that a careful forger makes, stale results, other runs."""

import copy
import functools
import gzip
import json
import math
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from made_results import (
    CLAIM,
    FILE,
    WORKFLOW,
    digit_changed,
    edit,
    edit_reference,
    judge,
    kinds,
    numbers,
    put,
    reference,
    regenerate,
    regenerate_summary,
    spine,
    summarise,
    write_csv,
    write_promise,
)

from abi.audit.record.arithmetic import lookup
from abi.audit.results import checkout, recomputation
from abi.audit.results.findings import differences
from abi.audit.results.reading import ResultFile
from abi.audit.results.recomputation import STAGES, inputs_of
from abi.audit.results.verify import verify
from abi.base.errors import ConfigError, DataError
from abi.base.files import parse_file
from abi.base.typed import Provenance
from abi.cli.main import main
from abi.judge.results import read_result

TIMINGS = ("rule", "versions", "threads", "elapsed_s", "peak_memory_mb", "hardware")


def test_an_honest_run_is_recomputed_bit_for_bit(here):
    found = verify(recompute=True)
    assert found.findings == []
    assert all(n > 1000 for scale in found.scales for n in scale.recomputed.values())


@pytest.mark.long
def test_one_digit_of_every_leaf_is_found(here, monkeypatch, capsys):
    for name in ("load", "versions", "hardware"):
        monkeypatch.setattr(recomputation, name, functools.cache(getattr(recomputation, name)))
    memory = {}

    def judged_again(stored, real=recomputation.judged_again):
        key = (
            stored.rule,
            stored.spec["claim"]["kind"],
        )  # a changed spec is named by config, so one judgement a claim is enough
        if key not in memory:
            memory[key] = real(stored)
        return memory[key]

    monkeypatch.setattr(recomputation, "judged_again", judged_again)
    monkeypatch.setattr(recomputation, "stale", quick_stale)
    monkeypatch.setattr(recomputation, "count_numbers", lambda _: 0)
    monkeypatch.setattr(recomputation, "differences", lambda a, b, **rest: differences(*unequal(a, b), **rest))
    started, tried, named = time.perf_counter(), 0, 0
    for claim in (CLAIM, "t5_same_backbone"):
        path = WORKFLOW.result_file(claim)
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        honest = read_result(path)
        for leaf, value in numbers(document):
            if leaf.startswith("provenance/") and leaf.split("/")[1] in TIMINGS:
                continue
            changed = copy.copy(document)
            spine(changed, leaf, digit_changed(value))
            made = Provenance.model_validate(changed["provenance"]) if "provenance/" in leaf else honest.provenance
            result = honest.model_copy(update={"provenance": made})
            scale = checkout.Scale(Path("results/tiny"), {claim: ResultFile(Path(path), changed, result)})
            recomputation.recompute(scale, here)
            tried += 1
            named += any(finding.leaf == leaf for finding in scale.findings)
    with capsys.disabled():
        print(f"\ntried {tried}, named by --recompute {named}, {time.perf_counter() - started:.0f} s")
    assert named == tried > 4000


def quick_stale(study, claim_id, made):
    """As `stale`, its first part alone: the hashes are the same in the whole sweep."""
    changed = differences(made.spec, study.of(claim_id).verdict_spec(), tolerance=0.0)
    return [(f"provenance/spec/{leaf}", "changed") for leaf, *_ in changed]


def unequal(a, b):
    """Return two documents without the parts that are equal in both: the sweep compares thousands of times."""
    if not (isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys()):
        return a, b
    pairs = {key: unequal(a[key], b[key]) for key in a if a[key] != b[key]}
    return {key: pair[0] for key, pair in pairs.items()}, {key: pair[1] for key, pair in pairs.items()}


def change_evidence(path, pick):
    text = gzip.decompress(Path(path).read_bytes()).decode()
    head, *lines = text.splitlines()
    i = next(i for i, line in enumerate(lines) if pick(line))
    *keys, value = lines[i].split(",")
    lines[i] = ",".join([*keys, f"{digit_changed(float(value)):.9g}"])
    Path(path).write_bytes(gzip.compress("\n".join([head, *lines, ""]).encode()))
    return i


def test_a_digit_of_evidence_draws_or_a_manifest_is_found_although_the_hashes_were_regenerated(here):
    inputs = WORKFLOW.of(CLAIM).verdict_input()
    evidence, draws, calibration = (inputs[name][0] for name in ("evidence", "draws", "calibration"))
    picked = ("raw,0,1,domain", "transferred,0,2,general", "bias,0,3,on_training_text")
    for pick in picked:
        change_evidence(evidence, lambda line, pick=pick: pick in line)
    change_evidence(draws, lambda line: "7777,2,top1" in line)
    edit(calibration, put("arms/0/final_loss", 0.1))
    assert {evidence, draws, calibration} <= {f.file for f in verify().findings}
    for path in (evidence, draws, calibration):
        regenerate(FILE, path)
    assert verify().code() == 0
    found = verify([CLAIM], recompute=True)
    assert found.code() == 1
    leaves = [f.leaf for f in found.findings]
    assert {"nib_official/mean_top1", "training/0/final_loss"} <= {*leaves}
    for arm, _, seed, scope in (pick.split(",") for pick in picked):
        assert [leaf for leaf in leaves if f"/arms/{arm}/{scope}/" in leaf and leaf.endswith(f"per_seed/{seed}")]


def test_a_frozen_net_that_moved_is_named(here):
    path = WORKFLOW.of(CLAIM).verdict_input()["calibration"][0]
    moved = next(i for i, arm in enumerate(json.loads(Path(path).read_text())["arms"]) if arm["arm"] == "transferred")
    edit(path, put(f"arms/{moved}/domain_sha256", "b" * 64))
    regenerate(FILE, path)
    found = verify([CLAIM], recompute=True)
    assert found.code() == 1
    assert any("test 7 fails" in f.sentence for f in found.findings)


def test_a_whole_forgery_with_consistent_figures_is_found_by_recomputation(here):
    shutil.copytree("results", "forged")
    for path in WORKFLOW.of(CLAIM).verdict_input()["evidence"]:
        frame = pd.read_csv(path)
        frame.loc[frame["arm"] == "transferred", "value"] *= 1.01
        write_csv(path, frame)
    for path in WORKFLOW.of(CLAIM).verdict_input()["manifests"]:
        write_promise(WORKFLOW, CLAIM, path)
    judge(WORKFLOW, CLAIM)
    forged = Path(FILE).read_text(encoding="utf-8")
    shutil.rmtree("results")
    shutil.move("forged", "results")
    hashes = json.loads(Path(FILE).read_text(encoding="utf-8"))["provenance"]["inputs"]
    Path(FILE).write_text(forged, encoding="utf-8")
    edit(FILE, lambda document: document["provenance"].__setitem__("inputs", hashes))
    summarise(WORKFLOW)
    assert verify().code() == 0
    assert verify([CLAIM], recompute=True).code() == 1


# stale results


def test_another_configuration_makes_a_result_stale_not_tampered(here):
    path = Path("config/protocol.yaml")
    text = path.read_text(encoding="utf-8")
    assert "parity: 0.8" in text
    path.write_text(text.replace("parity: 0.8", "parity: 0.7"), encoding="utf-8")
    found = verify([CLAIM], recompute=True)
    assert found.code() == 0
    assert "provenance/spec/protocol/criteria/parity" in [f.leaf for f in kinds(found, "STALE")]


def test_a_forged_criterion_is_stale_against_config_and_named(here):
    edit(FILE, put("provenance/spec/protocol/criteria/half", 0.25))
    found = verify([CLAIM], recompute=True)
    leaves = {f.kind: f.leaf for f in found.findings}
    assert "provenance/spec/protocol/criteria/half" in [f.leaf for f in kinds(found, "STALE")]
    assert "TAMPERED" in leaves


def test_a_spec_that_the_manifests_contradict_is_tampered(here):
    edit(FILE, put("provenance/spec/budget/batch", 99))
    regenerate_summary(FILE)
    found = verify([CLAIM], recompute=True)
    assert "provenance/spec/budget/batch" in [f.leaf for f in kinds(found, "TAMPERED")]


# against another run


def agreement(found, claim=CLAIM):
    [scale] = [scale for scale in found.scales if scale.compared]
    return scale.compared.claims[claim]


def test_equal_runs_are_identical(here):
    reference(here)
    found = verify(against="reference")
    assert (found.code(), found.findings) == (0, [])
    assert agreement(found).word == "IDENTICAL"
    assert "against results/reference/tiny: reproduced: " in " ".join(found.text().split())


def test_briefly_the_results_alone_are_told(here, capsys):
    reference(here)
    assert main(["verify", "--brief", "--against", "reference"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("The results of this checkout")
    assert "record:" not in told


def test_a_figure_that_no_verdict_rests_on_may_differ(here):
    folder = reference(here)
    edit_reference(folder / Path(FILE).name, put("perplexity/kd/transferred/general", 1e3))
    found = verify(against="reference")
    assert (found.code(), found.findings) == (0, [])
    told = agreement(found)
    assert (told.word, told.leaves - told.equal) == ("EQUIVALENT", 1)


@pytest.mark.parametrize(("off", "word"), [(0.5, "EQUIVALENT"), (2.0, "SAME VERDICT")])
def test_a_contrasts_mean_must_lie_inside_the_other_runs_interval(here, off, word):
    folder, leaf = reference(here), "fits/kd/tests/0"
    interval = lookup(parse_file(FILE), f"{leaf}/interval")
    for place in ("mean", "interval/mean", "interval/lower", "interval/upper"):
        moved = lookup(parse_file(FILE), f"{leaf}/{place}") + off * interval["half"]
        edit_reference(folder / Path(FILE).name, put(f"{leaf}/{place}", moved))
    found = verify(against="reference")
    assert agreement(found).word == word
    assert [f.leaf for f in kinds(found, "DIFFERS") if f.file == FILE] == ([leaf] if word == "SAME VERDICT" else [])


def test_an_arms_figure_may_be_off_by_the_tolerance(here):
    folder, leaf = reference(here), "fits/kd/arms/raw/domain/bits_per_byte"
    edit_reference(folder / Path(FILE).name, put(f"{leaf}/mean", 1.1 * lookup(parse_file(FILE), f"{leaf}/mean")))
    found = verify(against="reference")
    assert [f.leaf for f in kinds(found, "DIFFERS") if f.file == FILE] == [leaf]
    told = verify(against="reference", tolerance=0.2)
    assert (kinds(told, "DIFFERS"), agreement(told).word) == ([], "EQUIVALENT")


def test_a_tolerance_without_a_run_to_compare_with_is_refused(here, refuses):
    with refuses("--tolerance: is of a comparison; name a run beside it by --against", ConfigError):
        verify(tolerance=0.1)


def test_claims_that_were_not_asked_for_are_not_said_to_be_missing(here):
    reference(here)
    found = verify([CLAIM], against="reference")
    assert len(found.scales[0].results) < len([*Path("results/reference/tiny").glob("*.json")])
    assert "of its result files are not in" not in found.text()


def test_another_verdict_word_is_a_difference_whatever_the_tolerance(here):
    folder = reference(here)
    edit_reference(folder / Path(FILE).name, put("verdict_at_strict_level", "VACUOUS"))
    found = verify(against="reference", tolerance=0.5)
    assert [f.leaf for f in kinds(found, "DIFFERS") if f.file == FILE] == ["verdict_at_strict_level"]
    assert "not reproduced: " in found.text()


def test_runs_that_were_asked_other_things_differ_and_other_words_do_not_count(here):
    folder = reference(here)
    edit_reference(folder / Path(FILE).name, put("claim/statement", "The same claim in other words."))
    assert agreement(verify(against="reference")).word == "IDENTICAL"
    whole = (folder / Path(FILE).name).read_bytes()
    edit_reference(folder / Path(FILE).name, lambda d: d["fits"]["kd"]["arms"].pop("linear"))
    [found] = [f for f in kinds(verify(against="reference"), "DIFFERS") if f.file == FILE]
    assert (found.leaf, found.sentence) == ("fits/kd/arms", "linear only here: they were not asked the same")
    (folder / Path(FILE).name).write_bytes(whole)
    edit_reference(folder / Path(FILE).name, put("provenance/spec/training_steps", 5000))
    [found] = [f for f in kinds(verify(against="reference"), "DIFFERS") if f.file == FILE]
    assert found.sentence.endswith("5000 there: they were not asked the same")
    edit_reference(folder / Path(FILE).name, put("protocol", 1))
    [found] = [f for f in kinds(verify(against="reference"), "DIFFERS") if f.file == FILE]
    assert (found.leaf, found.sentence) == ("protocol", "2 here, 1 there: they were not asked the same")


def test_seconds_and_provenance_are_not_compared(here):
    folder = reference(here)
    edit_reference(folder / Path(FILE).name, put("training/0/elapsed_s", 99.0))
    edit_reference(folder / Path(FILE).name, put("provenance/elapsed_s", 99.0))
    assert agreement(verify(against="reference")).word == "IDENTICAL"


def test_an_edited_reference_is_named(here):
    folder = reference(here)
    edit(folder / Path(FILE).name, put("fits/kd/verdict", "REFUTED"))
    assert "results/reference/tiny" in {str(Path(f.file).parent) for f in verify().findings}


@pytest.mark.parametrize(
    ("options", "words", "error"),
    [
        ({"against": "reference"}, "reference/tiny: holds no result file", DataError),
        ({"against": "nowhere"}, "nowhere/tiny: holds no result file", DataError),
        ({"scale": "huge"}, "results/huge: holds no result file; scales with results: tiny", ConfigError),
        ({"against": "reference", "tolerance": -1.0}, "is not a relative size", ConfigError),
        ({"against": "reference", "tolerance": math.nan}, "is not a relative size", ConfigError),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(here, refuses, options, words, error):
    with refuses(words, error):
        verify(**options)


@pytest.mark.parametrize("claim", sorted({**WORKFLOW.config.claims, **WORKFLOW.config.studies}))
def test_the_inputs_of_a_verdict_are_told_apart_by_their_paths(claim):
    """What a verdict is made again from has the names that the workflow gives it: `fits` once had not."""
    given = {
        name: [paths] if isinstance(paths, str) else paths for name, paths in WORKFLOW.of(claim).verdict_input().items()
    }
    made = SimpleNamespace(
        inputs=dict.fromkeys(path for paths in given.values() for path in paths), spec=WORKFLOW.of(claim).verdict_spec()
    )
    found = inputs_of(made)
    for name in {"evidence", "draws", *STAGES.values()} & set(given):
        assert sorted(found[name]) == sorted(given[name]), name
