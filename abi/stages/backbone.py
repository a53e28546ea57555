"""Job: a backbone in the Hugging Face layout, built from text or downloaded at a pinned revision, with its head."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from abi import backbones
from abi.corpus import read_assigned
from abi.provenance import Job, sha256_file, write_json


def run(job: Job, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write `model` (folder), `head` (safetensors), `tokens` and `manifest` (JSON). The general train split is all it may read."""
    folder = Path(outputs["model"])
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    figures: dict[str, object] = {}
    if "build" in job.spec:
        texts = [document.text for document in read_assigned(inputs["documents"], inputs["record"], "train")]
        backbone, figures = backbones.build(job.spec["build"], texts, backbones.Window(**job.spec["window"]))
        backbones.save(backbone, partial)
        revision = "built"
    else:
        hub = job.spec["hub"]
        backbones.download(hub["id"], hub["revision"], partial)
        revision = hub["revision"]
    backbone = backbones.load(partial)
    facts = backbones.describe(backbone, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    scale = backbones.save_head(backbone, outputs["head"])
    spellings = backbones.spellings(backbone.tokenizer, facts["head_rows"])
    write_json(outputs["tokens"], "tokens", {"vocabulary": facts["vocabulary"], "spellings": spellings})
    write_json(outputs["manifest"], "backbone", {
        "name": folder.name, "revision": revision, **facts, "head_scale": scale, "head_sha256": sha256_file(outputs["head"]),
        "pretraining": figures, "provenance": job.provenance(),
    })  # fmt: skip
