"""Job: one pass of a frozen backbone over the windows of every split of a text."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from abi import backbones
from abi.corpus import SPLITS, assignment_sha256, read_assigned
from abi.errors import TamperError
from abi.provenance import Job, read_json, sha256_file, sha256_tensors, write_json
from abi.states import Head, make_windows, write_states


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write states (`train`, `calibration`, `test`: manifest paths, the tensors beside them)."""
    spec, base = job.spec, read_json(inputs["backbone"], "backbone")
    backbone = backbones.load(inputs["model"])
    if sha256_tensors(dict(backbone.model.named_parameters())) != base["weights_sha256"]:
        raise TamperError(
            f"{inputs['model']}: the weights are not those of {inputs['backbone']}; delete the manifest to rebuild both"
        )
    head, window = Head.read(inputs["head"]), backbones.Window(**spec["window"])
    documents = read_assigned(inputs["documents"], inputs["record"])
    corpus = {"corpus_sha256": assignment_sha256(documents), "shares": job.spec["split"], "salt": job.spec["salt"]}
    for split in SPLITS:
        windows = make_windows(
            [d for d in documents if d.split == split], partial(backbones.encode, backbone.tokenizer), window,
            max_windows=spec["max_windows"][split], max_per_document=spec["max_windows_per_document"][split], min_scored=spec["min_scored"],
        )  # fmt: skip
        path = Path(outputs[split])
        tensors = path.with_suffix(".safetensors")
        facts = write_states(backbone, windows, window, spec["taps"], head, tensors)
        write_json(path, "states", {
            "split": split, **facts, **corpus, "base_model": base["name"], "base_revision": base["revision"], "base_sha256": base["weights_sha256"],
            "head_sha256": base["head_sha256"], "vocabulary": base["vocabulary"], "tensors_sha256": sha256_file(tensors),
            "provenance": job.provenance(),
        })  # fmt: skip
