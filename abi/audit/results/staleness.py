"""Is a result what the configuration, the code and the inputs of now would give, or does something have to be rerun."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from abi.audit.results.findings import differences
from abi.audit.results.records import made_by
from abi.base.errors import AbiError
from abi.base.files import ROOT, Json, sha256_file
from abi.base.job import code_of, release, software_of, step_of
from abi.base.typed import Provenance
from abi.judge.results import read_result
from abi.plan.kinds.base import PORTABLE_PLACE
from abi.plan.workflow import Workflow

SPECS: dict[str, Callable[[Workflow, Sequence[str], str], dict[str, Json]]] = {
    "corpus": lambda workflow, _, stem: workflow.text_spec(stem),
    "backbones": lambda workflow, _, stem: workflow.backbone_spec(stem),
    "states": lambda workflow, parts, stem: workflow.states_spec(parts[1], stem.partition(".")[0]),
    "overlaps": lambda workflow, parts, stem: workflow.overlap_spec(parts[1], stem),
    "modules": lambda workflow, parts, batch: (
        workflow.portable_spec(parts[2], batch)
        if parts[3:5] == PORTABLE_PLACE
        else workflow.module_spec(parts[2], parts[3], parts[4], batch)
    ),
    "updates": lambda workflow, parts, batch: workflow.update_spec(parts[1], parts[2], batch),
    "updated_states": lambda workflow, parts, batch: workflow.updated_states_spec(parts[1], parts[2], parts[3], batch),
    "updated_modules": lambda workflow, parts, batch: workflow.updated_module_spec(
        parts[1], parts[2], parts[3], parts[4], batch
    ),
    "alignments": lambda workflow, parts, batch: workflow.of(parts[1]).alignment_spec(batch),
    "written": lambda workflow, parts, batch: workflow.of(parts[1]).written_spec(batch),
    "placebos": lambda workflow, parts, batch: workflow.of(parts[1]).placebos_spec(batch),
    "rates": lambda workflow, _, claim: workflow.of(claim).rates_spec(),
    "calibration": lambda workflow, parts, batch: workflow.of(parts[1]).calibration_spec(batch),
    "lora": lambda workflow, parts, batch: workflow.of(parts[1]).lora_spec(batch),
    "evidence": lambda workflow, parts, batch: workflow.of(parts[1]).evidence_spec(batch),
    "fits": lambda workflow, parts, batch: workflow.of(parts[1]).evidence_spec(batch),
    "generation": lambda workflow, _, claim: workflow.of(claim).generation_spec(),
    "": lambda workflow, _, stem: workflow.of_file(stem).verdict_spec(),
    "summary": lambda workflow, *_: workflow.page_spec("summary"),
    "headline": lambda workflow, *_: workflow.page_spec("headline"),
    "report": lambda workflow, *_: workflow.report_spec(),
    "transfer": lambda workflow, *_: workflow.table_spec(),
}
"""Folder under results/<scale> -> the spec of now of a record there, by its place and its stem; beside them the pages,
and "" for result files.
"""


def spec_now(workflow: Workflow, path: str) -> dict[str, Json]:
    """Return the spec of now of a record under results/<scale>. Raises: LookupError, ValueError: no job writes it."""
    place = Path(path.removeprefix(f"{workflow.results}/"))
    parts = place.parts
    if len(parts) == 1:
        return SPECS[place.stem if place.stem in SPECS else ""](workflow, parts, place.stem)
    return SPECS[parts[0]](workflow, parts, place.stem)


def outdated(workflow: Workflow, path: str, made: Provenance) -> list[str]:
    """Return in few words why a record is not what its rule would write now of the same inputs."""
    now = spec_now(workflow, path)
    changed = differences(made.spec, now, tolerance=0.0)
    step = ROOT / step_of(made.rule)
    other = step.is_file() and made.code != code_of(made.rule, made.spec)
    short = _short(workflow, path)
    leaves = [leaf for leaf, *_ in changed]
    reasons = [_folder_of(leaf, now) or f"{leaf.rpartition('/')[2]} of {short} changed in config" for leaf in leaves]
    reasons += [f"code that made {short} changed"] if other else []
    return [*reasons, *(f"{short} was made with {words}" for words in other_software(made))]


def other_software(made: Provenance) -> list[str]:
    """Return in few words which packages that its figures depend on were of other releases when a record was made."""
    was = {name: release(name, version) for name, version in made.versions.items()}
    now = software_of(made.rule)
    return [f"{name} {was[name]}, here is {now[name]}" for name in now if was.get(name, now[name]) != now[name]]


def _folder_of(leaf: str, spec: Mapping[str, Any]) -> str:
    """Return that files of a folder of text changed, where that is what a leaf of the spec says; else ""."""
    found = re.fullmatch(r"sources/(\d+)/version", leaf)
    source = spec["sources"][int(found[1])] if found else {}
    return f"files of {source['path']} changed" if source.get("kind") == "folder" else ""


def stale(workflow: Workflow, claim_id: str, provenance: Provenance) -> list[tuple[str, str]]:
    """Return (leaf, few words) for everything in which a result is not up to date; empty means fresh.

    Args: provenance: of the claim's result file, which may be a ladder.
    """
    ladder = claim_id in workflow.config.ladders
    rule, spec, wanted = asked(workflow, claim_id)
    reasons = [
        (f"provenance/spec/{leaf}", f"{leaf.rpartition('/')[2]} changed in config")
        for leaf, *_ in differences(provenance.spec, spec, tolerance=0.0)
    ]
    if provenance.code != code_of(rule, provenance.spec):
        reasons.append(("provenance/code", "code of the verdict changed"))
    reasons += [("provenance/versions", f"judged with {words}") for words in other_software(provenance)]
    stored, seen = provenance.inputs, set[str]()
    if set(wanted) != set(stored):
        reasons.append(("provenance/inputs", "other inputs (seeds or batches) are asked now"))
    for path in stored:
        leaf = f"provenance/inputs/{path}"
        if altered := _altered(path, stored[path]):
            reasons.append((leaf, f"{path} {altered}"))
        elif ladder:
            reasons += _stale_rung(workflow, path)
        elif path.endswith(".json"):
            reasons += [(leaf, words) for words in _stale_below(workflow, path, seen)]
    return reasons


def asked(workflow: Workflow, claim_id: str) -> tuple[str, dict[str, Json], list[str]]:
    """Return the rule that judges a claim, its spec and its inputs, as configuration says now."""
    rule = "judge_claim" if claim_id in workflow.config.claims else "judge_study"
    rule = "judge_ladder" if claim_id in workflow.config.ladders else rule
    return rule, workflow.of(claim_id).verdict_spec(), flat(workflow.of(claim_id).verdict_input())


def flat(inputs: Mapping[str, str | list[str]]) -> list[str]:
    """Return every path of a rule's inputs."""
    return [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)]


