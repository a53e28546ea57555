"""Job: the result file of a claim: verdict, figures, controls, the record beside them (no torch)."""

from collections.abc import Mapping
from typing import Any

from abi.base.files import read_json, write_json
from abi.base.job import Job
from abi.judge.judgement import check_promised, judged, nets_unmoved, training_facts
from abi.judge.tables import read_promised

Record = dict[str, Any]


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write the result file of a claim."""
    spec: Record = dict(job.spec)
    check_promised(inputs)
    evidence, draws = read_promised(inputs["manifests"])
    kinds = [kind for kind in ("calibration", "lora") if kind in inputs.keys()]
    arms = [arm for kind in kinds for path in inputs[kind] for arm in read_json(path, kind)["arms"]]
    frozen = nets_unmoved(spec["claim"]["kind"], arms, inputs)
    result = judged(spec, evidence, draws, frozen=frozen)
    result["training"] = training_facts(arms)
    result["backbones"] = {
        b["name"]: _backbone_facts(b) for b in (read_json(path, "backbone") for path in inputs["backbones"])
    }
    write_json(outputs["result"], "result", {**result, "provenance": job.provenance()})


def _backbone_facts(manifest: Record) -> Record:
    keys = (
        "class",
        "revision",
        "width",
        "depth",
        "n_parameters",
        "n_tokens",
        "vocabulary",
        "weights_sha256",
        "pretraining",
    )
    return {key: manifest[key] for key in keys}
