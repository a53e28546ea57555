"""Is a result what the configuration, the code and the inputs of now would give, or does something have to be rerun."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abi.audit.results.findings import differences, parse
from abi.base.digest import code_digest
from abi.base.errors import AbiError
from abi.base.files import ROOT, sha256_file
from abi.plan.transfers import Study


def stale(study: Study, claim_id: str, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (leaf, few words) for everything in which a result is not up to date; empty means fresh.

    Args: result: a valid result file of the claim, which may be a ladder.
    """
    ladder, provenance = claim_id in study.config.ladders, result["provenance"]
    rule, spec, wanted = asked(study, claim_id)
    script = f"scripts/{rule}.py"
    reasons = [
        (f"provenance/spec/{leaf}", f"{leaf.rpartition('/')[2]} changed in config")
        for leaf, *_ in differences(provenance["spec"], spec, tolerance=0.0)
    ]
    if provenance["code"] != code_digest(script):
        reasons.append(("provenance/code", "code of the verdict changed"))
    stored = provenance["inputs"]
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


def asked(study: Study, claim_id: str) -> tuple[str, dict[str, Any], list[str]]:
    """Return the rule that judges a claim, its spec and its inputs, as configuration says now."""
    if claim_id in study.config.ladders:
        return "judge_ladder", study.ladder_spec(claim_id), flat(study.ladder_input(claim_id))
    if claim_id in study.config.studies:
        return "judge_study", study.study_verdict_spec(claim_id), flat(study.study_verdict_input(claim_id))
    return "judge_claim", study.verdict_spec(claim_id), flat(study.verdict_input(claim_id))


def flat(inputs: Mapping[str, Any]) -> list[str]:
    """Return every path of a rule's inputs."""
    return [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)]


def _stale_rung(study: Study, path: str) -> list[tuple[str, str]]:
    """Return leaf and words for a rung of a ladder whose own result is not up to date."""
    leaf = f"provenance/inputs/{path}"
    try:
        result = parse(Path(path).read_text(encoding="utf-8"), path)
        rung = str(result["claim"]["id"])
        reasons = stale(study, rung, result)
    except (AbiError, OSError, KeyError, TypeError, ValueError):
        return [(leaf, f"{path} is no result file")]
    return [(leaf, f"{rung}: {words}") for _, words in reasons[:1]]


def _stale_manifest(study: Study, claim_id: str, path: str) -> list[str]:
    """Return in few words why a manifest is not what its rule would write now."""
    short = path.removeprefix(f"{study.results}/")
    try:
        provenance = parse(Path(path).read_text(encoding="utf-8"), path)["provenance"]
        changed = differences(provenance["spec"], _spec(study, claim_id, Path(short)), tolerance=0.0)
        script = f"scripts/{provenance['rule']}.py"
        other = (ROOT / script).is_file() and provenance["code"] != code_digest(script)
    except (AbiError, OSError, KeyError, TypeError, ValueError):
        return [f"{short} is no manifest"]
    reasons = [f"{leaf.rpartition('/')[2]} of {short} changed in config" for leaf, *_ in changed]
    return [*reasons, f"code that made {short} changed"] if other else reasons


def _spec(study: Study, claim_id: str, path: Path) -> dict[str, Any]:
    """Return the spec of now for a manifest under results/<scale>/."""
    stage, batch = path.parts[0], path.stem
    if stage == "evidence":
        several = claim_id in study.config.studies
        return study.study_evaluation_spec(claim_id, batch) if several else study.evaluation_spec(claim_id, batch)
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