def _stale_rung(workflow: Workflow, path: str) -> list[tuple[str, str]]:
    """Return leaf and words for a rung of a ladder whose own result is not up to date."""
    leaf = f"provenance/inputs/{path}"
    try:
        result = read_result(path)
        reasons = stale(workflow, result.claim.id, result.provenance)
    except (AbiError, KeyError):
        return [(leaf, f"{path} is no result file")]
    return [(leaf, f"{result.claim.id}: {words}") for _, words in reasons[:1]]


def _stale_below(workflow: Workflow, path: str, seen: set[str]) -> list[str]:
    """Return in few words why a record, or one that it rests on, is not what its rule would write now.

    Args: seen: records that were looked at, to which these are added: what many rest on is told once.
    """
    if path in seen:
        return []
    seen.add(path)
    try:
        made = made_by(path)
        reasons = outdated(workflow, path, made)
    except (AbiError, LookupError, TypeError, ValueError, StopIteration):
        return [f"{_short(workflow, path)} is no manifest"]
    for name, sha256 in made.inputs.items():
        if _is_record(workflow, name):
            altered = _altered(name, sha256)
            reasons += [f"{_short(workflow, name)} {altered}"] if altered else _stale_below(workflow, name, seen)
    return reasons


def _altered(path: str, sha256: str) -> str:
    """Return what became of a file since it was an input, "" where it is the same."""
    if not Path(path).is_file():
        return "is gone"
    return "changed" if sha256_file(path) != sha256 else ""


def _is_record(workflow: Workflow, path: str) -> bool:
    """Return whether a file is a record of a job of this run."""
    place = _short(workflow, path)
    return place != path and place.endswith(".json") and place.partition("/")[0] in SPECS


def _short(workflow: Workflow, path: str) -> str:
    return path.removeprefix(f"{workflow.results}/")
