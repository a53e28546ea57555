"""Facts of a report from the committed reference, and a result of a kind that the page was not written for."""

import copy
import functools
import json
from pathlib import Path

from abi.audit.record.judgement import judge
from abi.audit.record.judgement import load as load_record
from abi.base.files import ROOT
from abi.judge.results import result_of
from abi.plan.config import load
from abi.plan.specs.report import WriteReport
from abi.plan.workflow import Workflow
from abi.report.page import Facts, gather

WORKFLOW = Workflow(load("tiny"))
SPEC = WriteReport.model_validate(WORKFLOW.report_spec())
HEADLINE = "0 of 3 published claims SUPPORTED"


HELD = ("t5_same_backbone", "gpt2_to_qwen", "gpt2_to_gpt2_medium_few_shot", "gpt2_to_qwen_general_only", "t5_to_gpt2")
"""The results most tests are made with: every kind of fit; `whole` has all of the reference."""


@functools.cache
def plain():
    """Return the reference as JSON values, by claim."""
    paths = [ROOT / "results/reference/tiny" / Path(path).name for path in WORKFLOW.page_files("summary")]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return {document["claim"]["id"]: document for document in found}


@functools.cache
def _read():
    return [typed(document) for document in plain().values()]


def typed(document):
    return result_of({key: value for key, value in document.items() if key != "seal"}, "test")  # edits break the seal


def results():
    return [result for result in _read() if result.claim.id in HELD]


def whole():
    return list(_read())


@functools.cache
def judgement():
    return judge(load_record())


def facts(found=None, **changes) -> Facts:
    """Return the facts of a report of some results, by default of the reference."""
    spec = SPEC.model_copy(update={"benchmarks": "none", **changes})
    return gather(results() if found is None else found, spec, HEADLINE, ROOT)


def unknown(**changes):
    """Return a result of another kind: two studies, no deciding fit, no published criteria, every generic part."""
    return typed(unknown_document(**changes))


def unknown_document(**changes):
    judged = copy.deepcopy(plain()["t5_to_gpt2"]["fits"]["kd"])
    judged.pop("published_criteria")
    judged |= {"gap_closures": {}, "gap_closure": None, "share": None}
    made = plain()["t5_to_gpt2"]["provenance"]
    return {
        "format": "abi/study@1",
        "claim": {"id": "atlas", "title": "An atlas", "statement": "Modules <stay> local.", "kind": "atlas", "backbone": "gpt2",
                  "record": {"result_file": "atlas.json"}},
        "scale": "tiny", "meaningless": False, "protocol": 1, "verdict": "INCONCLUSIVE", "reason": "one round of two",
        "verdict_at_strict_level": "INCONCLUSIVE", "record": {}, "provenance": made, "perplexity": {}, "rows": {"evidence": {}, "draws": {}},
        "fits": {"round1-python": judged, "round2-python": {**judged, "verdict": "SUPPORTED"}},
        "tables": [{"id": "t", "title": "Rounds", "caption": "per round", "columns": ["round", "gain"], "rows": [["one", 0.12345], ["two", None]]}],
        "checks": [{"id": "c1", "words": "gain above 70 %", "value": 65.34, "threshold": 70, "passed": False}],
        "curves": [{"id": "law", "title": "Steps", "x_label": "windows", "y_label": "steps", "caption": "measured", "log_x": True,
                    "series": [{"name": "transferred", "x": [8.0, 32.0, 128.0], "y": [1.25, None, 3.5],
                                "lower": [1.0, None, 3.0], "upper": [2.0, None, 4.0]}]}],
        "matrices": [{"id": "js", "title": "Interference", "caption": "nats", "row_label": "module of", "column_label": "text",
                      "rows": ["python", "prose"], "columns": ["python", "prose"], "values": [[0.0123, 0.5], [0.75, None]]}],
        **changes,
    }  # fmt: skip
