"""Evidence files and the manifest beside them: what it promises is what is read, and every departure is named."""

import json
from pathlib import Path
from typing import get_args

import pytest
from evidence_rows import rows
from made_results import CLAIM, FILE, WORKFLOW, digit_changed, draws, edit, judge, put, regenerate_summary

from abi.audit.results.verify import verify
from abi.base.diagnostics import METRICS as CATALOGUE
from abi.base.errors import DataError, EvidenceError, TamperError
from abi.base.files import sha256_file
from abi.base.job import Job
from abi.base.names import AGREEMENT, SCOPES
from abi.judge.evidence_files import (
    COLUMNS,
    DRAW_COLUMNS,
    check_promise,
    files_of,
    promise_of,
    rows_of,
    write_csv,
    write_promise,
)
from abi.judge.fits import Agreement, Scope
from abi.judge.rows import METRICS, read_promised


@pytest.fixture
def batch(tmp_path):
    """The manifest of a small batch, with its two files."""
    path = tmp_path / "1-2.json"
    files = files_of(path)
    evidence = rows({"raw": 0.0, "random": 0.5}, n_groups=2, n_seeds=2, per_group=1, draws={"random": 3})
    write_csv(files["evidence"], COLUMNS, evidence.astype(object).itertuples(index=False))
    write_csv(files["draws"], DRAW_COLUMNS, draws("kd", "random")[list(DRAW_COLUMNS)].itertuples(index=False))
    write_promise(path, Job("evaluate_arms", {}, "c", [], 1).provenance())
    return path


def test_a_manifest_says_what_is_in_its_files(batch):
    promise = json.loads(batch.read_text())
    assert promise["contents"] == {
        "fits": ["-", "kd"], "arms": ["random", "raw"], "draws": [0, 1, 2], "seeds": [0, 1], "scopes": ["domain", "general", "on_training_text"],
    }  # fmt: skip
    evidence, drawn = read_promised([batch])
    counts = {name: entry["rows"] for name, entry in promise["files"].items()}
    assert counts == {"evidence": len(evidence), "draws": len(drawn)} == {"evidence": len(evidence), "draws": 48}
    assert promise["files"]["draws"]["sha256"] == sha256_file(files_of(batch)["draws"])
    assert promise["provenance"]["rule"] == "evaluate_arms"


@pytest.mark.parametrize("name", ["evidence", "draws"])
def test_an_altered_and_a_missing_file_are_named(batch, name, refuses):
    path = files_of(batch)[name]
    path.write_bytes(path.read_bytes() + b"\0")
    with refuses(f"{path}: is not the file that .*1-2.json promises", TamperError):
        check_promise(batch)
    path.unlink()
    with refuses(f"{path}: is missing, the file that .*1-2.json promises", TamperError):
        check_promise(batch)


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        ("files/evidence/rows", 7, "its files are not those of the rows"),
        ("contents/arms", ["raw"], "its contents are not those of the rows"),
        ("contents/seeds", [0, 1, 2], "its contents are not those of the rows"),
    ],
)
def test_a_manifest_that_promises_other_rows_is_refused(batch, leaf, value, words, refuses):
    edit(batch, put(leaf, value))
    with refuses(words, TamperError):
        check_promise(batch)


@pytest.mark.parametrize(("leaf", "value"), [("files/draws/rows", 0), ("contents/seeds", ["1"]), ("colour", 1)])
def test_a_manifest_that_breaks_its_schema_is_refused(batch, leaf, value, refuses):
    edit(batch, put(leaf, value))
    with refuses("1-2.json: "):
        check_promise(batch)


def test_a_missing_manifest_and_rows_of_two_batches_are_refused(batch, tmp_path, refuses):
    with refuses("does not exist"):
        check_promise(tmp_path / "3-4.json")
    with refuses("evidence of all batches: row .* is there twice", EvidenceError):
        read_promised([batch, batch])


def test_a_file_without_its_columns_is_one_sentence(batch, refuses):
    write_csv(files_of(batch)["evidence"], ["a"], [["1"]])
    with refuses("cannot be read", EvidenceError):
        promise_of(batch, rows_of(batch))


def test_the_schema_knows_the_metrics_and_scopes_of_the_program():
    assert get_args(Scope) == SCOPES
    assert tuple(Agreement.model_fields) == AGREEMENT
    teacher = tuple(f"teacher_{metric}" for metric in AGREEMENT)
    alone = tuple(metric for metric in CATALOGUE if metric not in AGREEMENT)  # with no reference, or of one experiment
    assert METRICS == (*AGREEMENT, *teacher, *alone)


# in the verdict and in `abi verify`


def alter(path):
    """Change one digit of the last row of a csv.gz."""
    import csv
    import gzip

    with gzip.open(path, "rt", encoding="utf-8") as handle:
        header, *lines = csv.reader(handle)
    lines[-1][-1] = f"{digit_changed(float(lines[-1][-1])):.9g}"
    write_csv(path, header, lines)


@pytest.mark.parametrize("name", ["evidence", "draws"])
def test_altered_evidence_is_not_judged_and_named_by_verify(here, name, refuses):
    path = WORKFLOW.of(CLAIM).verdict_input()[name][0]
    alter(path)
    with refuses(f"{path}: is not the file that", TamperError):
        judge(WORKFLOW, CLAIM)
    digest = sha256_file(path)
    edit(FILE, lambda document: document["provenance"]["inputs"].__setitem__(path, digest))
    regenerate_summary(FILE)
    found = verify([CLAIM])  # the result names the altered file; its manifest does not
    assert [(f.kind, f.file) for f in found.findings] == [("TAMPERED", path)]
    assert "promises" in found.findings[0].sentence


@pytest.mark.parametrize("name", ["evidence", "draws", "manifests"])
def test_missing_evidence_is_named_by_verify(here, name):
    path = WORKFLOW.of(CLAIM).verdict_input()[name][0]
    Path(path).unlink()
    found = verify([CLAIM])
    assert [(f.kind, f.file) for f in found.findings] == [("NOTE", path)]
    assert found.code() == 0


def test_a_net_that_is_called_frozen_and_changed_gives_no_verdict(here, refuses):
    path = WORKFLOW.of(CLAIM).verdict_input()["calibration"][0]
    arms = json.loads(Path(path).read_text())["arms"]
    moved = next(i for i, arm in enumerate(arms) if arm["arm"] == "transferred")
    edit(path, put(f"arms/{moved}/domain_sha256", "b" * 64))
    with refuses("test 7 fails", TamperError):
        judge(WORKFLOW, CLAIM)


def test_evidence_without_a_manifest_among_the_inputs_is_not_judged(here, refuses, monkeypatch):
    inputs = WORKFLOW.of(CLAIM).verdict_input()
    monkeypatch.setattr(WORKFLOW.of(CLAIM), "verdict_input", lambda: {**inputs, "manifests": inputs["manifests"][:1]})
    with refuses("evidence and manifest come in pairs", DataError):
        judge(WORKFLOW, CLAIM)
