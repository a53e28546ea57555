"""Is a result what the configuration, the code and the inputs of now would give, or does something have to be rerun."""

from collections.abc import Mapping
from pathlib import Path

from abi.audit.results.findings import differences
from abi.base.errors import AbiError
from abi.base.files import ROOT, Json, parse_file, sha256_file
from abi.base.job import code_of, step_of
from abi.base.typed import Provenance
from abi.judge.results import read_result
from abi.plan.workflow import Workflow


def stale(study: Workflow, claim_id: str, provenance: Provenance) -> list[tuple[str, str]]:
    """Return (leaf, few words) for everything in which a result is not up to date; empty means fresh.

    Args: provenance: of the claim's result file, which may be a ladder.
    """
    ladder = claim_id in study.config.ladders
    rule, spec, wanted = asked(study, claim_id)
    reasons = [
        (f"provenance/spec/{leaf}", f"{leaf.rpartition('/')[2]} changed in config")
        for leaf, *_ in differences(provenance.spec, spec, tolerance=0.0)
    ]
    if provenance.code != code_of(rule, provenance.spec):
        reasons.append(("provenance/code", "code of the verdict changed"))
    stored = provenance.inputs
    if set(wanted) != set(stored):
        reasons.append(("provenance/inputs", "other inputs (seeds or batches) are asked now"))
    for path in stored:
        leaf = f"provenance/inputs/{path}"
        if not Path(path).is_file():
            reasons.append((leaf, f"{path} is gone"))
        elif sha256_file(path) != stored[path]:
            reasons.append((leaf, f"{path} changed"))
        elif ladder and "alignments" not in Path(path).parts:
            reasons += _stale_rung(study, path)
        elif path.endswith(".json"):
            reasons += [(leaf, words) for words in _stale_manifest(study, claim_id, path)]
    return reasons


def asked(study: Workflow, claim_id: str) -> tuple[str, dict[str, Json], list[str]]:
    """Return the rule that judges a claim, its spec and its inputs, as configuration says now."""
    rule = "judge_claim" if claim_id in study.config.claims else "judge_study"
    rule = "judge_ladder" if claim_id in study.config.ladders else rule
    return rule, study.verdict_spec(claim_id), flat(study.verdict_input(claim_id))


def flat(inputs: Mapping[str, str | list[str]]) -> list[str]:
    """Return every path of a rule's inputs."""
    return [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)]


def _stale_rung(study: Workflow, path: str) -> list[tuple[str, str]]:
    """Return leaf and words for a rung of a ladder whose own result is not up to date."""
    leaf = f"provenance/inputs/{path}"
    try:
        result = read_result(path)
        reasons = stale(study, result.claim.id, result.provenance)
    except (AbiError, KeyError):
        return [(leaf, f"{path} is no result file")]
    return [(leaf, f"{result.claim.id}: {words}") for _, words in reasons[:1]]


def _stale_manifest(study: Workflow, claim_id: str, path: str) -> list[str]:
    """Return in few words why a manifest is not what its rule would write now."""
    short = path.removeprefix(f"{study.results}/")
    try:
        provenance = Provenance.model_validate(parse_file(path)["provenance"])
        changed = differences(provenance.spec, _spec(study, claim_id, Path(short)), tolerance=0.0)
    except (AbiError, KeyError, TypeError, ValueError):
        return [f"{short} is no manifest"]
    step = ROOT / step_of(provenance.rule)
    other = step.is_file() and provenance.code != code_of(provenance.rule, provenance.spec)
    reasons = [f"{leaf.rpartition('/')[2]} of {short} changed in config" for leaf, *_ in changed]
    return [*reasons, f"code that made {short} changed"] if other else reasons


def _spec(study: Workflow, claim_id: str, path: Path) -> dict[str, Json]:
    """Return the spec of now for a manifest under results/<scale>/."""
    stage, batch = path.parts[0], path.stem
    if stage == "evidence":
        return study.evaluation_spec(claim_id, batch)
    if stage == "generation":
        return study.generation_spec(claim_id)
    if stage == "updates":
        return study.update_spec(path.parts[1], path.parts[2], batch)
    if stage == "updated_modules":
        return study.updated_module_spec(path.parts[1], path.parts[2], path.parts[3], batch)
    if stage == "alignments":
        return study.alignment_spec(path.parts[1], batch)
    if stage == "calibration":
        return study.calibration_spec(claim_id, batch)
    if stage == "lora":
        return study.lora_spec(claim_id, batch)
    if stage == "modules":
        _, _, text, shape, role, _ = path.parts
        return study.module_spec(text, shape, role, batch)
    if stage == "backbones":
        return study.backbone_spec(batch)
    raise ValueError(f"{path}: no manifest of a verdict")
